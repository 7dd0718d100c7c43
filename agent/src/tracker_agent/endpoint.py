"""One server as the whole agent sees it: every lane that ships there goes through its Endpoint.

It probes a server before anything is sent there and while it is away, lets all lanes come back spread over
time and a few at once, and makes everybody wait when the server asks for that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from structlog.typing import FilteringBoundLogger

from .allowance import Allowance
from .answers import PROTOCOL_VERSION, Retry, Server, parse_server
from .breaker import SPLAY_MAX_S, Breaker, Concurrency, splay_s
from .clock import Clock
from .exchange import Answer, TransportError
from .retry import RETRY_AFTER_MAX_S, Backoff
from .turns import Turn, Turns

#: Everybody who was asked to wait comes back later than asked, by up to this part of it.
RETRY_AFTER_JITTER = 0.25


class Sender(Protocol):
    """What is needed of the transport."""

    url: str

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request. Raise TransportError."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True)
class EndpointSettings:
    """What an endpoint is told. Times in seconds."""

    retry_first_s: float = 1.0
    retry_max_s: float = 300.0
    probe_interval_s: float = 300.0  #: how often an address that is no Tracker server is looked at again
    requests_max: int = 4  #: requests at once, over all lanes


class Endpoint:
    """A server, shared by the lanes that ship there. Everything happens in one event loop."""

    def __init__(
        self,
        sender: Sender,
        settings: EndpointSettings,
        allowance: Allowance,
        clock: Clock,
        log: FilteringBoundLogger,
        uniform: Callable[[float, float], float] = random.uniform,
        in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread,
        version: str = "",
    ) -> None:
        self.url = sender.url
        self.settings = settings
        self.allowance = allowance
        self.uniform = uniform  #: draws every random wait, also those of the lanes
        self.in_thread = in_thread  #: runs what takes processor time
        self.server: Server | None = None  #: what it said of itself last
        self.state = "connecting"
        self.reason = ""
        self.epoch: str | None = None  #: as the server named it last; set it to what was remembered
        self.restorations = 0  #: how often another epoch was named since
        self.tell_restored: list[Callable[[str], None]] = []  #: told of a new epoch before anything else is
        self.backfill_at = 0.0  #: old data waits until then, so that live data come first after an outage
        self._sender = sender
        self._clock = clock
        self._log = log.bind(server=sender.url)
        self._version = version
        self._breaker = Breaker()
        self._concurrency = Concurrency(settings.requests_max)
        # One place is kept free of backfill where there are several: a slow request holds up no live data.
        self._requests = Turns(self._concurrency.limit, lambda units: max(1, units - 1))
        self._backoff = Backoff(settings.retry_first_s, settings.retry_max_s, uniform)
        self._probing = asyncio.Lock()
        self._heard_at = clock.monotonic()
        self._probe_at = 0.0
        self._paused_until = 0.0

    @property
    def admits(self) -> bool:
        """Whether requests may be sent now."""
        return not self._breaker.is_open and self._clock.monotonic() >= self._paused_until

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server offers beyond what every server has to."""
        return frozenset() if self.server is None else self.server.capabilities

    @property
    def next_try_s(self) -> float | None:
        """Seconds until the server is asked again, None when nobody waits for that."""
        if self.admits:
            return None
        at = self._probe_at if self._breaker.is_open else self._paused_until
        return max(0.0, at - self._clock.monotonic())

    @property
    def requests_at_once(self) -> int:
        """How many requests may be under way just now."""
        return self._concurrency.limit

    async def ready(self) -> None:
        """Return once requests may be sent. Who comes first probes for everybody."""
        while not self.admits:
            if self._breaker.is_open:
                async with self._probing:
                    while self._breaker.is_open:
                        await self._sleep_until(self._probe_at)
                        await self._probe()
            await self._sleep_until(self._paused_until)

    @property
    def silent(self) -> bool:
        """Whether nobody asked the server anything for long: a restored one must not wait for news."""
        return self._clock.monotonic() - self._heard_at >= self.settings.probe_interval_s

    async def look(self) -> None:
        """Ask the server for its epoch, once for all lanes."""
        async with self._probing:
            if self.silent and not self._breaker.is_open:
                await self._probe()

    def hear(self, epoch: str, restorations: int) -> bool:
        """Take note of the epoch that an answer names. False: the answer is from before it was restored.

        restorations: as it was when the request was sent.
        """
        self._heard_at = self._clock.monotonic()
        if epoch == self.epoch:
            return True
        if restorations != self.restorations:
            return False
        before, self.epoch = self.epoch, epoch
        if before is not None:
            self.restorations += 1
            self._log.warning("the server was restored: learning all positions again", epoch=epoch)
            for tell in list(self.tell_restored):
                tell(epoch)
        return True

    async def take_turn(self, live: bool) -> Turn:
        """Wait for one of the places for requests."""
        return await self._requests.take(1, live)

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request. Raise TransportError. The caller says what came of it: answered() or failed()."""
        headers |= {"X-Tracker-Agent": self._version, "X-Tracker-Protocol": str(PROTOCOL_VERSION)}
        return await self._sender.request(method, path, headers, body)

    def answered(self, took_records: bool) -> None:
        """Note a usable answer: the server is well, whatever it thinks of the request.

        Only a server that takes records has recovered. One that merely talks is not asked more often.
        """
        if not self._breaker.is_open:
            self._breaker.answered()
            self.state, self.reason = "well", ""
            if took_records:
                self._backoff.success()
                self._concurrency.succeeded()
                self._requests.resize(self._concurrency.limit)

    def failed(self, reason: str, retry_after_s: float | None, congested: bool) -> None:
        """Note that there was no usable answer. congested: the server had no room, or no time."""
        now = self._clock.monotonic()
        was_open = self._breaker.is_open
        self._breaker.failed(now)
        if congested:
            self._concurrency.congested()
            self._requests.resize(self._concurrency.limit)
        if retry_after_s is not None:
            pause_s = min(max(retry_after_s, 0.0), RETRY_AFTER_MAX_S)
            pause_s += self.uniform(0.0, RETRY_AFTER_JITTER * pause_s)
            self._paused_until = max(self._paused_until, now + pause_s)
            self.state, self.reason = "retrying", reason
        if self._breaker.is_open and not was_open:
            self._down("retrying", reason, self._backoff.failure(retry_after_s))

    async def _probe(self) -> None:
        restorations = self.restorations
        self._heard_at = self._clock.monotonic()
        try:
            answer = await self.request("GET", "/api/v1/server", {})
        except TransportError as error:
            self._probe_failed(str(error), None)
            return
        found = parse_server(answer, self._clock.wall_ns() / 1e9)
        if isinstance(found, Server):
            if self._breaker.is_open:
                self._well()
            self.server = found
            self.hear(found.epoch, restorations)
        elif isinstance(found, Retry):
            self._probe_failed(found.reason, found.retry_after_s)
        elif self.server is not None:
            # It was one before: more likely something stands in its place for a while, a portal or a
            # proxy that lost it, than that the address is wrong.
            self._probe_failed(found.reason, None)
        else:
            self._down("parked", found.reason, self.settings.probe_interval_s)

    def _probe_failed(self, reason: str, retry_after_s: float | None) -> None:
        if not self._breaker.is_open:
            self.failed(reason, retry_after_s, congested=False)
            return
        self._breaker.failed(self._clock.monotonic())
        self._down("retrying", reason, self._backoff.failure(retry_after_s))

    def _down(self, state: str, reason: str, pause_s: float) -> None:
        if (state, reason) != (self.state, self.reason):
            self._log.warning(
                "not a server to ship to" if state == "parked" else "server away", reason=reason
            )
        self.state, self.reason = state, reason
        self._probe_at = self._clock.monotonic() + pause_s

    def _well(self) -> None:
        now = self._clock.monotonic()
        outage_s = self._breaker.close(now)
        splay = splay_s(outage_s, min(SPLAY_MAX_S, self.settings.retry_max_s))
        back_at = now + self.uniform(0.0, splay)
        self._paused_until = max(self._paused_until, back_at)
        self.backfill_at = self._paused_until + self.uniform(0.0, splay)
        self._concurrency.restart()
        self._requests.resize(self._concurrency.limit)
        if self.reason:
            self._log.info("server is back", outage_s=round(outage_s, 1), pause_s=round(back_at - now, 1))
        self.state, self.reason = "well", ""

    async def _sleep_until(self, at: float) -> None:
        pause_s = at - self._clock.monotonic()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
