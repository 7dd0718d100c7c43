"""Files of rich values on file systems that share blocks, and on full ones."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim.scripts import reading, run_script
from tests.support import require
from tracker import _rich
from tracker.protocol import kinds


def mount(directory: Path, *arguments: str) -> None:
    require.root()
    directory.mkdir()
    made = subprocess.run(
        [require.program("mount"), *arguments, str(directory)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        require.absent("mount", made.stderr.strip(), "run the tests where file systems may be mounted")


@pytest.fixture
def sharing_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system whose files can share blocks."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(128 * 2**20)
    subprocess.run(
        [require.program("mkfs.btrfs", "btrfs-progs"), "-q", str(image)], check=True, capture_output=True
    )
    mount(disk, "-o", "loop", str(image))
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    mount(disk, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_file_shares_its_blocks_with_what_is_kept_of_it(sharing_disk: Path) -> None:
    source = sharing_disk / "movie.mp4"
    content = os.urandom(40 * 2**20 + 5)
    source.write_bytes(content)
    os.sync()
    before = os.statvfs(sharing_disk).f_bavail

    kept = []
    for step in range(4):  # in full they would not fit
        encoded = _rich.encode(_rich.Video(str(source)), _rich.Media(str(sharing_disk), "movie", step))
        assert encoded is not None
        kept.append(sharing_disk / encoded.data["path"])

    os.sync()
    assert before - os.statvfs(sharing_disk).f_bavail < 10 * 2**20 // os.statvfs(sharing_disk).f_frsize
    source.write_bytes(b"another")
    assert all(each.read_bytes() == content for each in kept)
    assert {each.stat().st_nlink for each in kept} == {1}
    assert encoded.data["size"] == len(content)
    assert encoded.data["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_full_disk_costs_the_picture_and_nothing_else(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "large.mp4").write_bytes(bytes(3 * 2**20))
    script = """
import os, tracker
run = tracker.init()
for number in range(3):
    tracker.log({"large": tracker.Video(os.environ["LARGE"]), "x": number})
    tracker.log({"small": tracker.Html("<b>"), "y": number})
assert run.lost == 3, run.lost
"""

    _, err = run_script(script, TRACKER_DIR=str(small_disk), LARGE=str(tmp_path / "large.mp4"))

    (stream,) = reading(small_disk)
    assert [values for _, values in stream.metrics] == [
        each for number in range(3) for each in ({"x": number}, {"y": number})
    ]
    assert [value.name for value in stream.of(kinds.VALUE)] == ["small"] * 3
    assert sum(lost.records for lost in stream.of(kinds.LOST)) == 3
    assert {lost.reason for lost in stream.of(kinds.LOST)} == {"No space left on device"}
    assert not [path for path in small_disk.rglob("media/*/*") if path.is_file()]
    assert err.count("No space left on device") == 1
