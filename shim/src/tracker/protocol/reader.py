"""What a reader makes of the bytes of a segment: whole lines, a gap, or not enough yet.

`next_piece` is the decision alone, without files or clocks: the agent's tailer and StreamReader
(stream.py) both use it. The rules in prose: docs/record-format.md, "Reading".
"""

from typing import List, NamedTuple, Union

from .codec import Line, Seeds, declared_end, find_line, scan_lines
from .kinds import LINE_BYTES_MAX

#: A reader of a live segment that is stuck declares damage only after looking at the same
#: position again and again for this long. It outlasts a line whose write() is still under way
#: and a torn line that its writer takes back.
DAMAGE_WAIT_S = 5.0

#: Where damage goes on and on, this much of it is given up at a time.
DAMAGE_STEP_BYTES = 4 * 1024 * 1024

#: No decision ever needs more bytes than this: one step, and the longest line that may start in it.
WINDOW_BYTES_MAX = LINE_BYTES_MAX + DAMAGE_STEP_BYTES

DAMAGED = "damaged"  #: bytes that are no line, where a line should start
TORN_TAIL = "torn_tail"  #: the segment ends within a line, or in zeros
MISSING = "missing"  #: bytes that a later segment's base says there were


class Lines(NamedTuple):
    """Whole lines at the front of the bytes, ready to be passed on."""

    size: int  #: bytes they take up
    last: int  #: where the last of them starts
    lines: List[Line]  #: (kind, crc, body) of each; empty with keep=False


class Gap(NamedTuple):
    """The first `size` bytes are no data. reason: DAMAGED or TORN_TAIL."""

    size: int
    reason: str


class Wait(NamedTuple):
    """No decision yet: come back with `wants` bytes when the file has them, or see next_piece."""

    wants: int


Piece = Union[Lines, Gap, Wait]


def next_piece(
    data: bytes, seeds: Seeds, more: bool, live: bool, waited: bool = False, keep: bool = True
) -> Piece:
    """Decide what the bytes from the reader's position on are.

    data    bytes of one segment from the position on, freshly read: bytes kept from an earlier
            call may since have been taken back by the writer (a short write that it undid)
    more    the segment's file goes on behind data: the caller read a chunk of it
    live    the writer may still append to this segment: it holds its lock, and there is no
            later segment with a whole HEADER (one without may be given up again). Find that
            out before reading: a file read to its end first and found sealed afterwards may
            have grown in between.
    waited  the position has not moved for DAMAGE_WAIT_S (matters only when live)
    keep    return the lines themselves, too: whoever only passes their bytes on does not need them

    The position is behind the segment's HEADER, or behind a gap. Whole lines come first, always;
    a call that returns Lines says nothing of the bytes behind them. Wait(n):

        n > len(data), more       read n bytes from the position (or what there is) and call again
        n > 0 otherwise           (live) call again when the file has grown, the segment is sealed,
                                  or DAMAGE_WAIT_S have passed: then with waited=True
        n == 0                    (sealed) the segment is read to its end

    n never exceeds WINDOW_BYTES_MAX. After a Gap go on at position + size.
    """
    scanned = scan_lines(data, seeds, keep)
    if scanned.end:
        return Lines(scanned.end, scanned.last, scanned.lines)
    if not data:
        return Wait(1 if more or live else 0)
    if not scanned.bad and more:
        return Wait(max(declared_end(data), len(data) + 1))
    if live and not waited:
        return Wait(len(data))
    # Something is wrong at the front, or the bytes end within a line that nothing completes:
    # only a whole line further back tells damage from an end.
    found = find_line(data, 1, seeds)
    if found is not None:
        return Gap(found, DAMAGED)
    if not more:
        return Wait(len(data)) if live else Gap(len(data), _end_reason(data))
    if len(data) < WINDOW_BYTES_MAX:
        return Wait(min(max(2 * len(data), 64 * 1024), WINDOW_BYTES_MAX))
    # Any line that starts in the first step would end within the window.
    return Gap(DAMAGE_STEP_BYTES, DAMAGED)


def _end_reason(data: bytes) -> str:
    """Tell a line cut short (perhaps filled up with zeros after a power loss) from other damage."""
    written = data.rstrip(b"\0")
    return TORN_TAIL if declared_end(written) > len(written) or not written else DAMAGED
