"""Windows: mean, minimum, maximum, last value and count of samples over some time."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tracker.protocol.bodies import Window


class WindowBuilder:
    """Gathers samples of many metrics until the window is taken."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Add one sample of each metric given. What is not finite is no value, and left out."""
        for name, value in values.items():
            if not math.isfinite(value):
                continue
            entry = self._sums.get(name)
            if entry is None:
                self._sums[name] = [value, value, value, value]
                self._counts[name] = 1
                continue
            entry[0] += value
            entry[1] = min(entry[1], value)
            entry[2] = max(entry[2], value)
            entry[3] = value
            self._counts[name] += 1

    def take(self) -> dict[str, Window]:
        """Return the window of each metric that had samples, and begin the next."""
        windows: dict[str, Window] = {}
        for name, (total, low, high, last) in self._sums.items():
            count = self._counts[name]
            # A mean lies between the extremes, whatever the rounding of the sum.
            mean = min(max(total / count, low), high)
            windows[name] = (mean, low, high, last, count)
        self._sums, self._counts = {}, {}
        return windows
