"""Named tensors as safetensors, written straight from memory so that they can be hashed and synced on the way."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.finite import check_tensors
from diffprob.base.text import one_line
from diffprob.storage.files import TENSORS_LIMIT, open_file

# In the order in which the library lays tensors out: those of the largest alignment first.
_NAMES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_RANK = {dtype: rank for rank, dtype in enumerate(_NAMES)}


def pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, in pieces: the header, then each tensor.

    The library's own writer reports a full disk as text and gives no chance to hash or sync; the bytes are the same.

    Raises:
        ValueError: a dtype that the format does not know.
        NumericalError: a number that is not finite: none is kept that could not be used.
    """
    check_tensors(tensors, "nothing is written of numbers that are")
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ValueError(f"{name} has dtype {tensor.dtype}, which safetensors files do not hold")
    order = sorted(tensors, key=lambda name: (_RANK[tensors[name].dtype], name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data


def check_format(path: Path) -> None:
    """Refuse a file that is not safetensors, before anything reads it.

    Raises:
        InputError: what the file looks like instead; a pickle is never opened.
    """
    with open_file(path, TENSORS_LIMIT) as file:
        head, size = file.read(9), os.fstat(file.fileno()).st_size
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length <= size - 8:
        return
    if head[:1] == b"\x80" or head[:4] == b"PK\x03\x04":
        raise InputError(
            f"{path} is a pickle (torch.save), not a safetensors file: pickles can run code and are never opened;"
            " convert it where it was made with safetensors.torch.save_file"
        )
    raise InputError(f"{path} is not a safetensors file: its header is missing or damaged")


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, in memory of its own.

    Raises:
        InputError: the file is missing, is not safetensors or is cut short.
    """
    return read_all(path)[0]


def read_all(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor of a safetensors file, in memory of its own, and the metadata.

    Raises:
        InputError: as in `read`.
    """
    check_format(path)
    try:
        with safe_open(path, framework="pt") as file:
            # A copy, since the file may be replaced or sit at an alignment that the fast kernels do not like.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as a safetensors file: {one_line(error)}") from error


def read_shapes(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype, as safetensors spells it, and shape of every tensor of a safetensors file; none is read.

    Raises:
        InputError: as in `read`.
    """
    check_format(path)
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return {name: (tensor.get_dtype(), tuple(tensor.get_shape())) for name, tensor in slices.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as a safetensors file: {one_line(error)}") from error


def spelt(dtype: torch.dtype) -> str:
    """A dtype as safetensors spells it, such as "F32"."""
    return _NAMES[dtype]


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file.

    Raises:
        InputError: as in `read`.
    """
    check_format(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as a safetensors file: {one_line(error)}") from error
