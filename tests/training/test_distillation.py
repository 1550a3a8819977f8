"""Gradient distillation: zero for the exact potential, the definition by hand, and a density learned from a teacher."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from truth.models import gaussian_data
from truth.potential import gaussian_potential

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.config.pretrained import PretrainedRun
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.denoise.ideal import GaussianData
from diffprob.denoise.learned import LearnedRange
from diffprob.denoise.prediction import X0, Epsilon, V
from diffprob.density.potential import V0
from diffprob.net.layers import Output
from diffprob.net.potential import Potential, PotentialSpec
from diffprob.net.scalar_unet import ScalarUNetSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.learned import Learned
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine
from diffprob.runs.folder import Run
from diffprob.space.pixels import Pixels
from diffprob.training.denoising import Denoising, add_noise
from diffprob.training.distillation import GradientDistillation
from diffprob.training.times import uniform_times

SPACE = Pixels((1, 8, 8), 17)
UNET = UNetSpec(1, 1, widths=(8, 8), layers=1, attention=(False, True), groups=4)


@dataclass(frozen=True)
class Holding:
    """A teacher that was loaded already."""

    model: Any

    def load(self) -> Any:
        return self.model


def student(spec: Any = UNET, prediction=Epsilon(), process: LinearProcess = LinearProcess()) -> NetDenoiser:
    torch.manual_seed(0)
    net = PotentialSpec(spec).build()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return NetDenoiser(net, process, prediction)


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("prediction", [Epsilon(), V(), X0()], ids=repr)
def test_loss_of_the_exact_potential_is_zero(prediction) -> None:
    """Squares of roundings, times 1/alpha^2 at the noise where eps goes by way of x_0."""
    data = gaussian_data()
    loss = GradientDistillation(Holding(data)).bind(gaussian_potential(data, prediction), SPACE)
    x0 = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = loss(gaussian_potential(data, prediction), x0, Rng.of(0, 50))
    assert values.shape == (50,) and values.max() < 1e-18


@pytest.mark.parametrize("prediction", [Epsilon(), V()], ids=repr)
def test_loss_matches_the_formula(prediction) -> None:
    """A teacher of another prediction: its mean of x_0 in the student's own terms."""
    process = LinearProcess(Cosine(1000))
    teacher = NetDenoiser(student().net.body, process, V()).double()
    model = student(UNetSpec(1, 1, widths=(8,), layers=1, attention=(False,), groups=4), prediction, process).double()
    x0, rng = images().double(), Rng.of(7, 4)
    loss = GradientDistillation(Holding(teacher)).bind(model, SPACE)(model, x0, rng)
    t = uniform_times(process, rng.fold("time"))
    case = add_noise(process, x0, t, rng.fold("noise"))
    v = teacher.net(case.xt, 1000 * t - 1).main.detach()
    alpha, sigma = (c[:, None, None, None] for c in process.coefficients(t))
    wanted = v if prediction == V() else sigma * case.xt + alpha * v
    expected = (model.net(case.xt, 1000 * t - 1).main - wanted).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-10)


def test_times_can_be_restricted() -> None:
    data, seen = gaussian_data(), []

    class Spy(GaussianData):
        def __call__(self, xt: Tensor, t: Tensor) -> Any:
            seen.append(t)
            return super().__call__(xt, t)

    model = gaussian_potential(data)
    loss = GradientDistillation(Holding(Spy(data.mean, data.cov)), times=(0.001, 0.25)).bind(model, SPACE)
    x0 = torch.randn(400, 3, dtype=torch.float64)
    loss(model, x0, Rng.of(0, 400))
    low = seen[0] == 0.001
    assert bool((low | (seen[0] == 0.25)).all())
    assert abs(int(low.sum()) - 200) < 4 * 10  # binomial, standard deviation 10
    loss(model, x0[5:6], Rng.of(5, 1))
    assert seen[1] == seen[0][5]


def test_teacher_is_unchanged() -> None:
    net = replace(UNET, dropout=0.5).build().train()
    teacher = NetDenoiser(net, LinearProcess(), evaluation=Evaluation(chunk=3))
    model = student()
    model.evaluation = Evaluation(precision="bf16")
    loss = GradientDistillation(Holding(teacher)).bind(model, SPACE)
    assert not teacher.training and teacher.evaluation == Evaluation(precision="bf16")
    loss(model, images(), Rng.of(0, 4)).mean().backward()
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert not isinstance(loss, nn.Module)


def test_invalid_use_is_an_error() -> None:
    objective = GradientDistillation(Holding(gaussian_data()))
    plain = NetDenoiser(UNET.build(), LinearProcess())
    with pytest.raises(InputError, match=r"network=PotentialSpec\(\.\.\.\)"):
        objective.bind(plain, SPACE)
    with pytest.raises(InputError, match="the teacher's process is"):
        objective.bind(student(process=LinearProcess(Cosine(1000))), SPACE)
    with pytest.raises(InputError, match="LearnedRange"):
        objective.check(LinearProcess(), LearnedRange())
    with pytest.raises(InputError, match="Learned"):
        objective.check(LinearProcess(Learned()), plain.variance)
    with pytest.raises(ValueError, match="bind"):
        objective(student(), images(), Rng.of(0, 4))
    for times in ((), (0.0,), (0.5, 1.5), [0.5]):
        with pytest.raises(ValueError, match=r"times(\[\d\])? must"):
            GradientDistillation(Holding(plain), times)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="teacher cannot be"):
        GradientDistillation("mnist")


class Softplus(nn.Module):
    """Two layers of softplus and a quadratic form: a body whose Gaussian is within reach but not written in."""

    def __init__(self, d: int, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64) / shape[0] ** 0.5)

        self.first, self.second, self.form = weight(d, width), weight(width, width), weight(d, d)
        self.offsets = nn.Parameter(torch.zeros(3, width, dtype=torch.float64))
        self.last = nn.Parameter(torch.zeros(width, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor) -> Output:
        h = nn.functional.softplus(x.flatten(1) @ self.first + self.offsets[0])
        h = nn.functional.softplus(h @ self.second + self.offsets[1])
        return Output(h @ self.last + (x.flatten(1) @ self.form).square().sum(1) / 2)


def test_distilled_potential_ranks_images_like_log_p() -> None:
    """The least noisy time of correlated Gaussian data in 1x4x4: rank correlation of -V_0 with log q at least 0.999.

    And in nats: log q from the scalar has a slope of 1 against the exact one.
    """
    d, generator = 16, torch.Generator().manual_seed(3)
    factor = torch.randn(d, d, generator=generator, dtype=torch.float64) / 4
    data = GaussianData(torch.full((1, 4, 4), 0.2, dtype=torch.float64), factor @ factor.T + 0.05 * torch.eye(d))
    t = torch.tensor(0.05, dtype=torch.float64)
    model = NetDenoiser(Potential(Softplus(d, 32)), LinearProcess())
    loss = GradientDistillation(Holding(data), times=(0.05,)).bind(model, SPACE)
    root = torch.linalg.cholesky(data.cov)

    def draw(rng: Rng) -> Tensor:
        return (rng.normal((d,), torch.float64) @ root.T).reshape(-1, 1, 4, 4) + data.mean

    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.03)
    x, losses = draw(Rng.of(10_000, 400)), []
    exact = data.log_prob(x, t)
    assert stats.spearmanr(V0(0.05)(model, x, Rng.of(0, 400)), exact).statistic < 0.9  # nothing is given away
    for step in range(250):
        adam.param_groups[0]["lr"] = 0.03 * (1 - step / 250)
        rng = Rng.of(0, 24).at(step)
        value = loss(model, draw(rng.fold("x0")), rng).mean()
        adam.zero_grad()
        value.backward()
        adam.step()
        losses.append(float(value.detach()))
    scores = V0(0.05)(model, x, Rng.of(0, 400))
    correlation = stats.spearmanr(scores, exact).statistic
    slope = stats.linregress(exact, scores).slope
    assert losses[-1] < 0.01 * losses[0]
    assert correlation >= 0.999, (correlation, slope, losses[-1])
    assert slope == pytest.approx(1, abs=0.02)


def test_method_2_is_denoising_on_a_scalar_network() -> None:
    """L = mean |grad h(x_t, t) - eps|^2, with nothing but `Denoising` and an `Epsilon` prediction."""
    model = student(ScalarUNetSpec(UNET, (8, 4))).double()
    x0, rng = images().double(), Rng.of(7, 4)
    loss = Denoising()(model, x0, rng)
    t = uniform_times(model.process, rng.fold("time"))
    case = add_noise(model.process, x0, t, rng.fold("noise"))
    at = case.xt.requires_grad_()
    h = model.net.body(at, 1000 * t - 1).main
    (slope,) = torch.autograd.grad(h.sum(), at)
    torch.testing.assert_close(loss, (slope - case.noise).square().mean((1, 2, 3)), rtol=1e-10, atol=1e-12)
    loss.mean().backward()
    trained = dict(model.net.body.named_parameters())
    assert all(trained[name].grad.abs().max() > 0 for name in ("conv_in.weight", "head.convs.0.weight"))


BODIES = {
    "distilled": UNET,
    "scalar": ScalarUNetSpec(UNET, (8, 4)),
    "as-published": ScalarUNetSpec(UNET, (8, 4), norm="batch", activation="relu"),
}


@pytest.fixture(params=BODIES)
def recipe(recipe, request):
    """The tiny recipe of this folder with a potential for its network; one learns from the packaged run."""
    recipe = replace(recipe, network=PotentialSpec(BODIES[request.param]))
    if request.param != "distilled":
        return recipe
    teacher = Run.open("digits")
    return replace(recipe, process=teacher.process, objective=GradientDistillation(PretrainedRun.of(teacher)))


def test_training_resumes_with_the_same_bits(train, final_state, tmp_path) -> None:
    """Three steps and one more are four; the frozen bias stays, running statistics reach the averaged model."""
    whole = train(tmp_path / "whole", steps=4, batch=4)
    train(tmp_path / "cut", steps=3, batch=4)
    train(tmp_path / "cut", steps=4, batch=4)
    one, other = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    assert one[0] == other[0] == 4 and one[1].keys() == other[1].keys()
    for name, tensor in one[1].items():
        assert torch.equal(tensor, other[1][name]), name
    body = "conv_out.bias" if "net.body.conv_out.bias" in whole.model.state_dict() else "head.linear.bias"
    assert not one[1][f"raw.net.body.{body}"].any()
    assert f"optimiser.net.body.{body}.step" not in one[1]
    for name, buffer in whole.model.named_buffers():
        assert torch.equal(buffer, dict(whole.average.named_buffers())[name])
        assert buffer.any()
    model = Run.open(tmp_path / "cut").load()
    assert torch.isfinite(V0()(model, images(), Rng.of(0, 4))).all()
