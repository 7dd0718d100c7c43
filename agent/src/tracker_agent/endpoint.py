"""One server as the whole agent sees it: every lane that ships there goes through its Endpoint."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from structlog.typing import FilteringBoundLogger

from .allowance import Allowance
from .clock import Clock
from .transport import Answer


class Sender(Protocol):
    """What is needed of the transport."""

    url: str

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request. Raise TransportError."""
        ...


@dataclass(frozen=True)
class EndpointSettings:
    """What an endpoint is told. Times in seconds."""

    retry_first_s: float = 1.0
    retry_max_s: float = 300.0
    probe_interval_s: float = 300.0  #: how often an address that is no Tracker server is looked at again
    requests_max: int = 4  #: requests with records in flight at once, over all lanes


class Endpoint:
    """A server, shared by the lanes that ship there."""

    def __init__(
        self,
        sender: Sender,
        settings: EndpointSettings,
        allowance: Allowance,
        clock: Clock,
        log: FilteringBoundLogger,
        uniform: Callable[[float, float], float] = random.uniform,
        in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self.url = sender.url
        self.settings = settings
        self.allowance = allowance
        self.uniform = uniform  #: draws every random wait, also those of the lanes
        self.in_thread = in_thread  #: runs what takes processor time
        self._sender = sender
        self._clock = clock
        self._log = log.bind(server=sender.url)

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request. Raise TransportError."""
        return await self._sender.request(method, path, headers, body)
