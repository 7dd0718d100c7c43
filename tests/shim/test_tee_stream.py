"""One stream of the tee: what is read, held back, shown, and handed on to the next worker."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tracker._tee_stream import BUFFER_BYTES, Stream


@pytest.fixture
def ends() -> Iterator[tuple[int, int, int, int]]:
    """Two pipes that hold much: source, what leads there, target, what leads there."""
    descriptors = (*os.pipe(), *os.pipe())
    for fd in descriptors:
        fcntl.fcntl(fd, 1031, 2**20)
        os.set_blocking(fd, False)
    yield descriptors
    for fd in descriptors:
        with contextlib.suppress(OSError):  # the stream closed it
            os.close(fd)


def test_a_line_that_our_own_limit_cuts_is_shown_whole(ends: tuple[int, int, int, int]) -> None:
    source, writer, shown, target = ends
    stream = Stream(1, source, target, terminal=False)
    stream.open_outlet()
    lines = b"".join(b"%06d %s\n" % (number, b"x" * 1000) for number in range(300))
    os.write(writer, lines)
    os.close(writer)
    pieces, read = [], b""

    while stream.open or stream.waiting:
        data = stream.read() if not stream.waiting else None
        read += bytes(data or b"")
        assert stream.show()
        with contextlib.suppress(BlockingIOError):
            pieces.append(os.read(shown, 2**20))

    assert read == b"".join(pieces) == lines
    assert len(pieces) > 2 and all(piece.endswith(b"\n") for piece in pieces)
    stream.close_outlet()


def test_a_line_longer_than_the_limit_is_not_held_back(ends: tuple[int, int, int, int]) -> None:
    source, writer, shown, target = ends
    stream = Stream(1, source, target, terminal=False)
    stream.open_outlet()
    os.write(writer, b"x" * (BUFFER_BYTES + 5))

    assert stream.read() is not None and stream.show()

    assert len(os.read(shown, 2**20)) == BUFFER_BYTES
    stream.close_outlet()


def test_what_a_killed_worker_had_read_is_shown_by_the_next(ends: tuple[int, int, int, int]) -> None:
    source, writer, shown, target = ends
    stream = Stream(1, source, target, terminal=False)
    os.write(writer, b"read and not shown\n")
    child = os.fork()
    if not child:
        stream.read()
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)

    stream.open_outlet()
    assert bytes(stream.waiting) == b"read and not shown\n" and stream.show()

    assert os.read(shown, 100) == b"read and not shown\n"
    stream.close_outlet()


@pytest.mark.parametrize("was_read", [True, False])
@pytest.mark.parametrize("text", [b"x", b"a line\n", b"many\n" * 1000])
def test_a_kill_in_the_middle_of_reading_leaves_out_nothing(
    was_read: bool, text: bytes, ends: tuple[int, int, int, int]
) -> None:
    source, writer, shown, target = ends
    stream = Stream(1, source, target, terminal=False)
    os.write(writer, text)
    child = os.fork()
    if not child:
        read = os.readv

        def be_killed(fd: int, buffers: Any) -> int:
            if was_read:
                read(fd, buffers)
            os.kill(os.getpid(), 9)
            return 0

        os.readv = be_killed
        stream.read()
    os.waitpid(child, 0)

    stream.open_outlet()
    assert stream.show()
    if not was_read:
        assert stream.read() is not None and stream.show()

    assert os.read(shown, 2**20) == text
    stream.close_outlet()
