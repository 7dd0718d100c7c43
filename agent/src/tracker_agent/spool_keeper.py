"""Measures, decides and removes in one spool, a little at a time. Runs in the spool's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from structlog.typing import FilteringBoundLogger

from .clock import Clock
from .losses import LossReason
from .opening import Place, Refused, failure
from .pieces import Diverged
from .removal import STUB_BYTES, Budget, Left, Measured, Remover, Spent
from .retention import EXPIRED, USER_LIMIT, Limits, Removal, RunDirectory, SegmentFile, decide
from .scanner import Scanner
from .streams import Stream

#: Files removed in one round: reading gets its turn between rounds.
REMOVED_PER_ROUND = 2000
#: Run directories measured in one round. Only where a limit of bytes is set.
MEASURED_PER_ROUND = 500
#: What changed within this time is not removed to keep a limit.
FRESH_S = 60.0
#: Limits that cannot be kept are named, so many at most.
OVER_MAX = 20


@dataclass(slots=True)
class KnownRun:
    """What the pipeline knows of one run directory."""

    streams: list[Stream] = field(default_factory=list)
    #: For how long the server has had all of it; None while it has not.
    whole_s: float | None = None
    #: Something in it is not for this agent to judge.
    foreign: bool = False


@dataclass(slots=True)
class Removed:
    """Counts since the agent started."""

    runs: int = 0
    segments: int = 0
    disk_bytes: int = 0
    unshipped_bytes: int = 0


class SpoolKeeper:
    """Looks after the run directories of one spool.

    `problems` and the other results are replaced whole: the event loop reads them.
    """

    def __init__(
        self, scanner: Scanner, limits: Limits, remover: Remover, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self.removed = Removed()
        self.problems: dict[str, str] = {}  #: path → why it stays
        self.bytes_of: dict[int, int] = {}  #: by uid, where limits made it worth measuring
        self.over: tuple[str, ...] = ()  #: limits that cannot be kept
        self._scanner = scanner
        self._limits = limits
        self._remover = remover
        self._clock = clock
        self._log = log
        self._to_measure: deque[Place] = deque()
        self._measured: dict[Place, Measured] = {}
        self._to_remove: deque[Removal] = deque()

    def work(self, known: Mapping[Place, KnownRun]) -> None:
        """Remove what is due now, up to a bound."""
        self._scanner.disk_problem = self._remover.disk_problem(self._scanner.root)
        if not self._to_remove:
            if self._limits.bytes_per_user or self._limits.bytes_in_all:
                self._decide_by_size(known)
            else:
                runs = [RunDirectory(place, whole_s=run.whole_s) for place, run in known.items()]
                self._to_remove.extend(decide(runs, self._limits))
        problems: dict[str, str] = {}
        budget = Budget(REMOVED_PER_ROUND)
        for place in self._scanner.empty_directories():
            self._try(partial(self._remove_empty, place), place, problems)
        while self._to_remove:
            removal = self._to_remove[0]
            run = known.get(removal.place)
            try:
                if run is not None:
                    self._try(partial(self._remove, removal, run, budget), removal.place, problems)
            except Spent:
                break
            self._to_remove.popleft()
        if problems or not self._to_remove:
            self.problems = problems

    def _try(self, work: Callable[[], None], place: Place, problems: dict[str, str]) -> None:
        try:
            work()
        except FileNotFoundError:
            pass
        except (Left, Refused, Diverged) as error:
            problems[place.path] = f"stays: {error}"
        except OSError as error:
            problems[place.path] = f"cannot be removed: {failure(error)}"

    def _decide_by_size(self, known: Mapping[Place, KnownRun]) -> None:
        """Measure some more run directories; decide once all have been."""
        if not self._to_measure:
            self._to_measure.extend(self._scanner.places())
            self._measured.clear()
        for _ in range(min(MEASURED_PER_ROUND, len(self._to_measure))):
            place = self._to_measure.popleft()
            try:
                self._measured[place] = self._remover.measure(place)
            except (OSError, Refused, Left):
                continue
        if self._to_measure:
            return
        runs = [
            _describe(place, measured, known.get(place) or KnownRun(foreign=True))
            for place, measured in self._measured.items()
        ]
        removals = decide(runs, self._limits)
        self._to_remove.extend(removals)
        bytes_of: dict[int, int] = {}
        for run in runs:
            bytes_of[run.place.uid] = bytes_of.get(run.place.uid, 0) + run.bytes
        self.bytes_of = dict(bytes_of)
        for removal in removals:
            bytes_of[removal.place.uid] -= removal.bytes
        self.over = tuple(_over(self._scanner.root, bytes_of, self._limits))

    def _remove_empty(self, place: Place) -> None:
        if self._remover.remove_if_empty(place, self._clock.wall_ns() / 1e9 - self._limits.keep_s):
            self.removed.runs += 1

    def _remove(self, removal: Removal, known: KnownRun, budget: Budget) -> None:
        if removal.segment is None:
            self._remove_run(removal, known, budget)
        else:
            self._remove_segment(removal, removal.segment, known)

    def _remove_run(self, removal: Removal, known: KnownRun, budget: Budget) -> None:
        unshipped = not removal.shipped
        if known.foreign or any(stream.live for stream in known.streams):
            return
        if not unshipped and known.whole_s is None:
            return  # something new appeared
        quiet_s = self._limits.keep_s if removal.reason == EXPIRED else min(FRESH_S, self._limits.keep_s)
        newest = {}
        for stream in known.streams:
            segments = stream.entry.tail.segments
            number = segments.newest
            if number is None:
                continue
            segment = segments.get(number)
            size = segments.bytes_in(number)
            if segment is not None and not unshipped:
                size = stream.position - segment.base
            newest[stream.id] = (number, size)
            # A file that is held open would keep its space.
            segments.close()
            if unshipped:
                stream.entry.removed_because = _loss(removal.reason).text
        now_s = self._clock.wall_ns() / 1e9
        # A stream that a scan has still to find is nobody's to remove, however short runs are kept.
        strangers_before_s = now_s - max(FRESH_S, quiet_s)
        try:
            refused = self._scanner.refused(removal.place)
            self._remover.remove_run(
                removal.place, newest, now_s - quiet_s, budget, strangers_before_s, refused
            )
        except (Left, Refused, OSError):
            for stream in known.streams:
                stream.entry.removed_because = None
            raise
        lost = sum(stream.bytes_behind for stream in known.streams if not stream.ended)
        self._count(removal, lost if unshipped else 0)

    def _remove_segment(self, removal: Removal, chosen: SegmentFile, known: KnownRun) -> None:
        stream = next((each for each in known.streams if each.id == chosen.stream), None)
        if stream is None:
            return
        segments = stream.entry.tail.segments
        shipped = stream.learned and chosen.number in segments.sealed_before(stream.position)
        if chosen.shipped and not shipped:
            return  # the server was restored meanwhile
        newest = chosen.number == segments.newest
        if newest and stream.live:
            return
        segments.close([chosen.number])
        if shipped or not (newest or chosen.number == segments.numbers[0]):
            self._remover.remove_segment(removal.place, chosen.stream, chosen.number)
            segments.set_numbers(number for number in segments.numbers if number != chosen.number)
        else:
            segment = segments.get(chosen.number)
            start = STUB_BYTES if segment is None else max(STUB_BYTES, stream.position - segment.base)
            self._remover.empty_segment(removal.place, chosen.stream, chosen.number, start)
        # Asked for after all, by a server that was restored, it is a gap, too.
        reason = LossReason.SERVER_LOST if shipped else _loss(removal.reason)
        stream.entry.tail.given_up[chosen.number] = reason.text
        self._count(removal, 0 if shipped else removal.bytes)

    def _count(self, removal: Removal, lost: int) -> None:
        if removal.segment is None:
            self.removed.runs += 1
        else:
            self.removed.segments += 1
        self.removed.disk_bytes += removal.bytes
        self.removed.unshipped_bytes += lost
        if lost:
            reason = _loss(removal.reason).text
            self._log.warning("unshipped data removed", path=removal.place.path, bytes=lost, reason=reason)


def _describe(place: Place, measured: Measured, known: KnownRun) -> RunDirectory:
    """Put together what is known of a run directory and what it takes up. Runs in the spool's thread."""
    segments = [] if known.foreign else [s for each in known.streams for s in _segments(each, measured)]
    changed = [changed_s for files in measured.segments.values() for _, changed_s in files.values()]
    return RunDirectory(
        place,
        measured.disk_bytes,
        max(changed, default=0.0),
        known.whole_s,
        not known.foreign and not any(stream.live for stream in known.streams),
        tuple(segments),
    )


def _segments(stream: Stream, measured: Measured) -> list[SegmentFile]:
    """Return the segments of a stream that may go by themselves."""
    segments, files = stream.entry.tail.segments, measured.segments.get(stream.id, {})
    try:
        known = {number: segments.get(number) for number in segments.numbers}
    except (OSError, Refused, Diverged):
        return []
    shipped = set(segments.sealed_before(stream.position)) if stream.learned else set()
    found = []
    for number, (size, changed_s) in files.items():
        newest = number == segments.newest
        if number in shipped:
            found.append(SegmentFile(stream.id, number, size, changed_s, shipped=True))
        elif stream.ended or number not in known or (newest and stream.live):
            continue
        else:
            if newest or number == segments.numbers[0]:
                segment = known[number]
                size -= max(STUB_BYTES, 0 if segment is None else stream.position - segment.base)
            if size > STUB_BYTES:
                found.append(SegmentFile(stream.id, number, size, changed_s, shipped=False))
    return found


def _loss(reason: str) -> LossReason:
    return LossReason.USER_LIMIT if reason == USER_LIMIT else LossReason.SPOOL_LIMIT


def _over(path: str, bytes_of: Mapping[int, int], limits: Limits) -> list[str]:
    """Say which limits cannot be kept, as what is left may not be removed."""
    over = [
        f"{path}: uid {uid} takes up {size} bytes, {limits.bytes_per_user} are allowed; what is left is "
        "being written, is not for this agent to ship, or is no record stream"
        for uid, size in bytes_of.items()
        if 0 < limits.bytes_per_user < size
    ]
    total = sum(bytes_of.values())
    if 0 < limits.bytes_in_all < total:
        over.append(f"{path}: all runs take up {total} bytes, {limits.bytes_in_all} are allowed")
    return over[:OVER_MAX]
