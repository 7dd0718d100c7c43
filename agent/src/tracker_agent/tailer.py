"""Reads one stream from a position on: whole, verified lines and counted gaps, never half a line.

Files for `tracker.protocol.reader.next_piece`, which decides. A Tail keeps no position: whoever asks says
from where, and the server's word is what moves that. Bodies are never decoded.
"""

from __future__ import annotations

import enum
import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from tracker.protocol.codec import Seeds, read_line
from tracker.protocol.errors import HeaderError, IncompleteError
from tracker.protocol.header import HEADER_BYTES_MAX, Header, read_header
from tracker.protocol.kinds import EXIT, HEADER, LINE_BYTES_MAX
from tracker.protocol.layout import segment_name
from tracker.protocol.reader import DAMAGED, MISSING, TORN_TAIL, Gap, Lines, Wait, next_piece

from .opening import Opener, Place, Refused

CHUNK_BYTES = 256 * 1024

_REASONS = {
    DAMAGED: "damaged: the bytes are no records",
    TORN_TAIL: "torn tail: the writer died within a record",
    MISSING: "missing: no file holds these bytes",
}
_NO_HEADER = "damaged: the segment has no valid HEADER"
_TORN_HEADER = "torn tail: the writer died within a HEADER"


#: How many missing segments are looked for one by one before a gap is declared.
_LOOK_AGAIN_MAX = 100


class _Step(enum.Enum):
    MOVED = 1  # a piece was added
    ENDED = 2  # the segment is read to its end
    STOPPED = 3  # reading ends here for now


class Diverged(Exception):
    """The file holds other bytes than those already shipped under this id. str() says how one knows."""


@dataclass(frozen=True, slots=True)
class Data:
    """Whole lines of one segment."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Position behind the lines."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Missing:
    """Bytes that cannot be shipped, and why."""

    offset: int
    size: int
    reason: str

    @property
    def end(self) -> int:
        """Position behind the gap."""
        return self.offset + self.size


Piece = Data | Missing


class State(enum.Enum):
    """Where a reading stopped."""

    MORE = "more"  #: the limit was reached; there is more already
    WAITING = "waiting"  #: whatever comes next is not written yet
    END = "end"  #: the writer is gone and everything was read


@dataclass(slots=True)
class Reading:
    """What read() found."""

    pieces: list[Piece] = field(default_factory=list)
    position: int = 0  #: behind the pieces
    state: State = State.MORE
    pending: int = 0  #: bytes known to be left in this segment
    exited: bool = False  #: the last line read is an EXIT
    stuck: bool = False  #: WAITING with bytes that are no whole line yet


@dataclass(slots=True)
class _Segment:
    number: int
    header: Header
    start: int  # file offset behind the HEADER

    @property
    def base(self) -> int:
        return self.header.base


class OpenFiles:
    """Descriptors of segments, the least recently used closed first. Not thread-safe."""

    def __init__(self, opener: Opener, files_max: int) -> None:
        self._opener = opener
        self._files_max = files_max
        self._fds: OrderedDict[tuple[Place, str], int] = OrderedDict()

    def fd(self, place: Place, name: str) -> tuple[int, bool]:
        """Return a descriptor and whether it was opened just now. Raise Refused, or OSError."""
        key = (place, name)
        fd = self._fds.get(key)
        if fd is not None:
            self._fds.move_to_end(key)
            return fd, False
        fd = self._opener.open_file(place, name)
        while len(self._fds) >= self._files_max:
            os.close(self._fds.popitem(last=False)[1])
        self._fds[key] = fd
        return fd, True

    def close(self, place: Place, name: str) -> None:
        """Close one file, if it is open."""
        fd = self._fds.pop((place, name), None)
        if fd is not None:
            os.close(fd)

    def close_all(self) -> None:
        """Close everything."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def __len__(self) -> int:
        return len(self._fds)


class Tail:
    """One stream's segments. Every method may raise OSError, Refused or Diverged."""

    def __init__(self, place: Place, stream: bytes, files: OpenFiles, own: bool = False) -> None:
        self.place = place
        self.stream = stream
        self._files = files
        self._own = own  # the agent's own stream, which alone may be about the host
        self._numbers: list[int] = []
        self._segments: dict[int, _Segment] = {}
        self._end = 0
        self._last_line: tuple[int, int, bytes] | None = None  # (segment, file offset, the line itself)

    def set_segments(self, numbers: Iterable[int]) -> None:
        """Tell which segments there are."""
        self._numbers = sorted(numbers)
        for gone in set(self._segments) - set(self._numbers):
            self._files.close(self.place, segment_name(self.stream, gone))
            del self._segments[gone]

    @property
    def end(self) -> int:
        """Position of the end of what was last seen of the newest segment with a known HEADER."""
        return self._end

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the segments there are."""
        return tuple(self._numbers)

    def names(self, numbers: Iterable[int] | None = None) -> list[str]:
        """Return the file names of some segments, or of all, and close those files."""
        names = [segment_name(self.stream, n) for n in (self._numbers if numbers is None else numbers)]
        for name in names:
            self._files.close(self.place, name)
        return names

    @property
    def newest(self) -> str | None:
        """Name of the file that a live writer appends to."""
        return segment_name(self.stream, self._numbers[-1]) if self._numbers else None

    def close(self) -> None:
        """Close this stream's files; reading opens them again."""
        for number in self._numbers:
            self._files.close(self.place, segment_name(self.stream, number))

    def grown(self, size: int) -> None:
        """Take note of the size of the newest segment."""
        segment = self._segments.get(self._numbers[-1]) if self._numbers else None
        if segment is not None:
            self._end = max(self._end, segment.base + size)

    def reopen(self) -> None:
        """Distrust what is open: a file may have been replaced."""
        self.close()
        self._segments.clear()

    def header(self) -> Header | None:
        """Return the first valid HEADER of any segment, or None while there is none."""
        for number in self._numbers:
            segment = self._segment(number)
            if segment is not None:
                return segment.header
        return None

    def read(self, position: int, limit: int, live: bool, waited: bool = False) -> Reading:
        """Read from a position of the stream, at least one line, then up to about limit bytes.

        live: the writer may still append; to be found out before, see next_piece. waited: nothing moved
        at this position for DAMAGE_WAIT_S.
        """
        reading = Reading(position=position)
        current = self._at(position)
        while True:
            left = limit - (reading.position - position)
            if left <= 0 and reading.pieces:
                return reading
            if current is not None:
                step = self._read_segment(current, reading, left, live, waited)
                if step is _Step.STOPPED:
                    return reading
                if step is _Step.MOVED:
                    continue
            following = self._next(current)
            if following is None:
                reading.state = self._finish(current, reading, live)
                return reading
            if not self._enter(following, current, reading):
                continue
            current = following

    def check(self, position: int, last: int, crc: int) -> None:
        """Raise Diverged unless the line that ends at position starts at last and has that checksum.

        Where the file that held it is gone there is nothing to compare.
        """
        segment = self._at(last)
        line = b""
        if segment is not None and position - last <= LINE_BYTES_MAX:
            line = os.pread(self._fd(segment.number), position - last, last - segment.base)
        if segment is None or not line:
            following = self._next(segment)
            if following is not None and following.base >= position:
                return
            raise Diverged(f"the server has a record at {last}, behind the end of the files")
        if last == segment.base:
            found, end = _header_crc(line)
        else:
            parsed, end, _ = read_line(line, 0, Seeds(self.stream, segment.number))
            found = None if parsed is None else parsed[1]
        if found != crc or end != position - last:
            raise Diverged(f"the record at {last} differs from the one that the server has")

    def ends_with_exit(self, position: int, last: int | None) -> bool:
        """Return whether the line from last to position is an EXIT."""
        segment = None if last is None else self._at(last)
        if segment is None or last is None or last == segment.base or position - last > LINE_BYTES_MAX:
            return False
        line = os.pread(self._fd(segment.number), position - last, last - segment.base)
        parsed, _, _ = read_line(line, 0, Seeds(self.stream, segment.number))
        return parsed is not None and parsed[0] == EXIT

    def sealed_before(self, position: int) -> list[int]:
        """Return the segments that end at or before position and are followed by another one."""
        known = [self._segments[number] for number in self._numbers if number in self._segments]
        return [one.number for one, after in pairwise(known) if after.base <= position]

    def _fd(self, number: int) -> int:
        fd, fresh = self._files.fd(self.place, segment_name(self.stream, number))
        if fresh:
            self._recognise(number, fd)
        return fd

    def _recognise(self, number: int, fd: int) -> None:
        """Make sure a file opened again is the one that was read before."""
        known = self._segments.get(number)
        if known is not None:
            try:
                same = _read_header_of(fd, self.stream, number) == (known.header, known.start)
            except HeaderError:
                same = False
            if not same:
                raise Diverged(f"segment {number:06d} was replaced by another file")
        if self._last_line is not None and self._last_line[0] == number:
            _, offset, line = self._last_line
            if os.pread(fd, len(line), offset) != line:
                raise Diverged(f"segment {number:06d} was replaced or changed: the record at byte {offset}")

    def _segment(self, number: int) -> _Segment | None:
        """Return a segment, None while (or when) it has no valid HEADER."""
        known = self._segments.get(number)
        if known is None:
            try:
                header, start = _read_header_of(self._fd(number), self.stream, number)
            except (HeaderError, FileNotFoundError):
                return None
            if header.run is None and not self._own:
                # The server believes what an agent says about hosts and about other people's writers.
                raise Refused(
                    f"segment {number:06d} is about the machine, not a run: only the agent may say that"
                )
            known = self._segments[number] = _Segment(number, header, start)
        return known

    def _at(self, position: int) -> _Segment | None:
        """Return the last segment that starts at or before position."""
        for number in reversed(self._numbers):
            segment = self._segment(number)
            if segment is not None and segment.base <= position:
                return segment
        return None

    def _next(self, current: _Segment | None) -> _Segment | None:
        """Return the first segment with a HEADER behind current."""
        for number in self._numbers:
            if current is None or number > current.number:
                segment = self._segment(number)
                if segment is not None:
                    return segment
        return None

    def _read_segment(
        self, segment: _Segment, reading: Reading, limit: int, live: bool, waited: bool
    ) -> _Step:
        """Add one piece of a segment."""
        growing = live and self._next(segment) is None
        fd = self._fd(segment.number)
        offset = reading.position - segment.base
        size = os.fstat(fd).st_size
        self._end = max(self._end, segment.base + size)
        if size < offset:
            return self._behind_end(segment, reading, size, live)
        head = b""
        if offset < segment.start:
            if offset:
                raise Diverged(f"position {reading.position} lies within a HEADER")
            head = os.pread(fd, segment.start, 0)
            offset = segment.start
        seeds = Seeds(self.stream, segment.number)
        wants = max(min(limit, CHUNK_BYTES), 4096)
        while True:
            data = os.pread(fd, wants, offset)
            more = len(data) == wants and size > offset + wants
            piece = next_piece(data, seeds, more, growing, growing and waited)
            if not isinstance(piece, Wait) or not more or piece.wants <= len(data):
                break
            if reading.pieces and piece.wants > limit:
                return _Step.STOPPED  # a longer line than fits; it comes first next time
            wants = piece.wants
        reading.pending = max(0, size - offset)
        if isinstance(piece, Lines):
            taken = data if piece.size == len(data) else data[: piece.size]
            reading.pieces.append(Data(reading.position, head + taken if head else taken))
            reading.exited = piece.lines[-1][0] == EXIT
            # A segment that is opened again must still hold this.
            self._last_line = (segment.number, offset + piece.last, data[piece.last : piece.size][:256])
        elif head:
            reading.pieces.append(Data(reading.position, head))
            reading.position += len(head)
            reading.exited = False
            return _Step.MOVED
        elif isinstance(piece, Gap):
            reading.pieces.append(Missing(reading.position, piece.size, _REASONS[piece.reason]))
            reading.exited = False
        elif piece.wants == 0:
            return _Step.ENDED
        else:
            reading.state = State.WAITING
            reading.stuck = bool(data)
            return _Step.STOPPED
        reading.position += len(head) + piece.size
        reading.pending -= piece.size
        return _Step.MOVED

    def _behind_end(self, segment: _Segment, reading: Reading, size: int, live: bool) -> _Step:
        """Decide about a position behind the end of the segment it should be in."""
        over = reading.position - segment.base - size
        without_header = (os.fstat(self._fd(n)).st_size for n in self._numbers if n > segment.number)
        if not live and self._next(segment) is None and over == sum(without_header):
            reading.state = State.END  # the gap that stands for files without a HEADER was shipped
            return _Step.STOPPED
        raise Diverged(
            f"segment {segment.number:06d} was cut: it has {size} bytes, {size + over} were shipped of it"
        )

    def _enter(self, segment: _Segment, current: _Segment | None, reading: Reading) -> bool:
        """Go on to a later segment; what lies between is a gap. False: look again for the next one."""
        if segment.base < reading.position:
            raise Diverged(
                f"segment {segment.number:06d} starts at {segment.base}, "
                f"where {reading.position} bytes were already read"
            )
        size = segment.base - reading.position
        if size == 0:
            return True
        first = 0 if current is None else current.number + 1
        between = [number for number in self._numbers if first <= number < segment.number]
        for number in range(first, min(segment.number, first + _LOOK_AGAIN_MAX)):
            if number not in between and self._exists(number):
                # A listing made while segments are being rolled may lack one.
                self.set_segments([*self._numbers, number])
                return False
        # A file that is there but cannot be opened raises before it comes to this.
        reading.pieces.append(Missing(reading.position, size, _NO_HEADER if between else _REASONS[MISSING]))
        reading.position += size
        reading.exited = False
        return True

    def _exists(self, number: int) -> bool:
        try:
            self._fd(number)
        except FileNotFoundError:
            return False
        return True

    def _finish(self, current: _Segment | None, reading: Reading, live: bool) -> State:
        """Decide what it means that no segment with a HEADER follows."""
        if live:
            return State.WAITING
        for number in self._numbers:
            if current is None or number > current.number:
                fd = self._fd(number)
                size = os.fstat(fd).st_size
                if size and current is not None:
                    reason = _TORN_HEADER if _is_torn_header(fd) else _NO_HEADER
                    reading.pieces.append(Missing(reading.position, size, reason))
                    reading.position += size
                    reading.exited = False
        return State.END


def _header_crc(line: bytes) -> tuple[int | None, int]:
    """Return the checksum of a HEADER line and its length, or None where it is none."""
    try:
        _, end = read_header(line)
    except HeaderError:
        return None, 0
    # [0x93, kind 0, 0xce, crc, …]
    return int.from_bytes(line[3:7], "big") if line[1] == HEADER else None, end


def _read_header_of(fd: int, stream: bytes, number: int) -> tuple[Header, int]:
    # Nearly all HEADERs are far shorter than the longest one allowed.
    data = os.pread(fd, 1024, 0)
    try:
        header, start = read_header(data)
    except IncompleteError:
        header, start = read_header(os.pread(fd, HEADER_BYTES_MAX, 0))
    if (header.stream, header.segment) != (stream, number):
        raise HeaderError("the HEADER is that of another segment")
    return header, start


def _is_torn_header(fd: int) -> bool:
    try:
        read_header(os.pread(fd, HEADER_BYTES_MAX, 0))
    except IncompleteError:
        return True
    except HeaderError:
        return False
    return False


__all__ = ["Data", "Diverged", "Missing", "OpenFiles", "Piece", "Reading", "Refused", "State", "Tail"]
