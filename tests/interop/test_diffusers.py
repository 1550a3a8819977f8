"""Folders of diffusers' pipelines: what is read, what is refused, and that both libraries draw the same images."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.conditions.condition import Labels
from diffprob.denoise.clipping import Clip
from diffprob.denoise.denoiser import Index, NetDenoiser, Scale
from diffprob.denoise.prediction import X0, Epsilon, Prediction, Score, V
from diffprob.denoise.variance import UnitData, Variance, Zero
from diffprob.interop.configs import Scheduling, network_config, network_spec, scheduler_config, scheduling
from diffprob.interop.diffusers import WEIGHTS, export_pipeline, load_pipeline, open_pipeline
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess, VarianceExploding
from diffprob.process.schedule import VPSDE, Cosine, LinearBetas, Quadratic, ScaledLinear, Schedule

SPEC = UNetSpec(in_channels=1, out_channels=1, widths=(8, 16), layers=1, attention=(False, True), groups=4)


def model(
    prediction: Prediction = Epsilon(), variance: Variance = Zero(), schedule: Schedule = LinearBetas(20, 5e-3, 0.3)
) -> NetDenoiser:
    torch.manual_seed(1)
    net = SPEC.build()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return NetDenoiser(net, LinearProcess(schedule), prediction, Index(schedule.steps or 0), variance).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export_pipeline(tmp_path / "model", model(), (8, 8))
    return tmp_path / "model"


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def refusal(folder: Path) -> str:
    """The message with which a folder is refused: one line."""
    with pytest.raises(InputError) as caught:
        open_pipeline(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_exported_pipeline_loads_back(folder: Path) -> None:
    pipeline = load_pipeline(folder)
    assert pipeline.spec == SPEC and pipeline.size == (8, 8)
    state = model().net.state_dict()
    assert pipeline.state.keys() == state.keys()
    assert all(torch.equal(pipeline.state[name], state[name]) for name in state)
    opened = open_pipeline(folder)
    assert isinstance(opened, Clip) and (opened.low, opened.high) == (-1.0, 1.0)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor(0.5, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(opened(x, t).mean, Clip(model())(x, t).mean)
    assert not list(folder.parent.glob(".*")), "no temporaries stay behind"


def test_flat_layout_and_old_weight_names_load(folder: Path) -> None:
    """google/ddpm-cifar10-32 has its files at the top, and attention called query, key, value and proj_attn."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(folder / "unet" / WEIGHTS)
    renamed = {}
    for name, tensor in state.items():
        for modern, former in old.items():
            name = name.replace(f".{modern}.", f".{former}.")
        renamed[name] = tensor
    assert renamed.keys() != state.keys()
    save_file(renamed, folder / WEIGHTS)
    os.replace(folder / "unet" / "config.json", folder / "config.json")
    os.replace(folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
    (folder / "unet" / WEIGHTS).unlink()
    (folder / "unet").rmdir()
    (folder / "scheduler").rmdir()
    pipeline = load_pipeline(folder)
    assert pipeline.spec == SPEC and pipeline.scheduler is not None
    assert all(torch.equal(pipeline.state[name], state[name]) for name in state)


def test_published_ddpm_cifar10_configuration_loads() -> None:
    config = {
        "_class_name": "UNet2DModel",
        "_diffusers_version": "0.0.4",
        "act_fn": "silu",
        "attention_head_dim": None,
        "block_out_channels": [128, 256, 256, 256],
        "center_input_sample": False,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "in_channels": 3,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-06,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 32,
        "time_embedding_type": "positional",
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    }
    assert network_spec(config) == UNetSpec()
    assert network_spec(network_config(UNetSpec(), (32, 32))) == UNetSpec()


def test_missing_settings_take_diffusers_defaults() -> None:
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        theirs = diffusers.UNet2DModel()
        ours = network_spec({}).build()
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}
    config = dict(theirs.config)
    config["down_block_types"], config["up_block_types"] = (
        list(config["down_block_types"]),
        list(config["up_block_types"]),
    )
    assert network_spec(config) == network_spec({})
    defaults = dict(diffusers.DDPMScheduler().config)
    assert scheduling(defaults) == scheduling({}) == Scheduling()


def test_pickled_weights_are_an_error_with_advice(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    assert "diffusion_pytorch_model.safetensors is missing" in refusal(folder)
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    message = refusal(folder)
    assert "diffusion_pytorch_model.bin is a pickle" in message and "from_pretrained" in message


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}, "'CrossAttnDownBlock2D'"),
        ({"up_block_types": ["AttnUpBlock2D", "SkipUpBlock2D"]}, "'SkipUpBlock2D'"),
        ({"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]}, "must mirror"),
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ({"act_fn": "gelu"}, "act_fn must be 'silu', got 'gelu'"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"num_class_embeds": 10}, "lacks class_embedding.weight"),
        ({"class_embed_type": "timestep"}, "class_embed_type must be None, got 'timestep'"),
        ({"block_out_channels": [8, 18]}, "divisible by groups=4"),
        ({"block_out_channels": ["8", "16"]}, "config.json: "),
        ({"sample_size": "large"}, "sample_size"),
        ({"norm_num_groups": 8}, ""),
        ({"block_out_channels": [8, 32]}, "has shape"),
        ({"layers_per_block": 2}, "lacks down_blocks.0.resnets.1"),
        ({"add_attention": False}, "holds mid_block.attentions.0"),
    ],
)
def test_unsupported_network_settings_are_errors(folder: Path, settings: dict[str, Any], named: str) -> None:
    change(folder / "unet" / "config.json", **settings)
    if named:
        message = refusal(folder)
        assert named in message and ("config.json" in message or WEIGHTS in message)
    else:  # another grouping has the same weights: a different network, but one that can be built
        assert load_pipeline(folder).spec.groups == 8


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"_class_name": "PNDMScheduler"}, "PNDMScheduler"),
        ({"beta_schedule": "sigmoid"}, "'sigmoid'"),
        ({"prediction_type": "flow"}, "'flow'"),
        ({"variance_type": "fixed_small_log"}, "'fixed_small_log'"),
        ({"thresholding": True}, "thresholding"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas=True"),
        ({"beta_end": 2.0}, "last must lie in (0, 1), got 2.0"),
        ({"num_train_timesteps": "many"}, "scheduler_config.json"),
    ],
)
def test_unsupported_scheduler_settings_are_errors(folder: Path, settings: dict[str, Any], named: str) -> None:
    change(folder / "scheduler" / "scheduler_config.json", **settings)
    assert named in refusal(folder)


@pytest.mark.parametrize("size", [10**12, [True, 8], [8], "x", {"a": 1}, 0])
def test_invalid_sample_size_is_an_error(folder: Path, size: Any) -> None:
    change(folder / "unet" / "config.json", sample_size=size)
    assert "sample_size must be one or two positive numbers" in refusal(folder)


def test_other_folders_are_errors(folder: Path, tmp_path: Path) -> None:
    assert "is not a folder" in refusal(tmp_path / "nothing")
    assert "config.json is missing" in refusal(tmp_path)
    change(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    assert "StableDiffusionPipeline" in refusal(folder)
    (folder / "model_index.json").unlink()
    (folder / "unet" / "config.json").write_text("{")
    assert "cannot be read as JSON" in refusal(folder)
    (folder / "unet" / "config.json").write_text("[]")
    assert "must hold a JSON object" in refusal(folder)
    with pytest.raises(InputError, match="not an empty folder"):
        export_pipeline(folder, model(), (8, 8))


@pytest.mark.parametrize("schedule", [LinearBetas(), ScaledLinear(500), Quadratic(), Cosine(250)], ids=repr)
@pytest.mark.parametrize("variance", [Zero(), UnitData()], ids=repr)
def test_schedulers_survive_the_round_trip(schedule: Schedule, variance: Variance) -> None:
    diffusers = pytest.importorskip("diffusers")
    for prediction, clip in ((Epsilon(), 1.0), (X0(), None), (V(), 1.5)):
        settings = Scheduling(LinearProcess(schedule), prediction, variance, clip)
        config = scheduler_config(settings)
        back = scheduling(config)
        t = torch.linspace(0.1, 1, 10, dtype=torch.float64)
        torch.testing.assert_close(back.process.logsnr(t), settings.process.logsnr(t), rtol=0, atol=0)
        assert (back.prediction, back.variance, back.clip, back.clock) == (
            prediction,
            variance,
            clip,
            Index(schedule.steps or 0),
        )
        theirs = diffusers.DDPMScheduler.from_config(config)
        steps = torch.arange(1, len(theirs.betas) + 1, dtype=torch.float64) / len(theirs.betas)
        # Theirs is a float32 product of up to 1000 factors.
        torch.testing.assert_close(
            settings.process.alpha(steps) ** 2, theirs.alphas_cumprod.double(), rtol=2e-4, atol=1e-7
        )


def test_export_of_unsupported_components_is_an_error(tmp_path: Path) -> None:
    cases: list[tuple[NetDenoiser, str]] = []
    cases.append((model(Score()), "Score()"))
    for process, named in (
        (LinearProcess(VPSDE()), "VPSDE"),
        (LinearProcess(Cosine(1000, 0.01)), "shift=0.01"),
        (LinearProcess(LinearBetas(), VarianceExploding()), "VarianceExploding"),
    ):
        wrong = model()
        wrong.process = process
        cases.append((wrong, named))
    clocked = model()
    clocked.clock = Scale()
    cases.append((clocked, "Scale"))
    for wrong, named in cases:
        with pytest.raises(InputError, match=named.replace("(", r"\(").replace(")", r"\)")):
            export_pipeline(tmp_path / "out", wrong, (8, 8))
    assert not (tmp_path / "out").exists()


class Recorded:
    """A denoising chain of ours that takes its noise from a list, one entry a step."""

    def __init__(self, denoiser: Any, steps: int) -> None:
        self.denoiser, self.steps = denoiser, steps

    @torch.no_grad()
    def run(self, x: Tensor, noise: list[Tensor]) -> Tensor:
        times = [torch.tensor(i / self.steps, dtype=torch.float64) for i in range(self.steps, 0, -1)]
        for t, s, z in zip(times, times[1:], noise, strict=False):
            law = self.denoiser.process.reverse(self.denoiser(x, t), x, s, t)
            x = law.mean + law.std * z
        return self.denoiser(x, times[-1]).mean


CHAINS = [
    (Epsilon(), Zero(), LinearBetas(20, 5e-3, 0.3), 1.0),
    (Epsilon(), UnitData(), LinearBetas(20, 5e-3, 0.3), 1.0),
    (V(), Zero(), Cosine(20), None),
    (X0(), UnitData(), ScaledLinear(20, 5e-3, 0.3), 2.0),
]


@pytest.mark.parametrize(
    ("prediction", "variance", "schedule", "clip"), CHAINS, ids=lambda v: repr(v).partition("(")[0]
)
def test_exported_pipeline_samples_match_diffusers(
    prediction: Prediction, variance: Variance, schedule: Schedule, clip: float | None, tmp_path: Path
) -> None:
    diffusers = pytest.importorskip("diffusers")
    ours = model(prediction, variance, schedule)
    export_pipeline(tmp_path / "model", ours, (8, 8), clip)
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    steps = 20
    theirs = pipeline(
        batch_size=3, generator=torch.Generator().manual_seed(7), num_inference_steps=steps, output_type="np"
    ).images
    # The pipeline draws x_T, then one tensor of noise a step, from the one generator.
    generator = torch.Generator().manual_seed(7)
    first, *noise = (torch.randn(3, 1, 8, 8, generator=generator) for _ in range(steps))
    images = Recorded(open_pipeline(tmp_path / "model"), steps).run(first, noise)
    expected = torch.from_numpy(theirs).permute(0, 3, 1, 2) * 2 - 1
    assert expected.std() > 0.1
    torch.testing.assert_close(images.clamp(-1, 1), expected, rtol=0, atol=1e-4)


def test_class_conditional_network_matches_diffusers(tmp_path: Path) -> None:
    """The same weights and labels, written by ours and read by theirs; float32 roundings of a small network."""
    diffusers = pytest.importorskip("diffusers")
    spec = UNetSpec(1, 1, (8, 16), 1, (False, True), groups=4, padding=1, classes=4)
    net = spec.build()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = NetDenoiser(net.eval(), LinearProcess(LinearBetas(20, 5e-3, 0.3)), clock=Index(20), condition=Labels(3))
    export_pipeline(tmp_path / "model", ours, (8, 8))
    theirs = diffusers.UNet2DModel.from_pretrained(tmp_path / "model", subfolder="unet")
    x, t, labels = torch.randn(4, 1, 8, 8), torch.tensor([0.0, 3.0, 7.0, 19.0]), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        expected = theirs(x, t, class_labels=labels).sample
        torch.testing.assert_close(net(x, t, labels).main, expected, rtol=1e-4, atol=1e-4)
        read = open_pipeline(tmp_path / "model")
        assert read.model.condition == Labels(3)
        output = read.model.condition_on(labels)(x, torch.tensor(0.5)).mean
        torch.testing.assert_close(output, ours.condition_on(labels)(x, torch.tensor(0.5)).mean)


def test_single_weight_variant_is_loaded_and_reported(folder: Path) -> None:
    path, half = folder / "unet" / WEIGHTS, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    state = load_file(path)
    path.unlink()
    save_file({name: tensor.half() for name, tensor in state.items()}, half)
    pipeline = load_pipeline(folder)
    assert pipeline.variant == "fp16"
    assert all(torch.equal(pipeline.state[name], state[name].half().float()) for name in state)
    shutil.copy(half, half.with_name("diffusion_pytorch_model.bf16.safetensors"))
    assert "has the weights as bf16, fp16, and none as diffusion_pytorch_model.safetensors" in refusal(folder)
    for name in ("fp16", "bf16"):
        half.with_name(f"diffusion_pytorch_model.{name}.safetensors").unlink()
    save_file(state, half.with_name("diffusion_pytorch_model-00001-of-00002.safetensors"))
    assert "in parts: save them as one file" in refusal(folder)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("unet", {"block_out_channels": 5}, "block_out_channels must be a list, got 5"),
    ("unet", {"block_out_channels": []}, "widths must have 1 to 12 entries"),
    ("unet", {"block_out_channels": ["a", 1]}, "widths[0] must be a whole number"),
    ("unet", {"block_out_channels": [8, 10**9]}, "widths[1] must be at most 16384"),
    ("unet", {"layers_per_block": 10**9}, "layers must be at most 64"),
    ("unet", {"layers_per_block": True}, "layers must be a whole number"),
    ("unet", {"norm_eps": "x"}, "eps must be a number"),
    ("unet", {"add_attention": 3}, "mid_attention must be True or False"),
    ("unet", {"num_class_embeds": [1]}, "classes must be a whole number"),
    ("unet", {"down_block_types": [3, 4]}, "down_block_types has 3"),
    ("unet", {"up_block_types": {"a": 1}}, "up_block_types must be a list"),
    ("unet", {"_class_name": ["x"] * 5000}, "only UNet2DModel can be read"),
    ("scheduler", {"trained_betas": [0.1] * 1000}, "trained_betas must be None, got [0.1, 0.1"),
    ("scheduler", {"num_train_timesteps": 10**9}, "steps must be at most 1000000"),
    ("scheduler", {"beta_start": None}, "first must be a number"),
    ("scheduler", {"clip_sample_range": "x"}, "clip_sample_range must be a number"),
    ("scheduler", {"clip_sample": "yes"}, "clip_sample must be True or False"),
    ("scheduler", {"y" * 5000: 1}, "has no counterpart"),
]


@pytest.mark.parametrize(("part", "settings", "named"), WRONG, ids=lambda value: str(value)[:40])
def test_invalid_settings_are_short_errors(part: str, settings: dict[str, Any], named: str) -> None:
    blocks = {
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
        "block_out_channels": [32, 64],
    }
    with pytest.raises(InputError) as caught:
        network_spec({**blocks, **settings}) if part == "unet" else scheduling(settings)
    assert named in str(caught.value) and len(str(caught.value)) <= 200


def test_links_are_followed_only_into_the_hub_cache(folder: Path, tmp_path: Path) -> None:
    """The cache keeps contents in blobs, and snapshots as folders of links to them; other links are not followed."""
    cache = tmp_path / "models--a--b"
    snapshot = cache / "snapshots" / "0123"
    shutil.copytree(folder, snapshot)
    (cache / "blobs").mkdir()
    for name in ("unet/config.json", f"unet/{WEIGHTS}"):
        blob = cache / "blobs" / Path(name).name
        os.replace(snapshot / name, blob)
        (snapshot / name).symlink_to(blob)
    assert load_pipeline(snapshot).spec == SPEC
    (snapshot / "unet" / "config.json").unlink()
    for place in (tmp_path / "elsewhere.json", Path("/dev/zero")):
        (snapshot / "unet" / "config.json").symlink_to(place)
        assert "config.json is a link" in refusal(snapshot)
        (snapshot / "unet" / "config.json").unlink()
    for name in ("config.json", WEIGHTS):
        (folder / "unet" / name).unlink()
        os.mkfifo(folder / "unet" / name)
        assert f"{name} is a pipe" in refusal(folder)
        shutil.copy(cache / "blobs" / name, folder / "spare")
        os.replace(folder / "spare", folder / "unet" / name)
    assert load_pipeline(folder).spec == SPEC
