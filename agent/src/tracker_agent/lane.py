"""READ THIRD: a Lane ships the streams of one credential. It learns positions, reads, uploads, and again.

    Endpoint   (endpoint.py)    says whether the server may be asked now, and by how many
    Positions  (positions.py)   how far the server is with each stream; do the files hold what it has?
    Intake     (intake.py)      reads (tailer.py) what the batcher (batcher.py) allots
    Uploader   (uploader.py)    sends that and acts on the answer

Live data and backlogs travel in requests of their own, so that a large old one holds up no small new one.
Nothing is held here that a crash could lose. A position moves only by the server's word, and after any
failure it is learnt again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from .allowance import MEMORY_PER_BYTE
from .batcher import PENDING_BYTES_GUESSED, BatchLimit, flush_at
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
from .uploader import SETBACKS_MAX, Uploader

#: Requests of a lane under way at once, for live data and as many for backlogs.
FLIGHTS_MAX = 2
#: The loop comes round at least this often, even when nothing happens: so one sees that it turns.
TURN_S = 10.0
#: Statuses of a server that failed at a request, which may be the request's doing.
SERVER_ERRORS = frozenset({500, 501, 505, 507, 508})


@dataclass(frozen=True)
class LaneSettings:
    """What a lane is told besides what its endpoint is told. Times in seconds."""

    flush_interval_s: float
    batch_bytes: int


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
        self.turned_at = clock.monotonic()
        self._state = "connecting"
        self._reason = ""
        self._log = log.bind(credential=credential.name, server=endpoint.url)
        self._settings = settings
        self._endpoint = endpoint
        self._clock = clock
        self._counters = counters
        self._tell_restored = restored
        self.roster = Roster(clock, self._log)
        self.limit = BatchLimit(settings.batch_bytes)
        self.client = IngestClient(credential.key, endpoint, identity, clock, counters)
        self._positions = Positions(self.roster, self.client)
        self._intake = Intake(self.roster, clock, settings.flush_interval_s, ended, exited)
        self._uploader = Uploader(
            self.roster,
            self.client,
            self.limit,
            clock,
            counters,
            self._log,
            endpoint.settings.probe_interval_s,
            self._intake.begin_of,
        )
        self._backoff = Backoff(
            endpoint.settings.retry_first_s, endpoint.settings.retry_max_s, endpoint.uniform
        )
        self._contact_at: float | None = None
        self._next_try: float | None = None
        self._last_flush = -1e9
        self._closed = False
        self._learning: asyncio.Task[None] | None = None
        self._flights: dict[asyncio.Task[None], bool] = {}  # with live data or not
        self._boarding: set[bool] = set()  # a flight of that kind has not read its streams yet
        self._trouble: Unavailable | LockedOut | None = None
        endpoint.tell_restored.append(self._restored)

    def close(self) -> None:
        """Send nothing more after the requests that are in flight."""
        self._closed = True
        if self._restored in self._endpoint.tell_restored:
            self._endpoint.tell_restored.remove(self._restored)
        self.roster.changed.set()

    def retry(self, stream: Stream) -> None:
        """Take up a parked stream now, whatever it was parked for."""
        stream.setbacks = stream.refusals = 0
        self.roster.relearn(stream)

    def ship_as_new(self, stream: Stream, new_id: bytes) -> None:
        """Ship a stream from its beginning under another id: see alias.py."""
        stream.alias = new_id
        stream.acknowledged = 0
        stream.ended = False
        self.retry(stream)

    @property
    def state(self) -> str:
        """One of "connecting", "shipping", "retrying" and "parked"."""
        return self._endpoint.state if self._waits_for_server else self._state

    @property
    def reason(self) -> str:
        """Why it does not ship, "" while it does."""
        return self._endpoint.reason if self._waits_for_server else self._reason

    @property
    def _waits_for_server(self) -> bool:
        # A server that is back and asks its agents to come one after the other is well.
        well = self._endpoint.admits or self._endpoint.state == "well"
        return not well and self._state != "parked"

    @property
    def next_try_s(self) -> float | None:
        """Seconds until the server is tried again, None when it is not waiting."""
        if self._next_try is None:
            return self._endpoint.next_try_s
        return max(0.0, self._next_try - self._clock.monotonic())

    @property
    def last_contact_s(self) -> float | None:
        """Seconds since the server last took or told something, None before the first time."""
        return None if self._contact_at is None else self._clock.monotonic() - self._contact_at

    @property
    def has_work(self) -> bool:
        """Whether the loop should be turning: there is something to do, and no pause before doing it."""
        admitted = self._next_try is None and self._endpoint.admits
        return admitted and self.roster.has_work and not self._closed

    @property
    def is_behind(self) -> bool:
        """Whether more records wait than the next request takes: whatever is less urgent should wait, too."""
        waiting = self.roster.waiting.values()
        return self.has_work and sum(stream.pending for stream in waiting) >= self.limit.bytes

    async def run(self) -> None:
        """Ship until close() is called."""
        self.roster.relearn_all()
        try:
            while not self._closed:
                await self._endpoint.ready()
                try:
                    self.client.greet()
                    await self._ship()
                    continue
                except Unavailable as error:
                    pause = self._backoff.failure()
                    self._fail("retrying", str(error))
                except LockedOut as error:
                    pause = self._endpoint.settings.probe_interval_s
                    self._fail("parked", str(error))
                self._next_try = self._clock.monotonic() + pause
                await asyncio.sleep(pause)
                self._next_try = None
                self.turned_at = self._clock.monotonic()
            await asyncio.gather(*self._tasks())
        finally:
            for task in self._tasks():
                task.cancel()
            # Whoever calls run() again, after a fault in here, begins with nothing under way.
            self._flights.clear()
            self._boarding.clear()
            self._learning = self._trouble = None

    async def _ship(self) -> None:
        """Start what there is to do, as long as the server admits it. Raise what ended a request."""
        while not self._closed and self._endpoint.admits:
            self.turned_at = self._clock.monotonic()
            if self._trouble is not None:
                trouble, self._trouble = self._trouble, None
                raise trouble
            self._collect()
            self.roster.unpark()
            if self.roster.unlearned and self._learning is None:
                self._learning = self._start(self._learn())
            elif self._endpoint.silent and self._learning is None:
                self._learning = self._start(self._endpoint.look())
            await self.roster.wait(min(TURN_S, self._take_off()))

    def _take_off(self) -> float:
        """Start the requests whose time it is. Return in how many seconds to look again."""
        now = self._clock.monotonic()
        look_again_s = TURN_S
        if self._may_fly(live=True):
            current, behind = self._intake.sort()
            full = len(current) >= self.limit.streams or _bytes(current) >= self.limit.bytes
            wait_s = flush_at(now, self._last_flush, self._settings.flush_interval_s, full) - now
            if wait_s <= 0:
                self.roster.rouse_hot()
                current, behind = self._intake.sort()
                if current:
                    self._last_flush = now
                    self._fly(True, current)
            elif current or self.roster.has_hot:
                look_again_s = wait_s
        else:
            _, behind = self._intake.sort()
        if behind and self._may_fly(live=False):
            pause_s = max(self._endpoint.backfill_at - now, self._endpoint.allowance.backfill.delay_s(now))
            if pause_s <= 0:
                self._fly(False, behind)
            else:
                look_again_s = min(look_again_s, pause_s)
        return look_again_s

    def _may_fly(self, live: bool) -> bool:
        # One that has not read yet will take along whatever there is by then.
        return live not in self._boarding and list(self._flights.values()).count(live) < FLIGHTS_MAX

    def _fly(self, live: bool, streams: Sequence[Stream]) -> None:
        limit = self.limit.bytes if live else self.limit.backfill_bytes
        wanted = min(limit, _bytes(streams))
        self._boarding.add(live)
        self._flights[self._start(self._flight(live, wanted))] = live

    async def _flight(self, live: bool, wanted: int) -> None:
        """Read some streams, send what they brought, decide when each is looked at again."""
        boarded: list[Stream] = []
        allowance = self._endpoint.allowance
        try:
            with await allowance.memory.take(MEMORY_PER_BYTE * wanted, live) as memory:
                streams = self._intake.sort()[0 if live else 1]
                bytes_max = max(1, memory.amount // MEMORY_PER_BYTE)
                self._boarding.discard(live)
                parts, readings = await self._intake.read(streams, bytes_max, self.limit.streams, boarded)
                size = sum(part.size for part in parts)
                if not memory.resize(MEMORY_PER_BYTE * size):
                    # A line as large as all the memory, and another one is on its way: later.
                    del parts, readings
                    memory.release()
                    await allowance.memory.settled()
                    for stream in boarded:
                        self.roster.ready(stream)
                    return
                if not live:
                    allowance.backfill.spend(size, self._clock.monotonic())
                if parts:
                    with await self._endpoint.take_turn(live):
                        began = self._clock.monotonic()
                        await self._uploader.send(parts)
                    self.limit.succeeded(size, self._clock.monotonic() - began)
                    self._backoff.success()
                    self._well()
                self._intake.settle(readings)
        except (Unavailable, LockedOut) as error:
            self._trouble = error
            self._learn_from(error, boarded)
            for stream in boarded:
                if stream.parked is None:
                    self.roster.relearn(stream)
        finally:
            self._boarding.discard(live)
            for stream in boarded:
                self.roster.land(stream)

    def _learn_from(self, error: Unavailable | LockedOut, streams: Sequence[Stream]) -> None:
        """Send less at once when it took too long; find out which stream it is that a server fails at."""
        if not isinstance(error, Unavailable):
            return
        if error.timed_out:
            self.limit.slow_down()
        elif error.status in SERVER_ERRORS:
            self.limit.isolate()
            if len(streams) == 1:
                stream = streams[0]
                stream.setbacks += 1
                if stream.setbacks > SETBACKS_MAX:
                    self.roster.park(
                        stream, "server error", str(error), self._endpoint.settings.probe_interval_s
                    )

    async def _learn(self) -> None:
        try:
            with await self._endpoint.take_turn(True):
                if await self._positions.learn():
                    self._well()
        except (Unavailable, LockedOut) as error:
            self._trouble = error

    # Its tasks.

    def _start(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self.roster.changed.set())
        return task

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [*self._flights, *([self._learning] if self._learning is not None else [])]

    def _collect(self) -> None:
        """Forget the tasks that are done. Raise what they did not foresee."""
        for task in self._tasks():
            if task.done():
                self._flights.pop(task, None)
                if task is self._learning:
                    self._learning = None
                task.result()

    # What it says of itself.

    def _fail(self, state: str, reason: str) -> None:
        if (state, reason) != (self._state, self._reason):
            self._log.warning("server refuses" if state == "parked" else "server unavailable", reason=reason)
        self._state, self._reason = state, reason
        self._counters.failures[state] += 1

    def _well(self) -> None:
        if self._state != "shipping":
            self._log.info("shipping", after=self._reason or self._state)
        self._state, self._reason = "shipping", ""
        self._contact_at = self._clock.monotonic()

    def _restored(self, _epoch: str) -> None:
        """Learn all positions again: everything may be elsewhere now."""
        for stream in self.roster.streams.values():
            stream.ended = False
        self.roster.relearn_all()
        self._tell_restored()


def _bytes(streams: Sequence[Stream]) -> int:
    return sum(stream.pending or PENDING_BYTES_GUESSED for stream in streams)
