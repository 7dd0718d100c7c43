"""One collector in a thread of its own, so that it hangs alone when it hangs."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .collectors.collector import Collector, Reading


@dataclass(frozen=True)
class Outcome:
    """What one sample came to, the processor time it cost and the time it took."""

    result: Reading | Exception
    cost_s: float
    took_s: float


class CollectorThread:
    """Asks its collector when told to. At most one sample is under way."""

    def __init__(self, collector: Collector, done: Callable[[CollectorThread, Outcome], None]) -> None:
        self.collector = collector
        self.name = collector.name
        self.busy = False
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        # A daemon: a thread stuck in the kernel must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=f"collector-{self.name}", daemon=True)
        self._thread.start()

    def ask(self) -> bool:
        """Start a sample; done() is called in the event loop. False while the one before lasts."""
        if self.busy:
            return False
        self.busy = True
        self._orders.put(True)
        return True

    def close(self) -> None:
        """Let the collector close and the thread end; both in their own time."""
        self._orders.put(False)

    def ended(self) -> bool:
        """Return whether the thread has ended."""
        return not self._thread.is_alive()

    def _work(self) -> None:
        while self._orders.get():
            before, began = time.thread_time(), time.monotonic()
            result: Reading | Exception
            try:
                result = self.collector.sample()
            except Exception as error:  # noqa: BLE001 (a supervised loop: the sampler logs and counts it)
                result = error
            outcome = Outcome(result, time.thread_time() - before, time.monotonic() - began)
            try:
                self._loop.call_soon_threadsafe(self._deliver, outcome)
            except RuntimeError:
                # The loop was closed: nobody waits for this sample any more.
                break
        self.collector.close()

    def _deliver(self, outcome: Outcome) -> None:
        self.busy = False
        self._done(self, outcome)
