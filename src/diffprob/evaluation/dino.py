"""DINOv2 features, through the optional package ``transformers``."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.evaluation.features import colour, digest_of
from diffprob.storage.foreign import parsing
from diffprob.storage.hub import installed, patience

SIDE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of images in [0, 1]
_KINDS = ("dinov2", "dinov2_with_registers")
_CHUNK = 32


class DinoFeatures:
    """The class token after the last normalisation of a DINOv2 vision transformer.

    Images in [0, 1] are resized to 224x224 (bicubic, antialiased, clipped to [0, 1]) whatever their shape, and
    normalised by ImageNet's mean and standard deviation.

    Args:
        source: a name on the Hugging Face hub, such as "facebook/dinov2-base", or a folder that ``save_pretrained``
            wrote; only safetensors files are read.
        levels: grey levels K of the images; grey images become three equal channels.
        device: where the network computes; the features come back to the CPU.

    Raises:
        InputError: ``transformers`` is not installed, there is no such model, or it is not a whole DINOv2.

    Reference: Oquab et al., "DINOv2" (2023); Stein et al., "Exposing flaws of generative model evaluation metrics and
    their unfair treatment of diffusion models" (2023), for its use here.
    """

    resize = f"{SIDE}x{SIDE}, bicubic, antialiased, clipped"

    def __init__(self, source: str | Path, levels: int = 256, device: str | torch.device = "cpu") -> None:
        net = _load(str(source))
        self.net, self.levels = net.to(device).eval().requires_grad_(False), levels
        self.dimension = int(net.config.hidden_size)
        self.name = f"DINOv2 ({Path(source).name})"
        self.digest = digest_of(net.state_dict(), "DINOv2 class token", _settings(net), self.resize, f"{levels} levels")

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray) -> Tensor:
        """See `Features`."""
        parts = colour(pixels, self.levels).split(_CHUNK)
        outputs = (self.net(_prepared(part.to(self.net.device))) for part in parts)
        return torch.cat([output.last_hidden_state[:, 0].cpu() for output in outputs])


def _prepared(x: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 3, 224, 224), normalised."""
    x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    mean, std = (x.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return (x - mean) / std


def _load(source: str) -> Any:
    if not installed("transformers"):
        raise InputError("DINOv2 needs the package 'transformers': pip install 'diffprob[transformers]'")
    if source.startswith((".", "/", "~")) and not Path(source).expanduser().is_dir():
        raise InputError(f"there is no folder with a DINOv2 model at {source}")
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _pretrained(str(folder), source)
    with patience():
        return _pretrained(source, source)


def _pretrained(place: str, source: str) -> Any:
    import transformers

    with parsing(source, says="no DINOv2 model can be loaded"):
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
        if config.model_type not in _KINDS:
            raise InputError(f"{source} is a {config.model_type}; one of {', '.join(_KINDS)} would be right")
        net, loading = transformers.AutoModel.from_pretrained(
            place, config=config, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    if missing := sorted(loading["missing_keys"]):
        raise InputError(f"{source} lacks {len(missing)} weights, the first of them {missing[0]}")
    return net


def _settings(net: Any) -> str:
    """What of the configuration decides the features."""
    names = ("model_type", "hidden_size", "num_attention_heads", "patch_size", "image_size", "layer_norm_eps")
    return repr({name: getattr(net.config, name, None) for name in (*names, "hidden_act", "use_swiglu_ffn")})
