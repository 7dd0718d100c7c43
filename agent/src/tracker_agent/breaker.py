"""Decides whether a server is asked at all, and by how many at once. Pure: no loop, no clock, no dice."""

from __future__ import annotations

#: After this many requests in a row that got no usable answer, over all lanes, only a probe is sent.
FAILURES_TO_OPEN = 3
#: After an outage, agents come back spread over as long as it lasted, at most over this time.
SPLAY_MAX_S = 60.0
#: Shorter troubles than this are none: nobody else waits for the server's return.
OUTAGE_S = 2.0


class Breaker:
    """Counts failures in a row; open from too many of them until a probe is answered."""

    def __init__(self) -> None:
        self.is_open = True  #: nothing is known of the server yet
        self.failures = 0
        self._failed_at: float | None = None

    def failed(self, now: float) -> None:
        """Note a request or a probe without a usable answer."""
        self.failures += 1
        if self._failed_at is None:
            self._failed_at = now
        if self.failures >= FAILURES_TO_OPEN:
            self.is_open = True

    def answered(self) -> None:
        """Note an answer that shows that the server is well."""
        self.failures = 0
        self._failed_at = None

    def close(self, now: float) -> float:
        """Note that a probe was answered. Return for how long the server had been away."""
        outage_s = 0.0 if self._failed_at is None else now - self._failed_at
        self.is_open = False
        self.answered()
        return outage_s


def splay_s(outage_s: float, most_s: float = SPLAY_MAX_S) -> float:
    """Return over how long agents should spread their return after an outage."""
    return 0.0 if outage_s < OUTAGE_S else min(outage_s, most_s)


class Concurrency:
    """How many requests at once: one more for each round that went well, half after one too many."""

    def __init__(self, most: int) -> None:
        self.limit = 1
        self._most = max(1, most)
        self._successes = 0

    def succeeded(self) -> None:
        """Note a request that went well."""
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit = min(self._most, self.limit + 1)

    def congested(self) -> None:
        """Note a request that the server had no room for, or did not answer in time."""
        self._successes = 0
        self.limit = max(1, self.limit // 2)

    def restart(self) -> None:
        """Begin with one again: the server has just come back, and so have all its agents."""
        self._successes = 0
        self.limit = 1
