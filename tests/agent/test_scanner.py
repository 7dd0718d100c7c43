"""A directory's time stamp says that nothing changed only once it is old enough to tell two changes apart."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.conftest import Spool
from tracker_agent.disk import Disk
from tracker_agent.open_files import OpenFiles
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
