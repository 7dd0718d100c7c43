"""What state a run is in, from what is known of the ends of its writers. Pure functions.

Which of them decide, and how, is said in tracker.protocol.run_state, for whoever looks at the files, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tracker.protocol import run_state
from tracker.protocol.run_state import Writer

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
    decided = run_state.deciding([_to_writer(each) for each in endings])
    state = run_state.state_of(decided)
    if state == "running":
        return RunState(state, None, None)
    found = _endings_of(decided, endings)
    codes = [each.exit_code for each in found if each.state == "ended" and each.exit_code is not None]
    code = next((code for code in codes if code), 0 if codes else None)
    finished = max((each.since for each in found), default=None)
    return RunState(state, code or None if state == "crashed" else code, finished)


def deciding(endings: Sequence[Ending]) -> list[Ending]:
    """Return the writers that a run's state depends on."""
    return _endings_of(run_state.deciding([_to_writer(each) for each in endings]), endings)


def _endings_of(writers: Sequence[Writer], endings: Sequence[Ending]) -> list[Ending]:
    known = {each.ordinal: each for each in endings}
    return [known[each.ordinal] for each in writers]


def _to_writer(ending: Ending) -> Writer:
    code = (ending.exit_code or 0) if ending.state == "ended" else None
    return Writer(
        ending.stream,
        ending.parent,
        ending.role,
        ending.rank,
        ending.started,
        _ended(ending),
        code,
        ending.ordinal,
    )


def _ended(ending: Ending) -> float:
    """Return when a writer was not there any more, as far as that is known (ns)."""
    if ending.state == "live":
        return float("inf")
    if ending.state == "gone" and (ending.observed or {}).get("cause") == "reboot":
        # Found out when the machine was back, long after the run may have gone on elsewhere.
        return ending.started
    return ending.time
