"""What of a run's files/ and media/ is offered for sending, whatever users make of these directories."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import require
from tracker_agent import file_tree
from tracker_agent.disk import Disk
from tracker_agent.file_tree import FileTree, walk_files
from tracker_agent.opening import Opener, Place, Refused

UID = os.getuid()


@pytest.fixture(params=["openat2", "walk"])
def opener(request: pytest.FixtureRequest) -> Opener:
    return Disk(openat2=request.param == "openat2")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    Path(tmp_path, str(UID), "run", "files").mkdir(parents=True)
    return Place(str(tmp_path), str(UID), "run", UID)


def files_of(place: Place) -> Path:
    return Path(place.path, "files")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the same user outside the spool: what a trick would have shipped."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    return outside


def test_regular_files_are_found_at_every_depth(place: Place, opener: Opener) -> None:
    for path in ("a", "b/c", "b/d/e"):
        file = files_of(place) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())
    Path(place.path, "media").mkdir()
    Path(place.path, "media", "m").write_bytes(b"m")
    Path(place.path, "else").write_bytes(b"not under either")

    tree = walk_files(opener, place)

    assert sorted(tree.files) == ["files/a", "files/b/c", "files/b/d/e", "media/m"]
    assert tree.refused == {}
    assert tree.files["files/b/c"].size == 3


def test_a_run_without_files_has_none(tmp_path: Path, opener: Opener) -> None:
    Path(tmp_path, str(UID), "run").mkdir(parents=True)

    assert walk_files(opener, Place(str(tmp_path), str(UID), "run", UID)) == FileTree()


def test_links_fifos_sockets_and_devices_are_refused_with_a_reason(
    place: Place, secret: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(place)
    (files / "link").symlink_to(secret / "secret")
    (files / "directory-link").symlink_to(secret)
    (secret / "other").write_bytes(b"other")
    os.link(secret / "other", files / "hard-link")
    os.mkfifo(files / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(files)  # the name of a socket has to be short
        listener.bind("socket")

    tree = walk_files(opener, place)

    assert tree.files == {}
    assert {path.rpartition("/")[2] for path in tree.refused} == {
        "link", "directory-link", "hard-link", "fifo", "socket",
    }  # fmt: skip
    assert "2 links" in tree.refused["files/hard-link"]


@pytest.mark.parametrize("tree_name", ["files", "media"])
def test_a_tree_that_is_a_link_is_refused(place: Place, secret: Path, opener: Opener, tree_name: str) -> None:
    root = Path(place.path, tree_name)
    if root.exists():
        root.rmdir()
    root.symlink_to(secret)

    tree = walk_files(opener, place)

    assert tree.files == {}
    assert tree_name in tree.refused


def test_a_run_directory_that_is_a_link_is_refused(tmp_path: Path, secret: Path, opener: Opener) -> None:
    (secret / "files").mkdir()
    (secret / "files" / "x").write_bytes(b"x")
    user = tmp_path / "spool" / str(UID)
    user.mkdir(parents=True)
    (user / "run").symlink_to(secret)

    tree = walk_files(opener, Place(str(tmp_path / "spool"), str(UID), "run", UID))

    assert tree.files == {}
    assert set(tree.refused) == {"files", "media"}


def test_what_belongs_to_others_is_refused(place: Place, opener: Opener) -> None:
    require.root()
    files = files_of(place)
    (files / "foreign").write_bytes(b"x")
    (files / "directory").mkdir()
    (files / "directory" / "inside").write_bytes(b"x")
    os.chown(files / "foreign", 4321, 4321)
    os.chown(files / "directory", 4321, 4321)

    tree = walk_files(opener, place)

    assert tree.files == {}
    assert "belongs to uid 4321" in tree.refused["files/foreign"]
    assert "belongs to uid 4321" in tree.refused["files/directory"]


def test_a_user_directory_of_someone_else_is_refused(place: Place, opener: Opener) -> None:
    stolen = Place(place.root, place.user, place.name, place.uid + 1)

    with pytest.raises(Refused, match="belongs to uid"):
        walk_files(opener, stolen)


def test_names_that_are_no_text_are_refused(place: Place, opener: Opener) -> None:
    descriptor = os.open(os.fsencode(files_of(place)) + b"/bad-\xff", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)

    tree = walk_files(opener, place)

    assert tree.files == {}
    assert list(tree.refused.values()) == ["its name is not UTF-8"]
    assert all(path.isprintable() for path in tree.refused)


def test_depth_and_number_have_bounds(place: Place, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_tree, "FILES_MAX", 50)
    deep = files_of(place).joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "too-deep").write_bytes(b"x")

    assert "directories deep" in next(iter(walk_files(opener, place).refused.values()))

    for number in range(60):
        (files_of(place) / str(number)).write_bytes(b"")
    tree = walk_files(opener, place)
    assert len(tree.files) <= 50
    assert tree.truncated


@pytest.mark.parametrize("number", sorted(file_tree.PASSING))
def test_failures_that_pass_refuse_nothing(
    place: Place, opener: Opener, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (files_of(place) / "directory").mkdir()
    real = opener.open_beneath

    def fail(directory: int, path: str, flags: int) -> int:
        if path == "directory":
            raise OSError(number, os.strerror(number))
        return real(directory, path, flags)

    monkeypatch.setattr(opener, "open_beneath", fail)

    with pytest.raises(OSError, match=os.strerror(number)):
        walk_files(opener, place)


def test_what_writers_have_not_finished_is_left_alone(place: Place, opener: Opener) -> None:
    (files_of(place) / ".tracker-half").write_bytes(b"half")
    (files_of(place) / ".hidden").write_bytes(b"whole")

    assert list(walk_files(opener, place).files) == ["files/.hidden"]


@pytest.fixture
def swapping(place: Place, secret: Path) -> Iterator[None]:
    """Swap a directory and a link to elsewhere as fast as it goes."""
    files = files_of(place)
    (files / "real").mkdir()
    (files / "real" / "own").write_bytes(b"own")
    (secret / "own").write_bytes(b"secret")
    (files / "link").symlink_to(secret)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for source, target in (("real", "it"), ("it", "real"), ("link", "it"), ("it", "link")):
                os.rename(files / source, files / target)

    thread = threading.Thread(target=swap)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("swapping")
def test_swapping_a_directory_for_a_link_never_leads_out(place: Place, opener: Opener, secret: Path) -> None:
    inode = (secret / "own").stat().st_ino
    seen = 0
    for _ in range(2000):
        tree = walk_files(opener, place)
        seen += len(tree.files)
        assert all(signature.inode != inode for signature in tree.files.values())
        try:
            fd = opener.open_file(place, "files/it/own")
        except (OSError, Refused):
            continue
        try:
            assert os.read(fd, 100) == b"own"
        finally:
            os.close(fd)
    assert seen > 0
