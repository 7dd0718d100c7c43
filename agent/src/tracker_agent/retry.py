"""How long to wait before trying again: exponential with full jitter, drawn after the cap.

Jitter before the cap would send every agent of a cluster back in the same second once a long outage has
brought them all to the cap.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from email.utils import parsedate_to_datetime

#: A server may ask for patience, but not for more than this.
RETRY_AFTER_MAX_S = 3600.0


class Backoff:
    """Delays of consecutive failures. `uniform(a, b)` draws; success() starts over."""

    def __init__(
        self,
        first_s: float = 1.0,
        max_s: float = 300.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._uniform = uniform
        self.failures = 0

    def failure(self, retry_after_s: float | None = None) -> float:
        """Return how long to wait now. A server's Retry-After is a lower bound, spread upwards."""
        ceiling = min(self._max_s, self._first_s * 2.0 ** min(self.failures, 60))
        self.failures += 1
        delay = self._uniform(0.0, ceiling)
        if retry_after_s is not None:
            delay += min(max(retry_after_s, 0.0), RETRY_AFTER_MAX_S)
        return delay

    def success(self) -> None:
        """Forget the failures so far."""
        self.failures = 0


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110: seconds or a date), or None."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):
        return None
    return max(0.0, when.timestamp() - now_s)
