"""Progress: which loops still turn. The watchdog is fed from it, not from a timer.

A loop that turns is alive even if what it tries fails: an absent server or a slow GPU is no reason to
restart the agent, a loop that got stuck is.
"""

from __future__ import annotations

from .clock import Clock


class Progress:
    """When each loop last came round."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits: dict[str, float] = {}
        self._turned: dict[str, float] = {}

    def expect(self, loop: str, within_s: float) -> None:
        """Begin to expect that a loop turns at least this often."""
        self._limits[loop] = within_s
        self._turned[loop] = self._clock.monotonic()

    def turned(self, loop: str) -> None:
        """Note that a loop came round."""
        self._turned[loop] = self._clock.monotonic()

    def forget(self, loop: str) -> None:
        """Expect nothing of a loop any more: it was stopped on purpose."""
        self._limits.pop(loop, None)

    def stuck(self) -> list[str]:
        """Return the loops that have not come round in time."""
        now = self._clock.monotonic()
        return [loop for loop, limit in self._limits.items() if now - self._turned[loop] > limit]

    def status(self) -> dict[str, float]:
        """Return seconds since each expected loop came round."""
        now = self._clock.monotonic()
        return {loop: round(now - self._turned[loop], 3) for loop in self._limits}
