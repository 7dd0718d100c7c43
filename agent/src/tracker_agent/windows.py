"""Windows: mean, minimum, maximum, last value and count of samples over some time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from tracker.protocol.bodies import Window

from .streams import StreamKey


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


class RunWindow(NamedTuple):
    """What one writer of a run came to, from `began` (monotonic, s) on."""

    key: StreamKey
    began: float
    values: dict[str, Window]


class RunWindows:
    """A window for each writer of a run.

    The first one of a writer has one sample and is ready at once, so that its run's page is not empty.
    """

    def __init__(self) -> None:
        self._open: dict[StreamKey, WindowBuilder] = {}
        self._began: dict[StreamKey, float] = {}
        self._known: set[StreamKey] = set()

    def add(self, key: StreamKey, values: Mapping[str, float], began: float) -> None:
        """Add one sample. began: since when it counts, where it is the first of its window."""
        if key not in self._open:
            self._open[key] = WindowBuilder()
            self._began.setdefault(key, began)
        self._open[key].add(values)

    def take_first(self, now: float) -> list[RunWindow]:
        """Return the windows of writers that had none yet, and begin their next."""
        return self._take([key for key in self._open if key not in self._known], now)

    def take(self, now: float) -> list[RunWindow]:
        """Return all windows. Writers without a sample are forgotten."""
        self._known &= self._open.keys()
        self._began = {key: self._began[key] for key in self._open}
        return self._take(list(self._open), now)

    def begin(self, now: float) -> None:
        """Let the windows that have no sample yet begin now."""
        self._began = dict.fromkeys(self._began, now)

    def _take(self, keys: list[StreamKey], now: float) -> list[RunWindow]:
        taken = []
        for key in keys:
            values = self._open.pop(key).take()
            if values:
                taken.append(RunWindow(key, self._began[key], values))
                self._known.add(key)
            self._began[key] = now
        return taken
