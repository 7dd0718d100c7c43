"""What state a run is in, from the states of its streams. A pure function."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RunState:
    """finished is when the last stream ended or was found gone (ns), None while one lives."""

    state: str
    exit_code: int | None
    finished: int | None


def derive_run_state(streams: Sequence[tuple[str, int | None, int]]) -> RunState:
    """Return a run's state from (state, exit code, since when) of each of its streams.

    Running while any stream is live; else crashed if any is gone without EXIT; else failed if any
    exit code is not 0; else finished.
    """
    codes = [code for state, code, _ in streams if state == "ended" and code is not None]
    code = next((code for code in codes if code), 0 if codes else None)
    if any(state == "live" for state, _, _ in streams):
        return RunState("running", None, None)
    finished = max((since for _, _, since in streams), default=None)
    if any(state == "gone" for state, _, _ in streams):
        return RunState("crashed", code or None, finished)
    return RunState("failed" if code else "finished", code, finished)
