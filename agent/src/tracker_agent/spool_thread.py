"""One thread per spool for everything that touches its files, so that a hung mount stalls nothing else.

A call that does not come back leaves the thread behind as a daemon: nobody waits for it at exit.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

#: The event loop waits no longer than this for what should be quick; a hung mount is left out.
SPOOL_WAIT_S = 5.0


class SpoolThread:
    """Runs functions one after the other in a thread of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Callable[..., None]] | None]
        self._calls = queue.SimpleQueue()
        self._outstanding: set[asyncio.Future[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=f"spool {name}", daemon=True)
        self._thread.start()

    async def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return function(*arguments), run in the thread. A caller that is cancelled just no longer waits."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._outstanding.add(future)

        def done(result: Result | None, error: BaseException | None) -> None:
            def settle() -> None:
                self._outstanding.discard(future)
                if future.done():
                    return
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(result)  # type: ignore[arg-type] # there is one where no error is

            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

        self._calls.put((lambda: function(*arguments), done))
        return await future

    @property
    def busy(self) -> bool:
        """Whether a call is waiting or under way."""
        return bool(self._outstanding)

    def close(self) -> None:
        """Let the thread end after the calls it has."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, done = call
            try:
                done(function(), None)
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the result
                done(None, error)
            del call, function, done
