"""Linear autoencoders, whose best weights and errors are known; resuming, and the scale of the latents."""

import copy

import numpy as np
import pytest
import torch
from truth.densities import MemoryStore
from truth.linear_autoencoder import Linear

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.data.sources import Digits
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.denoise.denoiser import Evaluation
from diffprob.density.baselines import DensityModel
from diffprob.net.autoencoder import AutoencoderSpec, gaussian_kl
from diffprob.net.energy import EnergySpec
from diffprob.space.pixels import Pixels
from diffprob.training.loop import Trainer
from diffprob.training.reconstruction import Reconstruction
from diffprob.training.settings import Training

SHAPE = (1, 2, 3)
SCALES = torch.tensor([2.0, 1.5, 1.0, 0.6, 0.3, 0.1], dtype=torch.float64)


def gaussian(n):
    """Points (n, *SHAPE) of mean 0 and their covariance, not diagonal."""
    turn = torch.linalg.qr(Rng.of(5, 6).normal((6,), torch.float64))[0]
    x = (Rng.of(1, n).normal((6,), torch.float64) * SCALES) @ turn.T
    return x.unflatten(1, SHAPE), x.T @ x / n


def fitted(model, loss, x, rng):
    """The model with the weights that make the mean loss least."""
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=400, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=1e-14
    )

    def closure():
        optimiser.zero_grad()
        value = loss(model, x, rng).mean()
        value.backward()
        return value

    optimiser.step(closure)
    return float(loss(model, x, rng).mean().detach())


def test_linear_autoencoder_spans_the_principal_subspace():
    """Its error is the sum of the discarded eigenvalues, over d."""
    torch.manual_seed(0)
    x, cov = gaussian(400)
    values, vectors = torch.linalg.eigh(cov)
    for k in (1, 3):
        model = Autoencoder(Linear(SHAPE, k), k)
        error = fitted(model, Reconstruction(), x, Rng.of(0, len(x)))
        assert error == pytest.approx(float(values[:-k].sum()) / 6, rel=1e-6)
        basis = torch.linalg.qr(model.net.up.weight.detach())[0]
        torch.testing.assert_close(basis @ basis.T, vectors[:, -k:] @ vectors[:, -k:].T, rtol=0, atol=1e-3)


def test_denoising_autoencoder_is_the_mean_of_the_posterior():
    """Of N(0, S) with noise v it is S (S + v)^-1 x~, Tweedie's x~ + v grad log p(x~); for the second moments drawn."""
    torch.manual_seed(1)
    sigma, (x, _) = 0.8, gaussian(4000)
    model, rng = Autoencoder(Linear(SHAPE, 6), 6), Rng.of(2, len(x))
    loss = Reconstruction(noise=sigma)
    fitted(model, loss, x, rng)
    found = (model.net.up.weight @ model.net.down.weight).detach()
    seen = (x + sigma * rng.fold("noise").normal(SHAPE, torch.float64)).flatten(1)
    least = torch.linalg.lstsq(seen, x.flatten(1)).solution.T
    torch.testing.assert_close(found, least, rtol=0, atol=1e-4)
    turn = torch.linalg.qr(Rng.of(5, 6).normal((6,), torch.float64))[0]
    cov = turn @ torch.diag(SCALES**2) @ turn.T
    truth = cov @ torch.linalg.inv(cov + sigma**2 * torch.eye(6, dtype=torch.float64))
    tweedie = torch.eye(6, dtype=torch.float64) - sigma**2 * torch.linalg.inv(cov + sigma**2 * torch.eye(6).double())
    torch.testing.assert_close(truth, tweedie)
    torch.testing.assert_close(found, truth, rtol=0, atol=0.05)  # 4000 points: five standard errors
    assert (found - torch.eye(6)).abs().max() > 0.5


@pytest.mark.parametrize("regulariser", ["kl", "vq", "none"])
def test_loss_is_the_sum_of_its_parts(regulariser):
    torch.manual_seed(0)
    net = AutoencoderSpec(1, 2, (8, 8), 1, regulariser, codes=5, groups=4).build().double()
    model, x, rng = Autoencoder(net, 2), torch.rand(4, 1, 8, 8, dtype=torch.float64) * 2 - 1, Rng.of(3, 4).at(7)
    coded = model.raw(x, rng.fold("latent"))
    for error, of in (("squared", torch.square), ("absolute", torch.abs)):
        wanted = of(coded.images - x).flatten(1).sum(1)
        if regulariser == "kl":
            wanted = wanted + 0.3 * gaussian_kl(coded.mean, coded.log_variance).flatten(1).sum(1)
        if regulariser == "vq":
            wanted = wanted + 1.7 * (coded.codes - coded.mean).square().flatten(1).sum(1)
        loss = Reconstruction(error, kl=0.3, commitment=0.7)
        torch.testing.assert_close(loss(model, x, rng), wanted / 64)
        torch.testing.assert_close(loss(model, x[1:3], rng.select(slice(1, 3))), (wanted / 64)[1:3])


def test_codebook_moves_to_the_latents_and_latents_by_the_commitment_alone():
    torch.manual_seed(0)
    net = AutoencoderSpec(1, 2, (8, 8), 1, "vq", codes=5, groups=4).build().double()
    model, x, rng = Autoencoder(net, 2), torch.rand(2, 1, 8, 8, dtype=torch.float64), Rng.of(0, 2)
    coded = model.raw(x, rng.fold("latent"))
    (gradient,) = torch.autograd.grad(Reconstruction()(model, x, rng).sum(), net.quantize.embedding.weight)
    (wanted,) = torch.autograd.grad(
        (coded.codes - coded.mean.detach()).square().sum() / 64, net.quantize.embedding.weight
    )
    torch.testing.assert_close(gradient, wanted)
    none = torch.autograd.grad(
        (Reconstruction(commitment=0.5)(model, x, rng) - Reconstruction(commitment=0.0)(model, x, rng)).sum(),
        net.quantize.embedding.weight,
    )[0]
    torch.testing.assert_close(none, torch.zeros_like(none))


def test_trainer_resumes_to_the_bit_and_keeps_the_scale_of_the_latents():
    images, space = Digits().load(), Pixels((1, 8, 8), 17)
    settings = Training(steps=6, batch=16, lr=1e-3, warmup=1, precision="fp32", checkpoint_every=3, sample_every=0)
    torch.manual_seed(0)
    start = Autoencoder(AutoencoderSpec(1, 2, (8, 8), groups=4).build(), 2)

    def train(store, halt=lambda: False):
        trainer = Trainer(
            copy.deepcopy(start), Reconstruction(), images, space, settings, store, device="cpu", halt=halt
        )
        trainer.run()
        return trainer.average

    whole, cut = MemoryStore(), MemoryStore()
    average, asked = train(whole), iter([False, False, False, True])
    train(cut, lambda: next(asked))
    assert cut.kept.step == 3
    train(cut)
    for name, value in whole.kept.ema.items():
        assert torch.equal(cut.kept.ema[name], value), name
    assert not torch.equal(average.latent_mean, torch.zeros(2))
    average.evaluation = Evaluation(16)
    with torch.no_grad():
        held_out = Digits("test").load()
        z = average.encode(space.to_model(torch.from_numpy(held_out.take(np.arange(len(held_out))))))
    std = z.transpose(0, 1).flatten(1).std(1)
    assert ((std > 0.9) & (std < 1.1)).all(), std
    torch.testing.assert_close(average.decode(z[:3]), average.net.decode(z[:3] * average.latent_std[:, None, None]
        + average.latent_mean[:, None, None]), rtol=0, atol=1e-6)  # fmt: skip


class Standardised(torch.nn.Module):
    """A shift of images that is no `Autoencoder`, and keeps the mean of the examples."""

    evaluation = Evaluation()

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(()))

    def standardise(self, batches) -> None:
        self.mean.copy_(torch.cat(list(batches)).mean())


def test_whatever_standardises_itself_does_so_before_a_checkpoint():
    images, space, store = Digits().load(), Pixels((1, 8, 8), 17), MemoryStore()
    settings = Training(steps=2, batch=16, warmup=1, precision="fp32", sample_every=0)
    Trainer(
        Standardised(),
        lambda model, x0, rng: (x0 - model.shift).square().mean((1, 2, 3)),
        *(images, space, settings, store),
        device="cpu",
    ).run()
    x = space.to_model(torch.from_numpy(images.take(np.arange(1000))))
    assert float(store.kept.ema["mean"]) == pytest.approx(float(x.mean()), abs=0.02)


def test_it_trains_autoencoders_alone():
    with pytest.raises(InputError, match="trains an Autoencoder, got a DensityModel"):
        Reconstruction().bind(DensityModel(EnergySpec().build()), Pixels((1, 8, 8)))
