"""Lane: threads that do blocking work for the event loop, with a bounded queue in front.

The server has one lane of one thread for everything that writes, one of a few threads for reads, so
that reading never delays ingest and neither ever blocks the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class LaneFull(Exception):
    """As much work is waiting as may wait: try again a little later."""


class Lane:
    """A bounded queue served by `threads` threads. Used from one event loop."""

    def __init__(self, name: str, threads: int, waiting_max: int) -> None:
        self.name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._in_lane_max = threads + waiting_max
        self.in_lane = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work in a thread of the lane. Raise LaneFull when too much is waiting.

        Work that has begun is finished even when the caller is cancelled.
        """
        if self.in_lane >= self._in_lane_max:
            raise LaneFull(self.name)
        self.in_lane += 1
        future = self._pool.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        return await asyncio.wrap_future(future)

    def _leave(self) -> None:
        self.in_lane -= 1

    def close(self) -> None:
        """Finish what is in the lane; then end its threads."""
        self._pool.shutdown(wait=True)
