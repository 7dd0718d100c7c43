"""The asyncio loop of one simulated agent process: its callbacks run in the world's time, and end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

from .world import Handle, SimulationError, World


class ProcessDiedError(BaseException):
    """The process is gone at this very place. Nothing that catches it can do anything any more."""


class AgentLoop(asyncio.AbstractEventLoop):
    """What asyncio needs of a loop, and no more. fuse: callbacks and file system calls until a kill."""

    def __init__(self, world: World, died: Callable[[], None]) -> None:
        self.dead = False
        self.fuse = -1
        self.frozen = False
        self._world = world
        self._died = died
        self._held: list[Handle] = []

    def step(self) -> None:
        """Count one step of the process; it may be its last."""
        if self.dead:
            raise ProcessDiedError
        if self.fuse > 0:
            self.fuse -= 1
            if self.fuse == 0:
                self.kill()
                raise ProcessDiedError

    def kill(self) -> None:
        """End the process as SIGKILL does."""
        if not self.dead:
            self.dead = True
            self._held.clear()
            self._died()

    def thaw(self) -> None:
        """Go on after SIGCONT."""
        self.frozen = False
        held, self._held = self._held, []
        for handle in held:
            self._world.soon(handle)

    def run_handle(self, handle: Handle) -> None:
        """Run a callback of the process, if there is a process."""
        if self.dead:
            return
        if self.frozen:
            self._held.append(handle)
            return
        try:
            self.step()
            asyncio._set_running_loop(self)
            assert handle.callback is not None
            if handle.context is None:
                handle.callback(*handle.arguments)
            else:
                handle.context.run(handle.callback, *handle.arguments)
        except ProcessDiedError:
            pass
        finally:
            asyncio._set_running_loop(None)

    # What asyncio calls.

    def time(self) -> float:
        return self._world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Any:
        if context is None:
            return asyncio.Task(coro, loop=self, name=name or "task")
        return asyncio.Task(coro, loop=self, name=name or "task", context=context)

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = Handle(callback, args, self, context)
        if not self.dead:
            self._world.soon(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self._world.now + max(0.0, delay), callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = Handle(callback, args, self, context, when)
        if not self.dead:
            self._world.at(handle, when)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not self.dead and not isinstance(error, ProcessDiedError):
            raise SimulationError(f"{context.get('message')}: {error!r}") from error

    def _timer_handle_cancelled(self, handle: object) -> None:
        pass
