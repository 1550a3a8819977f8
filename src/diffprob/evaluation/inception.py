"""InceptionV3 features, those of the published Frechet inception distance. The weights are the user's to bring."""

import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.evaluation.features import colour, digest_of
from diffprob.net.inception import CLASSES, FEATURES, SIDE, InceptionV3
from diffprob.storage.files import TENSORS_LIMIT, followed, kind_of, open_file
from diffprob.storage.foreign import parsing
from diffprob.storage.hub import patience
from diffprob.storage.tensors import read_all

# SHA-256 of pt_inception-2015-12-05-6726825d.pth, which the releases of mseitzer/pytorch-fid offer (95,628,359 bytes).
PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
ORIGIN = "source_sha256"  # the metadata of a converted file: SHA-256 of the .pth that it was made of
CONVERT = (  # run in the folder of the file, so that the whole message fits in one line
    'python -c "import torch,hashlib as h;from safetensors.torch import*;p={name!r};save_file({{k:v.contiguous()for k,v'
    " in torch.load(p).items()}},p+'.safetensors',{{'source_sha256':h.sha256(open(p,'rb').read()).hexdigest()}})\""
)
LONGEST_NAME = 40  # of a file for which the command fits
_CHUNK = 32  # images of 299x299 at a time: about 250 MiB


class InceptionFeatures:
    """The 2048 means before the last layer ("pool3") of `diffprob.net.inception.InceptionV3`.

    Images in [0, 1] are resized to 299x299 bilinearly (corners not aligned, no antialiasing), as pytorch-fid does it,
    and then brought to [-1, 1]. The TensorFlow original and programs that antialias give other numbers. The class
    probabilities leave the last layer's bias out, as the published Inception score does, and have its 1008 classes.

    Args:
        net: with weights.
        published: whether the weights are those of the published file.
        levels: grey levels K of the images; grey images become three equal channels.
        device: where the network computes; the features come back to the CPU.

    Reference: Heusel et al., "GANs trained by a two time-scale update rule" (2017); Salimans et al., "Improved
    techniques for training GANs" (2016), section 4, for the score.
    """

    resize = f"{SIDE}x{SIDE}, bilinear, corners not aligned, no antialiasing"
    dimension = FEATURES
    classes = CLASSES

    def __init__(
        self, net: InceptionV3, published: bool, levels: int = 256, device: str | torch.device = "cpu"
    ) -> None:
        self.net, self.levels, self.published = net.to(device).eval().requires_grad_(False), levels, published
        self.weights = weights_digest(net.state_dict())
        self.name = f"InceptionV3 ({'published' if published else 'NOT the published'} weights, {self.weights[:8]})"
        self.digest = digest_of({}, self.weights, "InceptionV3 pool3", self.resize, f"{levels} levels on [-1, 1]")

    @classmethod
    def open(
        cls, source: str | Path, levels: int = 256, device: str | torch.device = "cpu", accept: str = ""
    ) -> "InceptionFeatures":
        """Read the weights.

        Args:
            source: a .safetensors file with the names of ``pt_inception-2015-12-05-6726825d.pth``, made of that file by
                `CONVERT`; or "hf:OWNER/REPOSITORY" or "hf:OWNER/REPOSITORY/FILE" on the Hugging Face hub.
            accept: first digits (8 or more) of the `weights_digest` of other weights, which are then used all the same.

        Raises:
            InputError: no such file; a pickle, with the command that converts it; other names or shapes; or weights
                that do not say that they come from the published file and are not accepted.
        """
        path = _from_hub(str(source)[3:]) if str(source).startswith("hf:") else Path(source)
        tensors, origin = _read(path)
        made = cls(_fill(tensors, path), origin == PUBLISHED, levels, device)
        if not made.published and not (len(accept) >= 8 and made.weights.startswith(accept.lower())):
            provenance = (
                f"was made of a file of SHA-256 {origin[:8]}..." if origin else "does not say what it was made of"
            )
            right = f"that of the published weights is {PUBLISHED[:8]}..."
            raise InputError(f"{path} {provenance}, {right}; to use it all the same, accept {made.weights[:16]}")
        return made

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray) -> Tensor:
        """See `Features`."""
        device = self.net.fc.weight.device
        return torch.cat(
            [self.net.features(_prepared(part.to(device))).cpu() for part in colour(pixels, self.levels).split(_CHUNK)]
        )

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """See `Judge`."""
        return (features.double() @ self.net.fc.weight.cpu().double().T).softmax(1)


def weights_digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the weights, without the counters of the batch normalisation, which play no part in evaluation."""
    return digest_of({name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")})


def _prepared(x: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 3, 299, 299) in [-1, 1]."""
    return 2 * F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    place = followed(path)
    if kind_of(place) is None:
        raise InputError(f"there is no file of Inception weights at {path}")
    with open_file(place, TENSORS_LIMIT) as file:
        start = file.read(2)
    if start in {b"PK", b"\x80\x02"} or path.suffix in {".pth", ".pt", ".bin"}:
        # The command is for a shell, and a name that came from outside could say more than a name there.
        if not re.fullmatch(rf"[\w.-]{{1,{LONGEST_NAME}}}", path.name, re.ASCII):
            raise InputError(
                f"{path} is a pickle, never opened; a name of at most {LONGEST_NAME} letters, digits, dots and dashes "
                "gets advice"
            )
        raise InputError(f"a pickle, never opened; in its folder, once: {CONVERT.format(name=path.name)}")
    tensors, metadata = read_all(place)
    return tensors, metadata.get(ORIGIN, "").lower()


def _fill(tensors: dict[str, Tensor], path: Path) -> InceptionV3:
    """The network with these weights; the counters may be missing, nothing else."""
    with torch.device("meta"):
        net = InceptionV3()
    wanted = net.state_dict()
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, torch.zeros((), dtype=torch.int64))
        weight = tensors.get(name)
        if weight is None:
            raise InputError(f"{path} is not InceptionV3's weights: it lacks {name}")
        if weight.shape != tensor.shape or weight.dtype != tensor.dtype:
            theirs, ours = f"{weight.dtype} {tuple(weight.shape)}", f"{tensor.dtype} {tuple(tensor.shape)}"
            raise InputError(f"{path} is not the weights of the FID's InceptionV3: {name} is {theirs}, not {ours}")
    if extra := sorted(set(tensors) - set(wanted)):
        raise InputError(f"{path} is not the weights of the FID's InceptionV3, which has no {extra[0]}")
    net.load_state_dict(tensors, assign=True)
    return net


@patience()
def _from_hub(name: str) -> Path:
    """A file of the Hugging Face hub, downloaded or found in its cache."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError("the hub needs the package 'huggingface_hub': pip install huggingface_hub") from error
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if not owner or not repository:
        raise InputError(f"hf:{name}: hf:OWNER/REPOSITORY or hf:OWNER/REPOSITORY/FILE would be right")
    with parsing(f"hf:{name}", says="cannot be loaded"):
        if not file:
            files = [item for item in huggingface_hub.list_repo_files(f"{owner}/{repository}") if _is_weights(item)]
            if len(files) != 1:
                raise InputError(f"hf:{name} holds {len(files)} .safetensors files; name one: hf:{name}/FILE")
            file = files[0]
        return Path(huggingface_hub.hf_hub_download(f"{owner}/{repository}", file))


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors")
