"""READ THIRD: a Lane ships the streams of one credential. It learns positions, reads, uploads, and again.

    Positions (positions.py)   how far the server is with each stream; do the files hold what it has?
    Intake    (intake.py)      reads (tailer.py) what the batcher (batcher.py) allots
    Uploader  (uploader.py)    sends that and acts on the answer

Nothing is held here that a crash could lose. A position moves only by the server's word, and after any
failure it is learnt again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from .batcher import BatchLimit, flush_at
from .clock import Clock
from .counters import Counters
from .credentials import Credential
from .endpoint import Endpoint
from .ingest_client import IngestClient, LockedOut, Unavailable
from .intake import Intake
from .own_stream import Identity
from .positions import Positions
from .retry import Backoff
from .roster import Roster
from .streams import Stream
from .uploader import Uploader


@dataclass(frozen=True)
class LaneSettings:
    """What a lane is told. Times in seconds."""

    flush_interval_s: float
    batch_bytes: int
    probe_interval_s: float
    retry_first_s: float
    retry_max_s: float


class Lane:
    """Streams that travel with one key. Everything happens in one event loop."""

    def __init__(  # noqa: PLR0913, PLR0917 - its collaborators; nobody else makes one
        self,
        credential: Credential,
        endpoint: Endpoint,
        settings: LaneSettings,
        identity: Identity,
        clock: Clock,
        counters: Counters,
        log: FilteringBoundLogger,
        ended: Callable[[Stream], None],
        exited: Callable[[Stream], None],
        restored: Callable[[], None],
    ) -> None:
        self.credential = credential
        self.state = "connecting"
        self.reason = ""
        self.turned_at = clock.monotonic()
        self._log = log.bind(credential=credential.name, server=endpoint.url)
        self._settings = settings
        self._clock = clock
        self._counters = counters
        self._tell_restored = restored
        self.roster = Roster(clock, self._log)
        self.limit = BatchLimit(settings.batch_bytes)
        self.client = IngestClient(credential.key, endpoint, identity, clock, counters, self._restored)
        self._positions = Positions(self.roster, self.client)
        self._intake = Intake(self.roster, clock, settings.flush_interval_s, ended, exited)
        self._uploader = Uploader(
            self.roster, self.client, self.limit, counters, self._log, settings.probe_interval_s
        )
        self._backoff = Backoff(settings.retry_first_s, settings.retry_max_s, endpoint.uniform)
        self._contact_at: float | None = None
        self._next_try: float | None = None
        self._last_flush = -1e9
        self._closed = False

    def close(self) -> None:
        """Send nothing more after the request that is in flight."""
        self._closed = True
        self.roster.changed.set()

    @property
    def next_try_s(self) -> float | None:
        """Seconds until the server is tried again, None when it is not waiting."""
        return None if self._next_try is None else max(0.0, self._next_try - self._clock.monotonic())

    @property
    def last_contact_s(self) -> float | None:
        """Seconds since the server last took or told something, None before the first time."""
        return None if self._contact_at is None else self._clock.monotonic() - self._contact_at

    @property
    def has_work(self) -> bool:
        """Whether the loop should be turning: there is something to do, and no pause before doing it."""
        return self._next_try is None and self.roster.has_work and not self._closed

    async def run(self) -> None:
        """Ship until close() is called."""
        self.roster.relearn_all()
        while not self._closed:
            try:
                await self.client.check()
                while not self._closed:
                    await self._turn()
                return
            except Unavailable as error:
                pause = self._backoff.failure(error.retry_after_s)
                self._fail("retrying", str(error))
            except LockedOut as error:
                pause = self._settings.probe_interval_s
                self._fail("parked", str(error))
            self._next_try = self._clock.monotonic() + pause
            await asyncio.sleep(pause)
            self._next_try = None
            self.turned_at = self._clock.monotonic()

    async def _turn(self) -> None:
        """Learn what has to be learnt, then send one request's worth, or wait for a reason to."""
        self.turned_at = self._clock.monotonic()
        self.roster.unpark()
        if self.roster.unlearned:
            if await self._positions.learn():
                self._well()
            return
        self.roster.rouse_hot()
        if not self.roster.waiting:
            await self.roster.wait()
            self.turned_at = self._clock.monotonic()
            return
        await self._wait_for_flush()
        parts, readings = await self._intake.read(self.limit.bytes)
        if parts:
            try:
                await self._uploader.send(parts)
            except (Unavailable, LockedOut):
                for stream, _ in readings:
                    self.roster.relearn(stream)
                raise
            self._well()
            self.limit.succeeded()
        self._intake.settle(readings)

    async def _wait_for_flush(self) -> None:
        now = self._clock.monotonic()
        full = sum(stream.pending for stream in self.roster.waiting.values()) >= self.limit.bytes
        due = flush_at(now, self._last_flush, self._settings.flush_interval_s, full)
        if due > now:
            await asyncio.sleep(due - now)
        self._last_flush = self._clock.monotonic()

    def _fail(self, state: str, reason: str) -> None:
        if (state, reason) != (self.state, self.reason):
            self._log.warning("server refuses" if state == "parked" else "server unavailable", reason=reason)
        self.state, self.reason = state, reason
        self._counters.failures[state] += 1

    def _well(self) -> None:
        if self.state != "shipping":
            self._log.info("shipping", after=self.reason or self.state)
        self.state, self.reason = "shipping", ""
        self._contact_at = self._clock.monotonic()
        self._backoff.success()

    def _restored(self, epoch: str) -> None:
        """Learn all positions again: everything may be elsewhere now."""
        self._log.warning("the server was restored: learning all positions again", epoch=epoch)
        for stream in self.roster.streams.values():
            stream.ended = False
        self.roster.relearn_all()
        self._tell_restored()
