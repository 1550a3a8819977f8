"""Files of real numbers: what is read, as what, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from diffprob.base.errors import InputError, Missing
from diffprob.data.fields import Fields, Numbers, fields_text
from diffprob.data.kinds import open_data
from diffprob.data.sources import Array
from diffprob.data.train_test_split import split_of

RNG = np.random.default_rng(0)


def saved(folder: Path, shape: tuple[int, ...], dtype: str = "float64") -> Path:
    path = folder / "x.npy"
    np.save(path, RNG.normal(10, 3, shape).astype(dtype))
    return path


@pytest.mark.parametrize(
    ("shape", "dims", "event"),
    [
        ((5, 3), None, (3,)),
        ((5, 30), 1, (1, 30)),
        ((5, 2, 30), None, (2, 30)),
        ((5, 8, 8), None, (1, 8, 8)),
        ((5, 20, 30), None, (1, 20, 30)),
        ((5, 12, 20), 2, (1, 12, 20)),
        ((5, 12, 20), 1, (12, 20)),
        ((5, 3, 8, 8), None, (3, 8, 8)),
        ((5, 8, 9, 3), None, (3, 8, 9)),
        ((5, 8, 8, 8), None, (1, 8, 8, 8)),
        ((5, 2, 8, 8, 8), None, (2, 8, 8, 8)),
    ],
)
def test_shape_says_what_the_numbers_are(tmp_path: Path, shape, dims, event) -> None:
    path = saved(tmp_path, shape)
    data = Numbers(str(path), dims=dims).load()
    raw = np.load(path).astype(np.float32)
    raw = np.moveaxis(raw, -1, 1) if shape == (5, 8, 9, 3) else raw
    assert data.event_shape == event and data.levels is None and data.pixels.dtype == np.float32
    assert np.array_equal(np.asarray(data.pixels).reshape(5, *event), raw.reshape(5, *event))


@pytest.mark.parametrize(("shape", "asked"), [((5, 12, 20), "1 or .*2"), ((5, 9, 9, 12), "2 or .*3")])
def test_nothing_is_guessed(tmp_path: Path, shape, asked) -> None:
    with pytest.raises(InputError, match=rf"ambiguous; .*{asked} says which"):
        Numbers(str(saved(tmp_path, shape))).load()


def test_moments_are_those_of_each_channel(tmp_path: Path) -> None:
    data = Numbers(str(saved(tmp_path, (50, 3, 8, 8)))).load()
    raw = np.asarray(data.pixels, np.float64)
    mean, scale = data.moments()
    assert np.allclose(mean, raw.mean((0, 2, 3)), rtol=1e-12) and np.allclose(scale, raw.std((0, 2, 3)), rtol=1e-9)
    shifted = Fields((raw[:, :1] * 1e-3 + 1e4).astype(np.float32), name="x")  # far from 0: digits are kept
    assert np.allclose(shifted.moments()[1], shifted.pixels.astype(np.float64).std(), rtol=1e-6)
    constant = Fields(np.array([[1, 7], [2, 7]], np.float32), name="t")
    with pytest.raises(InputError, match="t: column 1 is 7 throughout"):
        constant.moments()


def test_tables_and_their_headers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("width;height\n1.5;2\n-3e2;4\n")
    data = open_data(str(path)).load()
    assert np.array_equal(data.pixels, np.array([[1.5, 2], [-300, 4]], np.float32))
    assert "columns: width, height" in data.notes and fields_text(data).startswith("2 vectors of 2 numbers")
    path.write_text("1,2\n3,4\n")
    assert len(open_data(str(path)).load()) == 2
    for text, message in {
        "a,b\n1,2\n3\n": "row 3 has 1 columns, the first 2",
        "a,b\n1,x\n": r"row 2, column 2 \(b\): 'x' is no number",
        "a,b\n1,nan\n": "holds nan at",
        "a,b\n": "no rows of numbers",
        "a,b\n1,1e99\n": "too large for float32",
    }.items():
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            open_data(str(path)).load()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no text in UTF-8"):
        open_data(str(path)).load()
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty file"):
        open_data(str(path)).load()


def test_floats_become_numbers_where_that_is_asked_and_whole_numbers_stay_images(tmp_path: Path) -> None:
    floats, levels = str(saved(tmp_path, (5, 8, 8))), str(tmp_path / "u.npy")
    np.save(levels, np.zeros((5, 8, 8), np.uint8))
    assert isinstance(open_data(floats), Array) and isinstance(open_data(floats, real=None), Numbers)
    assert isinstance(open_data(levels, real=None), Array)
    with pytest.raises(InputError, match="Numbers data has its own size"):
        open_data(floats, real=None, size=4)
    with pytest.raises(InputError, match=r"dims.*: Array data are images in levels"):
        open_data(levels, real=None, dims=1)
    with pytest.raises(InputError, match=r"dims.* has shape 5x8x8; \(N, C, D, H, W\) would be right"):
        open_data(floats, real=None, dims=3).load()


def test_archives_have_labels_conditions_and_splits(tmp_path: Path) -> None:
    path, x, told = tmp_path / "x.npz", RNG.normal(size=(6, 4)), RNG.normal(size=(6, 2))
    np.savez(path, x_train=x, condition_train=told, y_train=np.arange(6), x_test=x[:2])
    data, test = Numbers(str(path)).load(), Numbers(str(path), "test").load()
    assert np.array_equal(data.conditions, told.astype(np.float32)) and data.labels is not None
    assert len(test) == 2 and test.conditions is None
    some = data.some([4, 1])
    assert np.array_equal(some.conditions, told[[4, 1]].astype(np.float32)) and some.digest() != data.digest()
    np.savez(path, x=x, condition=told[:3])
    with pytest.raises(InputError, match=r"condition is float64 \(3, 2\); real numbers of shape \(6, K\)"):
        Numbers(str(path)).load()
    np.savez(path, z=x)
    with pytest.raises(Missing, match="no x among its arrays"):
        Numbers(str(path)).load()
    bad = RNG.normal(size=(3, 4))
    bad[1, 2] = np.inf
    np.savez(path, x=bad)
    with pytest.raises(InputError, match=r"holds inf at \(1, 2\), not finite"):
        Numbers(str(path)).load()


def test_what_is_held_out_is_decided_by_the_numbers(tmp_path: Path) -> None:
    source = Numbers(str(saved(tmp_path, (400, 3))))
    split = split_of(source, source.load(), 0.25, apart=False)
    train, test = split.load(), type(split)(source, split.below, "test", False).load()
    assert isinstance(train, Fields) and len(test) == 100 and len(train) == 300
    assert not {row.tobytes() for row in test.pixels} & {row.tobytes() for row in train.pixels}
