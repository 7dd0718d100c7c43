"""alert(): a message for people, at most one of a title within a while."""

from typing import Any, Dict, Optional

from ._clock import monotonic_ns
from ._run_state import RunState
from ._values import to_plain
from .protocol.bodies import Alert
from .protocol.kinds import ALERT

LEVELS = ("info", "warn", "error")
WAIT_S = 60.0
TITLE_CHARACTERS_MAX = 256
TEXT_CHARACTERS_MAX = 16 * 1024
#: Titles remembered for the sake of waiting; when there are more, the oldest are forgotten.
TITLES_MAX = 1000


def alert(run: RunState, title: Any, text: Any, level: Any = None, wait_duration: Any = None) -> None:
    """Record an ALERT, unless one of the same title came within wait_duration (seconds or timedelta)."""
    title = str(to_plain(title))[:TITLE_CHARACTERS_MAX]
    wait_ns = int(_seconds(run, wait_duration) * 1e9)
    now = monotonic_ns()
    sent: Dict[str, int] = run.alerts
    before = sent.get(title)
    if before is not None and now - before < wait_ns:
        return
    sent.pop(title, None)
    while len(sent) >= TITLES_MAX:
        del sent[next(iter(sent))]
    sent[title] = now
    level_name = _level(run, level)
    body = str(to_plain(text))[:TEXT_CHARACTERS_MAX]
    run.record(ALERT, lambda recorder: Alert(recorder.time(), title, body, level_name).encode(), "alert")


def _level(run: RunState, level: Any) -> str:
    if level is None:
        return "info"
    name = str(getattr(level, "value", level)).lower()
    name = {"warning": "warn"}.get(name, name)
    if name in LEVELS:
        return name
    run.terminal.warn(
        "alert-level", "alert() knows the levels INFO, WARN and ERROR, not %r; it is INFO" % (level,)
    )
    return "info"


def _seconds(run: RunState, given: Any) -> float:
    if given is None:
        return WAIT_S
    total: Optional[Any] = getattr(given, "total_seconds", None)
    try:
        # In this order a NaN becomes 0.
        return min(1e9, max(0.0, float(total() if total is not None else given)))
    except (TypeError, ValueError):
        run.terminal.warn(
            "alert-wait", "wait_duration is a number of seconds or a timedelta, not %r" % (given,)
        )
        return WAIT_S
