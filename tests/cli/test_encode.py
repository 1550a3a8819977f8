"""`encode` and `decode`, and the same from Python: images come back to the bit, and damage is never an image."""

import json
import math
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.codec import container
from diffprob.codec.bits_back import BitsBack
from diffprob.codec.container import Coded, head_size, read
from diffprob.codec.header import USUAL
from diffprob.codec.poisson import PoissonFunctional
from diffprob.codec.universal import UniversalQuantisation
from diffprob.net.unet import UNetSpec
from diffprob.reporting.pictures import tiles
from diffprob.runs.folder import Run
from diffprob.tasks import page_code
from diffprob.tasks.coding import code_of, probe
from diffprob.tasks.decoding import decode
from diffprob.tasks.encoding import EncodeRequest, encode, prepare_encoding
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.reporter import SILENT

QUICK = ("--coder", "UniversalQuantisation()", "--steps", "4", "--device", "cpu")


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, np.ndarray]:
    """A file of three groups of digits, and their levels."""
    selection = ImageSelection(n=7)
    request = EncodeRequest(images=selection, coder=UniversalQuantisation(), steps=4, group=3)
    data, index = selection.resolve(Run.open("digits"), SILENT)
    return encode(Run.open("digits"), request).data, data.images.take(index)


@pytest.mark.parametrize("coder", [PoissonFunctional(bits=5.0), UniversalQuantisation(), BitsBack()], ids=repr)
def test_images_come_back_to_the_bit(coder: PoissonFunctional) -> None:
    model = dp.load("digits")
    batch = model.data(n=3)
    result = model.encode(batch, coder=coder)
    decoded = model.decode(result.data)
    np.testing.assert_array_equal(decoded.images, batch.images)
    assert decoded.complete.all() and (decoded.times == 0).all()
    assert 8 * len(result.data) == pytest.approx(sum(result.bits.values()))
    assert result.bits_per_dim == pytest.approx(8 * len(result.data) / (3 * 64))


def test_a_network_call_has_no_more_images_than_there_are() -> None:
    """What fills up a call costs as much as an image; a file says how many it takes, and a decoder takes as many."""
    run, request = Run.open("digits"), EncodeRequest(images=ImageSelection(n=3), coder=UniversalQuantisation(), steps=2)
    data = encode(run, request).data
    assert read(data).header["chunk"] == 3 and decode(run, data).exact.all()
    chosen = replace(request, compute=dp.Compute(batch=5))
    assert prepare_encoding(run, chosen).settings["chunk"] == 5


def test_many_images_of_few_bytes_are_filled_up_or_refused_before_they_are_coded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file may claim few images for each of its bytes, so that a short one takes a short time."""
    run = Run.open("digits")
    request = EncodeRequest(images=ImageSelection(n=140), coder=UniversalQuantisation(), steps=2, group=140, psnr=1.0)
    encoded = encode(run, request)
    (group,) = read(encoded.data).groups
    assert group.stream == bytes(2) and decode(run, encoded.data).complete.all()
    monkeypatch.setattr("diffprob.tasks.encoding._encoded", lambda *_: pytest.fail("was coded"))
    header = Coded(read(encoded.data).header, ()).data()
    bits = 8 * (len(header) + 2 + head_size(140, 2, 20) + 1.5) / 140  # so that a byte is left for the stream
    with pytest.raises(InputError, match=r"140 images in a group take 2 bytes at least.* groups of 128"):
        encode(run, replace(request, psnr=None, bits=bits))


def test_bits_back_is_all_or_nothing_and_comes_back_in_a_fresh_process(diffprob: Callable, tmp_path: Path) -> None:
    """With another number of threads than it was made with."""
    model, path = dp.load("digits"), tmp_path / "set.dfp"
    batch = model.data(n=5)
    result = model.encode(batch, coder=BitsBack(lanes=2), steps=4)
    result.save(path)
    assert result.settings["group"] == 1000 and (result.times == 0).all() and result.mean_psnr is None
    assert result.bits["rest"] == 8 * read(result.data).overhead and result.bits["first"] > 0
    program = (
        "import sys, diffprob as dp, numpy as np\n"
        "images = dp.load('digits').decode(sys.argv[1]).images\n"
        "np.save(sys.argv[2], images)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(3 - min(torch.get_num_threads(), 2))}
    subprocess.run([sys.executable, "-c", program, str(path), str(tmp_path / "x.npy")], check=True, env=environment)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), batch.images)
    progressive = diffprob("decode", "digits", path, "--progressive", "--out", "x.png")
    assert progressive.code == 2 and "says no image before its last byte" in progressive.error
    assert "say nothing of an image yet" in diffprob("decode", "digits", path, "--bytes", "150", "--out", "x.png").error
    refused = diffprob("encode", "digits", "--coder", "BitsBack()", "--psnr", "20", "--out", "y.dfp")
    assert refused.code == 2 and "BitsBack() sends all or nothing" in refused.error and not Path("y.dfp").exists()
    refused = diffprob("encode", "digits", "--coder", "BitsBack(parts=0)", "--out", "y.dfp")
    assert refused.code == 2 and "parts must be" in refused.error


def test_bits_back_costs_the_bound() -> None:
    """16 digits at 6 times, against the bound at these.

    They differ by the noise of one draw of the chain and by what rounded states cost, 1/2 log(1 + 1/48) a step and
    element at most.
    """
    model = dp.load("digits")
    result = model.encode(n=16, coder=BitsBack(), steps=6)
    run = model.run
    setup = prepare_encoding(run, EncodeRequest(images=ImageSelection(n=16), coder=BitsBack(), steps=6))
    x0 = setup.x0(torch.from_numpy(setup.selection.images.take(setup.chosen)))
    draws = [
        dp.variational_bound(setup.denoiser, x0, setup.times, Rng.of(k, 16), setup.decoder).total for k in range(6)
    ]
    bound, noise = torch.stack(draws).mean(), torch.stack(draws).std(0).mean() / 16**0.5
    measured = (result.bits["steps"] + result.bits["levels"]) / 16 * math.log(2)
    assert abs(measured - float(bound)) < 4 * float(noise) * (1 + 1 / 6) ** 0.5 + 0.5 * math.log1p(1 / 48) * 6 * 64


def test_groups_come_back_and_a_file_cut_short_says_what_is_there(coded: tuple[bytes, np.ndarray]) -> None:
    data, levels = coded
    run = Run.open("digits")
    np.testing.assert_array_equal(decode(run, data).images, levels)
    seen = []
    for n in range(len(data) - 90, len(data), 9):
        part = decode(run, data, n)
        whole = part.complete
        np.testing.assert_array_equal(part.images[whole], levels[: len(part)][whole])
        assert not whole.all() or len(part) < len(levels)
        seen.append(int(whole.sum()))
    assert seen == sorted(seen)
    half = decode(run, data, len(data) - 30)
    errors = np.abs(half.images.astype(float) - levels[: len(half)]).mean((1, 2, 3))
    known = errors[half.complete]
    assert (known == 0).all() and (errors < 8).all()  # of 17 levels; the mean image is 4 or so away


def test_no_damaged_file_gives_an_image(coded: tuple[bytes, np.ndarray]) -> None:
    data, levels = coded
    run, draw = Run.open("digits"), np.random.default_rng(0)
    others = [data[:5], data[: len(data) // 2] + data[len(data) // 2 + 1 :], data + b"x", b"", draw.bytes(200)]
    for _ in range(25):
        other = bytearray(data)
        other[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))
        others.append(bytes(other))
    for other in others:
        try:
            got = decode(run, other)
        except InputError:
            continue
        np.testing.assert_array_equal(got.images[got.complete], levels[: len(got)][got.complete])
        assert not got.complete.all()


@pytest.mark.parametrize("goal", [{"bits": 220}, {"psnr": 14.0}], ids=str)
def test_a_lossy_code_says_the_encoders_state_and_is_checked(
    coded: tuple[bytes, np.ndarray], goal: dict[str, float]
) -> None:
    """An independent way to the same image: the beginning of the lossless file, read as far as the same time."""
    data, levels = coded
    model = dp.load("digits")
    lossy = model.encode(n=7, coder=UniversalQuantisation(), steps=4, group=3, **goal)
    decoded, way = model.decode(lossy.data), list(model.decode_progressively(data))
    assert decoded.complete.all() and not decoded.exact.any()
    np.testing.assert_array_equal(decoded.times, lossy.times)
    for first, n in ((0, 3), (3, 3), (6, 1)):
        (same,) = (state for state in way if len(state) == first + n and state.times[first] == lossy.times[first])
        np.testing.assert_array_equal(decoded.images[first : first + n], same.images[first:])
        if "psnr" in goal:  # it is reached here, and not yet a time before
            at, wanted = way.index(same), levels[first : first + n]
            shown = [dp.psnr(state.images[first:], wanted, 17).mean() for state in way[at - 1 : at + 1]]
            assert shown[0] < goal["psnr"] <= shown[1]
        else:
            assert 8 * len(lossy.data) <= 7 * goal["bits"]
    np.testing.assert_allclose(lossy.psnr, dp.psnr(decoded.images, levels, 17))
    file = read(lossy.data)
    for left in {0, *range(7), 1 << 29} - {file.groups[0].left}:
        with pytest.raises(InputError, match="damaged"):
            decode(model.run, Coded(file.header, (replace(file.groups[0], left=left), *file.groups[1:])).data())


def test_a_bound_that_is_no_bound_gives_every_bit_and_one_too_small_is_said(coded: tuple[bytes, np.ndarray]) -> None:
    model = dp.load("digits")
    result = model.encode(n=7, coder=UniversalQuantisation(), steps=4, group=3, bits=1e6)
    assert result.data == coded[0] and result.mean_psnr is None and (result.times == 0).all()
    with pytest.raises(InputError, match="bits=30: the header and the checks"):
        model.encode(n=7, steps=4, bits=30)
    with pytest.raises(ValueError, match="psnr and bits exclude each other"):
        EncodeRequest(bits=900, psnr=20)


@pytest.mark.parametrize("pieces", [1, 40, 10_000])
def test_states_come_as_bytes_arrive(coded: tuple[bytes, np.ndarray], pieces: int) -> None:
    """Each as soon as the bytes say it, and none that the bytes do not say."""
    data, levels = coded
    arrived: list[int] = []

    def arriving() -> Iterator[bytes]:
        for first in range(0, len(data), pieces):
            arrived.append(min(first + pieces, len(data)))
            yield data[first : first + pieces]

    model, seen = dp.load("digits"), []
    for state in model.decode_progressively(arriving()):
        seen.append((len(state), float(state.times[-1]), state.settings["bytes"], arrived[-1]))
        np.testing.assert_array_equal(state.images[state.exact], levels[: len(state)][state.exact])
    assert [n for n, *_ in seen] == [3] * 5 + [6] * 5 + [7] * 5
    assert state.exact.all() and state.settings["bytes"] == len(data)
    sizes = [size for _, _, size, _ in seen]
    assert sizes == sorted(sizes)
    assert all(size <= there < size + 8 + pieces for _, _, size, there in seen)  # a range coder may hold back 6


def test_a_stream_that_stops_or_is_damaged_on_its_way(coded: tuple[bytes, np.ndarray]) -> None:
    data, _ = coded
    model = dp.load("digits")
    *_, last = model.decode_progressively(iter([data[:-40]]))
    np.testing.assert_array_equal(last.images, model.decode(data[:-40]).images)
    np.testing.assert_array_equal(last.complete, model.decode(data[:-40]).complete)
    for other in (b"", data[:40], data + b"x", data[:-9] + bytes([data[-9] ^ 4]) + data[-8:], b"PNG" + data):
        with pytest.raises(InputError):
            list(model.decode_progressively(other[k : k + 50] for k in range(0, len(other), 50)))


def test_a_stream_under_another_header_is_found(coded: tuple[bytes, np.ndarray]) -> None:
    """Each field of the header decides: none can be changed without a word."""
    file, run = read(coded[0]), Run.open("digits")
    changes = {
        "times": [*file.header["times"][:-1], file.header["times"][-1] + 1],
        "of": 999,
        "coder": "PoissonFunctional(bits=10.0, most=18, risk=0.1)",
        "variance": "Analytic(bound=1.0, last=inf, moment='residual')",
        "clip": False,
        "model": "0" * 16,
        "probe": "0" * 16,
        "shape": [1, 8, 9],
        "levels": 16,
        "device": "cuda",
        "chunk": 500_000,
        "precision": "fp8",
        "run": 5,
    }
    for name, value in [*changes.items(), ("of", 10**400), ("of", -1000)]:
        with pytest.raises(InputError):
            decode(run, Coded({**file.header, name: value}, file.groups).data())
    with pytest.raises(InputError, match="another"):
        decode(Run.open("mnist"), coded[0])


def test_a_file_of_the_last_version_comes_back(
    coded: tuple[bytes, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which said shape and levels, and 16 digits of its machine, in deflated text."""
    file, run = read(coded[0]), Run.open("digits")
    request = EncodeRequest(images=ImageSelection(n=7), coder=UniversalQuantisation(), steps=4, group=3)
    setup = prepare_encoding(run, request)
    here = probe(code_of(setup.model, setup.clip, setup.times, setup.decoder, request.coder, 0, 1), run)
    old = {**file.header, "shape": [1, 8, 8], "levels": 17, "probe": here}
    pack = zlib.compressobj(9, wbits=-15, zdict=USUAL)
    text = pack.compress(json.dumps(old, separators=(",", ":"), sort_keys=True).encode()) + pack.flush()
    monkeypatch.setattr(container, "packed", lambda header: text)
    monkeypatch.setattr(container, "VERSIONS", (3, 2))
    data = Coded(old, file.groups).data()
    monkeypatch.undo()
    assert data[4] == 2 and len(data) > len(coded[0]) + 20
    np.testing.assert_array_equal(decode(run, data).images, coded[1])
    for other in (here[:8] + "0" * 8, here[:7], ""):
        with pytest.raises(InputError, match="computes other last bits"):
            decode(run, Coded({**old, "probe": other}, file.groups).data())


def test_discrete_images_cost_what_their_order_does(tmp_path: Path) -> None:
    """Of a run that draws pixel after pixel the bytes are -log2 p, but for the ending."""
    recipe = dp.named("digits_ardm")
    body = UNetSpec(in_channels=1, out_channels=1, widths=(8,), layers=1, attention=(False,), groups=4)
    training = replace(recipe.training, steps=2, batch=8, warmup=1, sample_every=0, checkpoint_every=2, samples=1)
    recipe = replace(recipe, network=replace(recipe.network, body=body), training=training)
    model = dp.train(recipe, out=tmp_path / "ardm", reporter=SILENT, device="cpu")
    batch = model.data(n=4)
    result = model.encode(batch)
    np.testing.assert_array_equal(model.decode(result.data).images, batch.images)
    uniform = 4 * 64 * np.log2(17)  # an untrained network is not far from it
    assert result.bits["steps"] + result.bits["levels"] == pytest.approx(uniform, rel=0.15)
    groups = model.encode(batch, steps=16)  # pixels drawn together, which a network that knows nothing codes as well
    np.testing.assert_array_equal(model.decode(groups.data).images, batch.images)
    assert groups.settings["steps"] == 16 and groups.bits["steps"] == pytest.approx(uniform, rel=0.15)
    way = list(model.decode_progressively(result.data))
    assert len(way) == 65 and np.array_equal(way[-1].images, batch.images)
    known = [int((state.images == batch.images).sum()) for state in way]
    assert all(now >= 4 * k for k, now in enumerate(known))  # a pixel of each image at each time


def test_the_verbs_write_and_read_a_file(diffprob: Callable, tmp_path: Path) -> None:
    out = tmp_path / "some.dfp"
    result = diffprob("encode", "digits", "-n", "4", "--out", out, "--json", *QUICK).json
    assert result["bytes"] == out.stat().st_size and result["steps"] == 4
    assert sum(result["bits_per_dim_of"].values()) == pytest.approx(result["bits_per_dim"])
    done = diffprob("decode", "digits", out, "--out", tmp_path / "d.npz", "--json").json
    assert done["complete"] == done["n"] == 4 and done["t"] == 0
    with np.load(tmp_path / "d.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], dp.load("digits").data(n=4).images)
        assert json.loads(str(arrays["metadata"]))["complete"] == [True] * 4
    text = diffprob("decode", "digits", out, "--bytes", "130", "--out", tmp_path / "d.png").out
    assert "4 incomplete, as far as t = " in text
    assert (tmp_path / "d.png").exists()


def test_the_verbs_write_and_read_coarse_images(diffprob: Callable, tmp_path: Path) -> None:
    out = tmp_path / "some.dfp"
    text = diffprob("encode", "digits", "-n", "4", "--psnr", "14", "--out", out, *QUICK).out
    assert "coarse as asked: E[x_0 | x_t] at t = " in text
    done = diffprob("decode", "digits", out, "--out", tmp_path / "d.npz", "--progressive", "--json").json
    assert (done["complete"], done["exact"]) == (4, 0) and done["t"] > 0
    with Image.open(tmp_path / "d-progression.png") as picture:
        assert picture.width > picture.height  # five columns, four rows
    assert "4 as coarse as they were coded" in diffprob("decode", "digits", out, "--dry-run").out


def test_a_page_has_images_as_bytes_where_there_is_a_code(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_code, "quick", lambda dimensions: (2, UniversalQuantisation(), 3))
    model, page = dp.load("digits"), tmp_path / "page.html"
    model.report(page, n=1, steps=2)
    text = page.read_text()
    assert "image 2 after 5% of its bytes" in text and "UniversalQuantisation(), 3 times" in text
    for picture in tiles(model.data(n=2).images, 17, ["", ""]):
        assert picture.source in text  # the last column is the image itself
    model.report(page, n=1, steps=2, data="none")
    assert "bytes arrive" not in page.read_text()
    assert "no fitted variance" in str(page_code.coded_images(Run.open(trained)))


def test_what_a_code_spends_is_what_encode_writes(diffprob: Callable, tmp_path: Path) -> None:
    """The shares add up to the file; the curve ends where the levels begin."""
    model, coder = dp.load("digits"), UniversalQuantisation()
    rates = model.rate_distortion(n=3, measured=coder, chain=dp.ChainBound(steps=4))
    encoded = model.encode(n=3, coder=coder, steps=4)
    spent = rates.spent
    assert spent is not None
    assert spent.total == pytest.approx(encoded.bits_per_dim)
    of = {name: bits / (3 * 64) for name, bits in encoded.bits.items()}
    assert [float(spent.rate[-1]), spent.levels, spent.rest] == pytest.approx([*of.values()])
    assert sum(row["bits"] for row in rates.shares) == pytest.approx(spent.total)
    assert sum(row["share"] for row in rates.shares) == pytest.approx(1)
    grid = rates.shares[1]["bits"]
    assert rates.shares[0]["bits"] + grid == pytest.approx(rates.total) and grid > 0.1  # 4 times are few
    assert spent.blocks == 0 and (spent.rate.diff() > 0).all()
    assert float((spent.distortion / rates.curve.distortion - 1).abs().max()) < 0.2
    out = tmp_path / "rate.png"
    text = diffprob(
        *("rate", "digits", "-n", "1", "--steps", "2", "--measured", repr(coder), "--out", out, "--device", "cpu")
    ).out
    assert "spent by UniversalQuantisation():" in text and "header, lengths, checks" in text and out.exists()
    for options in (("--grid", "best"), ("--decoder-std", "1"), ("--clip",)):
        done = diffprob("rate", "digits", "--measured", *options, "--out", tmp_path / "x.png")
        assert done.code == 2 and f"{options[0]} is the code's own" in done.error


def test_bad_input_is_one_line(diffprob: Callable, tmp_path: Path, trained: Path) -> None:
    bare = Path(shutil.copytree(trained, tmp_path / "bare"))
    out = ("--out", str(tmp_path / "x.dfp"))
    refused = {
        "diffprob fit": ("encode", bare, "-n", "1", *out),
        "writes no bytes": ("encode", "digits", "--coder", "Ideal()", *out),
        "--coder": ("encode", "digits", "--coder", "Zip()", *out),
        "--bits must lie in (0, ": ("encode", "digits", "--bits", "-3", *out),
        "--psnr and bits exclude": ("encode", "digits", "--bits", "9", "--psnr", "9", *out),
        "--batch 2000: a file of coded": ("encode", "digits", "--batch", "2000", *out),
        "--bits 9: the header": ("encode", "digits", "-n", "1", "--bits", "9", *out),
        "x.png": ("decode", "digits", "nothing.dfp", "--out", "x.gif"),
        "nothing.dfp": ("decode", "digits", "nothing.dfp"),
    }
    for words, command in refused.items():
        done = diffprob(*command)
        assert done.code == 2 and words in done.error
    assert not (tmp_path / "x.dfp").exists()
