"""InceptionV3: the published names and shapes, every stage's shape, and the poolings against formulas by hand.

The whole graph was compared once, outside the suite, with pytorch-fid 0.3.0's (on torchvision 0.29.2's definition) on
random weights and 299x299 inputs: all 294 named layers agreed to the bit, in float32 and in float64.
"""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diffprob.net.inception import InceptionV3, Mixed, pool3x3

# Counted in the independent definition that the graph was compared with; the published file has 566 entries as well.
CONVOLUTIONS, TENSORS, PARAMETERS = 94, 566, 23_850_960
# SHA-256 over the sorted lines "name shape" of that definition, counters of the batch normalisation left out.
NAMES = "d84f693f2abd7fea61cb31c87d3b2f268bf707c1bae1db219afdad3363959cb0"

STAGES = {
    "Conv2d_1a_3x3": (32, 149),
    "Conv2d_2a_3x3": (32, 147),
    "Conv2d_2b_3x3": (64, 147),
    "Conv2d_3b_1x1": (80, 73),
    "Conv2d_4a_3x3": (192, 71),
    "Mixed_5b": (256, 35),
    "Mixed_5c": (288, 35),
    "Mixed_5d": (288, 35),
    "Mixed_6a": (768, 17),
    "Mixed_6b": (768, 17),
    "Mixed_6c": (768, 17),
    "Mixed_6d": (768, 17),
    "Mixed_6e": (768, 17),
    "Mixed_7a": (1280, 8),
    "Mixed_7b": (2048, 8),
    "Mixed_7c": (2048, 8),
}


@pytest.fixture(scope="module")
def empty():
    with torch.device("meta"):
        return InceptionV3().eval()


def test_weight_names_and_shapes_match_published(empty):
    state = empty.state_dict()
    assert len(state) == TENSORS
    assert sum(isinstance(module, nn.Conv2d) for module in empty.modules()) == CONVOLUTIONS
    assert sum(weight.numel() for weight in empty.parameters()) == PARAMETERS
    assert tuple(state["fc.weight"].shape) == (1008, 2048)
    assert tuple(state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape) == (384, 384, 3, 1)
    assert "Mixed_5b.branch1x1.bn.num_batches_tracked" in state
    lines = [
        f"{name} {tuple(value.shape)}" for name, value in sorted(state.items()) if "num_batches_tracked" not in name
    ]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == NAMES


@torch.no_grad()
def test_stage_shapes_match_the_paper():
    with torch.device("meta"):
        net = InceptionV3().eval()
    net.to_empty(device="cpu")
    for value in net.state_dict().values():
        value.zero_()
    seen = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda _, __, y, name=name: seen.__setitem__(name, tuple(y.shape)))
    assert net(torch.zeros(1, 3, 299, 299)).shape == (1, 1008)
    assert seen == {name: (1, width, side, side) for name, (width, side) in STAGES.items()} | {"fc": (1, 1008)}
    assert net.features(torch.zeros(1, 3, 75, 75)).shape == (1, 2048)


def test_average_pooling_excludes_the_padding():
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(3, 1, 3, 3)
    total = F.conv2d(x, ones, padding=1, groups=3)
    count = F.conv2d(torch.ones_like(x), ones, padding=1, groups=3)
    assert count[0, 0, 0, 0] == 4
    assert count[0, 0, 2, 2] == 9
    assert torch.allclose(pool3x3(x, "average"), total / count, atol=1e-6)
    constant = torch.full((1, 1, 4, 4), 7.0)
    assert torch.allclose(pool3x3(constant, "average"), constant)  # a mean over zeros would darken the edge


def test_maximum_pooling_ignores_the_padding():
    x = -1 - torch.rand(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    windows = F.pad(x, (1,) * 4, value=-torch.inf).unfold(2, 3, 1).unfold(3, 3, 1)
    assert torch.equal(pool3x3(x, "max"), windows.amax((-1, -2)))
    assert torch.equal(pool3x3(x, "shrink"), x.unfold(2, 3, 2).unfold(3, 3, 2).amax((-1, -2)))


@pytest.mark.parametrize(
    ("block", "pool"),
    [(f"Mixed_{name}", "average") for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b")]
    + [("Mixed_7c", "max"), ("Mixed_6a", "shrink"), ("Mixed_7a", "shrink")],
)
def test_block_poolings_match_published(empty, block, pool):
    assert empty.get_submodule(block).pool == pool


@pytest.mark.parametrize("block", ["Mixed_5b", "Mixed_6a", "Mixed_7a", "Mixed_7c"])
def test_blocks_match_their_formulas(block):
    """One block of each kind, written out with torch's functions from the paper's figures 5 to 10."""
    torch.manual_seed(0)
    with torch.device("meta"):
        made = InceptionV3().get_submodule(block)
    net = made.to_empty(device="cpu").eval()
    for name, value in net.state_dict().items():
        value.copy_(torch.rand_like(value) + 0.5 if name.endswith("running_var") else torch.randn(value.shape) * 0.05)
    first = next(net.children()).conv
    x = torch.randn(1, first.in_channels, 7, 7)

    def conv(name, y, padding=(0, 0), stride=1):
        state = net.get_submodule(name).state_dict()
        y = F.conv2d(y, state["conv.weight"], padding=padding, stride=stride)
        mean, var = state["bn.running_mean"][:, None, None], state["bn.running_var"][:, None, None]
        y = (y - mean) / (var + 1e-3).sqrt() * state["bn.weight"][:, None, None] + state["bn.bias"][:, None, None]
        return y.clamp_min(0)

    assert isinstance(net, Mixed)
    assert torch.allclose(net(x), _formula(block, conv, x), atol=1e-4, rtol=1e-4)


def _formula(block, conv, x):
    if block == "Mixed_5b":
        five = conv("branch5x5_2", conv("branch5x5_1", x), (2, 2))
        three = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x), (1, 1))
        pooled = conv("branch_pool", F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        return torch.cat([conv("branch1x1", x), five, conv("branch3x3dbl_3", three, (1, 1)), pooled], 1)
    if block == "Mixed_6a":
        three = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x), (1, 1))
        shrunk = [conv("branch3x3", x, stride=2), conv("branch3x3dbl_3", three, stride=2)]
        return torch.cat([*shrunk, F.max_pool2d(x, 3, 2)], 1)
    if block == "Mixed_7a":
        three = conv("branch3x3_2", conv("branch3x3_1", x), stride=2)
        seven = conv("branch7x7x3_2", conv("branch7x7x3_1", x), (0, 3))
        seven = conv("branch7x7x3_4", conv("branch7x7x3_3", seven, (3, 0)), stride=2)
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)
    three = conv("branch3x3_1", x)
    twice = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x), (1, 1))
    parts = [conv("branch3x3_2a", three, (0, 1)), conv("branch3x3_2b", three, (1, 0))]
    parts += [conv("branch3x3dbl_3a", twice, (0, 1)), conv("branch3x3dbl_3b", twice, (1, 0))]
    return torch.cat([conv("branch1x1", x), *parts, conv("branch_pool", F.max_pool2d(x, 3, 1, 1))], 1)
