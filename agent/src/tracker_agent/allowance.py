"""What all lanes of an agent may use together: memory for records in flight, backfill's bytes per second."""

from __future__ import annotations

from .clock import Clock

#: Records in flight, over all lanes and servers: what was read and its encoded form (limits.memory_bytes).
MEMORY_BYTES = 32 * 1024 * 1024
#: Old data ships no faster than this (limits.backfill_bytes_per_s).
BACKFILL_BYTES_PER_S = 16 * 1024 * 1024


class Allowance:
    """One per agent, shared by all its endpoints."""

    def __init__(
        self,
        clock: Clock,
        memory_bytes: int = MEMORY_BYTES,
        backfill_bytes_per_s: int = BACKFILL_BYTES_PER_S,
    ) -> None:
        self._clock = clock
        self.memory_bytes = memory_bytes
        self.backfill_bytes_per_s = backfill_bytes_per_s
