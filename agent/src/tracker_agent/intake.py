"""Reads what goes into the next request, and decides when each stream that was read is looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tracker.protocol.errors import HeaderError
from tracker.protocol.reader import DAMAGE_WAIT_S

from .alias import read_as
from .batch import Part, line_ends, merge_gaps, set_aside
from .batcher import Candidate, plan
from .clock import Clock
from .losses import LossReason, reason_of
from .opening import Refused
from .pieces import Data, Diverged, Missing, Piece, Reading, State
from .roster import Roster
from .spool_thread import SPOOL_WAIT_S, SpoolThread
from .streams import Stream

#: A stream that had data is read at every flush for this long, without waiting to be told.
HOT_S = 2.0
#: The end of a run is news for this long.
NEWS_S = 60.0

#: A live stream that is further behind than this is no news but a backlog: it must go in order anyway.
CATCH_UP_BYTES = 1024 * 1024

#: (stream, position, live, limit, waited): see Tail.read.
_Request = tuple[Stream, int, bool, int, bool]


class Intake:
    """Reads the streams of a roster. What is read moves nothing until the server has it."""

    def __init__(
        self,
        roster: Roster,
        clock: Clock,
        flush_interval_s: float,
        ended: Callable[[Stream], None],
        exited: Callable[[Stream], None],
    ) -> None:
        self._roster = roster
        self._clock = clock
        self._flush_interval_s = flush_interval_s
        self._ended = ended
        self._exited = exited

    def sort(self) -> tuple[list[Stream], list[Stream]]:
        """Return the waiting streams: those that someone may be watching now, and the backlogs."""
        now = self._clock.monotonic()
        current: list[Stream] = []
        behind: list[Stream] = []
        for stream in self._roster.waiting.values():
            news = (stream.live or _fresh(stream, now)) and stream.pending <= CATCH_UP_BYTES
            (current if news else behind).append(stream)
        return current, behind

    async def read(
        self, streams: Sequence[Stream], batch_bytes: int, streams_max: int, boarded: list[Stream]
    ) -> tuple[list[Part], list[tuple[Stream, Reading]]]:
        """Read the next request's parts, as the batcher divides it among some of the waiting streams.

        Those that it took are added to boarded at once: they are to be landed, whatever happens.
        """
        planned = self._plan(streams, batch_bytes, streams_max, boarded)
        groups = await asyncio.gather(
            *(self._read_in(thread, requests, batch_bytes) for thread, requests in planned.items())
        )
        parts: list[Part] = []
        readings: list[tuple[Stream, Reading]] = []
        for stream, result in (each for group in groups for each in group):
            if stream not in self._roster or not stream.learned or stream.parked is not None:
                continue
            if result is None:
                self._roster.ready(stream)  # the request was full
            elif isinstance(result, Reading):
                parts += [Part(stream, piece) for piece in _pieces(stream, result)]
                readings.append((stream, result))
            elif isinstance(result, Diverged):
                self._roster.park_diverged(stream, str(result))
            else:
                self._roster.park_unreadable(stream, str(result))
        return parts, readings

    async def _read_in(
        self, thread: SpoolThread, requests: list[_Request], batch_bytes: int
    ) -> list[tuple[Stream, Reading | Exception | None]]:
        try:
            async with asyncio.timeout(SPOOL_WAIT_S):
                results = await thread.call(_read_all, requests, batch_bytes)
        except TimeoutError:
            for stream, *_ in requests:
                self._roster.park_unreadable(stream, f"{thread.name} does not answer")
            return []
        return [(request[0], result) for request, result in zip(requests, results, strict=True)]

    async def begin_of(self, stream: Stream) -> Data | None:
        """Return the first line of a stream, None where it cannot be read any more."""
        try:
            async with asyncio.timeout(SPOOL_WAIT_S):
                reading = await stream.thread.call(_read_begin, stream)
        except (TimeoutError, OSError, Refused, Diverged, HeaderError):
            return None
        piece = reading.pieces[0] if reading.pieces else None
        if not isinstance(piece, Data) or piece.offset:
            return None
        return Data(0, piece.data[: line_ends(piece.data)[0]])

    def _plan(
        self, streams: Sequence[Stream], batch_bytes: int, streams_max: int, boarded: list[Stream]
    ) -> dict[SpoolThread, list[_Request]]:
        """Decide what is read in which thread."""
        now = self._clock.monotonic()
        candidates = [
            Candidate(stream.key, stream.live or _fresh(stream, now), stream.pending) for stream in streams
        ]
        by_thread: dict[SpoolThread, list[_Request]] = {}
        for allotment in plan(candidates, batch_bytes, streams_max):
            stream = self._roster.streams[allotment.key]
            self._roster.board(stream)
            boarded.append(stream)
            waited = stream.stuck is not None and (
                stream.stuck[0] == stream.position and now - stream.stuck[1] >= DAMAGE_WAIT_S
            )
            request = (stream, stream.position, stream.live, allotment.limit, waited)
            by_thread.setdefault(stream.thread, []).append(request)
        return by_thread

    def settle(self, readings: Sequence[tuple[Stream, Reading]]) -> None:
        """Decide when each stream is looked at again, now that its pieces were sent."""
        now = self._clock.monotonic()
        for stream, reading in readings:
            if not stream.learned or stream.parked is not None or stream not in self._roster:
                continue
            if stream.position != reading.position:
                self._roster.ready(stream)  # the server wants to go on elsewhere
            else:
                self._settle_one(stream, reading, now)

    def _settle_one(self, stream: Stream, reading: Reading, now: float) -> None:
        # A busy stream is expected to bring as much again until the next flush.
        stream.pending = reading.pending or reading.data_bytes
        if reading.pieces:
            stream.setbacks = 0
            stream.exited = reading.exited
            if stream.exited and stream.live:
                self._exited(stream)
        if reading.state is State.MORE:
            self._roster.ready(stream)
            return
        if reading.state is State.END:
            self._roster.cool(stream)
            stream.stuck = None
            if not stream.ended:
                stream.ended = True
                self._ended(stream)
            return
        if reading.stuck:
            if stream.stuck is None or stream.stuck[0] != stream.position:
                stream.stuck = (stream.position, now)
                stream.hot_until = now + DAMAGE_WAIT_S + 2 * self._flush_interval_s
            elif now >= stream.hot_until:
                self._roster.cool(stream)
                return
        else:
            stream.stuck = None
        if reading.pieces:
            stream.hot_until = max(stream.hot_until, now + HOT_S)
        if now < stream.hot_until:
            self._roster.keep_hot(stream)


def _pieces(stream: Stream, reading: Reading) -> list[Piece]:
    """Return what is sent of what was read."""
    pieces = [
        # The server had these bytes once: it was restored from before.
        Missing(piece.offset, piece.size, LossReason.SERVER_LOST.text)
        if isinstance(piece, Missing) and _gone(piece) and piece.offset < stream.acknowledged
        else piece
        for piece in reading.pieces
    ]
    return merge_gaps(set_aside(pieces, stream.refused))


def _gone(piece: Missing) -> bool:
    return reason_of(piece.reason) is LossReason.MISSING


def _fresh(stream: Stream, now: float) -> bool:
    """Return whether the end of a run is still news."""
    return stream.died_at is not None and now - stream.died_at < NEWS_S


def _read_begin(stream: Stream) -> Reading:
    return read_as(stream, stream.entry.tail.read(0, 1, stream.live))


def _read_all(requests: list[_Request], total: int) -> list[Reading | Exception | None]:
    """Read from some streams until the request is full. Runs in the spool's thread."""
    results: list[Reading | Exception | None] = []
    for stream, position, live, limit, waited in requests:
        if total <= 0:
            results.append(None)
            continue
        try:
            reading = read_as(stream, stream.entry.tail.read(position, limit, live, waited))
            total -= reading.data_bytes
            results.append(reading)
        except (OSError, Refused, Diverged, HeaderError) as error:
            results.append(error)
    return results
