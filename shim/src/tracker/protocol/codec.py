"""Lines: [kind, crc, body] in canonical msgpack, and how to find them in bytes.

A line is canonical when it starts with 0x93, kind takes the fewest bytes, crc is a five-byte
uint32 and body a bin with the shortest length field. Anything else is damage, so that a changed
byte is noticed even where msgpack would read the same values.
"""

import struct
import zlib

from .kinds import HEADER, KIND_MAX, LINE_BYTES_MAX
from .patterns import compiled
from .tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    Line = Tuple[int, int, bytes]
    _SeedByKind = Dict[int, int]
    _SeedByStart = Dict[bytes, Optional[int]]
else:
    Line, _SeedByKind, _SeedByStart = tuple, dict, dict


#: Work limit of one search for the next whole line: bytes checksummed per byte searched.
RESYNC_FACTOR = 64

_LINE8 = struct.Struct(">BBBIBB")
_START8 = struct.Struct(">3sIBB")
_LINE16 = struct.Struct(">BBBIBH")
_LINE32 = struct.Struct(">BBBIBI")
_SEED = struct.Struct(">16sIH")
_CRC = struct.Struct(">BI")

# The start of a line, up to and with the length field of its body.
_START = (
    rb"\x93(?:[\x00-\x7f]|\xcc[\x80-\xff]|\xcd[\x01-\xff][\x00-\xff])\xce[\x00-\xff]{4}"
    rb"(?:\xc4[\x00-\xff]|\xc5[\x00-\xff]{2}|\xc6[\x00-\xff]{4})"
)


class Seeds(_SeedByKind):
    """CRC seed per kind for one segment of one stream, computed when first asked for.

    HEADER has no seed here: it counts only at byte 0 of a segment (see header.py).
    """

    def __init__(self, stream: bytes, segment: int) -> None:
        super().__init__()
        if len(stream) != 16:
            raise ValueError("a stream id has 16 bytes, this one has %d" % len(stream))
        self.stream = stream
        self.segment = segment
        #: Seeds by the three bytes that lines of a one-byte kind start with; None for other bytes.
        self.starts = _Starts(self)

    def __missing__(self, kind: int) -> int:
        if type(kind) is not int or not HEADER < kind <= KIND_MAX:
            raise KeyError(kind)
        seed = self[kind] = zlib.crc32(_SEED.pack(self.stream, self.segment, kind))
        return seed


class _Starts(_SeedByStart):
    def __init__(self, seeds: Seeds) -> None:
        super().__init__()
        self._seeds = seeds

    def __missing__(self, start: bytes) -> "Optional[int]":
        first, kind, tag = start[0], start[1], start[2]
        if first != 0x93 or not HEADER < kind < 128 or tag != 0xCE:
            return None
        seed = self[start] = self._seeds[kind]
        return seed


def encode_line(kind: int, body: bytes, seed: int) -> bytes:
    """Return one line. Raise ValueError when it would be longer than LINE_BYTES_MAX."""
    crc = zlib.crc32(body, seed)
    size = len(body)
    if kind < 128:
        if size < 0x100:
            return _LINE8.pack(0x93, kind, 0xCE, crc, 0xC4, size) + body
        if size < 0x10000:
            return _LINE16.pack(0x93, kind, 0xCE, crc, 0xC5, size) + body
        line = _LINE32.pack(0x93, kind, 0xCE, crc, 0xC6, size) + body
    else:
        head = struct.pack(">BBB", 0x93, 0xCC, kind) if kind < 256 else struct.pack(">BBH", 0x93, 0xCD, kind)
        if size < 0x100:
            tail = struct.pack(">BB", 0xC4, size)
        elif size < 0x10000:
            tail = struct.pack(">BH", 0xC5, size)
        else:
            tail = struct.pack(">BI", 0xC6, size)
        line = head + _CRC.pack(0xCE, crc) + tail + body
    if len(line) > LINE_BYTES_MAX:
        raise ValueError("a line has at most %d bytes, this one has %d" % (LINE_BYTES_MAX, len(line)))
    return line


def start_pattern() -> "Any":
    """Return the compiled pattern of a line's start."""
    return compiled(_START)


def line_bytes(kind: int, body_bytes: int) -> int:
    """Return the length of a canonical line with a body of that many bytes."""
    head = 7 if kind < 128 else 8 if kind < 256 else 9
    return head + (2 if body_bytes < 0x100 else 3 if body_bytes < 0x10000 else 5) + body_bytes


class Scanned(NamedTuple):
    """What scan_lines found at the front of some bytes."""

    lines: "List[Line]"  #: empty with keep=False
    end: int  #: bytes taken up by the lines
    bad: bool  #: the bytes at `end` can never become a line, whatever follows
    last: int  #: where the last of the lines starts; 0 when there are none


def scan_lines(data: bytes, seeds: Seeds, keep: bool = True) -> Scanned:
    """Find the whole lines at the front of data, in order.

    Stops at the first byte that is not part of one. `bad` is False where data just ends, or
    ends within a line that more bytes may complete. A HEADER is never accepted here. With
    keep=False the lines are checked as well, but not returned: a fifth faster, for whoever
    passes the bytes on.
    """
    lines: List[Line] = []
    append = lines.append
    crc32 = zlib.crc32
    starts = seeds.starts
    unpack_start = _START8.unpack_from
    position = last = 0
    size_of_all = len(data)
    short_until = size_of_all - _START8.size
    while True:
        # Lines of a one-byte kind and less than 64 KiB, nearly all there are, are read here, five
        # times as fast as by read_line, which knows every form and every fault.
        if position <= short_until:
            first, crc, length, size = unpack_start(data, position)
            start = position + 9
            if length == 0xC5 and size and start < size_of_all:
                size = size << 8 | data[start]
                start += 1
                length = 0xC4
            if length == 0xC4:
                seed = starts[first]
                end = start + size
                if seed is not None and end <= size_of_all:
                    body = data[start:end]
                    if crc32(body, seed) == crc:
                        if keep:
                            append((first[1], crc, body))
                        last = position
                        position = end
                        continue
        line, end, bad = read_line(data, position, seeds)
        if line is None:
            return Scanned(lines, position, bad, last)
        if keep:
            append(line)
        last = position
        position = end


def read_line(data: bytes, position: int, seeds: Seeds) -> "Tuple[Optional[Line], int, bool]":
    """Return (line, end, False), or (None, position, bad) where there is no whole line."""
    match = start_pattern().match(data, position)
    if match is None:
        return None, position, not _may_start(data, position)
    start = match.end()
    kind, crc, size = parse_start(data, position)
    end = start + size
    if kind == HEADER or end - position > LINE_BYTES_MAX or end - position != line_bytes(kind, size):
        return None, position, True
    if end > len(data):
        return None, position, False
    body = data[start:end]
    if zlib.crc32(body, seeds[kind]) != crc:
        return None, position, True
    return (kind, crc, body), end, False


def parse_start(data: bytes, position: int) -> "Tuple[int, int, int]":
    """Return (kind, crc, body bytes) of the line start that start_pattern() matched at position."""
    first = data[position + 1]
    if first < 128:
        kind, at = first, position + 2
    elif first == 0xCC:
        kind, at = data[position + 2], position + 3
    else:
        kind, at = int.from_bytes(data[position + 2 : position + 4], "big"), position + 4
    crc = int.from_bytes(data[at + 1 : at + 5], "big")
    width = 1 << (data[at + 5] - 0xC4)
    return kind, crc, int.from_bytes(data[at + 6 : at + 6 + width], "big")


def declared_end(data: bytes) -> int:
    """Return how long the line that data starts with says it is: at least 1.

    When its start is cut off, that is one byte more than there is. 0: data starts with no line.
    """
    match = start_pattern().match(data)
    if match is None:
        return len(data) + 1 if _may_start(data, 0) else 0
    kind, _, size = parse_start(data, 0)
    end = match.end() + size
    return end if end <= LINE_BYTES_MAX and end == line_bytes(kind, size) else 0


def _may_start(data: bytes, position: int) -> bool:
    """Return whether the bytes from position on could be the beginning of a cut-off line start."""
    rest = data[position : position + 13]
    if not rest:
        return True
    kind_bytes = {0xCC: 2, 0xCD: 3}.get(rest[1], 1) if len(rest) > 1 else 1
    crc_at = 1 + kind_bytes
    # Continue the line start in the one way that can still match, and see whether it does.
    whole = rest if len(rest) > 1 else rest + b"\x01"
    if len(whole) < crc_at:
        whole += (b"\x80" if kind_bytes == 2 else b"\x01\x01")[: crc_at - len(whole)]
    if len(whole) == crc_at:
        whole += b"\xce"
    if len(whole) < crc_at + 5:
        whole += bytes(crc_at + 5 - len(whole))
    if len(whole) == crc_at + 5:
        whole += b"\xc4"
    return start_pattern().match(whole + bytes(4)) is not None


def find_line(data: bytes, position: int, seeds: Seeds) -> "Optional[int]":
    """Return where the first whole line at or after position starts, or None.

    Used to resynchronise after damage. The work is bounded (RESYNC_FACTOR): bytes made to look
    like very many long lines make it give up, None, rather than stall the reader.
    """
    budget = (len(data) - position + 1024) * RESYNC_FACTOR
    search = start_pattern().search
    while budget > 0:
        match = search(data, position)
        if match is None:
            return None
        position = match.start()
        kind, crc, size = parse_start(data, position)
        end = match.end() + size
        whole = kind != HEADER and end <= len(data) and end - position <= LINE_BYTES_MAX
        if whole and end - position == line_bytes(kind, size):
            budget -= size
            if zlib.crc32(data[match.end() : end], seeds[kind]) == crc:
                return position
        position += 1
    return None
