"""What every density proxy owes: float64, one row for each image, and bits that no neighbour changes."""

import torch
from torch import Tensor
from truth.models import net_denoiser

from diffprob.base.rng import Rng
from diffprob.density.proxy import Proxy

N = 16


def images(shape=(1, 6, 5), dtype=torch.float32) -> Tensor:
    """Grey levels of 256 in model space, (16, *shape); the first three images are constant."""
    levels = Rng.of(11, N).integers(shape, 256)
    levels[0], levels[1], levels[2] = 0, 255, 128
    return levels.to(dtype) * (2 / 255) - 1


def assert_independent(proxy: Proxy, dtype: torch.dtype = torch.float32, channels: int = 1, chunk: int = 4) -> Tensor:
    """Alone, or among 16: the same bits, on constant images too. The statistics are returned."""
    model, x, rng = net_denoiser(chunk=chunk, channels=channels), images((channels, 6, 5), dtype), Rng.of(5, N)
    if dtype == torch.float64:
        model = model.double()
    statistics = proxy.statistics(model, x, rng)
    assert (
        statistics.dtype == torch.float64
        and statistics.shape == (N, len(proxy.columns))
        and not statistics.requires_grad
    )
    assert torch.isfinite(statistics).all()
    for k in (0, 7, 15):
        one = slice(k, k + 1)
        assert torch.equal(proxy.statistics(model, x[one], rng.select(one)), statistics[one]), k
    return statistics
