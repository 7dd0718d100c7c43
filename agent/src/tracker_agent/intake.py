"""Reads what goes into the next request, and decides when each stream that was read is looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tracker.protocol.reader import DAMAGE_WAIT_S

from .batch import Part, set_aside
from .batcher import Candidate, plan
from .clock import Clock
from .opening import Refused
from .pieces import Diverged, Reading, State
from .roster import Roster
from .spool_thread import SPOOL_WAIT_S, SpoolThread
from .streams import Stream

#: A stream that had data is read at every flush for this long, without waiting to be told.
HOT_S = 2.0
#: The end of a run is news for this long.
NEWS_S = 60.0

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

    async def read(self, batch_bytes: int) -> tuple[list[Part], list[tuple[Stream, Reading]]]:
        """Read the next request's parts, as the batcher divides it among the waiting streams."""
        parts: list[Part] = []
        readings: list[tuple[Stream, Reading]] = []
        for thread, requests in self._plan(batch_bytes).items():
            try:
                async with asyncio.timeout(SPOOL_WAIT_S):
                    results = await thread.call(_read_all, requests, batch_bytes)
            except TimeoutError:
                for stream, *_ in requests:
                    self._roster.park_unreadable(stream, f"{thread.name} does not answer")
                continue
            for (stream, *_), result in zip(requests, results, strict=True):
                if stream not in self._roster or not stream.learned:
                    continue
                if result is None:
                    self._roster.ready(stream)  # the request was full
                elif isinstance(result, Reading):
                    parts += [Part(stream, piece) for piece in set_aside(result.pieces, stream.refused)]
                    readings.append((stream, result))
                elif isinstance(result, Diverged):
                    self._roster.park(stream, "diverged", str(result), None)
                else:
                    self._roster.park_unreadable(stream, str(result))
        return parts, readings

    def _plan(self, batch_bytes: int) -> dict[SpoolThread, list[_Request]]:
        """Decide what is read in which thread."""
        now = self._clock.monotonic()
        candidates = [
            Candidate(stream.key, stream.live or _fresh(stream, now), stream.pending)
            for stream in self._roster.waiting.values()
        ]
        by_thread: dict[SpoolThread, list[_Request]] = {}
        for allotment in plan(candidates, batch_bytes):
            stream = self._roster.waiting.pop(allotment.key)
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


def _fresh(stream: Stream, now: float) -> bool:
    """Return whether the end of a run is still news."""
    return stream.died_at is not None and now - stream.died_at < NEWS_S


def _read_all(requests: list[_Request], total: int) -> list[Reading | Exception | None]:
    """Read from some streams until the request is full. Runs in the spool's thread."""
    results: list[Reading | Exception | None] = []
    for stream, position, live, limit, waited in requests:
        if total <= 0:
            results.append(None)
            continue
        try:
            reading = stream.entry.tail.read(position, limit, live, waited)
            total -= reading.data_bytes
            results.append(reading)
        except (OSError, Refused, Diverged) as error:
            results.append(error)
    return results
