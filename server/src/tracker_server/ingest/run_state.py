"""What state a run is in, from what is known of the ends of its writers. Pure functions.

Not every writer decides. A child (a HEADER with a `parent` of the same run: a fork, a worker) that vanishes
is a fact about itself: worker pools are terminated, children leave by os._exit, and whether that was wrong
is for the parent to say. The helper beside a training and the command that adds a number to it say nothing
about it at all. A run that went on later, as one that was preempted does, is judged by its last attempt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tracker.protocol.header import AGAIN, ASIDE, HELPER, SUPERVISOR

from ..store.endings import Ending


@dataclass(frozen=True)
class RunState:
    """finished is when the last writer ended or was found gone (ns), None while one lives."""

    state: str
    exit_code: int | None
    finished: int | None


def derive_run_state(endings: Sequence[Ending]) -> RunState:
    """Return a run's state from the ends of its writers.

    Of those that decide: running while any is live; else crashed if any is gone without EXIT; else failed if
    any exit code is not 0; else finished.
    """
    endings = deciding(endings)
    codes = [each.exit_code for each in endings if each.state == "ended" and each.exit_code is not None]
    code = next((code for code in codes if code), 0 if codes else None)
    if any(each.state == "live" for each in endings):
        return RunState("running", None, None)
    finished = max((each.since for each in endings), default=None)
    if any(each.state == "gone" for each in endings):
        return RunState("crashed", code or None, finished)
    return RunState("failed" if code else "finished", code, finished)


def deciding(endings: Sequence[Ending]) -> list[Ending]:
    """Return the writers that a run's state depends on."""
    by_stream = _joined(endings)
    asides = [each for each in by_stream.values() if each.role == ASIDE]
    supervisors = [each for each in by_stream.values() if each.role == SUPERVISOR]
    others = [each for each in by_stream.values() if each.role not in (ASIDE, SUPERVISOR)]
    found = _last_attempt([each for each in others if each.parent not in by_stream])
    last = {each.stream for each in found}
    for each in others:
        if each.parent in by_stream and each.role != HELPER:
            mine = each.state == "ended" and _root_of(each, by_stream) in last
            if mine or each.state == "live":
                found.append(each)
    if not found:
        return _last_attempt(supervisors) or _last_attempt(asides)
    # A supervisor that is gone says nothing about what it watched.
    began = min(each.started for each in found)
    found += [
        each for each in supervisors if each.state == "live" or (each.state == "ended" and each.time >= began)
    ]
    return found


def _joined(endings: Sequence[Ending]) -> dict[bytes, Ending]:
    """Return the writers by stream. One that went on in another stream is there once, under its first one."""
    by_stream = {each.stream: each for each in endings}
    first: dict[bytes, bytes] = {}
    for each in sorted(endings, key=lambda ending: (ending.started, ending.ordinal)):
        parent = each.parent if each.parent is None else first.get(each.parent, each.parent)
        former = None if parent is None else by_stream.get(parent)
        if each.role == AGAIN and former is not None and former.state != "ended":
            del by_stream[each.stream]
            first[each.stream] = former.stream
            by_stream[former.stream] = replace(
                each, stream=former.stream, parent=former.parent, role=former.role, started=former.started
            )
        elif parent != each.parent:
            by_stream[each.stream] = replace(each, parent=parent)
    return by_stream


def _last_attempt(roots: Sequence[Ending]) -> list[Ending]:
    """Return those that ran last: after a time in which none ran, or in the place of one of the same rank."""
    by_rank: dict[int | None, list[Ending]] = {}
    until = 0.0
    for each in sorted(roots, key=lambda ending: ending.started):
        if each.started > until:
            by_rank.clear()
        former = by_rank.get(each.rank, [])
        if each.rank is not None:
            former = [other for other in former if _ended(other) >= each.started]
        former.append(each)
        by_rank[each.rank] = former
        until = max(until, _ended(each))
    return [each for of_rank in by_rank.values() for each in of_rank]


def _ended(ending: Ending) -> float:
    """Return when a writer was not there any more, as far as that is known (ns)."""
    if ending.state == "live":
        return float("inf")
    if ending.state == "gone" and (ending.observed or {}).get("cause") == "reboot":
        # Found out when the machine was back, long after the run may have gone on elsewhere.
        return ending.started
    return ending.time


def _root_of(ending: Ending, by_stream: Mapping[bytes, Ending]) -> bytes:
    seen = {ending.stream}
    while ending.parent is not None and ending.parent in by_stream and ending.parent not in seen:
        ending = by_stream[ending.parent]
        seen.add(ending.stream)
    return ending.stream
