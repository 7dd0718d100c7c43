"""Where a stream stands, and how bytes that arrive fit on to it. Pure: no database, no clock."""

from dataclasses import dataclass

from tracker.protocol.codec import Line, Scanned, Seeds, line_bytes, parse_start, read_line, scan_lines
from tracker.protocol.errors import HeaderError
from tracker.protocol.header import Header, read_header

#: After a gap that hid a HEADER, how many segments further on the lines may belong to.
SEGMENTS_TRIED = 16
_HEADER_START = b"\x93\x00"


class TooLargeError(Exception):
    """A request holds more than may come at once; the message says of what."""


class RefusedError(Exception):
    """A stream's entry cannot be stored; the others of the request can."""

    def __init__(self, code: str, reason: str, at: int | None = None, show_next: bool = True) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.at = at
        self.show_next = show_next


@dataclass
class Position:
    """What is committed of a stream. crc and last describe the last line, None right after a gap.

    header is the identity as first seen (of whatever segment), None until one arrived.
    """

    next: int = 0
    crc: int | None = None
    last: int | None = None
    segment: int = 0
    base: int = 0
    header: Header | None = None


@dataclass
class Fitted:
    """New lines of an entry, the first at offset `at`, and the position once they are stored."""

    lines: list[Line]
    at: int
    position: Position


def fit_lines(position: Position, stream: bytes, offset: int, data: bytes) -> Fitted | None:
    """Return what is new in data, or None when all of it is stored already. Raise RefusedError."""
    end = offset + len(data)
    if not data:
        raise RefusedError("bad_lines", "the entry is empty", offset)
    if offset > position.next:
        raise RefusedError("hole", "bytes %d to %d have not arrived" % (position.next, offset))
    header, header_bytes = _header(position, stream, offset, data)
    segment = position.segment if header is None else header.segment
    seeds = Seeds(stream, segment)
    if end <= position.next:
        # Of what lies further back only its end is known, and that it was whole lines.
        if end == position.next:
            _check_overlap(position, offset, data, seeds)
        return None
    if offset < position.next:
        _check_overlap(position, offset, data, seeds)
        if segment != position.segment:
            raise RefusedError(
                "diverged", "the bytes are of segment %d, not %d" % (segment, position.segment)
            )
        new, at = data[position.next - offset :], position.next
    else:
        new, at = data[header_bytes:], offset + header_bytes
        if header is None and position.header is None:
            raise RefusedError("bad_stream", "the stream does not start with a HEADER")
    scanned = scan_lines(new, seeds)
    if not scanned.end and header is None and position.crc is None:
        scanned, segment = _scan_behind_gap(new, stream, segment, scanned)
    if scanned.end != len(new):
        raise RefusedError("bad_lines", "there is no whole line here", at + scanned.end)
    base = offset if header is not None else position.base
    if scanned.lines:
        kind, crc, body = scanned.lines[-1]
        last = end - line_bytes(kind, len(body))
    else:
        crc, last = parse_start(data, 0)[1], offset
    identity = position.header or header
    return Fitted(scanned.lines, at, Position(end, crc, last, segment, base, identity))


def _scan_behind_gap(new: bytes, stream: bytes, segment: int, scanned: Scanned) -> tuple[Scanned, int]:
    """Return the lines and their segment, where the gap before them may have hidden HEADERs."""
    for number in range(segment + 1, segment + 1 + SEGMENTS_TRIED):
        tried = scan_lines(new, Seeds(stream, number))
        if tried.end:
            return tried, number
    return scanned, segment


def fit_gap(position: Position, offset: int, size: int) -> Position | None:
    """Return the position after a gap, or None when it is stored already. Raise RefusedError."""
    if size <= 0 or offset + size > 2**63 - 1:
        raise RefusedError("bad_stream", "a gap of %d bytes is not possible" % size)
    if offset > position.next:
        raise RefusedError("hole", "bytes %d to %d have not arrived" % (position.next, offset))
    if offset + size <= position.next:
        return None
    if offset < position.next:
        raise RefusedError("diverged", "the gap begins within bytes that are stored")
    return Position(offset + size, None, None, position.segment, position.base, position.header)


def _header(position: Position, stream: bytes, offset: int, data: bytes) -> tuple[Header | None, int]:
    if data[:2] != _HEADER_START:
        return None, 0
    try:
        header, size = read_header(data)
    except HeaderError as error:
        raise RefusedError("bad_stream", str(error), offset) from error
    if header.stream != stream:
        raise RefusedError("bad_stream", "the HEADER names another stream")
    if header.base != offset:
        raise RefusedError(
            "bad_stream", "the HEADER says it begins at %d, not at %d" % (header.base, offset), offset
        )
    if (offset == 0) != (header.segment == 0):
        raise RefusedError("bad_stream", "segment %d cannot begin at %d" % (header.segment, offset), offset)
    known = position.header
    if known is not None:
        if offset == position.next and header.segment <= position.segment:
            raise RefusedError(
                "bad_stream", "segment %d follows segment %d" % (header.segment, position.segment)
            )
        if _identity(header) != _identity(known):
            raise RefusedError("bad_stream", "the HEADER differs from the one of the stream's first segment")
    return header, size


def _identity(header: Header) -> Header:
    """Return a HEADER without what may differ between segments of one stream.

    `gpus`, `parent` and `role` may, where an older server stored the first one without them.
    """
    return header._replace(segment=0, base=0, offline=False, gpus=None, parent=None, role=None)


def _check_overlap(position: Position, offset: int, data: bytes, seeds: Seeds) -> None:
    """Raise RefusedError unless the stored last line stands in data where it should."""
    if position.crc is None or position.last is None:
        return
    start, end = position.last - offset, position.next - offset
    found: tuple[int | None, int] = (None, 0)
    if start == 0 and data[:2] == _HEADER_START:
        found = parse_start(data, 0)[1], read_header(data)[1]
    elif start >= 0:
        line, line_end, _ = read_line(data, start, seeds)
        found = (None if line is None else line[1]), line_end
    if found != (position.crc, end):
        raise RefusedError("diverged", "the bytes before %d are not those that are stored" % position.next)
