import gzip
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from diffprob.base.errors import InputError
from diffprob.data import Folder, check, open_data
from diffprob.data.formats import files, folder


def smooth(height, width, channels=3, seed=0):
    """A picture whose neighbours are alike, so that lossy formats stay close."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [127.5 + 120 * np.sin(3 * x + 2 * y + seed + c) for c in range(channels)]
    return np.stack(planes, -1).astype(np.uint8).squeeze()


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def png_header(width, height, depth=8, colour=2):
    """A well-formed PNG that only claims its size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_folders_are_classes_and_files_are_sorted(tmp_path):
    arrays = {name: smooth(8, 8, seed=k) for k, name in enumerate(["b/1.png", "a/z.JPG", "a/deep/x.png", "a/k.webp"])}
    for name, array in arrays.items():
        options = (
            {"lossless": True}
            if name.endswith("webp")
            else {"quality": 98, "subsampling": 0}
            if name.endswith("JPG")
            else {}
        )
        save(tmp_path / name, array, **options)
    images = open_data(str(tmp_path)).load()
    assert images.pixels.shape == (4, 3, 8, 8)
    assert images.class_names == ("a", "b")
    assert images.labels is not None and images.labels.tolist() == [0, 0, 0, 1]
    for k, name in enumerate(["a/deep/x.png", "a/k.webp", "a/z.JPG", "b/1.png"]):
        gap = np.abs(images.pixels[k].transpose(1, 2, 0).astype(int) - arrays[name]).max()
        assert gap <= (12 if name.endswith("JPG") else 0), name
    assert images.notes == ()


def test_flat_folder_has_no_classes(tmp_path):
    save(tmp_path / "one.png", smooth(8, 8))
    assert Folder(str(tmp_path)).load().labels is None
    save(tmp_path / "sub" / "two.png", smooth(8, 8))
    images = Folder(str(tmp_path)).load()
    assert images.labels is None
    assert "1 of 2 images lie outside" in images.notes[0]


def test_resize_and_crop_match_pillow_and_are_counted(tmp_path):
    wide, tall, small, exact = smooth(40, 61), smooth(50, 20), smooth(9, 9), smooth(16, 16)
    for name, array in (("a", wide), ("b", tall), ("c", small), ("d", exact)):
        save(tmp_path / f"{name}.png", array)
    images = Folder(str(tmp_path), 16).load()
    scaled = Image.fromarray(wide).resize((24, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(images.pixels[0].transpose(1, 2, 0), np.asarray(scaled)[:, 4:20])
    scaled = Image.fromarray(tall).resize((16, 40), Image.Resampling.BICUBIC)
    assert np.array_equal(images.pixels[1].transpose(1, 2, 0), np.asarray(scaled)[12:28])
    assert np.array_equal(images.pixels[3].transpose(1, 2, 0), exact)
    text = " | ".join(images.notes)
    assert "2 of 4 images reduced to a shorter side of 16 (bicubic, antialiased)" in text
    assert "1 of 4 images enlarged" in text
    assert "2 of 4 images centre-cropped to 16x16" in text


def test_downsampling_does_not_alias(tmp_path):
    checker = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    save(tmp_path / "a.png", checker)
    for resample in ("box", "bilinear", "bicubic", "lanczos"):
        pixels = Folder(str(tmp_path), 8, 1, resample=resample).load().pixels
        assert np.abs(pixels.astype(int) - 127).max() <= 2, resample


def test_exif_orientation_is_applied(tmp_path):
    array = smooth(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate 90 degrees clockwise to see it upright
    save(tmp_path / "a.png", array, exif=exif)
    images = Folder(str(tmp_path)).load()
    assert np.array_equal(images.pixels[0].transpose(1, 2, 0), np.rot90(array, -1))
    assert "1 of 1 images turned upright" in images.notes[0]


def test_channels_are_converted_and_counted(tmp_path):
    save(tmp_path / "grey.png", smooth(8, 8, 1))
    save(tmp_path / "rgb.png", smooth(8, 8))
    rgb, grey = Folder(str(tmp_path)).load(), Folder(str(tmp_path), channels=1).load()
    assert np.array_equal(rgb.pixels[0], np.repeat(smooth(8, 8, 1)[None], 3, 0))
    assert rgb.notes == ("1 of 2 images converted to RGB",)
    expected = smooth(8, 8) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey.pixels[1, 0] - expected).max() <= 1
    assert grey.notes == ("1 of 2 images converted to greyscale",)


@pytest.mark.parametrize("kind", ["rgba", "la", "palette"])
def test_transparency_is_composited_over_white(tmp_path, kind):
    colour = np.full((8, 8, 4), (40, 40, 40, 255), np.uint8)
    colour[:4, :, 3] = 0
    colour[7, :, 3] = 128
    image = Image.fromarray(colour)
    if kind == "la":
        image = image.convert("LA")
    if kind == "palette":
        image = Image.fromarray((colour[..., 3] > 0).astype(np.uint8)).convert("P")
        image.putpalette([9, 9, 9, 40, 40, 40])
        image.info["transparency"] = 0
    image.save(tmp_path / "a.png")
    images = Folder(str(tmp_path)).load()
    assert (images.pixels[0, :, :4] == 255).all()
    assert (images.pixels[0, :, 5] == 40).all()
    if kind != "palette":
        assert np.abs(images.pixels[0, :, 7].astype(int) - 147).max() <= 1
    assert "1 of 1 images with transparency composited over white" in images.notes


def test_opaque_alpha_is_ignored(tmp_path):
    rgba = np.dstack([smooth(8, 8), np.full((8, 8), 255, np.uint8)])
    save(tmp_path / "a.png", rgba)
    images = Folder(str(tmp_path)).load()
    assert np.array_equal(images.pixels[0].transpose(1, 2, 0), rgba[..., :3])
    assert images.notes == ()


def test_multiple_frames_are_noted(tmp_path):
    frames = [Image.fromarray(smooth(8, 8, seed=k)) for k in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    images = Folder(str(tmp_path)).load()
    assert np.array_equal(images.pixels[0].transpose(1, 2, 0), smooth(8, 8))
    assert any("several frames" in note for note in images.notes)


def test_other_files_are_counted(tmp_path):
    save(tmp_path / "a.png", smooth(8, 8))
    (tmp_path / "list.txt").write_text("a")
    (tmp_path / "b.jp2").write_bytes(b"jP")
    save(tmp_path / ".thumbs" / "t.png", smooth(8, 8))
    (tmp_path / "._a.png").write_bytes(b"x")
    images = Folder(str(tmp_path)).load()
    assert len(images) == 1
    assert images.notes == ("3 other files passed over (._a.png, .thumbs, list.txt)", *images.doubts)
    assert len(images.doubts) == 1
    assert images.doubts[0].startswith("1 image in other formats not read (b.jp2); convert them")


def test_circular_links_end(tmp_path):
    save(tmp_path / "a" / "x.png", smooth(8, 8))
    os.symlink(tmp_path, tmp_path / "a" / "up")
    assert len(Folder(str(tmp_path)).load()) == 1


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_subfolders_are_splits(tmp_path, held_out):
    for name, n in (("train", 3), (held_out, 2)):
        for k in range(n):
            save(tmp_path / name / f"class{k % 2}" / f"{k}.png", smooth(8, 8, seed=k))
    sizes = {split: Folder(str(tmp_path), split=split).load() for split in ("train", "test", "all")}
    assert [len(images) for images in sizes.values()] == [3, 2, 5]
    assert all(images.class_names == ("class0", "class1") for images in sizes.values())
    assert ("split 'test' is the sub-folder val" in sizes["test"].notes) == (held_out == "val")


def test_class_named_train_is_a_class(tmp_path):
    for name in ("train", "car", "bus"):
        save(tmp_path / name / "x.png", smooth(8, 8))
    assert Folder(str(tmp_path)).load().class_names == ("bus", "car", "train")


def test_missing_split_is_an_error(tmp_path, refused):
    save(tmp_path / "a" / "x.png", smooth(8, 8))
    refused(Folder(str(tmp_path), split="test").load, tmp_path, "'test'", "'all'")
    save(tmp_path / "only" / "train" / "x.png", smooth(8, 8))
    assert len(Folder(str(tmp_path / "only")).load()) == 1
    refused(Folder(str(tmp_path / "only"), split="test").load, "train")


def test_mixed_sizes_need_a_size(tmp_path, refused):
    save(tmp_path / "a.png", smooth(8, 8))
    save(tmp_path / "b.png", smooth(8, 9))
    refused(Folder(str(tmp_path)).load, "b.png", "9x8", "a.png", "8x8", "size")


def test_empty_folder_is_an_error(tmp_path, refused):
    refused(open_data(str(tmp_path)).load, tmp_path, "no PNG, JPEG, WebP, TIFF, BMP or GIF", "empty")
    (tmp_path / "readme.txt").write_text("nothing here")
    refused(open_data(str(tmp_path)).load, tmp_path, "readme.txt")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_truncated_image_is_an_error(tmp_path, refused, suffix, share):
    save(tmp_path / "a.png", smooth(64, 64))
    bad = save(tmp_path / f"bad.{suffix}", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    bad.write_bytes(bad.read_bytes()[: int(share * bad.stat().st_size)])
    refused(Folder(str(tmp_path)).load, bad)


def test_truncated_png_is_an_error(tmp_path, refused):
    bad = save(tmp_path / "bad.png", smooth(16, 16))
    bad.write_bytes(bad.read_bytes()[:-12])
    refused(Folder(str(tmp_path)).load, bad, "truncated")


def test_png_with_a_flipped_bit_is_an_error(tmp_path, refused):
    bad = save(tmp_path / "bad.png", smooth(64, 64))
    data = bytearray(bad.read_bytes())
    data[len(data) // 2] ^= 4
    bad.write_bytes(data)
    refused(Folder(str(tmp_path)).load, bad, "damaged")


@pytest.mark.parametrize(
    "content", [b"this is text\n" * 9, b"GIF89a" + bytes(99), b"BM" + bytes(99), b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_other_content_named_png_is_an_error(tmp_path, refused, content):
    save(tmp_path / "a.png", smooth(8, 8))
    (tmp_path / "b.png").write_bytes(content)
    words = "damaged or truncated" if content[:2] in (b"GI", b"BM") else "not a PNG, JPEG, WebP, TIFF, BMP or GIF image"
    refused(Folder(str(tmp_path)).load, tmp_path / "b.png", words)


def test_huge_png_is_an_error_without_reading(tmp_path, refused):
    (tmp_path / "bomb.png").write_bytes(png_header(20000, 20000))
    refused(Folder(str(tmp_path), 32).load, tmp_path / "bomb.png", "20000x20000")


def test_huge_jpeg_is_an_error_without_reading(tmp_path, refused):
    small = save(tmp_path / "a.jpg", smooth(8, 8))
    data = bytearray(small.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 20000, 20000)
    small.write_bytes(data)
    refused(Folder(str(tmp_path), 32).load, small, "20000x20000")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 8000, 10000)  # below Pillow's own limit, above ours
    small.write_bytes(data)
    refused(Folder(str(tmp_path), 32).load, small, "10000x8000")


@pytest.mark.parametrize("kind", ["VP8L", "VP8 ", "VP8X"])
def test_huge_webp_is_an_error_without_reading(tmp_path, refused, kind):
    picture = smooth(8, 8)
    if kind == "VP8X":
        picture = np.dstack([picture, smooth(8, 8, 1)])
    file = save(tmp_path / "a.webp", picture, lossless=kind == "VP8L")
    data = bytearray(file.read_bytes())
    start = data.index(kind.encode()) + 8
    if kind == "VP8L":
        data[start + 1 : start + 5] = struct.pack("<I", (data[start + 4] & 0xF0) << 24 | (16382 << 14) | 16381)
    elif kind == "VP8 ":
        data[start + 6 : start + 10] = struct.pack("<HH", 16382, 16383)
    else:
        data[start + 4 : start + 10] = (16381).to_bytes(3, "little") + (16382).to_bytes(3, "little")
    file.write_bytes(data)
    refused(Folder(str(tmp_path), 32).load, file, "16382x16383" if kind != "VP8X" else file)


def test_sixteen_bits_of_colour_in_a_png_are_an_error(tmp_path, refused):
    (tmp_path / "deep.png").write_bytes(png_header(8, 8, 16, 2))
    refused(Folder(str(tmp_path)).load, tmp_path / "deep.png", "16 bits a channel in colour", "TIFF")


def test_large_data_is_kept_on_disk(tmp_path, monkeypatch, cache):
    for k in range(3):
        save(tmp_path / f"{k}.png", smooth(8, 8, seed=k))
    expected = Folder(str(tmp_path)).load().pixels
    monkeypatch.setattr(files, "ON_DISK_BYTES", 100)
    on_disk = Folder(str(tmp_path)).load().pixels
    assert isinstance(on_disk, np.memmap)
    assert np.array_equal(on_disk, expected)
    assert list(cache.iterdir()) == []  # the file has no name: it goes with the process

    def full(fd, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    in_memory = Folder(str(tmp_path)).load().pixels
    assert not isinstance(in_memory, np.memmap)
    assert np.array_equal(in_memory, expected)


def test_file_as_folder_is_an_error(tmp_path, refused):
    (tmp_path / "a.png").write_bytes(b"")
    refused(Folder(str(tmp_path / "a.png")).load, "a.png", "folder")
    refused(Folder(str(tmp_path / "no" / "where")).load, tmp_path / "no", "no such file or folder")


def test_unsupported_formats_are_counted_with_advice(tmp_path, refused):
    for k in range(3):
        save(tmp_path / f"{k}.ppm", smooth(8, 8, seed=k))
    save(tmp_path / "x.tga", smooth(8, 8))
    refused(
        Folder(str(tmp_path)).load,
        "no PNG, JPEG, WebP, TIFF, BMP or GIF",
        "among its 4 files",
        "mogrify -format png *.ppm",
    )
    refused(lambda: open_data(str(tmp_path / "0.ppm")), "0.ppm", "mogrify -format png *.ppm")
    for k in range(120):
        save(tmp_path / f"{k}.png", smooth(8, 8, seed=k))
    (tmp_path / "list.txt").write_text("")
    report = check(Folder(str(tmp_path)))
    assert any(text.startswith("4 images in other formats not read (0.ppm, 1.ppm") for text in report.warnings)
    assert "1 other files passed over (list.txt)" in report.notes


def test_medical_volumes_are_not_taken_for_idx(tmp_path, refused):
    for name in ("brain.nii.gz", "brain.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"\x5c\x01\x00\x00" + bytes(400)))
        refused(lambda name=name: open_data(str(tmp_path / name)), name, "not a known format")
    refused(lambda: open_data(str(tmp_path / "brain.nii.gz")), "their images as PNGs", ".npy")


def test_empty_image_file_is_an_error(tmp_path, refused):
    save(tmp_path / "a.png", smooth(8, 8))
    (tmp_path / "b.png").write_bytes(b"")
    message = refused(Folder(str(tmp_path)).load, "b.png", "empty file (0 bytes)")
    assert "convert" not in message


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.npz", "a.mat", "a.bin", "a-images-idx3-ubyte", "a"])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device"])
def test_pipes_and_devices_are_errors(tmp_path, refused, name, kind):
    file, pipe = tmp_path / "data" / name, tmp_path / "pipe"
    file.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(file)
    else:
        os.mkfifo(pipe)
        file.symlink_to(pipe if kind == "link to a pipe" else "/dev/zero")
    whole = Folder(str(file.parent)).load if name == "a.png" else lambda: open_data(str(file)).load()
    refused(whole, "device" if kind == "device" else "pipe")


def test_link_to_an_image_is_followed(tmp_path):
    save(tmp_path / "elsewhere" / "a.png", smooth(8, 8))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    assert len(Folder(str(tmp_path / "data")).load()) == 1


@pytest.mark.parametrize("path", ["/", "//", "/usr/.."])
def test_searching_the_whole_file_system_is_an_error(path, monkeypatch):
    monkeypatch.setattr(folder, "list_pictures", None)
    with pytest.raises(InputError, match="the whole file system, which is not searched; a folder in it"):
        Folder(path).load()


def test_search_with_too_few_images_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MOST_OTHERS", 20)
    save(tmp_path / "a.png", smooth(8, 8))
    for k in range(40):
        (tmp_path / f"d{k // 4}").mkdir(exist_ok=True)
        (tmp_path / f"d{k // 4}" / f"{k}.txt").touch()
    with pytest.raises(InputError, match="1 pictures among more than 20 other files and folders: it was not searched"):
        Folder(str(tmp_path)).load()
    for k in range(5):
        save(tmp_path / f"b{k}.png", smooth(8, 8))
    assert len(Folder(str(tmp_path)).load()) == 6, "with more pictures more other files are passed over"


def test_unreadable_folder_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    save(tmp_path / "pictures" / "a.png", smooth(8, 8))

    def walk(root, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", "/elsewhere/fd/3"))
        return iter(())

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(InputError, match=r"pictures: /elsewhere/fd/3: cannot be read \(Permission denied\)"):
        Folder(str(tmp_path / "pictures")).load()
