"""The writer of safetensors files against the safetensors library."""

import io

import pytest
import safetensors.torch
import torch

from diffprob.base.errors import InputError
from diffprob.storage.files import write_new as write
from diffprob.storage.tensors import pieces, read, read_metadata

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


@pytest.fixture
def tensors():
    many = {f"t{i}.é": (torch.arange(6).reshape(2, 3) % 2).to(dtype) for i, dtype in enumerate(DTYPES)}
    flat = torch.randn(10)
    return {
        **many,
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "transposed": torch.randn(3, 4).T,
        "view a": flat[:4],
        "view b": flat[4:],
        "odd": torch.zeros(3, dtype=torch.uint8),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }


def test_bytes_match_the_safetensors_library(tensors):
    whole = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    for metadata in (None, {"recipe": "x"}):
        assert b"".join(pieces(tensors, metadata)) == safetensors.torch.save(whole, metadata)


def test_tensors_survive_the_round_trip(tensors, tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, pieces(tensors, {"step": "3", "recipe": "R(a='é')"}))
    back = read(path)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
    assert read_metadata(path) == {"step": "3", "recipe": "R(a='é')"}
    path.write_bytes(b"")  # what was read does not depend on the file any more
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


def test_unknown_dtype_is_an_error():
    with pytest.raises(ValueError, match=r"z has dtype torch.complex64"):
        list(pieces({"z": torch.zeros(2, dtype=torch.complex64)}))


def pickled(**options):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer, **options)
    return buffer.getvalue()


GOOD = b"".join(pieces({"a": torch.zeros(300)}))
FILES = {
    "pickle, new": (pickled(), "is a pickle"),
    "pickle, old": (pickled(_use_new_zipfile_serialization=False), "is a pickle"),
    "empty": (b"", "header is missing"),
    "text": (b"hello world, this is text", "header is missing"),
    "cut in the header": (GOOD[:20], "header is missing"),
    "cut in the data": (GOOD[:-1], "cannot be read as a safetensors file"),
    "more than it says": (GOOD + b"1234", "cannot be read as a safetensors file"),
    "not JSON": ((8).to_bytes(8, "little") + b"{nonsens", "cannot be read as a safetensors file"),
}


@pytest.mark.parametrize("case", FILES)
def test_damaged_file_is_an_error_naming_it(case, tmp_path):
    contents, message = FILES[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(contents)
    for reader in (read, read_metadata):
        with pytest.raises(InputError, match=message) as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read(tmp_path / "model.safetensors")


def test_header_that_begins_like_a_pickle_is_read(tmp_path):
    """The first byte of a safetensors file is that of its header's length, which may well be a pickle's first byte."""
    path, count = tmp_path / "x.safetensors", 0
    for length in range(1, 300):
        contents = b"".join(pieces({"n" * length: torch.zeros(2)}))
        if contents[0] == 0x80:
            path.write_bytes(contents)
            assert len(read(path)) == 1
            count += 1
    assert count
