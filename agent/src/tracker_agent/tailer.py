"""Reads one stream from a position on: whole, verified lines and counted gaps, never half a line.

Files for `tracker.protocol.reader.next_piece`, which decides. A Tail keeps no position: whoever asks says
from where, and the server's word is what moves that. Bodies are never decoded.
"""

from __future__ import annotations

import enum
import errno

from tracker.protocol.codec import parse_start, read_line
from tracker.protocol.errors import HeaderError, IncompleteError
from tracker.protocol.header import HEADER_BYTES_MAX, Header, read_header
from tracker.protocol.kinds import EXIT, HEADER, LINE_BYTES_MAX
from tracker.protocol.reader import DAMAGED, MISSING, TORN_TAIL, Gap, Lines, Piece, Wait, next_piece

from .disk import Disk
from .losses import LossReason
from .open_files import OpenFiles
from .opening import Place, Refused
from .pieces import Data, Diverged, Reading, State
from .segments import Segment, Segments

CHUNK_BYTES = 256 * 1024

_HOLE = "hole"

_REASONS = {
    _HOLE: LossReason.MISSING.because("the file has a hole here"),
    DAMAGED: LossReason.DAMAGED.text,
    TORN_TAIL: LossReason.TORN_TAIL.text,
    MISSING: LossReason.MISSING.text,
}
_NO_HEADER = LossReason.DAMAGED.because("the segment has no valid HEADER")
_TORN_HEADER = LossReason.TORN_TAIL.because("the writer died within a HEADER")


#: How many missing segments are looked for one by one before a gap is declared.
_LOOK_AGAIN_MAX = 100


class _Step(enum.Enum):
    MOVED = 1  # a piece was added
    ENDED = 2  # the segment is read to its end
    STOPPED = 3  # reading ends here for now


class Tail:
    """One stream, read from its segments. What reads may raise OSError, Refused or Diverged."""

    __slots__ = ("_disk", "_end", "given_up", "segments")

    def __init__(self, place: Place, stream: bytes, files: OpenFiles, own: bool = False) -> None:
        self.segments = Segments(place, stream, files, own)
        self._disk = files.disk
        self.given_up: dict[int, str] = {}  #: segments that were removed or emptied, and why
        self._end = 0

    @property
    def end(self) -> int:
        """Position of the end of what was last seen of the newest segment with a known HEADER."""
        return self._end

    def grown(self, size: int) -> None:
        """Take note of the size of the newest segment."""
        newest = self.segments.newest
        try:
            segment = None if newest is None else self.segments.get(newest)
        except (OSError, Refused, Diverged):
            return  # reading will say so
        if segment is not None:
            self._end = max(self._end, segment.base + size)

    def rest(self) -> None:
        """Forget what can be read again: the stream is shipped, and there may be thousands of them."""
        self.segments.distrust()

    def header(self) -> Header | None:
        """Return the first valid HEADER of any segment, or None while there is none."""
        first = self.segments.after(None)
        return None if first is None else first.header

    def read(self, position: int, limit: int, live: bool, waited: bool = False) -> Reading:
        """Read from a position of the stream, at least one line, then up to about limit bytes.

        live: the writer may still append; to be found out before, see next_piece. waited: nothing moved
        at this position for DAMAGE_WAIT_S.
        """
        reading = Reading(position=position)
        current = self.segments.at(position)
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
            following = self.segments.after(current)
            if following is None:
                reading.state = self._finish(current, reading, live)
                return reading
            if not self._enter(following, current, reading):
                current = self.segments.at(reading.position) or current
                continue
            current = following

    def check(self, position: int, last: int, crc: int) -> None:
        """Raise Diverged unless the line that ends at position starts at last and has that checksum.

        Where the file that held it is gone there is nothing to compare.
        """
        segment = self.segments.at(last)
        line = b""
        if segment is not None and position - last <= LINE_BYTES_MAX:
            line = self._disk.pread(self.segments.fd(segment.number), position - last, last - segment.base)
        if segment is None or not line:
            following = self.segments.after(segment)
            if following is not None and following.base >= position:
                return
            raise Diverged(f"the server has a record at {last}, behind the end of the files")
        if last == segment.base:
            found, end = _header_crc(line)
        else:
            parsed, end, _ = read_line(line, 0, segment.seeds)
            found = None if parsed is None else parsed[1]
        if found != crc or end != position - last:
            raise Diverged(f"the record at {last} differs from the one that the server has")

    def ends_with_exit(self, position: int, last: int | None) -> bool:
        """Return whether the line from last to position is an EXIT."""
        segment = None if last is None else self.segments.at(last)
        if segment is None or last is None or last == segment.base or position - last > LINE_BYTES_MAX:
            return False
        line = self._disk.pread(self.segments.fd(segment.number), position - last, last - segment.base)
        parsed, _, _ = read_line(line, 0, segment.seeds)
        return parsed is not None and parsed[0] == EXIT

    def _read_segment(
        self, segment: Segment, reading: Reading, limit: int, live: bool, waited: bool
    ) -> _Step:
        """Add one piece of a segment."""
        growing = live and self.segments.after(segment) is None
        fd = self.segments.fd(segment.number)
        offset = reading.position - segment.base
        size = self._disk.size(fd)
        self._end = max(self._end, segment.base + size)
        if size < offset:
            return self._behind_end(segment, reading, size, live)
        head = b""
        if offset < segment.start:
            if offset:
                raise Diverged(f"position {reading.position} lies within a HEADER")
            head = self._disk.pread(fd, segment.start, 0)
            offset = segment.start
        wants = max(min(limit, CHUNK_BYTES), 4096)
        piece: Piece
        while True:
            data = self._disk.pread(fd, wants, offset)
            hole = self._hole(fd, offset, size) if data[:1] == b"\0" and not (growing and not waited) else 0
            if hole:
                piece = Gap(hole, _HOLE)
                break
            more = len(data) == wants and size > offset + wants
            piece = next_piece(data, segment.seeds, more, growing, growing and waited, keep=False)
            if not isinstance(piece, Wait) or not more or piece.wants <= len(data):
                break
            if reading.pieces and piece.wants > limit:
                return _Step.STOPPED  # a longer line than fits; it comes first next time
            wants = piece.wants
        reading.pending = max(0, size - offset)
        if isinstance(piece, Lines):
            taken = data if piece.size == len(data) else data[: piece.size]
            reading.pieces.append(Data(reading.position, head + taken if head else taken))
            reading.exited = parse_start(data, piece.last)[0] == EXIT
            # A segment that is opened again must still hold this.
            self.segments.witness(segment.number, offset + piece.last, data[piece.last : piece.size][:256])
        elif head:
            reading.pieces.append(Data(reading.position, head))
            reading.position += len(head)
            reading.exited = False
            return _Step.MOVED
        elif isinstance(piece, Gap):
            reading.pending -= piece.size
            reading.add_missing(piece.size, self._reason(segment.number, piece))
            return _Step.MOVED
        elif piece.wants == 0:
            return _Step.ENDED
        else:
            reading.state = State.WAITING
            reading.stuck = bool(data)
            return _Step.STOPPED
        reading.position += len(head) + piece.size
        reading.pending -= piece.size
        return _Step.MOVED

    def _hole(self, fd: int, offset: int, size: int) -> int:
        """Return how many bytes from offset on were never written, or were given up by a limit."""
        return max(0, min(self._disk.data_after(fd, offset, size), size) - offset)

    def _reason(self, number: int, gap: Gap) -> str:
        return (self.given_up.get(number) if gap.reason == _HOLE else None) or _REASONS[gap.reason]

    def _behind_end(self, segment: Segment, reading: Reading, size: int, live: bool) -> _Step:
        """Decide about a position behind the end of the segment it should be in."""
        following = self.segments.after(segment)
        if following is not None and following.number > segment.number + 1:
            if following.base >= reading.position:
                return _Step.ENDED  # what the server has behind it lay in a segment that is gone
        over = reading.position - segment.base - size
        without_header = (self.segments.bytes_in(n) for n in self.segments.numbers if n > segment.number)
        if not live and following is None and over == sum(without_header):
            reading.state = State.END  # the gap that stands for files without a HEADER was shipped
            return _Step.STOPPED
        raise Diverged(
            f"segment {segment.number:06d} was cut: it has {size} bytes, {size + over} were shipped of it"
        )

    def _enter(self, segment: Segment, current: Segment | None, reading: Reading) -> bool:
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
        between = [number for number in self.segments.numbers if first <= number < segment.number]
        for number in range(first, min(segment.number, first + _LOOK_AGAIN_MAX)):
            if number not in between and self.segments.exists(number):
                # A listing made while segments are being rolled may lack one.
                self.segments.set_numbers([*self.segments.numbers, number])
                return False
        for number in between:
            if not self.segments.exists(number):
                # Listed a moment ago: it, or the whole directory, was moved. The next listing tells.
                raise FileNotFoundError(errno.ENOENT, f"segment {number:06d} is gone since it was listed")
        # A file that is there but cannot be opened raises before it comes to this.
        given_up = (self.given_up.get(number) for number in range(first, segment.number))
        reason = next(filter(None, given_up), _REASONS[MISSING])
        reading.add_missing(size, _NO_HEADER if between else reason)
        return True

    def _finish(self, current: Segment | None, reading: Reading, live: bool) -> State:
        """Decide what it means that no segment with a HEADER follows."""
        if live:
            return State.WAITING
        for number in self.segments.numbers:
            if current is None or number > current.number:
                fd = self.segments.fd(number)
                size = self._disk.size(fd)
                if size and current is not None:
                    reason = _TORN_HEADER if _is_torn_header(self._disk, fd) else _NO_HEADER
                    reading.add_missing(size, reason)
        return State.END


def _header_crc(line: bytes) -> tuple[int | None, int]:
    """Return the checksum of a HEADER line and its length, or None where it is none."""
    try:
        _, end = read_header(line)
    except HeaderError:
        return None, 0
    # [0x93, kind 0, 0xce, crc, …]
    return int.from_bytes(line[3:7], "big") if line[1] == HEADER else None, end


def _is_torn_header(disk: Disk, fd: int) -> bool:
    try:
        read_header(disk.pread(fd, HEADER_BYTES_MAX, 0))
    except IncompleteError:
        return True
    except HeaderError:
        return False
    return False
