"""FaultProxy: stands between a client and a server on this machine and plays a bad network, or a bad gateway.

It runs in a thread of its own. Its weather may be changed at any time and holds from the next byte on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

PIECE_BYTES = 16384
_HOLD_S = 0.02


@dataclass(frozen=True)
class Injected:
    """An answer that the proxy gives in the server's place."""

    status: int
    body: bytes = b"<html><body>not today</body></html>"
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/html"),)


@dataclass(frozen=True)
class Weather:
    """What happens to connections and their bytes. The default is a good day."""

    refuse: bool = False  #: connections are reset as they come
    hold: bool = False  #: nothing gets through in either direction
    hold_answers: bool = False  #: requests get through, answers do not
    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: int = 0  #: 0: no limit
    cut_answer_after: int | None = None  #: bytes of answers on a connection, then it is reset


class FaultProxy:
    """Use as a context manager. `port` is where clients connect."""

    def __init__(self, server_port: int, host: str = "127.0.0.1", seed: int = 0) -> None:
        self.port = 0
        self.injected = 0  #: answers given in the server's place
        self._host = host
        self._server_port = server_port
        self._numbers = random.Random(seed)
        self._weather = Weather()
        self._answers: list[Injected] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def set(self, weather: Weather) -> None:
        """Change the weather."""
        self._weather = weather

    def inject(self, answers: list[Injected]) -> None:
        """Answer the next requests like this, each on a connection that is closed afterwards."""
        self._answers[:] = answers
        if answers:
            self.reset_all()

    @property
    def waiting_answers(self) -> int:
        """How many injected answers nobody has fetched yet."""
        return len(self._answers)

    def reset_all(self) -> None:
        """Reset every connection there is."""
        self._call(self._reset_all)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: Callable[[], Awaitable[Any]]) -> None:
        asyncio.run_coroutine_threadsafe(_awaited(work), self._loop).result(10)

    async def _start(self) -> None:
        self._listener = await asyncio.start_server(self._serve, self._host, 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._listener.close()
        await self._reset_all()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather.refuse:
            _reset(writer)
            return
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            if self._answers:
                await self._answer(reader, writer, self._answers.pop(0))
                return
            back, onward = await asyncio.open_connection("127.0.0.1", self._server_port)
            self._writers.add(onward)
            await asyncio.gather(
                self._pass_on(reader, onward, answers=False), self._pass_on(back, writer, answers=True)
            )
        except (OSError, EOFError, ValueError):
            _reset(writer)
        finally:
            for each in (writer, onward):
                if each is not None:
                    self._writers.discard(each)
                    each.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool
    ) -> None:
        passed = 0
        while piece := await reader.read(PIECE_BYTES):
            while self._weather.hold or (answers and self._weather.hold_answers):
                await asyncio.sleep(_HOLD_S)
            weather = self._weather
            pause = weather.latency_s + weather.jitter_s * self._numbers.random()
            if weather.bytes_per_s:
                pause += len(piece) / weather.bytes_per_s
            if pause:
                await asyncio.sleep(pause)
            passed += len(piece)
            if answers and weather.cut_answer_after is not None and passed >= weather.cut_answer_after:
                writer.write(piece[: max(0, len(piece) - (passed - weather.cut_answer_after))])
                with contextlib.suppress(OSError):
                    await writer.drain()
                _reset(writer)
                raise EOFError
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Injected
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                await reader.readexactly(int(value))
        lines = [f"HTTP/1.1 {answer.status} Injected", f"Content-Length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + answer.body)
        await writer.drain()
        self.injected += 1


async def _awaited(work: Callable[[], Awaitable[Any]]) -> None:
    await work()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: the other side sees "connection reset by peer"."""
    opened = writer.get_extra_info("socket")
    if opened is not None:
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
