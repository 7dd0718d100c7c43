"""Run directories that were handed over by `sync`, and how far they are, wherever they were written.

What is found in them is shipped like everything else. Nothing in them is removed or changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .lane import Lane
from .opening import Place
from .root import Root
from .scanner import Entry
from .streams import Stream, StreamKey

#: Problems told, at most.
PROBLEMS_MAX = 50
#: A stream parked for one of these reasons may be well again by itself: worth waiting for.
PASSING = frozenset({"unreadable", "unanswered"})


@dataclass(slots=True)
class Progress:
    """How far a hand-over is."""

    runs: int = 0
    streams: int = 0
    shipped: int = 0  #: streams that the server has to their end
    live: int = 0  #: streams whose writers still run
    bytes: int = 0
    bytes_shipped: int = 0
    files: int = 0  #: runs whose files are not all on the server
    waiting_for: str = ""  #: why nothing moves just now
    problems: list[str] = field(default_factory=list)
    done: bool = False  #: nothing is left that could be shipped

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Adoption:
    """One hand-over. lane_of(stream) ships it; settled(stream): its end is written down for the server."""

    root: Root
    runs: tuple[Place, ...]
    streams: Mapping[StreamKey, Stream]
    lane_of: Callable[[Stream], Lane | None]
    settled: Callable[[Stream], bool]
    files_done: Callable[[Place], bool]

    async def progress(self) -> Progress:
        """Look how far it is."""
        entries = await self.root.thread.call(self.root.scanner.entries)
        progress = Progress(runs=len(self.runs), streams=len(entries))
        open_streams = [entry for entry in entries if not self._count(entry, progress)]
        # Runs that the agent ships from its own spool are looked after there.
        here = {stream.entry.place for stream in map(self._stream_of, entries) if stream is not None}
        progress.files = sum(place in here and not self.files_done(place) for place in self.runs)
        progress.problems += [
            f"{path}: {reason}" for path, reason in list(self.root.scanner.foreign.items())[:PROBLEMS_MAX]
        ]
        progress.waiting_for = self._trouble(open_streams)
        progress.done = self.root.scanned and not open_streams and not progress.files
        return progress

    def _count(self, entry: Entry, progress: Progress) -> bool:
        """Add a stream to what is told. Return whether nothing more is to come of it."""
        stream = self._stream_of(entry)
        if stream is None:
            return not entry.announced and entry.holder is None  # no record stream: named as foreign
        end = max(entry.tail.end, stream.position)
        progress.bytes += end
        progress.bytes_shipped += stream.position if stream.learned or stream.ended else 0
        if stream.parked is not None and stream.parked.code not in PASSING:
            if len(progress.problems) < PROBLEMS_MAX:
                run = stream.header.run
                progress.problems.append(f"run {run} ({stream.id.hex()}): {stream.parked.reason}")
            return True
        if stream.live:
            progress.live += 1
            return stream.learned and stream.bytes_behind == 0
        progress.shipped += stream.ended
        return stream.ended and self.settled(stream)

    def _stream_of(self, entry: Entry) -> Stream | None:
        return self.streams.get((entry.place.uid, entry.stream))

    def _trouble(self, entries: Iterable[Entry]) -> str:
        for entry in entries:
            stream = self._stream_of(entry)
            if stream is not None:
                lane = self.lane_of(stream)
                if lane is not None and lane.reason:
                    return lane.reason
                if stream.parked is not None:
                    return stream.parked.reason
        return ""
