"""What the writers of a run make of it: running, finished, failed or crashed. Pure functions.

Not every writer decides. A child (a HEADER with a `parent` of the same run: a fork, a worker) that vanishes
is a fact about itself: worker pools are terminated, children leave by os._exit, and whether that was wrong
is for the parent to say. The helper beside a training and the command that adds a number to it say nothing
about it at all. A run that went on later, as one that was preempted does, is judged by its last attempt.
The rules are those of docs/record-format.md, "Writers of a run".
"""

from typing import Dict, List, NamedTuple, Optional, Sequence

from .header import AGAIN, ASIDE, HELPER, SUPERVISOR

STATES = ("running", "finished", "failed", "crashed")


class Writer(NamedTuple):
    """One stream's writer, as it is known. Times are ns."""

    stream: bytes
    parent: Optional[bytes]
    role: Optional[str]
    rank: Optional[int]
    started: int
    ended: float  #: when it was last heard of; infinite while it lives
    exit_code: Optional[int]  #: None: it lives, or went without a word
    ordinal: int = 0  #: which one it is to whoever asks; of those that started at once the least comes first

    @property
    def live(self) -> bool:
        """Whether it may go on."""
        return self.ended == float("inf")


def state_of(decided: Sequence[Writer]) -> str:
    """Return the state of a run, given the writers that decide."""
    if any(each.live for each in decided):
        return "running"
    if any(each.exit_code is None for each in decided):
        return "crashed"
    return "failed" if any(each.exit_code for each in decided) else "finished"


def deciding(writers: Sequence[Writer]) -> List[Writer]:
    """Return the writers that a run's state depends on.

    One that went on in another stream has the place of the first, and all else from the last.
    """
    known = _joined(writers)
    asides = [each for each in known.values() if each.role == ASIDE]
    supervisors = [each for each in known.values() if each.role == SUPERVISOR]
    others = [each for each in known.values() if each.role not in (ASIDE, SUPERVISOR)]
    found = _last_attempt([each for each in others if each.parent not in known and each.role != HELPER])
    last = {each.stream for each in found}
    for each in others:
        if each.parent in known and each.role != HELPER:
            if each.live or (each.exit_code is not None and _root_of(each, known) in last):
                found.append(each)
    if not found:
        # A helper whose training is not known yet: that is on its way, and began before.
        waiting = [each._replace(ended=float("inf")) for each in others if each.role == HELPER]
        return _last_attempt(supervisors) or waiting or _last_attempt(asides)
    began = min(each.started for each in found)
    # A supervisor that is gone says nothing about what it watched.
    return found + [
        each for each in supervisors if each.live or (each.exit_code is not None and each.ended >= began)
    ]


def _joined(writers: Sequence[Writer]) -> Dict[bytes, Writer]:
    """Return the writers by stream; one that went on in another stream is there once, under its first one."""
    known = {each.stream: each for each in writers}
    first: Dict[bytes, bytes] = {}
    for each in _by_start(writers):
        parent = None if each.parent is None else first.get(each.parent, each.parent)
        former = None if parent is None else known.get(parent)
        if each.role == AGAIN and former is not None and former.exit_code is None:
            del known[each.stream]
            first[each.stream] = former.stream
            known[former.stream] = each._replace(
                stream=former.stream, parent=former.parent, role=former.role, started=former.started
            )
        elif parent != each.parent:
            known[each.stream] = each._replace(parent=parent)
    return known


def _last_attempt(writers: Sequence[Writer]) -> List[Writer]:
    """Return those that ran last: after a time in which none ran, or in the place of one of the same rank."""
    by_rank: Dict[Optional[int], List[Writer]] = {}
    until = 0.0
    for each in _by_start(writers):
        if each.started > until:
            by_rank.clear()
        former = by_rank.get(each.rank, [])
        if each.rank is not None:
            former = [other for other in former if other.ended >= each.started]
        by_rank[each.rank] = former + [each]
        until = max(until, each.ended)
    return [each for of_rank in by_rank.values() for each in of_rank]


def _by_start(writers: Sequence[Writer]) -> List[Writer]:
    return sorted(writers, key=lambda writer: (writer.started, writer.ordinal))


def _root_of(writer: Writer, known: Dict[bytes, Writer]) -> bytes:
    seen = {writer.stream}
    while writer.parent is not None and writer.parent in known and writer.parent not in seen:
        writer = known[writer.parent]
        seen.add(writer.stream)
    return writer.stream
