"""Lets operators watch records as servers take them, without ever holding up shipping.

The bytes are passed on as they stand in the files; whoever listens decodes them. Without a listener nothing
happens. What a listener cannot take in time is dropped for him, counted and shown.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from .pieces import Data
from .streams import Stream

#: Bytes that wait for one listener.
WAITING_BYTES_MAX = 4 * 1024 * 1024
#: Bytes a second that one listener gets; preparing them costs the agent's loop time.
LISTENER_BYTES_PER_S = 4 * 1024 * 1024
#: A piece goes out in slices, between which the loop does other work.
SLICE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Passed:
    stream: Stream
    offset: int
    data: bytes
    dropped_bytes: int  #: left out before this one


class Listener:
    """One who watches. run: only the streams of that run."""

    def __init__(self, run: str | None, now: Callable[[], float]) -> None:
        self._run = run
        self._now = now
        self._waiting: deque[_Passed] = deque()
        self._waiting_bytes = 0
        self._dropped_bytes = 0
        self._allowed = float(LISTENER_BYTES_PER_S)
        self._allowed_at = now()
        self._arrived = asyncio.Event()

    def offer(self, stream: Stream, offset: int, data: bytes) -> None:
        """Take a piece, or drop it when there is no room or it comes too fast."""
        if self._run is not None and stream.header.run != self._run:
            return
        now = self._now()
        since = now - self._allowed_at
        self._allowed = min(LISTENER_BYTES_PER_S, self._allowed + since * LISTENER_BYTES_PER_S)
        self._allowed_at = now
        if self._waiting_bytes + len(data) > WAITING_BYTES_MAX or self._allowed <= 0:
            self._dropped_bytes += len(data)
            return
        self._allowed -= len(data)
        self._waiting.append(_Passed(stream, offset, data, self._dropped_bytes))
        self._waiting_bytes += len(data)
        self._dropped_bytes = 0
        self._arrived.set()

    async def messages(self) -> AsyncGenerator[dict[str, Any]]:
        """Yield slices of what was taken, for the control socket."""
        while True:
            await self._arrived.wait()
            while self._waiting:
                passed = self._waiting.popleft()
                for start in range(0, len(passed.data), SLICE_BYTES):
                    yield _message(passed, start)
                self._waiting_bytes -= len(passed.data)
            self._arrived.clear()


class Tap:
    """Who listens just now. passed() is called with whatever a server took."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._listeners: set[Listener] = set()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def passed(self, stream: Stream, piece: Data) -> None:
        """Show whole lines that a server took to whoever listens."""
        for listener in self._listeners:
            listener.offer(stream, piece.offset, piece.data)

    async def listen(self, run: str | None = None) -> AsyncGenerator[dict[str, Any]]:
        """Yield what passes from now on, until closed. The first message says that listening has begun."""
        listener = Listener(run, self._now)
        self._listeners.add(listener)
        try:
            yield {"listening": True}
            async for message in listener.messages():
                yield message
        finally:
            self._listeners.discard(listener)


def _message(passed: _Passed, start: int) -> dict[str, Any]:
    stream = passed.stream
    return {
        "uid": stream.uid,
        "user": stream.user,
        "run": stream.header.run,
        "stream": stream.id.hex(),
        "offset": passed.offset + start,
        "data": base64.b64encode(passed.data[start : start + SLICE_BYTES]).decode(),
        "dropped_bytes": passed.dropped_bytes if start == 0 else 0,
    }
