"""The packaged runs: a picture has the same bits among any others, and one picture costs the network little."""

import pytest
import torch
from torch import Tensor

from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.runs.folder import Run


def posterior(model: NetDenoiser, x: Tensor, t: Tensor, gradient: bool) -> Tensor:
    """The means, or their derivative along a fixed direction."""
    x = x.clone().requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        mean = model(x, t).mean
    return torch.autograd.grad((mean * x.detach().sin()).sum(), x)[0] if gradient else mean


def assert_independent(name: str, precision: str, gradient: bool, parts: list[slice]) -> None:
    run = Run.open(name)
    model, n = run.load(precision=precision), max(part.stop for part in parts)
    x, t = Rng.of(3, n).normal(run.space.shape), torch.linspace(0.05, 0.95, n, dtype=torch.float64)
    whole = posterior(model, x, t, gradient)
    for part in parts:
        assert torch.equal(posterior(model, x[part], t[part], gradient), whole[part]), (name, part)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    assert torch.equal(posterior(model, x[order], t[order], gradient), whole[order]), name


def test_digits_have_the_same_bits_in_any_batch() -> None:
    parts = [slice(0, n) for n in (*range(1, 10), 63, 64)] + [slice(64, 65), slice(3, 4), slice(61, 65)]
    assert_independent("digits", "fp32", False, parts)
    for precision in ("fp32", "bf16"):
        assert_independent("digits", precision, True, [slice(0, 1), slice(2, 5), slice(16, 18)])


@pytest.mark.parametrize("name", ["mnist", "mnist_labels", "fashion"])
def test_larger_images_have_the_same_bits_in_any_batch(name: str) -> None:
    assert_independent(name, "fp32", name == "mnist", [slice(0, 1), slice(2, 5), slice(8, 9)])


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_one_image_costs_at_most_a_quarter_of_64(name: str) -> None:
    """Counted in images that the network sees, the filled ones included."""
    run = Run.open(name)
    model, seen = run.load(), []
    model.net.register_forward_hook(lambda net, inputs, output: seen.append(len(inputs[0])))
    counts = []
    for n in (1, 64):
        seen.clear()
        with torch.no_grad():
            model(Rng.of(0, n).normal(run.space.shape), torch.tensor(0.5, dtype=torch.float64))
        counts.append(sum(seen))
    assert 4 * counts[0] <= counts[1], counts
    assert counts[1] == 64
