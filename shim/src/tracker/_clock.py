"""Time in integer nanoseconds: the wall clock read once, at the start, then the monotonic clock."""

import time

try:
    from time import monotonic_ns, time_ns
except ImportError:  # Python 3.6

    def monotonic_ns() -> int:
        """Return the monotonic clock."""
        return int(time.monotonic() * 1e9)

    def time_ns() -> int:
        """Return the wall clock."""
        return int(time.time() * 1e9)


__all__ = ["monotonic_ns", "time_ns"]
