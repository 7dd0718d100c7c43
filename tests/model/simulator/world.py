"""Simulated time, chance and the log of what happened: everything in a simulation happens through one World.

Nothing waits: the clock jumps to whatever is due next. One seed decides everything, so the same seed gives
the same log, in any process.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from .agent_loop import AgentLoop


class SimulationError(AssertionError):
    """Something happened that must never happen."""


class Handle:
    """A callback that will run. loop: the agent's loop it belongs to, None for the world's own."""

    __slots__ = ("_when", "arguments", "callback", "context", "loop")

    def __init__(
        self,
        callback: Callable[..., Any] | None,
        arguments: tuple[Any, ...],
        loop: AgentLoop | None = None,
        context: Context | None = None,
        when: float = 0.0,
    ) -> None:
        self.callback = callback
        self.arguments = arguments
        self.loop = loop
        self.context = context
        self._when = when

    def cancel(self) -> None:
        """Never run it."""
        self.callback = None
        self.arguments = ()

    def cancelled(self) -> bool:
        """Return whether it will not run."""
        return self.callback is None

    def when(self) -> float:
        """Return when it is due."""
        return self._when


class World:
    """Time, in seconds since the simulation began, and a queue of what happens when."""

    def __init__(self, seed: int, keep_log: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.events = 0  #: entries in the log
        self.digest = 0  #: of the whole log
        self.log: list[str] | None = [] if keep_log else None
        self._sequence = 0
        self._ready: deque[Handle] = deque()
        self._later: list[tuple[float, int, Handle]] = []

    def note(self, text: str) -> None:
        """Write down that something happened."""
        self.events += 1
        line = f"{self.now:.6f} {text}"
        self.digest = crc32(line.encode("utf-8", "backslashreplace"), self.digest)
        if self.log is not None:
            self.log.append(line)

    def chance(self, probability: float) -> bool:
        """Draw."""
        return probability > 0.0 and self.random.random() < probability

    def soon(self, handle: Handle) -> None:
        """Run a callback as soon as those before it have run."""
        self._ready.append(handle)

    def at(self, handle: Handle, when: float) -> None:
        """Run a callback at a time."""
        self._sequence += 1
        heapq.heappush(self._later, (when, self._sequence, handle))

    def after(self, delay_s: float, callback: Callable[..., Any], *arguments: Any) -> Handle:
        """Let the world do something later."""
        handle = Handle(callback, arguments, when=self.now + delay_s)
        self.at(handle, handle.when())
        return handle

    def run(self, until: float, callbacks_max: int) -> int:
        """Let everything happen that is due until then. Return the number of callbacks that ran."""
        ran = 0
        ready, later = self._ready, self._later
        while True:
            if ready:
                handle = ready.popleft()
            elif later and later[0][0] <= until:
                when, _, handle = heapq.heappop(later)
                if when > self.now:
                    self.now = when
            else:
                self.now = until
                return ran
            callback = handle.callback
            if callback is None:
                continue
            ran += 1
            if ran > callbacks_max:
                raise SimulationError(
                    f"more than {callbacks_max} callbacks by {self.now:.1f} s: it runs in a circle"
                )
            loop = handle.loop
            if loop is None:
                callback(*handle.arguments)
            else:
                loop.run_handle(handle)
