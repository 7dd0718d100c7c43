"""An event loop whose time jumps to the next timer instead of waiting for it: days pass in milliseconds.

Only for code that waits for timers and for nothing outside the loop.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from tracker_agent.clock import Clock

Result = TypeVar("Result")

#: A test whose loop takes more steps than this goes round in circles.
STEPS_MAX = 2_000_000


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.steps = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.steps += 1
        if timeout is None:
            raise AssertionError("nothing will ever happen any more")
        if self.steps > STEPS_MAX:
            raise AssertionError(f"{STEPS_MAX} steps of the loop: it goes round in circles")
        self.now += max(0.0, timeout)
        return []


class VirtualClock(Clock):
    """The clock of the running virtual loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def monotonic_ns(self) -> int:
        return int(self.monotonic() * 1e9)

    def wall_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.monotonic_ns()


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run_virtually(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end; sleeping costs nothing."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
