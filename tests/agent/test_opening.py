"""Opening what others wrote: with openat2, and with the walk that stands in for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tracker_agent.opening import Opener, Place, Refused

UID = os.getuid()


@pytest.fixture(params=[True, False], ids=["openat2", "walk"])
def opener(request: pytest.FixtureRequest) -> Opener:
    return Opener(openat2=request.param)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "spool" / str(UID) / "run").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    return Place(str(tmp_path / "spool"), str(UID), "run", UID)


def test_plain_file_is_opened(opener: Opener, place: Place) -> None:
    Path(place.path, "file").write_text("mine")

    fd = opener.open_file(place, "file")

    assert os.read(fd, 10) == b"mine"
    os.close(fd)


def test_symlink_for_a_file_is_refused(opener: Opener, place: Place, tmp_path: Path) -> None:
    Path(place.path, "file").symlink_to(tmp_path / "secret")

    with pytest.raises(Refused, match="symbolic link"):
        opener.open_file(place, "file")


def test_symlink_for_the_run_directory_is_refused(opener: Opener, place: Place, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "file").write_text("secret")
    Path(place.path).rmdir()
    Path(place.path).symlink_to(target)

    with pytest.raises(Refused):
        opener.open_file(place, "file")
    with pytest.raises(Refused):
        opener.list_directory(place)


def test_way_up_is_refused(opener: Opener, place: Place) -> None:
    with pytest.raises((Refused, OSError)):
        opener.open_file(place, "../../../secret")


def test_fifo_is_refused_without_waiting_for_its_writer(opener: Opener, place: Place) -> None:
    os.mkfifo(Path(place.path, "file"))

    with pytest.raises(Refused, match="not a regular file"):
        opener.open_file(place, "file")


def test_second_link_is_refused(opener: Opener, place: Place, tmp_path: Path) -> None:
    os.link(tmp_path / "secret", Path(place.path, "file"))

    with pytest.raises(Refused, match="2 links"):
        opener.open_file(place, "file")


def test_directory_of_another_owner_is_refused(opener: Opener, place: Place) -> None:
    other = Place(place.root, place.user, place.name, UID + 1)

    with pytest.raises(Refused, match="belongs to uid"):
        opener.open_file(other, "file")


def test_missing_file_is_missing_and_not_refused(opener: Opener, place: Place) -> None:
    with pytest.raises(FileNotFoundError):
        opener.open_file(place, "file")


def test_nothing_stays_open(opener: Opener, place: Place, tmp_path: Path) -> None:
    Path(place.path, "link").symlink_to(tmp_path / "secret")
    os.mkfifo(Path(place.path, "fifo"))
    before = len(os.listdir("/proc/self/fd"))

    for name in ("link", "fifo", "none"):
        for _ in range(5):
            with pytest.raises((Refused, OSError)):
                opener.open_file(place, name)

    assert len(os.listdir("/proc/self/fd")) == before
