"""StreamReader: reads the segments of one stream from a directory, as far as they go.

Files and clocks for `reader.next_piece`. The agent has a tailer of its own, with safer opening.
"""

import os
import stat
import time
from typing import BinaryIO, Callable, Iterator, List, NamedTuple, Optional, Tuple, Union

from .codec import Seeds, line_bytes, start_pattern
from .errors import HeaderError, IncompleteError, ProtocolError
from .header import HEADER_BYTES_MAX, Header, read_header
from .kinds import HEADER
from .layout import parse_segment_name, segment_name
from .reader import DAMAGE_WAIT_S, MISSING, Gap, Lines, Wait, next_piece

CHUNK_BYTES = 256 * 1024


class DivergedError(ProtocolError):
    """Segments claim the same bytes of the stream: they are not of one writer."""


class Record(NamedTuple):
    """One whole line. `offset` is its position in the stream."""

    offset: int
    kind: int
    body: bytes


class Hole(NamedTuple):
    """Bytes of the stream that are not there or are no data."""

    offset: int
    bytes: int
    reason: str  #: reader.DAMAGED, TORN_TAIL or MISSING


class Segment(NamedTuple):
    """The reader came to this segment."""

    offset: int
    number: int
    header: Optional[Header]  #: None: it has no valid one
    torn: bool  #: its writer died before the HEADER was written


Item = Union[Record, Hole, Segment]


def _never() -> bool:
    return False


class StreamReader:
    """Reads one stream. Call read() until `finished`; it goes on where the last call stopped.

    live() tells whether the writer is alive; clock() is in seconds.
    """

    def __init__(
        self,
        directory: str,
        stream: bytes,
        live: Callable[[], bool] = _never,
        clock: Callable[[], float] = time.monotonic,
        damage_wait_s: float = DAMAGE_WAIT_S,
    ) -> None:
        self.directory = directory
        self.stream = stream
        self.position = 0  #: everything before it was returned
        self.waiting = 0  #: bytes behind `position` seen when last read that are not decided yet
        self.finished = False
        self._live = live
        self._clock = clock
        self._damage_wait_s = damage_wait_s
        self._number = 0
        self._opened = False  # whether Segment was returned for _number
        self._base = 0  # position of byte 0 of the current segment
        self._stuck: Optional[Tuple[int, float]] = None  # (position, since when)

    def read(self) -> Iterator[Item]:
        """Yield what can be read now.

        Raise DivergedError where a segment starts before the end of the one before it, OSError
        where a file cannot be read.
        """
        while not self.finished:
            # Whether this segment can still grow is asked before it is read to its end.
            live = self._live()
            numbers = self._numbers()
            later = [number for number in numbers if number > self._number]
            if self._number in numbers:
                growing = live and not any(map(self._has_header, later))
                for item in self._read_segment(growing):
                    yield item
                if growing:
                    return
            elif live and not later:
                return
            if not later:
                self.finished = True
                return
            self._number = later[0]
            self._opened = False
            self._stuck = None

    def _numbers(self) -> List[int]:
        names = map(parse_segment_name, os.listdir(self.directory))
        return sorted(name[1] for name in names if name is not None and name[0] == self.stream)

    def _path(self, number: int) -> str:
        return os.path.join(self.directory, segment_name(self.stream, number))

    def _has_header(self, number: int) -> bool:
        try:
            with _open_regular(self._path(number)) as file:
                read_header(_read(file, 0, HEADER_BYTES_MAX))
        except (OSError, HeaderError):
            return False
        return True

    def _read_segment(self, growing: bool) -> Iterator[Item]:
        seeds = Seeds(self.stream, self._number)
        with _open_regular(self._path(self._number)) as file:
            if not self._opened:
                started = self._read_start(file, growing)
                if started is None:
                    return
                for item in started:
                    yield item
            wants = CHUNK_BYTES
            while True:
                data = _read(file, self.position - self._base, wants)
                self.waiting = len(data)
                more = len(data) == wants
                piece = next_piece(data, seeds, more, growing, growing and self._has_waited())
                if isinstance(piece, Wait):
                    if not more or piece.wants <= len(data):
                        return
                    wants = piece.wants
                    continue
                offset = self.position
                self.position += piece.size
                self.waiting = len(data) - piece.size
                wants = CHUNK_BYTES
                if isinstance(piece, Gap):
                    yield Hole(offset, piece.size, piece.reason)
                else:
                    for record in _records(offset, piece):
                        yield record

    def _read_start(self, file: BinaryIO, growing: bool) -> Optional[List[Item]]:
        """Return what stands at a segment's start, or None when that is still to come."""
        data = _read(file, 0, HEADER_BYTES_MAX)
        torn = False
        try:
            header: Optional[Header]
            header, size = read_header(data)
            if (header.stream, header.segment) != (self.stream, self._number):
                raise HeaderError("the HEADER is that of another segment")
        except HeaderError as error:
            if growing and (isinstance(error, IncompleteError) or not self._has_waited()):
                return None
            # next_piece takes over: no line of kind HEADER is data to it.
            header, size, torn = None, 0, isinstance(error, IncompleteError)
        items: List[Item] = []
        base = self.position if header is None else header.base
        if base < self.position:
            raise DivergedError(
                "segment %06d of stream %s starts at %d, where %d bytes were already read"
                % (self._number, self.stream.hex(), base, self.position)
            )
        if base > self.position:
            items.append(Hole(self.position, base - self.position, MISSING))
        items.append(Segment(base, self._number, header, torn))
        if header is not None:
            items.append(_header_record(base, data[:size]))
        self._base = base
        self.position = base + size
        self._opened = True
        return items

    def _has_waited(self) -> bool:
        now = self._clock()
        if self._stuck is None or self._stuck[0] != self.position:
            self._stuck = (self.position, now)
        return now - self._stuck[1] >= self._damage_wait_s


def _header_record(offset: int, line: bytes) -> Record:
    match = start_pattern().match(line)
    assert match is not None
    return Record(offset, HEADER, line[match.end() :])


def _records(offset: int, piece: Lines) -> Iterator[Record]:
    for kind, _, body in piece.lines:
        yield Record(offset, kind, body)
        offset += line_bytes(kind, len(body))


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _open_regular(path: str) -> BinaryIO:
    """Open a file that is one: anything else might block."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("%s is not a regular file" % path)
    return open(path, "rb")
