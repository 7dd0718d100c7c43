"""A directory's time stamp says that nothing changed only once it is old enough to tell two changes apart."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.conftest import Spool
from tracker.protocol.layout import segment_name
from tracker_agent.disk import Disk
from tracker_agent.open_files import OpenFiles
from tracker_agent.opening import Place
from tracker_agent.scanner import RELIST_S, SETTLED_NS, Scanner

Add = Callable[[Spool], bytes]


def add_user(spool: Spool) -> bytes:
    other = spool.root / f"{os.getuid()}-other"
    spool.user, former = other, spool.user
    other.mkdir()
    stream = spool.write(run="added")
    spool.user = former
    return stream


def add_run(spool: Spool) -> bytes:
    return spool.write(run="added")


def add_stream(spool: Spool) -> bytes:
    return spool.write(run="first")


def place_of(spool: Spool, add: Add) -> Path:
    """Return the directory in which `add` makes a new entry."""
    return {add_user: spool.root, add_run: spool.user, add_stream: spool.user / "first"}[add]


class Scans:
    """Scans at times that the test says, long after the last change or just after it."""

    def __init__(self, spool: Spool, directory: Path, age_ns: int) -> None:
        self._spool = spool
        self._directory = directory
        files = OpenFiles(Disk(), 8)
        self._scanner = Scanner(str(spool.root), Disk(), files, 0.5, lambda: stamp_ns + age_ns)
        status = directory.stat()
        stamp_ns = status.st_mtime_ns
        self._stamp = (status.st_atime_ns, stamp_ns)

    def found(self, now: float) -> set[bytes]:
        findings = self._scanner.scan(now, [str(self._spool.user / "first")])
        return {entry.stream for entry in findings.found}

    def change_within_one_stamp(self, add: Add) -> bytes:
        """Make a change that leaves the directory's time stamp as it was, as coarse clocks do."""
        stream = add(self._spool)
        os.utime(self._directory, ns=self._stamp)
        return stream


@pytest.mark.parametrize("add", [add_user, add_run, add_stream])
def test_second_change_within_one_time_stamp_is_found_by_the_next_scan(spool: Spool, add: Add) -> None:
    first = spool.write(run="first")
    scans = Scans(spool, place_of(spool, add), age_ns=SETTLED_NS // 2)
    assert scans.found(100.0) == {first}
    second = scans.change_within_one_stamp(add)

    assert scans.found(101.0) == {second}


@pytest.mark.parametrize("add", [add_user, add_run, add_stream])
def test_old_time_stamp_that_stays_spares_the_listing_for_a_while(spool: Spool, add: Add) -> None:
    first = spool.write(run="first")
    scans = Scans(spool, place_of(spool, add), age_ns=2 * SETTLED_NS)
    assert scans.found(100.0) == {first}
    second = scans.change_within_one_stamp(add)

    assert scans.found(101.0) == set()
    assert scans.found(100.5 + RELIST_S) == {second}


class LapsingDisk(Disk):
    """Lists run directories without some names, and does not answer for locks, as long as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.unlisted: set[str] = set()
        self.mute = False
        self.exhausted = False

    def open_file(self, place: Place, name: str) -> int:
        if self.exhausted and name.endswith(".mpl"):
            raise OSError(errno.EMFILE, "Too many open files")
        return super().open_file(place, name)

    def list_directory(self, place: Place) -> tuple[os.stat_result, list[str]]:
        status, names = super().list_directory(place)
        return status, [name for name in names if name not in self.unlisted]

    def lock_holder(self, place: Place, stream: bytes) -> int | None:
        if self.mute:
            raise OSError(errno.EIO, "Input/output error")
        return super().lock_holder(place, stream)


def test_stream_is_not_announced_before_its_lock_was_asked(spool: Spool) -> None:
    disk = LapsingDisk()
    scanner = Scanner(str(spool.root), disk, OpenFiles(disk, 8), 0.5, time.time_ns)
    stream = spool.write(run="first")
    disk.mute = True

    assert scanner.scan(100.0).found == []
    assert "writer" in next(iter(scanner.foreign.values()))
    disk.mute = False
    assert [entry.stream for entry in scanner.scan(101.0).found] == [stream]
    assert scanner.foreign == {}


def test_stream_that_no_descriptor_was_left_for_is_announced_once_there_is_one(spool: Spool) -> None:
    disk = LapsingDisk()
    scanner = Scanner(
        str(spool.root), disk, OpenFiles(disk, 8), 0.5, lambda: time.time_ns() + 10 * SETTLED_NS
    )
    stream = spool.write(run="first")
    disk.exhausted = True

    assert scanner.scan(100.0).found == []
    disk.exhausted = False
    assert [entry.stream for entry in scanner.scan(101.0).found] == [stream]


def test_listing_that_lapses_takes_no_segment_away(spool: Spool) -> None:
    disk = LapsingDisk()
    scanner = Scanner(str(spool.root), disk, OpenFiles(disk, 8), 0.5, time.time_ns)
    stream = spool.write(run="first")
    (entry,) = scanner.scan(100.0).found
    disk.unlisted = {segment_name(stream, 0)}

    findings = scanner.scan(101.0)

    assert findings.gone == []
    assert entry.tail.segments.numbers == (0,)
