"""How much process trees used between two passes, though processes are born and end meanwhile.

A child's figures go to its parent when the parent waits for it, all at once and for its whole life. What of
them was counted while the child lived is taken off again, so that ends make no jump, and what it used
between the last pass and its end is not lost. Parents must be read before their children: a child that was
waited for in between is missing then, and what comes to its parent with the next pass is known to be its.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .process_stat import Process

#: Nobody is deeper below a process that lives. Chains of parents that a race made circular end there.
_DEPTH_MAX = 256


class Grown(NamedTuple):
    """What a process, or several, used in an interval. read and written: None where it is not known."""

    cpu: int  #: ticks
    faults: int
    read: int | None
    written: int | None


def ended_below(before: Mapping[int, Process], now: Mapping[int, Process]) -> dict[int, list[Process]]:
    """Return the processes that ended, by the nearest one above them, at the time before, that lives."""
    found: dict[int, list[Process]] = {}
    for process in before.values():
        if _lives(process, now):
            continue
        above: Process | None = process
        for _ in range(_DEPTH_MAX):
            above = before.get(above.parent) if above is not None else None
            if above is None or _lives(above, now):
                break
        if above is not None and _lives(above, now):
            found.setdefault(above.pid, []).append(process)
    return found


class Debt(NamedTuple):
    """What was counted already of processes that ended, and comes once more when they are waited for."""

    cpu: int = 0
    faults: int = 0
    read: int = 0
    written: int = 0
    io_known: bool = True
    #: Some were counted for another writer: the rest of what they used is not for this one.
    foreign: bool = False

    def __bool__(self) -> bool:
        return self != Debt()

    def plus(self, other: Debt) -> Debt:
        """Return both together."""
        return Debt(
            self.cpu + other.cpu,
            self.faults + other.faults,
            self.read + other.read,
            self.written + other.written,
            self.io_known and other.io_known,
            self.foreign or other.foreign,
        )


def debt_of(process: Process, foreign: bool) -> Debt:
    """Return what was counted of a process that ended."""
    cpu, faults = process.cpu + process.waited_cpu, process.faults + process.waited_faults
    read, written = process.io or (0, 0)
    return Debt(cpu, faults, read, written, process.io is not None, foreign)


def grown(now: Process, before: Process | None, born: bool, fresh: Debt, carried: Debt) -> tuple[Grown, Debt]:
    """Return what one process used since the pass before, and the debt that is left for the next pass.

    born: it began since, so that all it used counts; one that is neither known nor born counts from now on.
    fresh: of those below it that ended since. carried: what the pass before left; it is left once only, as it
    may be of children that nobody waits for (SIGCHLD ignored).
    """
    if before is None or before.start != now.start:
        if not born:
            return Grown(0, 0, 0, 0) if now.io is not None else Grown(0, 0, None, None), fresh
        read, written = now.io or (None, None)
        return Grown(now.cpu + now.waited_cpu, now.faults + now.waited_faults, read, written), fresh
    # Nobody was waited for, it seems. Who is not to be seen any more was waited for after `now` was read.
    waited = now.waited_minor_faults > before.waited_minor_faults
    debt = fresh.plus(carried) if waited else fresh
    cpu, faults = max(0, now.cpu - before.cpu), max(0, now.faults - before.faults)
    left = debt
    if waited:
        waited_cpu = max(0, now.waited_cpu - before.waited_cpu)
        waited_faults = max(0, now.waited_faults - before.waited_faults)
        left = left._replace(
            cpu=max(0, debt.cpu - waited_cpu),
            faults=max(0, debt.faults - waited_faults),
            foreign=fresh.foreign,
        )
        if not debt.foreign:
            cpu += max(0, waited_cpu - debt.cpu)
            faults += max(0, waited_faults - debt.faults)
    if now.io is None or before.io is None or debt.foreign or not debt.io_known:
        # Its own bytes and those of children are one figure, of which no part can be told.
        return Grown(cpu, faults, None, None), left if fresh else Debt()
    # The kernel tells them in another file, where a child may be counted before it is in `now`.
    read, written = now.io.read - before.io.read, now.io.written - before.io.written
    left = left._replace(read=max(0, debt.read - read), written=max(0, debt.written - written), io_known=True)
    grown_io = max(0, read - debt.read), max(0, written - debt.written)
    return Grown(cpu, faults, *grown_io), left if fresh else Debt()


def total(parts: Iterable[Grown]) -> Grown:
    """Return the sum; what is not known of one is not known of all."""
    cpu = faults = 0
    read: int | None = 0
    written: int | None = 0
    for part in parts:
        cpu += part.cpu
        faults += part.faults
        read = None if read is None or part.read is None else read + part.read
        written = None if written is None or part.written is None else written + part.written
    return Grown(cpu, faults, read, written)


def _lives(process: Process, now: Mapping[int, Process]) -> bool:
    found = now.get(process.pid)
    return found is not None and found.start == process.start
