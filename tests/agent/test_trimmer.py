"""The agent's own streams stay small: what the server has goes after a while, the oldest at the limit."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.agent.conftest import UID, Spool, make_header
from tracker.protocol.layout import live_name
from tracker_agent.disk import Disk
from tracker_agent.entries import Entry
from tracker_agent.losses import LossReason
from tracker_agent.open_files import OpenFiles
from tracker_agent.opening import Place
from tracker_agent.streams import Stream
from tracker_agent.tailer import Tail
from tracker_agent.trimmer import Trimmer

KEEP_S = 3600.0
UNLIMITED = 2**40

Own = Callable[..., Stream]


class StubbornDisk(Disk):
    """Refuses to remove some files."""

    def __init__(self) -> None:
        super().__init__()
        self.stays: set[str] = set()

    def unlink(self, path: str) -> None:
        if os.path.basename(path) in self.stays:
            raise OSError(errno.EIO, "Input/output error")
        super().unlink(path)


@pytest.fixture
def disk() -> StubbornDisk:
    return StubbornDisk()


@pytest.fixture
def own(spool: Spool, disk: StubbornDisk) -> Own:
    """own(name, age_s): an own stream of several segments, all of that age, of which the server has all."""
    files = OpenFiles(disk, 8)

    def make(name: str = "own", age_s: float = 2 * KEEP_S, ended: bool = False) -> Stream:
        header = make_header(name)
        spool.write(run=name, records=120, segment_bytes=2000, header=header)
        place = Place(str(spool.root), str(UID), name, UID)
        tail = Tail(place, header.stream, files, own=True)
        tail.segments.set_numbers(range(len(spool.segments(header.stream))))
        tail.read(0, UNLIMITED, live=False)
        thread: Any = SimpleNamespace(name="thread")
        stream = Stream(Entry(place, "me", header.stream, tail), header, thread, own=True)
        stream.position, stream.learned, stream.ended = tail.end, True, ended
        for number, path in enumerate(spool.segments(header.stream)):
            changed = time.time() - age_s + number / 1000
            os.utime(path, (changed, changed))
        return stream

    return make


def trimmer(bytes_max: int = UNLIMITED) -> Trimmer:
    clock: Any = SimpleNamespace(wall_ns=time.time_ns)
    return Trimmer(KEEP_S, bytes_max, clock)


def left(spool: Spool, stream: Stream) -> list[Path]:
    return spool.segments(stream.id)


def test_segments_that_the_server_has_go_after_a_while_but_for_the_newest(spool: Spool, own: Own) -> None:
    stream = own()
    newest = left(spool, stream)[-1]

    dropped = trimmer().trim([stream], {stream.id})

    assert left(spool, stream) == [newest]
    assert dropped == []


def test_segments_stay_for_a_while_for_a_server_that_is_restored(spool: Spool, own: Own) -> None:
    stream = own(age_s=KEEP_S / 2)
    before = left(spool, stream)

    trimmer().trim([stream], set())

    assert left(spool, stream) == before


def test_what_the_server_has_not_stays_whatever_its_age(spool: Spool, own: Own) -> None:
    behind, almost, unasked = own("behind"), own("almost"), own("unasked")
    first = left(spool, behind)[0].stat().st_size
    behind.position = first  # the end of the first segment
    almost.position = left(spool, almost)[0].stat().st_size - 1
    unasked.learned = False
    before = [left(spool, stream) for stream in (behind, almost, unasked)]

    trimmer().trim([behind, almost, unasked], set())

    assert [left(spool, stream) for stream in (behind, almost, unasked)] == [before[0][1:], *before[1:]]


def test_stream_that_ended_goes_whole_unless_its_writer_lives(spool: Spool, own: Own) -> None:
    dead, alive = own("dead", ended=True), own("alive", ended=True)
    lock = spool.run("dead") / live_name(dead.id)
    assert lock.exists()

    trimmer().trim([dead, alive], {alive.id})

    assert left(spool, dead) == [] and not lock.exists()
    assert len(left(spool, alive)) == 1


def test_oldest_goes_first_when_there_is_too_much_on_disk(spool: Spool, own: Own) -> None:
    older, newer = own("older", age_s=200), own("newer", age_s=100)
    total = sum(path.stat().st_size for stream in (older, newer) for path in left(spool, stream))
    oldest, rest = left(spool, older)[0], left(spool, older)[1:]
    kept = left(spool, newer)

    trimmer(bytes_max=total - 1).trim([newer, older], set())

    assert not oldest.exists()
    assert left(spool, older) == rest
    assert left(spool, newer) == kept


def test_limit_takes_everything_but_the_file_that_is_written(spool: Spool, own: Own) -> None:
    dead, alive = own("dead", age_s=100), own("alive", age_s=200)
    dead_size, alive_newest = left(spool, dead)[-1].stat().st_size, left(spool, alive)[-1]

    dropped = trimmer(bytes_max=0).trim([dead, alive], {alive.id})

    assert left(spool, dead) == []
    assert left(spool, alive) == [alive_newest]
    # What stood before the last segment of a stream shows as a gap on the server; the last is counted here.
    assert dropped == [(LossReason.STATE_LIMIT.text, dead_size)]


def test_file_that_cannot_be_removed_keeps_no_other(spool: Spool, own: Own, disk: StubbornDisk) -> None:
    stuck, free = own("stuck", ended=True), own("free", ended=True)
    disk.stays = {left(spool, stuck)[0].name}
    keeper = trimmer()

    keeper.trim([stuck, free], set())

    assert left(spool, free) == []
    assert "stuck cannot be trimmed" in keeper.problem
    disk.stays.clear()
    keeper.trim([stuck], set())
    assert (left(spool, stuck), keeper.problem) == ([], "")
