"""Files: what is planted is refused and never followed, and of two writers each leaves a whole file."""

import os
import threading
from pathlib import Path

import pytest

from diffprob.base.errors import InputError, Missing
from diffprob.storage import files

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
SECRET = b"a private key"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's, outside the folder that is opened."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    (tmp_path / "run").mkdir()
    return path


def plant(kind: str, path: Path, target: Path) -> None:
    if kind == "link":
        path.symlink_to(target)
    elif kind == "dangling":
        path.symlink_to(target.with_name("not there"))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


KINDS = ("link", "dangling", "pipe", "device", "folder")


@posix
@pytest.mark.parametrize("kind", KINDS)
def test_reading_or_appending_to_a_special_file_is_an_error(kind: str, secret: Path) -> None:
    path = secret.parent / "run" / "log.jsonl"
    plant(kind, path, secret)
    for read in (files.read_bytes, files.read_text, files.measure, files.open_log):
        with pytest.raises(InputError, match=f"is a {kind.replace('dangling', 'link').replace('device', 'link')}"):
            read(path)
    assert not files.is_file(path)
    assert secret.read_bytes() == SECRET
    assert not secret.with_name("not there").exists()


@posix
@pytest.mark.parametrize("kind", KINDS[:4])
def test_writing_replaces_a_link_without_following_it(kind: str, secret: Path) -> None:
    path = secret.parent / "run" / "samples.png"
    plant(kind, path, secret)
    files.write_file(path, [b"new"])
    assert files.read_bytes(path) == b"new"
    assert secret.read_bytes() == SECRET
    assert [entry.name for entry in path.parent.iterdir()] == ["samples.png"]


@posix
def test_creating_a_file_through_a_link_is_an_error(secret: Path) -> None:
    for target in (secret, secret.with_name("not there")):
        path = secret.parent / "run" / f"to {target.name}"
        path.symlink_to(target)
        with pytest.raises(FileExistsError):
            files.write_new(path, [b"new"])
        assert path.is_symlink()
    assert secret.read_bytes() == SECRET
    assert not secret.with_name("not there").exists()


def test_size_is_checked_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # holes: they take no room on the disk
    with pytest.raises(InputError, match="has 1,099,511,627,776 bytes, and at most 67,108,864"):
        files.read_bytes(path)
    path.write_bytes(b"12345")
    assert files.read_bytes(path, 5) == b"12345"
    with pytest.raises(InputError, match="at most 4"):
        files.read_bytes(path, 4)


def test_missing_and_damaged_files_are_distinct_errors(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        files.read_bytes(tmp_path / "x")
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(Missing):
        files.read_bytes(tmp_path / "file" / "x")
    with pytest.raises(InputError, match="not text") as caught:
        files.read_text(tmp_path / "file")
    assert not isinstance(caught.value, Missing)
    with pytest.raises(InputError, match="null"):
        files.read_bytes(tmp_path / "a\0b")


@posix
def test_linked_subfolder_is_an_error(secret: Path) -> None:
    root = secret.parent / "run"
    (root / "samples").symlink_to(secret.parent)
    for use in (lambda: files.path_within(root, "samples/secret"), lambda: files.subfolder(root, "samples", make=True)):
        with pytest.raises(InputError, match="is a link"):
            use()
    assert files.subfolder(root, "state") is None
    assert files.subfolder(root, "state", make=True) == root / "state"
    assert files.path_within(root, "state/a") == root / "state" / "a"
    (secret.parent / "way").symlink_to(root)  # the way to the folder is the user's own
    assert files.path_within(secret.parent / "way", "state/a").parent.is_dir()


@pytest.mark.parametrize("name", ["../x", "a/../x", "/etc/passwd", "", "a//b", ".", "a\\b", "a\0b"])
def test_name_leading_out_of_the_folder_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no name of a file"):
        files.path_within(tmp_path, name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "../../x", "a\nb", "a\x1b[2J", "a\u202eb", "a\t", "\ud800", "a" * 201, "写" * 67],
)
def test_invalid_file_name_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="a name "):
        files.clean_component(name)


@pytest.mark.parametrize("name", ["digits", "my run (2)", "写真", "a[b]", "a..b", "写" * 66])
def test_valid_file_names_are_accepted(name: str) -> None:
    assert files.clean_component(name) == name


@posix
def test_sweeping_temporary_files_stays_in_the_folder(secret: Path) -> None:
    root, elsewhere = secret.parent / "run", secret.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".tmp-mine").write_bytes(SECRET)
    (root / ".tmp-link").symlink_to(elsewhere)
    (root / ".tmp-folder").mkdir()
    (root / ".tmp-folder" / "deep").symlink_to(elsewhere)
    (root / "kept").write_bytes(b"")
    files.sweep(root, older=60.0)
    assert (root / ".tmp-folder").exists()
    files.sweep(root)
    assert [entry.name for entry in root.iterdir()] == ["kept"]
    (root / "state").symlink_to(elsewhere)
    files.sweep(root / "state")
    assert (elsewhere / ".tmp-mine").read_bytes() == SECRET


def test_concurrent_writers_leave_a_whole_file(tmp_path: Path) -> None:
    """Pieces of both writers are interleaved in every order that threads find; there is no error and no torn file."""
    path, wrong = tmp_path / "samples.png", []
    sync, os_fsync = threading.Barrier(2), os.fsync

    def write(letter: bytes) -> None:
        def pieces():
            yield letter * 100
            sync.wait(10)  # both are in the middle of their file
            yield letter * 100

        try:
            for _ in range(100):
                files.write_file(path, pieces())
        except (OSError, threading.BrokenBarrierError) as error:
            wrong.append(error)
            sync.abort()

    os.fsync = lambda _descriptor: None
    try:
        threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
        [thread.start() for thread in threads]
        while any(thread.is_alive() for thread in threads):
            if path.exists():
                assert path.read_bytes() in (b"a" * 200, b"b" * 200)
        [thread.join() for thread in threads]
    finally:
        os.fsync = os_fsync
    assert not wrong
    assert [entry.name for entry in tmp_path.iterdir()] == ["samples.png"]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def pieces():
        yield b"new"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        files.write_file(path, pieces())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder"):
        files.write_file(tmp_path / "folder", [b"new"])
    assert sorted(os.listdir(tmp_path)) == ["folder", "x"]


def test_log_is_appended_and_read_back(tmp_path: Path) -> None:
    for _ in range(2):
        with files.open_log(tmp_path / "log") as file:
            file.write(b"line\n")
    with files.open_log(tmp_path / "log") as file:
        file.seek(0)
        assert file.read() == b"line\nline\n"
