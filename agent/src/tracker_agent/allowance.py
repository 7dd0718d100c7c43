"""What all lanes of an agent may use together: memory for records in flight, backfill's bytes per second."""

from __future__ import annotations

from .clock import Clock
from .turns import Turns

#: Records in flight, over all lanes and servers (limits.memory_bytes).
MEMORY_BYTES = 32 * 1024 * 1024
#: Old data ships no faster than this (limits.backfill_bytes_per_s); 0: as fast as it goes.
BACKFILL_BYTES_PER_S = 16 * 1024 * 1024

#: Bytes of memory for a byte of records in flight: as read, put together for the compressor, compressed.
MEMORY_PER_BYTE = 3
#: What may be sent at once after a quiet time, in seconds of the rate.
BURST_S = 1.0


class TokenBucket:
    """A rate that holds on average. One may spend more than is there; then the next one waits longer."""

    def __init__(self, bytes_per_s: float, now: float) -> None:
        self._rate = bytes_per_s
        self._most = bytes_per_s * BURST_S
        self._level = self._most
        self._at = now

    def delay_s(self, now: float) -> float:
        """Return how long to wait before spending anything."""
        self._fill(now)
        return 0.0 if self._rate <= 0 or self._level >= 0 else -self._level / self._rate

    def spend(self, size: int, now: float) -> None:
        """Note what was sent."""
        self._fill(now)
        if self._rate > 0:
            self._level -= size

    def _fill(self, now: float) -> None:
        # Clocks of tests may be moved; time that did not pass fills nothing.
        self._level = min(self._most, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now


class Allowance:
    """One per agent, shared by all its endpoints."""

    def __init__(
        self,
        clock: Clock,
        memory_bytes: int = MEMORY_BYTES,
        backfill_bytes_per_s: int = BACKFILL_BYTES_PER_S,
    ) -> None:
        #: Backfill holds at most half of it: live data need not wait for a slow request to end.
        self.memory = Turns(memory_bytes, lambda units: max(1, units // 2))
        self.backfill = TokenBucket(backfill_bytes_per_s, clock.monotonic())
