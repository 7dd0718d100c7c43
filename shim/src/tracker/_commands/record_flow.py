"""All records of a run in the order of their times, read from its directory as far as they go."""

import heapq
import os
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..protocol import bodies, kinds
from ..protocol.codec import encode_line
from ..protocol.errors import BodyError, ProtocolError
from ..protocol.header import read_header
from ..protocol.layout import live_name, parse_segment_name
from ..protocol.lock import path_lock_holder
from ..protocol.reader import DAMAGE_WAIT_S
from ..protocol.stream import DivergedError, Hole, Item, Record, Segment, StreamReader

#: So many streams are read side by side, each with an open file; more are read one lot after another.
STREAMS_MAX = 200


#: What a gap, or a record whose body cannot be understood, is called where kinds are named.
GAP = "GAP"
MALFORMED = "MALFORMED"
NAMES = tuple(name for _, name in sorted(kinds.NAMES.items())) + (GAP, MALFORMED)


class Entry(NamedTuple):
    """One record, or what is there in place of one."""

    stream: bytes
    offset: int
    kind: str  #: a name in NAMES, or "KIND 4711"
    time: Optional[int]  #: ns since 1970; None where the record does not tell
    fields: Dict[str, Any]  #: what the body holds besides the time, by the names of the format


class RunFlow:
    """The streams of one directory. Call entries() again for what was written since.

    damage_wait_s: how long bytes of a live stream that are no line may still become one.
    """

    def __init__(self, directory: str, damage_wait_s: float = DAMAGE_WAIT_S) -> None:
        self.directory = directory
        self._damage_wait_s = damage_wait_s
        self._readers: Dict[bytes, StreamReader] = {}
        self._broken: Dict[bytes, str] = {}

    @property
    def finished(self) -> bool:
        """Whether every stream was read to its end, and nobody writes to any."""
        return (
            all(reader.finished or stream in self._broken for stream, reader in self._readers.items())
            and not self._new_streams()
        )

    @property
    def several(self) -> bool:
        """Whether there is more than one stream."""
        return len(self._readers) > 1

    def entries(self) -> Iterator[Entry]:
        """Yield what can be read now and was not yet: within a stream in order, across streams by time."""
        for stream in self._new_streams():
            self._readers[stream] = self._open(stream)
        pending = [stream for stream in sorted(self._readers) if stream not in self._broken]
        for first in range(0, len(pending), STREAMS_MAX):
            flows = [self._timed(stream) for stream in pending[first : first + STREAMS_MAX]]
            for _, _, entry in heapq.merge(*flows, key=lambda timed: timed[:2]):
                yield entry

    def _new_streams(self) -> List[bytes]:
        parsed = map(parse_segment_name, os.listdir(self.directory))
        return sorted({each[0] for each in parsed if each is not None} - set(self._readers))

    def _open(self, stream: bytes) -> StreamReader:
        path = os.path.join(self.directory, live_name(stream))
        # Only where somebody may still be writing: asking costs an open() for every segment.
        writing = path_lock_holder(path) is not None
        return StreamReader(
            self.directory,
            stream,
            live=lambda: writing and path_lock_holder(path) is not None,
            damage_wait_s=self._damage_wait_s,
        )

    def _timed(self, stream: bytes) -> Iterator[Tuple[int, bytes, Entry]]:
        """Yield a stream's entries in their order, each with what it is merged by.

        Clocks go back, and gaps have no time: such an entry comes right behind the one before it.
        """
        try:
            for item in self._readers[stream].read():
                entry = _entry(stream, item)
                if entry is not None:
                    yield entry.time or 0, stream, entry
        except (OSError, DivergedError) as error:
            self._broken[stream] = str(error)
            at = self._readers[stream].position
            yield 0, stream, Entry(stream, at, GAP, None, {"reason": "cannot be read: %s" % error})


def _entry(stream: bytes, item: Item) -> Optional[Entry]:
    if isinstance(item, Segment):
        return None  # its HEADER comes as a record
    if isinstance(item, Hole):
        return Entry(stream, item.offset, GAP, None, {"reason": item.reason, "bytes": item.bytes})
    return _record_entry(stream, item)


def _record_entry(stream: bytes, record: Record) -> Entry:
    name = kinds.NAMES.get(record.kind)
    try:
        if record.kind == kinds.HEADER:
            header, _ = read_header(encode_line(kinds.HEADER, record.body, 0))
            fields = {key: value for key, value in header._asdict().items() if value is not None}
            return Entry(stream, record.offset, "HEADER", header.started, fields)
        if name is None:
            fields = {"body": record.body}
            return Entry(stream, record.offset, "KIND %d" % record.kind, None, fields)
        fields = dict(bodies.DECODERS[record.kind](record.body)._asdict())
    except (BodyError, ProtocolError) as error:
        fields = {"of": name, "reason": str(error), "body": record.body}
        return Entry(stream, record.offset, MALFORMED, None, fields)
    return Entry(stream, record.offset, name, fields.pop("time"), fields)
