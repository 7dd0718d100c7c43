"""How much process trees used between two passes, though processes are born and end meanwhile.

A child's figures go to its parent when the parent waits for it, all at once and for its whole life. What of
them was counted while the child lived is taken off again, so that ends make no jump, and what it used
between the last pass and its end is not lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def grown(
    now: Process,
    before: Process | None,
    ended: Sequence[Process] = (),
    born: bool = False,
    foreign: bool = False,
) -> Grown:
    """Return what one process used since the time before.

    ended: those below it that ended since. born: it began since, so that all it used counts; one that is
    neither known nor born counts from now on. foreign: an ended one was counted for another writer, and the
    rest of what it used is not for this tree.
    """
    if before is None or before.start != now.start:
        if not born:
            return Grown(0, 0, 0, 0) if now.io is not None else Grown(0, 0, None, None)
        read, written = now.io or (None, None)
        return Grown(now.cpu + now.waited_cpu, now.faults + now.waited_faults, read, written)
    cpu = _own_and_waited(
        now.cpu - before.cpu,
        now.waited_cpu - before.waited_cpu,
        sum(each.cpu + each.waited_cpu for each in ended),
        foreign,
    )
    faults = _own_and_waited(
        now.faults - before.faults,
        now.waited_faults - before.waited_faults,
        sum(each.faults + each.waited_faults for each in ended),
        foreign,
    )
    if now.io is None or before.io is None:
        return Grown(cpu, faults, None, None)
    # Children that nobody waits for (SIGCHLD ignored) leave nothing behind, so nothing is to be taken off.
    waited = ended if now.waited_minor_faults > before.waited_minor_faults else ()
    known = [each.io for each in waited if each.io is not None]
    # Own bytes and those of children are one figure, so that what is foreign cannot be told from the rest.
    if len(known) < len(waited) or (waited and foreign):
        return Grown(cpu, faults, None, None)
    return Grown(
        cpu,
        faults,
        max(0, now.io.read - before.io.read - sum(io.read for io in known)),
        max(0, now.io.written - before.io.written - sum(io.written for io in known)),
    )


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


def _own_and_waited(own: int, waited: int, counted: int, foreign: bool) -> int:
    return max(0, own) + (0 if foreign else max(0, waited - counted))
