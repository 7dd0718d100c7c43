"""The sampler: asks every collector each interval and writes windows into the agent's own stream.

SAMPLE records carry mean, min, max, last and count of each metric; the first window has one sample and
goes out at once. A HOST record goes out at the start and whenever the inventory changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from tracker.protocol import kinds
from tracker.protocol.bodies import Host, Sample

from .clock import Clock
from .collector_thread import CollectorThread, Outcome
from .collectors.collector import Collector, CollectorError, NothingHere, Reading
from .windows import WindowBuilder

#: How long the first window waits for collectors that are slow to start.
FIRST_WINDOW_WAIT_S = 2.0
#: Rates need two readings; the second one comes this soon at the start.
FIRST_INTERVAL_S = 0.25
#: A sample under way for longer counts as stuck.
STUCK_S = 30.0
CLOSE_WAIT_S = 1.5
#: A loop that is this late is stuck; collectors cannot make it late, they have threads of their own.
TURN_S = 60.0


@dataclass
class CollectorState:
    """What status shows of one collector."""

    state: str = "starting"
    reason: str = ""
    samples: int = 0
    failures: int = 0
    skipped: int = 0
    cost_s: float = 0.0
    asked_at: float = 0.0
    facts: dict[str, Any] | None = None
    values: Mapping[str, float] = field(default_factory=dict)  #: of the last sample

    def shown(self, now: float, busy: bool) -> dict[str, Any]:
        """Return plain JSON values."""
        stuck = busy and now - self.asked_at > STUCK_S
        return {
            "state": "stuck" if stuck else self.state,
            "reason": f"no answer for {now - self.asked_at:.0f} s" if stuck else self.reason,
            "samples": self.samples,
            "failures": self.failures,
            "skipped": self.skipped,
            "cost_ms": round(1000 * self.cost_s / max(1, self.samples), 3),
        }


class Sampler:
    """Runs until stop(); run() may be called again after it raised (a full disk, say)."""

    def __init__(
        self,
        collectors: Sequence[Collector],
        inventory: Mapping[str, Any],
        write: Callable[[int, bytes], None],
        clock: Clock,
        log: FilteringBoundLogger,
        interval_s: float,
        window_s: float,
    ) -> None:
        self._collectors = collectors
        self._inventory = inventory
        self._write = write
        self._clock = clock
        self._log = log
        self._interval_s = interval_s
        self._window_s = window_s
        self._threads: list[CollectorThread] = []
        self._states = {collector.name: CollectorState() for collector in collectors}
        self._windows = WindowBuilder()
        self._window_began = clock.monotonic()
        self._sent_inventory: dict[str, Any] | None = None
        self._stopping = asyncio.Event()
        self._delivered = asyncio.Event()
        self._windows_written = 0
        self._records_lost = 0
        self._ticks = 0
        self._turned_at = clock.monotonic()
        self.late = 0

    async def run(self) -> None:
        """Sample until stop() is called."""
        if not self._threads:
            self._threads = [CollectorThread(collector, self._take) for collector in self._collectors]
            await self._first_window()
        due = self._clock.monotonic() + self._interval_s
        while not await self._stopped_within(due - self._clock.monotonic()):
            now = self._turned_at = self._clock.monotonic()
            if now - self._window_began >= self._window_s:
                self._flush(now)
            self._ask()
            due += self._interval_s
            if due <= now:
                # Suspended, or starved of processor time: go on from here instead of catching up.
                self.late += 1
                due = now + self._interval_s

    def stuck(self) -> list[str]:
        """Return ["sampler"] when the loop should have come round and has not."""
        late = self._clock.monotonic() - self._turned_at > self._interval_s + TURN_S
        return ["sampler"] if late and not self._stopping.is_set() else []

    async def stop(self) -> None:
        """Write the window that is open, let go of the collectors."""
        self._stopping.set()
        for thread in self._threads:
            thread.close()
        self._flush(self._clock.monotonic())
        deadline = self._clock.monotonic() + CLOSE_WAIT_S
        # Threads end without telling the event loop.
        while not all(thread.ended() for thread in self._threads) and self._clock.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what status shows under "sampler"."""
        now = self._clock.monotonic()
        busy = {thread.name: thread.busy for thread in self._threads}
        return {
            "windows": self._windows_written,
            "ticks": self._ticks,
            "late": self.late,
            "records_lost": self._records_lost,
            "collectors": {
                name: state.shown(now, busy.get(name, False)) for name, state in self._states.items()
            },
        }

    def latest(self) -> dict[str, float]:
        """Return the last value of each metric."""
        return {name: value for state in self._states.values() for name, value in state.values.items()}

    async def _first_window(self) -> None:
        """Send inventory and one sample soon, so that the machine shows at once."""
        self._window_began = self._clock.monotonic()
        self._ask()
        await self._all_delivered(FIRST_WINDOW_WAIT_S)
        if await self._stopped_within(min(FIRST_INTERVAL_S, self._interval_s)):
            return
        self._windows.take()
        self._ask()
        await self._all_delivered(FIRST_WINDOW_WAIT_S)
        self._flush(self._clock.monotonic())

    def _ask(self) -> None:
        self._ticks += 1
        self._delivered.clear()
        for thread in self._threads:
            state = self._states[thread.name]
            if thread.ask():
                state.asked_at = self._clock.monotonic()
            else:
                state.skipped += 1

    async def _all_delivered(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while any(thread.busy for thread in self._threads):
                    self._delivered.clear()
                    await self._delivered.wait()
        except TimeoutError:
            pass

    async def _stopped_within(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._stopping.wait()
        except TimeoutError:
            pass
        return self._stopping.is_set()

    def _take(self, thread: CollectorThread, outcome: Outcome) -> None:
        """Take in what a collector brought, in the event loop."""
        self._delivered.set()
        state = self._states[thread.name]
        state.cost_s += outcome.cost_s
        state.samples += 1
        result = outcome.result
        if isinstance(result, Reading):
            self._windows.add(result.values)
            state.values = result.values
            state.facts = dict(result.inventory) if result.inventory is not None else state.facts
            reason = "; ".join(result.problems)
            self._enter(thread.name, "degraded" if reason else "ok", reason)
        elif isinstance(result, NothingHere):
            self._enter(thread.name, "nothing here", str(result))
        else:
            state.failures += 1
            ours = isinstance(result, CollectorError)
            reason = str(result) if ours else f"{type(result).__name__}: {result}"
            self._enter(thread.name, "failing", reason, None if ours else result)

    def _enter(self, name: str, new: str, reason: str, error: Exception | None = None) -> None:
        """Log a change of state once, not each sample."""
        state = self._states[name]
        if (state.state, state.reason) != (new, reason):
            if new in ("failing", "degraded"):
                self._log.warning("collector " + new, collector=name, reason=reason, exc_info=error)
            elif new == "nothing here":
                self._log.info("collector finds nothing here", collector=name, reason=reason)
            elif state.state != "starting":
                self._log.info("collector works again", collector=name)
        state.state, state.reason = new, reason

    def _flush(self, now: float) -> None:
        began, self._window_began = self._window_began, now
        time = self._clock.wall_ns()
        self._send_inventory(time)
        windows = self._windows.take()
        if windows:
            sample = Sample(time, max(1, round((now - began) * 1e9)), windows)
            if self._try_write(kinds.SAMPLE, sample.encode()):
                self._windows_written += 1

    def _send_inventory(self, time: int) -> None:
        inventory = dict(self._inventory)
        for state in self._states.values():
            inventory.update(state.facts or {})
        if inventory != self._sent_inventory and self._try_write(kinds.HOST, Host(time, inventory).encode()):
            self._sent_inventory = inventory

    def _try_write(self, kind: int, body: bytes) -> bool:
        """Write one record. A record the disk refuses is lost, counted and said."""
        try:
            self._write(kind, body)
        except OSError as error:
            if not self._records_lost:
                self._log.error("cannot write host metrics", reason=str(error))
            self._records_lost += 1
            return False
        return True
