"""Decides when to flush, how large a request is and how much of which stream goes into it.

Pure: no files, no loop, no clock.

Live streams come first, so that a backlog never delays what someone watches now; a backlog has a share of
every request that live data cannot take from it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

#: Part of a request that belongs to backfill while there is any.
BACKFILL_SHARE = 0.25

#: What a stream is given whose backlog is not known: most of them have little or nothing.
PENDING_BYTES_GUESSED = 8 * 1024

#: Bounds the work of one flush; streams left out come first in the next.
STREAMS_MAX = 512


#: After this many good requests the size limit that a 413 lowered may rise again.
GROW_AFTER = 50
BATCH_BYTES_MIN = 1024


#: A request with old data should be over after this time, so that it does not hold up much.
BACKFILL_REQUEST_S = 1.0
BACKFILL_BYTES_MIN = 64 * 1024
#: Before anything is known of how fast the server and the way there are.
BACKFILL_BYTES_FIRST = 512 * 1024
#: Weight of the newest request in what is thought of the speed.
SPEED_WEIGHT = 0.3

#: Streams per request are cut to a quarter of this each time that a server fails at a request.
STREAMS_CUT = 4


class BatchLimit:
    """How much a request may hold: what is configured, less after a server found that too much."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes = bytes_max
        self.streams = STREAMS_MAX
        self._bytes_max = bytes_max
        self._successes = 0
        self._bytes_per_s = 0.0

    @property
    def backfill_bytes(self) -> int:
        """How many bytes of old data to send at once."""
        fast = int(self._bytes_per_s * BACKFILL_REQUEST_S) or BACKFILL_BYTES_FIRST
        return min(self.bytes, max(BACKFILL_BYTES_MIN, fast))

    def shrink(self, sent: int) -> None:
        """Note that a request of that many bytes was too large."""
        self._successes = 0
        self.bytes = max(BATCH_BYTES_MIN, min(self.bytes, sent) // 2)

    def slow_down(self) -> None:
        """Note that a request was not answered in time."""
        self._successes = 0
        self.bytes = min(self.bytes, max(BACKFILL_BYTES_MIN, self.bytes // 2))

    def isolate(self) -> None:
        """Note that a server failed at a request: one of its streams may be the reason."""
        self.streams = max(1, self.streams // STREAMS_CUT)

    def succeeded(self, sent: int, seconds: float) -> None:
        """Note a request that went well, how many bytes it held and how long it took."""
        if sent >= BACKFILL_BYTES_MIN // 2:
            # Small requests tell of the way's length, not of its width.
            speed = sent / max(seconds, 1e-3)
            weight = SPEED_WEIGHT if self._bytes_per_s else 1.0
            self._bytes_per_s += weight * (speed - self._bytes_per_s)
        self.streams = min(STREAMS_MAX, 2 * self.streams)
        self._successes += 1
        if self.bytes < self._bytes_max and self._successes >= GROW_AFTER:
            self._successes = 0
            self.bytes = min(self._bytes_max, 2 * self.bytes)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Key]):
    """A stream that has, or may have, something to ship. pending 0: not known."""

    key: Key
    live: bool
    pending: int


@dataclass(frozen=True, slots=True)
class Allotment(Generic[Key]):
    """How much of a stream may be read into the request."""

    key: Key
    limit: int


def plan(
    candidates: Sequence[Candidate[Key]], batch_bytes: int, streams_max: int = STREAMS_MAX
) -> list[Allotment[Key]]:
    """Divide a request among candidates, which are given in the order of who waited longest."""
    live = [candidate for candidate in candidates if candidate.live]
    backfill = [candidate for candidate in candidates if not candidate.live]
    if live and backfill:
        # Neither side takes all the places or all the bytes; what one leaves, the other gets.
        places = int(streams_max * BACKFILL_SHARE)
        backfill = backfill[: max(places, streams_max - len(live))]
        live = live[: streams_max - min(len(backfill), places)]
        reserved = min(int(batch_bytes * BACKFILL_SHARE), sum(map(_wants, backfill)))
    else:
        live, backfill = live[:streams_max], backfill[:streams_max]
        reserved = 0
    for_live = allot([_wants(candidate) for candidate in live], batch_bytes - reserved)
    for_backfill = allot([_wants(candidate) for candidate in backfill], batch_bytes - sum(for_live))
    chosen = zip(live + backfill, for_live + for_backfill, strict=True)
    return [Allotment(candidate.key, limit) for candidate, limit in chosen if limit > 0]


def allot(wanted: Sequence[int], total: int) -> list[int]:
    """Share out total fairly: nobody gets more than wanted, or less than an equal share of the rest."""
    given = [0] * len(wanted)
    left = total
    waiting = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for place, index in enumerate(waiting):
        given[index] = min(wanted[index], left // (len(waiting) - place))
        left -= given[index]
    return given


def flush_at(now: float, last_flush: float, interval_s: float, full: bool) -> float:
    """Return when to flush next.

    At once after a quiet time or when a request is full, else every interval.
    """
    return now if full else max(now, last_flush + interval_s)


def _wants(candidate: Candidate[Key]) -> int:
    return candidate.pending or PENDING_BYTES_GUESSED
