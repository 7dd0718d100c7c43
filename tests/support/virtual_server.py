"""The fake server, reached without a socket in virtual time: latency, bandwidth and faults as told.

server = VirtualServer(latency_s=0.01, bytes_per_s=125_000)
server.fault = lambda path, body: Answer(503, {}, b"")     # or a TransportError, or None: well
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tests.support.fake_tracker_server import FakeTrackerServer
from tracker_agent.exchange import Answer, TransportError

INGEST = "/api/v1/ingest"
OFFSETS = "/api/v1/streams/offsets"
SERVER = "/api/v1/server"


@dataclass
class Request:
    """A request that came in, and when."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0  #: of the answer; 0: there was none


class VirtualServer:
    """A Sender of the agent. The link is shared by what is under way, as a real one is."""

    url = "http://virtual"

    def __init__(self, latency_s: float = 0.01, bytes_per_s: float = 0.0) -> None:
        self.fake = FakeTrackerServer()
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self.fault: Callable[[str, bytes], Answer | TransportError | None] = lambda path, body: None
        self.requests: list[Request] = []
        self.under_way = 0
        self.under_way_max = 0

    def times(self, path: str) -> list[float]:
        return [request.at for request in self.requests if request.path == path]

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        request = Request(asyncio.get_running_loop().time(), path, dict(headers), body or b"")
        self.requests.append(request)
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        try:
            await self._travel(len(request.body))
            fault = self.fault(path, request.body)
            if isinstance(fault, TransportError):
                raise fault
            answer = fault or self._truth(request)
            request.status = answer.status
            return answer
        finally:
            self.under_way -= 1

    async def _travel(self, size: int) -> None:
        await asyncio.sleep(self.latency_s)
        while self.bytes_per_s and size > 0:
            part = min(size, 16 * 1024)
            await asyncio.sleep(part * self.under_way / self.bytes_per_s)
            size -= part

    def _truth(self, request: Request) -> Answer:
        asked: Any = SimpleNamespace(path=request.path, headers=request.headers)
        response = self.fake._truth(asked, request.body)
        return Answer(response.status, {}, bytes(response.body))  # type: ignore[arg-type]


def timed_out() -> TransportError:
    """What the transport raises when no answer came in time."""
    error = TransportError("no answer within 60 s")
    error.__cause__ = TimeoutError()
    return error
