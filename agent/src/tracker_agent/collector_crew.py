"""Which thread asks which collector: all share one, until one of them is slow and gets it for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from .collector_thread import CollectorThread, Done, Outcome
from .collectors.collector import Collector

#: How long a sample may hold up the others that share its thread.
PATIENCE_S = 0.25


class CollectorCrew:
    """Threads for collectors. Must be made, and is to be used, in the event loop.

    One thread for all that are quick: threads of their own would fight for the interpreter's lock, and each
    costs memory. Whoever is slow once keeps the thread it is in, and the others move to a new one.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        done: Done,
        start: Callable[[Done], CollectorThread] = CollectorThread,
    ) -> None:
        self._done = done
        self._start = start
        self._heard = asyncio.Event()
        self._threads: list[CollectorThread] = []
        self._thread_of: dict[str, CollectorThread] = {}
        self._shared = self._new_thread([each for each in collectors if not each.own_thread])
        for collector in collectors:
            if collector.own_thread:
                self._new_thread([collector])

    @property
    def threads(self) -> int:
        """Number of threads."""
        return len(self._threads)

    def busy(self, name: str) -> bool:
        """Return whether a collector cannot be asked, since its thread has not come back."""
        return bool(self._thread_of[name].asked)

    async def ask(self, collectors: Sequence[Collector]) -> None:
        """Ask collectors that are not busy; wait for those that are quick."""
        shared = []
        for collector in collectors:
            thread = self._thread_of[collector.name]
            if thread is self._shared:
                shared.append(collector)
            elif not thread.asked:
                thread.ask([collector])
        while shared:
            thread = self._shared
            thread.ask(shared)
            await self._patiently(thread)
            shared = thread.take_back() if thread.asked else []
            if thread.asked:
                others = [each for name, each in thread.collectors.items() if name not in thread.asked]
                thread.collectors = {name: thread.collectors[name] for name in thread.asked}
                self._shared = self._new_thread(others)

    async def wait(self, timeout_s: float) -> None:
        """Wait for all samples that are under way, also the slow ones."""
        await self._wait(self._threads, timeout_s)

    def close(self) -> None:
        """Let the collectors close and the threads end, in their own time."""
        for thread in self._threads:
            thread.close()

    def ended(self) -> bool:
        """Return whether all threads have ended."""
        return all(thread.ended() for thread in self._threads)

    def _new_thread(self, collectors: Sequence[Collector]) -> CollectorThread:
        thread = self._start(self._hear)
        self._threads.append(thread)
        for collector in collectors:
            thread.collectors[collector.name] = collector
            self._thread_of[collector.name] = thread
        return thread

    async def _patiently(self, thread: CollectorThread) -> None:
        """Wait for a thread until it is through, or one of its samples takes too long."""
        left = len(thread.asked) + 1
        while 0 < len(thread.asked) < left:
            left = len(thread.asked)
            await self._wait([thread], PATIENCE_S)
            thread.deliver()

    def _hear(self, collector: Collector, outcome: Outcome) -> None:
        self._done(collector, outcome)
        self._heard.set()

    async def _wait(self, threads: Sequence[CollectorThread], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while any(thread.asked for thread in threads):
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            pass
