"""The segment files of one stream: their numbers and HEADERs, and whether they are still the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from sys import intern

from tracker.protocol.codec import Seeds
from tracker.protocol.errors import HeaderError, IncompleteError
from tracker.protocol.header import HEADER_BYTES_MAX, Header, read_header
from tracker.protocol.layout import segment_name

from .disk import Disk
from .open_files import OpenFiles
from .opening import Place, Refused
from .pieces import Diverged


@dataclass(slots=True)
class Segment:
    """A segment with a valid HEADER."""

    number: int
    header: Header
    start: int  #: file offset behind the HEADER
    seeds: Seeds

    @property
    def base(self) -> int:
        """Position of its first byte."""
        return self.header.base


class Segments:
    """One stream's segments. What opens a file may raise OSError, Refused or Diverged.

    own: the agent's own stream, which alone may be about the host.
    """

    __slots__ = ("_files", "_known", "_numbers", "_own", "_witness", "disk", "place", "stream")

    def __init__(self, place: Place, stream: bytes, files: OpenFiles, own: bool) -> None:
        self.place = place
        self.stream = stream
        self.disk = files.disk
        self._files = files
        self._own = own
        self._numbers: list[int] = []
        self._known: dict[int, Segment] = {}
        self._witness: tuple[int, int, bytes] | None = None  # (segment, file offset, bytes there)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the segments there are."""
        return tuple(self._numbers)

    @property
    def newest(self) -> int | None:
        """Number of the segment that a live writer appends to."""
        return self._numbers[-1] if self._numbers else None

    def name(self, number: int) -> str:
        """Return a segment's file name."""
        return segment_name(self.stream, number)

    def set_numbers(self, numbers: Iterable[int]) -> None:
        """Tell which segments there are. What was deleted while it was open is kept for reading."""
        listed = set(numbers)
        gone = set(self._numbers) - listed
        held = {number for number in gone if self._files.hold(self.place, self.name(number))}
        self._numbers = sorted(listed | held)
        for number in (gone | set(self._known)) - set(self._numbers):
            self._files.close(self.place, self.name(number))
            self._known.pop(number, None)

    def is_held(self, number: int) -> bool:
        """Return whether a segment was deleted and can be read all the same."""
        return self._files.holds(self.place, self.name(number))

    def close(self, numbers: Iterable[int] | None = None) -> None:
        """Close the files of some segments, or of all; reading opens them again."""
        for number in self._numbers if numbers is None else numbers:
            self._files.close(self.place, self.name(number))

    def distrust(self) -> None:
        """Close and forget what is open: a file may have been replaced."""
        self.close()
        self._known.clear()
        self._witness = None

    def witness(self, number: int, offset: int, data: bytes) -> None:
        """Remember bytes that a segment must still hold when it is opened again."""
        self._witness = (number, offset, data)

    def fd(self, number: int) -> int:
        """Return a segment's descriptor."""
        fd, fresh = self._files.fd(self.place, self.name(number))
        if fresh:
            self._recognise(number, fd)
        return fd

    def bytes_in(self, number: int) -> int:
        """Return the size of a segment's file."""
        return self.disk.size(self.fd(number))

    def exists(self, number: int) -> bool:
        """Return whether there is such a file, listed or not."""
        try:
            self.fd(number)
        except FileNotFoundError:
            return False
        return True

    def get(self, number: int) -> Segment | None:
        """Return a segment, None while (or when) it has no valid HEADER."""
        known = self._known.get(number)
        if known is None:
            try:
                header, start = _read_header_of(self.disk, self.fd(number), self.stream, number)
            except (HeaderError, FileNotFoundError):
                return None
            if header.run is None and not self._own:
                # The server believes what an agent says about hosts and about other people's writers.
                raise Refused(
                    f"segment {number:06d} is about the machine, not a run: only the agent may say that"
                )
            known = self._known[number] = Segment(number, header, start, Seeds(self.stream, number))
        return known

    def at(self, position: int) -> Segment | None:
        """Return the last segment that starts at or before position."""
        for number in reversed(self._numbers):
            segment = self.get(number)
            if segment is not None and segment.base <= position:
                return segment
        return None

    def after(self, current: Segment | None) -> Segment | None:
        """Return the first segment with a HEADER behind current; with None the first of all."""
        for number in self._numbers:
            if current is None or number > current.number:
                segment = self.get(number)
                if segment is not None:
                    return segment
        return None

    def sealed_before(self, position: int) -> list[int]:
        """Return the segments that end at or before position and are followed by another one."""
        known = [self._known[number] for number in self._numbers if number in self._known]
        return [one.number for one, after in pairwise(known) if after.base <= position]

    def _recognise(self, number: int, fd: int) -> None:
        """Make sure a file opened again is the one that was read before."""
        known = self._known.get(number)
        if known is not None:
            try:
                same = _read_header_of(self.disk, fd, self.stream, number) == (known.header, known.start)
            except HeaderError:
                same = False
            if not same:
                self._forget(number)
                raise Diverged(f"segment {number:06d} was replaced by another file")
        if self._witness is not None and self._witness[0] == number:
            _, offset, data = self._witness
            if self.disk.pread(fd, len(data), offset) != data:
                self._forget(number)
                raise Diverged(f"segment {number:06d} was replaced or changed: the record at byte {offset}")

    def _forget(self, number: int) -> None:
        """Compare a segment with nothing but what the server has, from now on."""
        self._files.close(self.place, self.name(number))
        self._known.pop(number, None)
        if self._witness is not None and self._witness[0] == number:
            self._witness = None


def _read_header_of(disk: Disk, fd: int, stream: bytes, number: int) -> tuple[Header, int]:
    # Nearly all HEADERs are far shorter than the longest one allowed.
    data = disk.pread(fd, 1024, 0)
    try:
        header, start = read_header(data)
    except IncompleteError:
        header, start = read_header(disk.pread(fd, HEADER_BYTES_MAX, 0))
    if (header.stream, header.segment) != (stream, number):
        raise HeaderError("the HEADER is that of another segment")
    # Thousands of streams come from a few machines and programs.
    return header._replace(
        machine=intern(header.machine),
        boot=intern(header.boot),
        writer=intern(header.writer),
        host=intern(header.host),
    ), start
