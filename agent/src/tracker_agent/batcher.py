"""Decides when to flush and how much of which stream goes into a request. Pure: no files, no loop, no clock.

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
