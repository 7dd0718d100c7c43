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


class BatchLimit:
    """How many bytes a request may hold: what is configured, less after a server found that too large."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes = bytes_max
        self._bytes_max = bytes_max
        self._successes = 0

    def shrink(self, sent: int) -> None:
        """Note that a request of that many bytes was too large."""
        self._successes = 0
        self.bytes = max(BATCH_BYTES_MIN, min(self.bytes, sent) // 2)

    def succeeded(self) -> None:
        """Note a request that was not too large."""
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


def plan(candidates: Sequence[Candidate[Key]], batch_bytes: int) -> list[Allotment[Key]]:
    """Divide a request among candidates, which are given in the order of who waited longest."""
    live = [candidate for candidate in candidates if candidate.live]
    backfill = [candidate for candidate in candidates if not candidate.live]
    if live and backfill:
        # Neither side takes all the places or all the bytes; what one leaves, the other gets.
        places = max(1, int(STREAMS_MAX * BACKFILL_SHARE))
        backfill = backfill[: max(places, STREAMS_MAX - len(live))]
        live = live[: STREAMS_MAX - min(len(backfill), places)]
        reserved = min(int(batch_bytes * BACKFILL_SHARE), sum(map(_wants, backfill)))
    else:
        live, backfill = live[:STREAMS_MAX], backfill[:STREAMS_MAX]
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
