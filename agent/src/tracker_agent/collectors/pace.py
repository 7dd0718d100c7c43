"""How often something dear is done: as often as it is asked for, unless that costs too much."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Work that took c seconds of processor time is followed by c / share seconds of rest, at most longest_s.

    share: the part of one core that the work may take, such as 0.002.
    """

    def __init__(
        self,
        share: float,
        longest_s: float,
        processor_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._share = share
        self._longest_s = longest_s
        self._processor_s = processor_s
        self._due = float("-inf")
        self._began = 0.0

    def due(self, now: float) -> bool:
        """Return whether the rest is over. If so the work begins now, and done() must follow."""
        if now < self._due:
            return False
        self._began = self._processor_s()
        return True

    def done(self, now: float) -> None:
        """Note that the work that began at `now`, by the clock that never jumps, is done."""
        spent = max(0.0, self._processor_s() - self._began)
        self._due = now + min(self._longest_s, spent / self._share)
