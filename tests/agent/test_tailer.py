"""What a Tail reads from files in every state, without a pipeline around it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import UID, Spool
from tracker.protocol import kinds
from tracker.protocol.codec import Seeds, encode_line, scan_lines
from tracker.protocol.header import read_header
from tracker_agent.disk import Disk
from tracker_agent.losses import LossReason
from tracker_agent.open_files import OpenFiles
from tracker_agent.opening import Place
from tracker_agent.pieces import Data, Diverged, Missing, State
from tracker_agent.tailer import Tail

ALL = 2**30


@pytest.fixture
def files() -> Iterator[OpenFiles]:
    # One at a time: whatever is read from another segment in between is opened again.
    files = OpenFiles(Disk(), 1)
    yield files
    files.close_all()


def tail_of(spool: Spool, files: OpenFiles, stream: bytes) -> Tail:
    (directory,) = {path.parent for path in spool.segments(stream)}
    tail = Tail(Place(str(spool.root), str(UID), directory.name, UID), stream, files)
    tail.segments.set_numbers(int(path.name.split(".")[1]) for path in spool.segments(stream))
    return tail


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def line_of(stream: bytes, body: bytes) -> bytes:
    return encode_line(kinds.METRICS, body, Seeds(stream, 0)[kinds.METRICS])


def test_whole_stream_of_a_dead_writer_is_read_to_its_exit(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(records=100)

    reading = tail_of(spool, files, stream).read(0, ALL, live=False)

    assert b"".join(piece.data for piece in reading.pieces if isinstance(piece, Data)) == spool.content(
        stream
    )
    assert (reading.state, reading.exited, reading.pending) == (State.END, True, 0)
    assert reading.position == reading.data_bytes == len(spool.content(stream))


def test_stream_without_exit_ends_without_exit(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(records=100, exit_code=None)

    reading = tail_of(spool, files, stream).read(0, ALL, live=False)

    assert (reading.state, reading.exited) == (State.END, False)


@pytest.mark.parametrize("limit", [1, 100, 1000, 5000])
def test_limit_stops_behind_whole_lines_and_reading_goes_on_there(
    spool: Spool, files: OpenFiles, limit: int
) -> None:
    stream = spool.write(records=60, segment_bytes=1500)
    tail = tail_of(spool, files, stream)
    content = spool.content(stream)
    position, read = 0, b""

    while True:
        reading = tail.read(position, limit, live=False)
        assert all(isinstance(piece, Data) and piece.offset >= position for piece in reading.pieces)
        read += b"".join(piece.data for piece in reading.pieces if isinstance(piece, Data))
        position = reading.position
        assert read == content[:position]
        if reading.state is State.END:
            break
        assert reading.state is State.MORE and reading.pieces

    assert read == content


def test_half_a_line_is_waited_for_while_the_writer_lives_and_a_gap_once_it_is_dead(
    spool: Spool, files: OpenFiles
) -> None:
    stream = spool.write(exit_code=None)
    (path,) = spool.segments(stream)
    end = path.stat().st_size
    half = line_of(stream, b"x" * 50)[:30]
    tail = tail_of(spool, files, stream)
    whole = tail.read(0, ALL, live=True)
    append(path, half)

    alive = tail.read(end, ALL, live=True)
    still_alive = tail.read(end, ALL, live=True, waited=True)
    dead = tail.read(end, ALL, live=False)

    assert (whole.state, whole.stuck, whole.position) == (State.WAITING, False, end)
    for reading in (alive, still_alive):
        assert (reading.state, reading.stuck, reading.pieces) == (State.WAITING, True, [])
    assert dead.pieces == [Missing(end, 30, "torn_tail: the writer died within a record")]
    assert dead.state is State.END


def test_damage_is_believed_of_a_live_writer_only_after_waiting(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(exit_code=None)
    (path,) = spool.segments(stream)
    end = path.stat().st_size
    good = line_of(stream, b"good")
    append(path, b"\0" * 20 + good)
    tail = tail_of(spool, files, stream)

    at_once = tail.read(end, ALL, live=True)
    later = tail.read(end, ALL, live=True, waited=True)

    assert (at_once.pieces, at_once.stuck) == ([], True)
    assert later.pieces == [Missing(end, 20, "damaged: the bytes are no records"), Data(end + 20, good)]


def test_newest_segment_without_header_is_waited_for_and_then_a_gap(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(exit_code=None)
    (path,) = spool.segments(stream)
    end = path.stat().st_size
    path.with_name(path.name.replace("000000", "000001")).write_bytes(path.read_bytes()[:25])
    tail = tail_of(spool, files, stream)

    alive = tail.read(end, ALL, live=True)
    dead = tail.read(end, ALL, live=False)
    after_the_gap = tail.read(dead.position, ALL, live=False)

    assert (alive.state, alive.pieces) == (State.WAITING, [])
    assert dead.pieces == [Missing(end, 25, "torn_tail: the writer died within a HEADER")]
    assert (after_the_gap.state, after_the_gap.pieces) == (State.END, [])


def test_segment_that_the_listing_lacked_is_no_gap(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(records=200, segment_bytes=1500)
    tail = tail_of(spool, files, stream)
    numbers = tail.segments.numbers
    assert len(numbers) > 3
    tail.segments.set_numbers(number for number in numbers if number not in (1, 2))

    reading = tail.read(0, ALL, live=False)

    assert all(isinstance(piece, Data) for piece in reading.pieces)
    assert reading.position == len(spool.content(stream))


def test_segment_that_is_listed_and_not_there_is_no_gap_yet(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(records=200, segment_bytes=1500)
    tail = tail_of(spool, files, stream)
    gone = spool.segments(stream)[2]
    content = gone.read_bytes()
    gone.unlink()

    with pytest.raises(FileNotFoundError):
        tail.read(0, ALL, live=False)

    gone.write_bytes(content)
    reading = tail.read(0, ALL, live=False)
    assert all(isinstance(piece, Data) for piece in reading.pieces)
    assert reading.position == len(spool.content(stream))


def test_rest_of_a_segment_that_was_deleted_half_shipped_is_a_gap(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(records=200, segment_bytes=1500)
    sizes = [path.stat().st_size for path in spool.segments(stream)]
    whole = len(spool.content(stream))
    spool.segments(stream)[1].unlink()
    tail = tail_of(spool, files, stream)
    tail.segments.set_numbers(number for number in tail.segments.numbers if number != 1)
    position = sizes[0] + 100

    reading = tail.read(position, ALL, live=False)

    assert reading.pieces[0] == Missing(position, sizes[1] - 100, LossReason.MISSING.text)
    assert reading.position == whole


@pytest.mark.parametrize("beyond", [1, 1000])
def test_position_behind_the_end_of_the_file_is_divergence(
    spool: Spool, files: OpenFiles, beyond: int
) -> None:
    stream = spool.write()
    tail = tail_of(spool, files, stream)

    with pytest.raises(Diverged, match="was cut"):
        tail.read(len(spool.content(stream)) + beyond, ALL, live=False)


def test_position_within_a_header_is_divergence(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write()

    with pytest.raises(Diverged, match="within a HEADER"):
        tail_of(spool, files, stream).read(5, ALL, live=False)


def test_segments_that_overlap_are_divergence(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(records=100, segment_bytes=1500)
    append(spool.segments(stream)[0], Path(spool.segments(stream)[0]).read_bytes()[-1:])

    with pytest.raises(Diverged, match="bytes were already read"):
        tail_of(spool, files, stream).read(0, ALL, live=False)


@pytest.mark.parametrize("changed", ["header", "last line"])
def test_file_that_was_replaced_while_it_was_closed_is_divergence(
    spool: Spool, files: OpenFiles, changed: str
) -> None:
    stream = spool.write(exit_code=None)
    (path,) = spool.segments(stream)
    tail = tail_of(spool, files, stream)
    read = tail.read(0, ALL, live=True)
    tail.segments.close()
    content = bytearray(path.read_bytes())
    content[30 if changed == "header" else -1] ^= 1
    path.write_bytes(content)
    append(path, line_of(stream, b"more"))

    with pytest.raises(Diverged, match="replaced"):
        tail.read(read.position, ALL, live=True)


def test_position_is_checked_against_the_line_that_the_server_has(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(records=20)
    tail = tail_of(spool, files, stream)
    content = spool.content(stream)
    header, start = read_header(content)
    scanned = scan_lines(content[start:], Seeds(stream, 0))
    last, end, crc = start + scanned.last, start + scanned.end, scanned.lines[-1][1]
    header_crc = int.from_bytes(content[3:7], "big")

    tail.check(end, last, crc)
    tail.check(start, 0, header_crc)
    assert tail.ends_with_exit(end, last)
    assert not tail.ends_with_exit(start, 0)
    first_crc = scanned.lines[0][1]
    for wrong in [
        (end, last, crc ^ 1),
        (end - 1, last, crc),
        (end, last - 1, crc),
        (start, 0, 5),
        (end, start, first_crc),
    ]:
        with pytest.raises(Diverged):
            tail.check(*wrong)
    with pytest.raises(Diverged, match="behind the end"):
        tail.check(end + 50, end, crc)
    assert header.stream == stream


def test_nothing_is_compared_where_the_segment_is_gone(spool: Spool, files: OpenFiles) -> None:
    stream = spool.write(records=100, segment_bytes=1500)
    first, second = spool.segments(stream)[:2]
    base = first.stat().st_size
    os.unlink(first)
    tail = tail_of(spool, files, stream)

    tail.check(base, base - 40, 12345)

    assert tail.read(base, ALL, live=False).pieces[0].offset == base
    assert second.exists()
