"""ByteBudget: how many bytes of requests may be in memory at once, and how much of that is one principal's.

A body may take a minute to arrive. So that a slow sender cannot hold everything for so long, a principal
may hold no more than what is left for all others: alone it gets half, two of them a third each, and there
is always room for one more. Only a request that has the whole budget to itself may take all of it, so
that none is too large for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import busy


class ByteBudget:
    """Counts bytes held in memory, in all and by principal; refuses to go beyond a fair share."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._requests = 0
        self._held: dict[int, int] = {}

    @contextmanager
    def share(self, principal_id: int) -> Iterator[Callable[[int], None]]:
        """Lend a function that takes bytes until the block ends, or raises ApiError 503."""
        taken = 0
        self._requests += 1

        def take(size: int) -> None:
            nonlocal taken
            self._check(principal_id, size, alone=self._requests == 1)
            self._left -= size
            self._held[principal_id] = self._held.get(principal_id, 0) + size
            taken += size

        try:
            yield take
        finally:
            self._requests -= 1
            self._left += taken
            held = self._held.get(principal_id, 0) - taken
            if held:
                self._held[principal_id] = held
            else:
                self._held.pop(principal_id, None)

    def check(self, principal_id: int, size: int) -> None:
        """Raise ApiError 503 unless that many bytes could be taken now."""
        self._check(principal_id, size, alone=self._requests == 0)

    def _check(self, principal_id: int, size: int, alone: bool) -> None:
        left = self._left - size
        if left < 0 or (not alone and self._held.get(principal_id, 0) + size > left):
            raise busy()
