"""Counters of the kernel as rates per second between two samples."""

from __future__ import annotations

from collections.abc import Mapping


class Rates:
    """Sums the growth of one counter over devices that come, go and start again."""

    def __init__(self) -> None:
        self._before: Mapping[str, float] = {}
        self._at: float | None = None

    def per_second(self, counters: Mapping[str, float], now: float) -> float | None:
        """Return the growth per second of all devices together; None at first.

        A device that is new, or whose counter went back (reset, 32-bit wrap), counts from the next
        sample on: what it did meanwhile is not known.
        """
        before, at = self._before, self._at
        self._before, self._at = dict(counters), now
        if at is None or now <= at:
            return None
        grown = sum(
            value - before[device]
            for device, value in counters.items()
            if device in before and value >= before[device]
        )
        return grown / (now - at)
