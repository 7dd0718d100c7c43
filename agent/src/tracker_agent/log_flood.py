"""Keeps a fault that happens to every stream, every two seconds, from flooding the log: says it a few times,
then counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Within this time the same line is written so often, no more …
WINDOW_S = 30.0
SAME_MAX = 3
#: … and lines that differ in details only (which stream, which file) so often.
SIMILAR_MAX = 10
#: Different messages that are remembered; the least recent is forgotten.
MESSAGES_MAX = 500


@dataclass(slots=True)
class _Window:
    began: float
    written: int = 0
    suppressed: int = 0


class FloodGate:
    """Decides for each line of the log whether it is written. now(): seconds that never jump."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.suppressed = 0  #: in all
        self._now = now
        self._similar: OrderedDict[str, _Window] = OrderedDict()
        self._same: OrderedDict[str, _Window] = OrderedDict()

    def admit(self, message: str, details: Mapping[str, Any]) -> int | None:
        """Return None for a line that is left out, else how many like it were left out before it."""
        now = self._now()
        whole = repr((message, sorted((str(name), str(value)) for name, value in details.items())))
        similar, same = _window(self._similar, message, now), _window(self._same, whole, now)
        if same.written >= SAME_MAX or similar.written >= SIMILAR_MAX:
            similar.suppressed += 1
            self.suppressed += 1
            return None
        same.written += 1
        similar.written += 1
        left_out, similar.suppressed = similar.suppressed, 0
        return left_out


def _window(windows: OrderedDict[str, _Window], key: str, now: float) -> _Window:
    window = windows.get(key)
    if window is None:
        window = windows[key] = _Window(now)
        if len(windows) > MESSAGES_MAX:
            windows.popitem(last=False)
    elif now - window.began >= WINDOW_S:
        window.began, window.written = now, 0
    windows.move_to_end(key)
    return window
