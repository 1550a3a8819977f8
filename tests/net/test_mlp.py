"""The network for rows: against its formula, row by row, and what it says before it has learned anything."""

import math

import pytest
import torch
from torch import Tensor
from truth.models import tensor

from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.ideal import GaussianData
from diffprob.denoise.prediction import V
from diffprob.net.mlp import MLP, MLPSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine


def network(spec: MLPSpec = MLPSpec(3, 16, 2, 8)) -> MLP:
    """Random values in every parameter, those that start at zero included, float64."""
    torch.manual_seed(0)
    net = spec.build().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net


X, T = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double(), tensor([0.0, 1, 10.5, 400, 999])


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def test_output_matches_the_formula() -> None:
    net = network()
    weights = net.state_dict()

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    frequencies = torch.exp(-math.log(10000) * torch.arange(4, dtype=torch.float64) / 3)
    waves = torch.cat([torch.sin(T[:, None] * frequencies), torch.cos(T[:, None] * frequencies)], 1)
    temb = linear("time_embedding.linear_2", silu(linear("time_embedding.linear_1", waves)))
    h = linear("inside", X)
    for k in range(2):
        inner = linear(f"blocks.{k}.first", silu(h)) + linear(f"blocks.{k}.time", silu(temb))
        h = h + linear(f"blocks.{k}.second", silu(inner))
    output = net(X, T)
    assert output.extra is None and output.main.dtype == torch.float64
    torch.testing.assert_close(output.main, linear("outside", silu(h)), rtol=1e-12, atol=1e-12)


def test_rows_are_independent() -> None:
    net = network()
    whole = net(X, T).main
    for k in range(5):
        torch.testing.assert_close(net(X[k : k + 1], T[k : k + 1]).main[0], whole[k], rtol=1e-13, atol=1e-13)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, T).main, X)
    assert isinstance(jacobian, Tensor)
    across = jacobian.permute(0, 2, 1, 3)[~torch.eye(5, dtype=torch.bool)]
    assert torch.all(across == 0) and jacobian.abs().amax() > 0.1
    assert torch.equal(net(X, tensor(7.0)).main, net(X, torch.full((5,), 7.0).double()).main)


def test_untrained_model_predicts_standard_normal_data() -> None:
    """E[x_0|x_t] = alpha x_t for N(0, I) under a variance-preserving process: v is 0."""
    process = LinearProcess(Cosine())
    torch.manual_seed(0)
    model = NetDenoiser(MLPSpec(3, 16, 2, 8).build().double(), process, V())
    exact = GaussianData(torch.zeros(3).double(), torch.eye(3).double(), process)
    for t in (tensor(0.001), tensor(0.5), tensor([0.1, 0.2, 0.3, 0.9, 1.0])):
        torch.testing.assert_close(model(X, t).mean, exact(X, t).mean, rtol=1e-12, atol=1e-12)


def test_every_weight_gets_a_gradient() -> None:
    net = network()
    net(X, T).main.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_spec_repr_counts_and_invalid_fields() -> None:
    assert repr(MLPSpec(2)) == "MLPSpec(features=2, width=128, depth=3, embedding=64)"
    # In and out, two layers of the time, and three layers a block.
    sizes = (2 * 128 + 128) + (64 * 128 + 128) + (128 * 128 + 128) * (1 + 3 * 3) + (128 * 2 + 2)
    assert sum(p.numel() for p in MLPSpec(2).build().parameters()) == sizes
    for bad in (
        lambda: MLPSpec(0), lambda: MLPSpec(1, width=0), lambda: MLPSpec(1, depth=0), lambda: MLPSpec(1, embedding=7),
        lambda: MLPSpec(1, embedding=2),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="got"):
            bad()
