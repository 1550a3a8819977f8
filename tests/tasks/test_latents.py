"""Diffusion in latents from end to end: an autoencoder, a model in its latents, and what is asked of it."""

import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.config.pretrained import PretrainedRun
from diffprob.density.likelihood import BoundDensity
from diffprob.recipes import named
from diffprob.runs.files import read_recipe
from diffprob.runs.folder import Run, open_run
from diffprob.runs.publish import publish, write_run
from diffprob.runs.writer import RunWriter
from diffprob.space import latents
from diffprob.space.latents import Latents
from diffprob.tasks.detection import DetectionRequest, detect
from diffprob.tasks.exchange import ExportRequest, export_run
from diffprob.tasks.features import RawPixels
from diffprob.tasks.run_summary import describe_run
from diffprob.tasks.training import TrainRequest, train
from diffprob.training.bound import VariationalBound

RUN_FILES = ("manifest.json", "measured.json", "model.safetensors", "recipe.txt")
QUICK = {"training.batch": 16, "training.precision": "fp32", "training.sample_every": 0, "training.samples": 4}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("latents")


@pytest.fixture(scope="module")
def encoder(place):
    """A tiny autoencoder of the digits."""
    small = {"network.widths": "(8, 16)", "network.latent_channels": 2, "network.groups": 4}
    request = TrainRequest(
        recipe="digits_autoencoder", out=place / "ae", steps=40, device="cpu", overrides={**QUICK, **small}
    )
    return train(request)


@pytest.fixture(scope="module")
def recipe(encoder):
    made = named("digits_latent")
    space = replace(made.space, autoencoder=PretrainedRun(encoder.run), latent=(2, 4, 4))
    network = replace(made.network, in_channels=2, out_channels=2, widths=(16,), attention=(False,), groups=4)
    return replace(made, space=space, network=network)


@pytest.fixture(scope="module")
def model(recipe, place):
    train(TrainRequest(recipe=recipe, out=place / "run", steps=6, device="cpu", overrides=QUICK))
    return dp.load(place / "run")


def test_an_autoencoder_says_how_near_held_out_images_come_back(encoder):
    run, test = open_run(encoder.run), dp.Digits("test").load()
    result = encoder.reconstruction
    net, x = run.load(), run.space.to_model(torch.from_numpy(test.take(np.arange(len(test)))))
    with torch.no_grad():
        error = (net(x).clamp(-1, 1) - x).double().square().mean()
    assert result.psnr == pytest.approx(float(10 * torch.log10(4 / error)), abs=1e-4)
    assert result.low < result.psnr < result.high
    assert (result.tested, result.on) == (360, "the test split")
    assert [(m.name, m.value) for m in run.measurements] == [("PSNR of reconstructions", result.psnr)]
    with torch.no_grad():
        std = net.encode(x).transpose(0, 1).flatten(1).std(1)
    assert ((std > 0.9) & (std < 1.1)).all()
    about = describe_run(encoder.run)
    assert ": an" in dict(about.about)["run"] and "grey images" in dict(about.about)["run"]  # short after a long place
    assert about.next[0].text.startswith("diffprob train digits_latent --set space.autoencoder.run=")
    assert "A convolutional autoencoder" in (run.path / "README.md").read_text()
    with pytest.raises(InputError, match="has no denoiser: a diffusion model may be trained in its latents"):
        dp.load(encoder.run)


def test_the_run_names_its_autoencoder_by_its_hash(model, encoder, recipe, place):
    digest = open_run(encoder.run).sha256()
    assert read_recipe(model.run.path).space.autoencoder == PretrainedRun(encoder.run, digest)
    assert model.run.recipe.space.autoencoder == PretrainedRun(str(model.run.path / "autoencoder"), digest)
    again = train(TrainRequest(recipe=recipe, out=place / "run", steps=6, device="cpu", overrides=QUICK))
    assert again.finished_before
    with pytest.raises(InputError, match="other weights than the recipe names"):
        PretrainedRun(encoder.run, "0" * 64).load_autoencoder()
    with pytest.raises(InputError, match=r"is a run of a UNetSpec; that of an AutoencoderSpec\(...\) would be right"):
        PretrainedRun("digits").load_autoencoder()


@contextmanager
def without(folder):
    """The folder is elsewhere, and another one may be in its place."""
    aside, folder = Path(f"{folder}-aside"), Path(folder)
    folder.rename(aside)
    latents._load.cache_clear()
    try:
        yield aside
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        latents._load.cache_clear()


def test_a_run_opens_from_its_folder_alone(model, encoder, place):
    """Where it was trained, copied, published and written anew with the autoencoder at hand; digests are checked."""
    wanted = model.sample(2, seed=1, steps=3, labels=5).images
    shutil.copytree(place / "run", place / "copied")
    publish(model.run, place / "published")
    write_run(place / "written", model.run.recipe, model.run.weights())
    with without(encoder.run):
        for folder in ("run", "copied", "published", "written"):
            latents._load.cache_clear()
            assert np.array_equal(dp.load(place / folder).sample(2, seed=1, steps=3, labels=5).images, wanted), folder
        again = train(TrainRequest(recipe=Run.open(place / "run").recipe, out=place / "run", device="cpu"))
        assert again.finished_before
    assert not [path for path in (place / "published").rglob("*.*") if str(place).encode() in path.read_bytes()]
    inner = place / "published" / "autoencoder" / "model.safetensors"
    contents = inner.read_bytes()
    inner.write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    with pytest.raises(InputError, match=r"autoencoder/model.safetensors does not match its SHA-256"):
        Run.open(place / "published")


def test_an_autoencoder_that_was_trained_anew_is_refused(model, encoder, recipe, place):
    """By the training that goes on; the run itself keeps what it began with."""
    wanted = model.sample(1, seed=1, steps=2, labels=5).images
    known = replace(recipe, space=replace(recipe.space, autoencoder=recipe.space.autoencoder.pinned()))
    with without(encoder.run) as aside:
        old = open_run(aside)
        write_run(encoder.run, old.recipe, {name: 2 * value for name, value in old.weights().items()}, old.meta["data"])
        with pytest.raises(InputError, match=r"space.autoencoder.sha256 is '\w+' there and '\w+' here"):
            train(TrainRequest(recipe=recipe, out=place / "run", steps=8, device="cpu", overrides=QUICK))
        with pytest.raises(InputError, match=r"ae has other weights than the recipe names: sha256 \w+\.\.\.$"):
            train(TrainRequest(recipe=known, out=place / "run", steps=8, device="cpu", overrides=QUICK))
        assert np.array_equal(dp.load(place / "run").sample(1, seed=1, steps=2, labels=5).images, wanted)


def test_images_are_drawn_by_class_and_decoded(model):
    samples = model.sample(3, seed=2, steps=4, labels=5, guidance=1.0)
    assert samples.images.shape == (3, 1, 8, 8)
    assert samples.images.max() <= 16
    assert samples.settings["clip"] is False
    assert (samples.labels == 5).all()
    *_, last = model.chain(3, seed=2, steps=4, labels=5, guidance=1.0)
    assert last.x.shape == (3, 2, 4, 4)
    assert np.array_equal(model.space.to_data(last.x).numpy(), samples.images)
    assert np.array_equal(model.sample(2, seed=3, steps=4, labels=5, guidance=1.0).images, samples.images[1:])
    assert model.score(last.x, t=0.3).shape == (3, 2, 4, 4)


@pytest.mark.filterwarnings("ignore:steps follow from the analytic variance")
def test_what_needs_a_density_of_images_or_pixels_says_so(model, recipe, encoder, place, tmp_path):
    bound = replace(recipe, objective=VariationalBound())
    for ask in (
        lambda: model.bits_per_dim(n=4),
        lambda: model.rate_distortion(n=4),
        lambda: model.fit("steps"),
        lambda: model.log_prob(None, method=dp.ProbabilityFlow()),
        lambda: detect(model.run, DetectionRequest(outside=("digits",), proxies=(BoundDensity(),), n=20)),
        lambda: train(TrainRequest(recipe=bound, out=place / "bound", device="cpu", overrides=QUICK)),
    ):
        with pytest.raises(InputError, match="no density of the images"):
            ask()
    with pytest.raises(InputError, match="clipping works on pixels"):
        model.sample(2, clip=True)
    with pytest.raises(InputError, match="diffusers' DDPMPipeline works on pixels, and this model on latents"):
        export_run(model.run, ExportRequest(out=str(tmp_path / "pipeline")))
    with pytest.raises(InputError, match="a restoration works on pixels"):
        model.restore("digits:0", dp.tasks.degradations.Denoise(noise=3))
    with pytest.raises(InputError, match=r"training.augment works on pixels"):
        replace(recipe, training=replace(recipe.training, augment=(dp.HorizontalFlip(),)))


@pytest.mark.filterwarnings("ignore:comparing the samples")
def test_samples_are_compared_with_images(model):
    result = model.evaluate(n=20, steps=2, metrics=("frechet",), features=RawPixels())
    assert result.to_json()["run"] == model.run.place


def test_a_recipe_takes_any_space_that_does_what_one_does():
    digits = named("digits")
    with pytest.raises(ValueError, match="space cannot be 3: it has no log_det"):
        replace(digits, space=3)
    latents = Latents((1, 8, 8), 17, autoencoder=PretrainedRun("runs/nowhere"), latent=(4, 4, 4))
    with pytest.raises(ValueError, match=r"network.in_channels must be 4 as in space, got 1"):
        replace(digits, space=latents)
    with pytest.raises(InputError, match="no run at runs/nowhere"):
        train(TrainRequest(recipe="digits_latent", overrides={"space.autoencoder.run": "runs/nowhere"}))


def test_a_run_that_never_came_to_a_checkpoint_is_begun_anew_with_other_latents_or_none(recipe, place):
    folder = place / "begun"
    for begun in (recipe, replace(recipe, network=replace(recipe.network, groups=8)), named("digits"), recipe):
        RunWriter.open(folder, begun, None).close()
        inside = {path.name for path in folder.glob("autoencoder/*")}
        assert inside == (set() if begun.name == "digits" else {"README.md", *RUN_FILES})
        assert open_run(folder).recipe.name == begun.name
