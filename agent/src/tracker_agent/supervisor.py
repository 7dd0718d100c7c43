"""The supervisor: runs the agent's long tasks and restarts one that crashes; the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from structlog.typing import FilteringBoundLogger

from .clock import Clock

RESTART_FIRST_S = 1.0
RESTART_MAX_S = 60.0
#: A task that ran this long before it crashed is restarted without the delay that had grown.
HEALTHY_S = 300.0


@dataclass
class TaskState:
    """What status shows of one task."""

    crashes: int = 0
    last_error: str = ""


class Supervisor:
    """Keeps tasks running until they return or are cancelled."""

    def __init__(
        self, clock: Clock, log: FilteringBoundLogger, restart_first_s: float = RESTART_FIRST_S
    ) -> None:
        self._clock = clock
        self._log = log
        self._restart_first_s = restart_first_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._states: dict[str, TaskState] = {}

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> str:
        """Start a task; run() is called again after each crash. Return its name.

        That is the one given, with a number behind it while a task of that name still runs.
        """
        free = (each for number in count(2) for each in (f"{name} #{number}",) if not self._runs(each))
        name = next(free) if self._runs(name) else name
        self._states.setdefault(name, TaskState())
        self._tasks[name] = asyncio.create_task(self._keep_running(name, run), name=name)
        return name

    async def cancel(self, name: str) -> None:
        """Cancel a task and wait until it is gone."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._forget_well(name)

    async def wait(self, name: str, timeout_s: float) -> bool:
        """Wait until a task returned. False when it did not in time."""
        task = self._tasks.get(name)
        if task is None:
            return True
        done, _ = await asyncio.wait([task], timeout=timeout_s)
        return bool(done)

    async def cancel_all(self) -> None:
        """Cancel what still runs."""
        for name in list(self._tasks):
            await self.cancel(name)

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what status shows under "tasks"."""
        return {
            name: {"crashes": state.crashes, "last_error": state.last_error}
            for name, state in self._states.items()
        }

    def _runs(self, name: str) -> bool:
        return name in self._tasks and not self._tasks[name].done()

    def _forget_well(self, name: str) -> None:
        """Forget a task that ended and never crashed: there is no end of names."""
        if name in self._states and not self._states[name].crashes:
            del self._states[name]

    async def _keep_running(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        state = self._states[name]
        delay_s = self._restart_first_s
        while True:
            began = self._clock.monotonic()
            try:
                await run()
                self._forget_well(name)
                return
            except Exception as error:  # noqa: BLE001 (a supervised task's loop)
                if self._clock.monotonic() - began > HEALTHY_S:
                    delay_s = self._restart_first_s
                text = f"{type(error).__name__}: {error}"
                # The same crash again brings no news: its traceback stands in the log already.
                again = text == state.last_error
                state.crashes += 1
                state.last_error = text
                self._log.error(
                    "a part of the agent crashed; it is restarted",
                    task=name,
                    reason=text,
                    crashes=state.crashes,
                    restart_in_s=delay_s,
                    exc_info=None if again else error,
                )
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RESTART_MAX_S)
