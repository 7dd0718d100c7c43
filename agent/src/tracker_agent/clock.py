"""The two clocks the agent reads: wall time only as data, monotonic time for every wait and timer."""

import time


class Clock:
    """The machine's clocks. Tests hand in one that they move."""

    def wall_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never jump."""
        return time.monotonic_ns()

    def monotonic(self) -> float:
        """Return seconds that never jump, and stand still while the machine is suspended."""
        return time.monotonic()

    def slept_s(self) -> float:
        """Return for how long the machine was suspended since it booted."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
