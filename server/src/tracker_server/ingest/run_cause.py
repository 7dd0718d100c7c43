"""Why a run ended, from what its writers and their supervisors wrote and what agents saw. Pure functions.

Only evidence speaks: an EXIT, a parent's wait status, what an agent found out. Without any it is said that
the cause is unknown, and a silent agent is no evidence of anything.
"""

import signal
from collections.abc import Sequence
from typing import Any

from ..store.endings import Ending
from .run_state import deciding, derive_run_state

UNKNOWN = "vanished, cause unknown"
#: A cause is a line in a list.
CAUSE_CHARACTERS_MAX = 200


def writer_cause(ending: Ending, all_endings: Sequence[Ending]) -> str | None:
    """Return why a writer ended; None where it is live or ended well."""
    told = ending.told or {}
    if ending.state == "ended":
        if isinstance(told.get("stopped_by"), str):
            return _short(f"stopped by {told['stopped_by'] or 'a request'}")
        if not ending.exit_code:
            return None
        if isinstance(told.get("signal"), int):
            return f"killed by {signal_name(told['signal'])}"
        if ending.exception:
            message = ending.exception.get("message", "").strip().partition("\n")[0]
            kind = ending.exception.get("type", "Exception")
            return _short(f"{kind}: {message}" if message else kind)
        return f"exit code {ending.exit_code}"
    if ending.state != "gone":
        return None
    seen = (ending.observed or {}).get("cause")
    if isinstance(seen, str) and seen not in ("", UNKNOWN, "exit"):
        return _short(seen)
    return _told_by_supervisor(ending, all_endings) or UNKNOWN


def run_cause(endings: Sequence[Ending]) -> str | None:
    """Return why a run ended, once none of those that decide is live: a request, else what failed first.

    In a distributed run the first to die takes the others with it; what they say comes later.
    """
    if derive_run_state(endings).state == "running":
        return None
    stopped = [ending for ending in deciding(endings) if (ending.told or {}).get("stopped_by") is not None]
    if stopped:
        return writer_cause(stopped[0], endings)
    first = first_bad(endings)
    return None if first is None else writer_cause(first, endings)


def tells_more(state: str, facts: dict[str, Any], former_state: str, former: dict[str, Any] | None) -> bool:
    """Return whether an OBSERVED is to replace the one before it.

    An agent that lost its state sees a writer gone again and cannot know why any more.
    """
    if state != "gone" or former_state == "live" or former is None:
        return True
    return facts.get("cause") != UNKNOWN or former.get("cause") in (None, UNKNOWN)


def first_bad(endings: Sequence[Ending]) -> Ending | None:
    """Return the writer that went first of those that decide and ended badly; a supervisor only if alone."""
    bad = [ending for ending in deciding(endings) if ending.is_bad]
    own = [ending for ending in bad if not ending.supervises]
    return min(own or bad, key=lambda ending: (ending.time, ending.ordinal), default=None)


def signal_name(number: int) -> str:
    """Return SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _told_by_supervisor(ending: Ending, all_endings: Sequence[Ending]) -> str | None:
    for other in all_endings:
        told = other.told or {}
        if not other.supervises or other.place != ending.place or told["pid"] != ending.pid:
            continue
        if isinstance(told.get("signal"), int):
            return f"killed by {signal_name(told['signal'])}"
        if other.exit_code is not None:
            return f"ended with code {other.exit_code} and without a word"
    return None


def _short(text: str) -> str:
    return text if len(text) <= CAUSE_CHARACTERS_MAX else text[: CAUSE_CHARACTERS_MAX - 1] + "…"
