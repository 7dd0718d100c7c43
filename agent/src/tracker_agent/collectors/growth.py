"""How much the kernel's counters grew between two samples, each counter for itself."""

from __future__ import annotations

from collections.abc import Mapping


class Growth:
    """Compares counters with those of the sample before.

    A counter that is new, or went back (reset, wrap, driver reload), is left out of that interval:
    what it did meanwhile is not known.
    """

    def __init__(self) -> None:
        self._before: Mapping[str, float] = {}
        self._at: float | None = None
        #: Seconds between the last two samples; 0 where there were none.
        self.seconds = 0.0

    def since(self, counters: Mapping[str, float], now: float) -> dict[str, float]:
        """Return by how much each counter grew; empty at first, and where the clock did not move."""
        before, at = self._before, self._at
        self._before, self._at = dict(counters), now
        self.seconds = 0.0 if at is None else max(0.0, now - at)
        if self.seconds <= 0:
            return {}
        return {
            name: value - before[name]
            for name, value in counters.items()
            if name in before and value >= before[name]
        }

    def per_second(self, counters: Mapping[str, float], now: float) -> dict[str, float]:
        """Return the growth of each counter per second."""
        return {name: grown / self.seconds for name, grown in self.since(counters, now).items()}
