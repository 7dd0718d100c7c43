"""Decides what goes from a spool, and in which order. Nothing here touches a file: removal.py does.

What the server has goes first, the oldest first, and unshipped data only when nothing else is left. Of all
users together, those give way who take up most: what one user writes costs no other his unshipped data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from .opening import Place

EXPIRED = "shipped long enough ago"
USER_LIMIT = "the limit of bytes per user is reached"
SPOOL_LIMIT = "the limit of bytes of the spool is reached"


@dataclass(frozen=True, slots=True)
class Limits:
    """keep_s: how long a run stays once the server has all of it. Bytes on disk; 0: no limit."""

    keep_s: float
    bytes_per_user: int = 0
    bytes_in_all: int = 0


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment that may go by itself: never one that a live writer may still append to."""

    stream: bytes
    number: int
    bytes: int  #: what removing it frees
    changed_s: float
    shipped: bool  #: the server has all of it


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """What is known of a run directory when it was last looked at."""

    place: Place
    bytes: int = 0
    changed_s: float = 0.0
    #: For how long the server has had all of it; None while it has not.
    whole_s: float | None = None
    #: No writer lives and all is this machine's: the directory may go as the very last resort.
    dead: bool = False
    segments: tuple[SegmentFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to go: one segment of a stream, or (None) the whole run directory."""

    place: Place
    segment: SegmentFile | None
    bytes: int
    shipped: bool
    reason: str


def decide(runs: Sequence[RunDirectory], limits: Limits) -> list[Removal]:
    """Return what is to go now, in order."""
    expired = [run for run in runs if run.whole_s is not None and run.whole_s >= limits.keep_s]
    removals = [Removal(run.place, None, run.bytes, True, EXPIRED) for run in expired]
    if not limits.bytes_per_user and not limits.bytes_in_all:
        return removals
    left = _Left(run for run in runs if run.whole_s is None or run.whole_s < limits.keep_s)
    if limits.bytes_per_user > 0:
        for uid in list(left.bytes_of):
            for sort in _SORTS:
                left.reduce([uid], limits.bytes_per_user, sort, USER_LIMIT)
    if limits.bytes_in_all > 0:
        for sort in _SORTS:
            # Anew each time: where some gave way, there is more for the others.
            level = fair_share(left.bytes_of.values(), limits.bytes_in_all)
            left.reduce(left.bytes_of, level, sort, SPOOL_LIMIT)
            if sort == _SHIPPED:
                left.reduce_all(limits.bytes_in_all, SPOOL_LIMIT)
    return removals + left.removals


def fair_share(sizes: Collection[int], limit: int) -> int:
    """Return the largest share such that all users together, none above it, stay within the limit."""
    left, users = limit, len(sizes)
    for size in sorted(sizes):
        if size * users > left:
            return left // users
        left -= size
        users -= 1
    return max(sizes, default=0)


_SHIPPED, _UNSHIPPED, _WHOLE_UNSHIPPED = range(3)
_SORTS = (_SHIPPED, _UNSHIPPED, _WHOLE_UNSHIPPED)

_Candidate = tuple[float, str, int, Removal]  # in the order to go


class _Left:
    """What stays, and what was chosen to go so far."""

    def __init__(self, runs: Iterable[RunDirectory]) -> None:
        self.removals: list[Removal] = []
        self.bytes_of: dict[int, int] = {}
        self._candidates: dict[int, tuple[list[_Candidate], ...]] = {}
        self._freed: dict[Place, int] = {}
        for run in runs:
            uid = run.place.uid
            self.bytes_of[uid] = self.bytes_of.get(uid, 0) + run.bytes
            sorts = self._candidates.setdefault(uid, ([], [], []))
            if run.whole_s is not None:
                sorts[_SHIPPED].append(_whole(run, shipped=True))
                continue
            for segment in run.segments:
                removal = Removal(run.place, segment, segment.bytes, segment.shipped, "")
                name = f"{run.place.path}/{segment.stream.hex()}"
                sort = _SHIPPED if segment.shipped else _UNSHIPPED
                sorts[sort].append((segment.changed_s, name, segment.number, removal))
            if run.dead:
                sorts[_WHOLE_UNSHIPPED].append(_whole(run, shipped=False))
        for sorts in self._candidates.values():
            for candidates in sorts:
                candidates.sort(key=lambda each: each[:3], reverse=True)

    def reduce(self, uids: Iterable[int], share: int, sort: int, reason: str) -> None:
        """Let the oldest of some users' data go until none of them has more than the share."""
        for uid in uids:
            candidates = self._candidates[uid][sort]
            while candidates and self.bytes_of[uid] > share:
                self._take(uid, candidates.pop()[3], reason)

    def reduce_all(self, limit: int, reason: str) -> None:
        """Let the oldest shipped data of anybody go until all together keep the limit."""
        every = [(*each[:3], uid) for uid, sorts in self._candidates.items() for each in sorts[_SHIPPED]]
        total = sum(self.bytes_of.values())
        for *_, uid in sorted(every):
            if total <= limit:
                return
            # The user's oldest one: his are in the same order here and there.
            removal = self._candidates[uid][_SHIPPED].pop()[3]
            total -= self._take(uid, removal, reason)

    def _take(self, uid: int, removal: Removal, reason: str) -> int:
        size = removal.bytes
        if removal.segment is None:
            size -= self._freed.get(removal.place, 0)
        else:
            self._freed[removal.place] = self._freed.get(removal.place, 0) + size
        self.bytes_of[uid] -= size
        self.removals.append(Removal(removal.place, removal.segment, size, removal.shipped, reason))
        return size


def _whole(run: RunDirectory, shipped: bool) -> _Candidate:
    return (run.changed_s, run.place.path, -1, Removal(run.place, None, run.bytes, shipped, ""))
