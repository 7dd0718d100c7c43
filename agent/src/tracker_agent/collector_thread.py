"""A thread that asks collectors, one after the other, so that none of them can hang the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .collectors.collector import Collector, Reading


@dataclass(frozen=True)
class Outcome:
    """What one sample came to, the processor time it cost and the time it took."""

    result: Reading | Exception
    cost_s: float
    took_s: float


#: Told of each sample, in the event loop.
Done = Callable[[Collector, Outcome], None]


class CollectorThread:
    """Asks its collectors when told to. Everything here but _work() is for the event loop."""

    def __init__(self, done: Done) -> None:
        #: Those that it closes when it ends, by name.
        self.collectors: dict[str, Collector] = {}
        #: Names of those that were asked and have not been heard.
        self.asked: set[str] = set()
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Collector] = deque()
        self._outcomes: deque[tuple[Collector, Outcome]] = deque()
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        # A daemon: a thread stuck in the kernel must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="collectors", daemon=True)
        self._thread.start()

    def ask(self, collectors: Sequence[Collector]) -> None:
        """Sample each; done() is called for all of them once the last is through."""
        assert not self.asked
        self.asked = {collector.name for collector in collectors}
        self._waiting.extend(collectors)
        self._orders.put(True)

    def take_back(self) -> list[Collector]:
        """Return those that it has not come to, and no longer will. It keeps the one that is slow."""
        self.deliver()
        # Taken from the end, while the thread may take from the beginning.
        left: list[Collector] = []
        while self._waiting:
            try:
                left.append(self._waiting.pop())
            except IndexError:
                break
        self.asked -= {collector.name for collector in left}
        return left[::-1]

    def deliver(self) -> None:
        """Pass on the samples there are."""
        while self._outcomes:
            collector, outcome = self._outcomes.popleft()
            self.asked.discard(collector.name)
            self._done(collector, outcome)

    def close(self) -> None:
        """Let the collectors close and the thread end; both in their own time."""
        self._waiting.clear()
        self._orders.put(False)

    def ended(self) -> bool:
        """Return whether the thread has ended."""
        return not self._thread.is_alive()

    def _work(self) -> None:
        while self._orders.get():
            while self._waiting:
                try:
                    collector = self._waiting.popleft()
                except IndexError:
                    break  # taken back just now
                self._outcomes.append((collector, _sample(collector)))
            try:
                self._loop.call_soon_threadsafe(self.deliver)
            except RuntimeError:
                # The loop was closed: nobody waits for this sample any more.
                break
        for collector in self.collectors.values():
            # One that cannot close must not keep the others from it.
            with contextlib.suppress(Exception):
                collector.close()


def _sample(collector: Collector) -> Outcome:
    before, began = time.thread_time(), time.monotonic()
    result: Reading | Exception
    try:
        result = collector.sample()
    except Exception as error:  # noqa: BLE001 (a supervised loop: the sampler logs and counts it)
        result = error
    return Outcome(result, time.thread_time() - before, time.monotonic() - began)
