"""The sampler: asks every collector when it is due, in threads, and has windows written of what they bring.

Windows carry mean, min, max, last and count of each metric; the first one has one sample and goes out at
once. A window is as long as it says: time in which the machine slept, or the agent stood still, ends one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from structlog.typing import FilteringBoundLogger

from .clock import Clock
from .collector_crew import CollectorCrew
from .collector_state import CollectorState
from .collector_thread import CollectorThread, Done, Outcome
from .collectors.collector import Collector, CollectorError, Event, NothingHere, Reading
from .host_records import HostRecords, RunStream, Write
from .streams import StreamKey

#: How long collectors that are slow to start hold up the first window in all, and its first reading.
FIRST_WINDOW_WAIT_S = 2.0
FIRST_READING_WAIT_S = 1.0
#: Rates need two readings; the second one comes this soon at the start.
FIRST_INTERVAL_S = 0.25
CLOSE_WAIT_S = 1.5
#: A loop that is this late is stuck; collectors cannot make it late, they have threads of their own.
TURN_S = 60.0
#: Time without samples, beyond the interval, that is not hidden within a window.
GAP_S = 5.0


class LastReading(NamedTuple):
    """What a collector that works brought last, and how long ago."""

    values: Mapping[str, float]
    age_s: float
    facts: Mapping[str, Any] | None


class Sampler:
    """Runs until stop(); run() may be called again after it raised (a full disk, say).

    write, run_stream: see HostRecords.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        inventory: Mapping[str, Any],
        write: Write,
        clock: Clock,
        log: FilteringBoundLogger,
        interval_s: float,
        window_s: float,
        run_stream: Callable[[StreamKey], RunStream | None] = lambda _: None,
        start: Callable[[Done], CollectorThread] = CollectorThread,
    ) -> None:
        self._collectors = collectors
        self._start = start
        self._clock = clock
        self._log = log
        self._interval_s = interval_s
        self._window_s = window_s
        self._crew: CollectorCrew | None = None
        self._states = {
            each.name: CollectorState(each.every_s(interval_s), each.deadline_s) for each in collectors
        }
        self._records = HostRecords(inventory, write, run_stream, log, clock.monotonic())
        self._stopping = asyncio.Event()
        self._ticks = 0
        self._turned_at = clock.monotonic()
        #: The last moment, by both clocks, at which nothing was missing.
        self._seen = (self._turned_at, clock.wall_ns())
        self._slept_s = clock.slept_s()
        self.late = 0

    async def run(self) -> None:
        """Sample until stop() is called."""
        if self._crew is None:
            self._crew = CollectorCrew(self._collectors, self._take, self._start)
            await self._first_window(self._crew)
        due = self._clock.monotonic() + self._interval_s
        while not await self._stopped_within(due - self._clock.monotonic()):
            now = self._clock.monotonic()
            stalled = self._cut_windows(now)
            self._turned_at = now
            self._seen = (now, self._clock.wall_ns())
            # First, since rates are about the time up to now.
            await self._ask(self._crew, now)
            self._close_windows(at_once=stalled)
            due += self._interval_s
            if due <= self._clock.monotonic():
                # Suspended, or starved of processor time: go on from here instead of catching up.
                self.late += 1
                due = self._clock.monotonic() + self._interval_s

    def stuck(self) -> list[str]:
        """Return ["sampler"] when the loop should have come round and has not."""
        late = self._clock.monotonic() - self._turned_at > self._interval_s + TURN_S
        return ["sampler"] if late and not self._stopping.is_set() else []

    async def stop(self) -> None:
        """Write the window that is open, let go of the collectors."""
        self._stopping.set()
        if self._crew is not None:
            self._crew.close()
        self._flush(self._clock.monotonic(), self._clock.wall_ns())
        deadline = self._clock.monotonic() + CLOSE_WAIT_S
        # Threads end without telling the event loop.
        while self._crew and not self._crew.ended() and self._clock.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what status shows under "sampler"."""
        now = self._clock.monotonic()
        return {
            "ticks": self._ticks,
            "late": self.late,
            "threads": self._crew.threads if self._crew else 0,
            **self._records.status(),
            "collectors": {
                name: state.shown(now, self._is_stuck(name, now)) for name, state in self._states.items()
            },
        }

    def latest(self) -> dict[str, float]:
        """Return the last value of each metric, of collectors that work."""
        return {name: value for state in self._states.values() for name, value in state.values.items()}

    def last_readings(self) -> dict[str, LastReading]:
        """Return what each collector that works brought last."""
        now = self._clock.monotonic()
        return {
            name: LastReading(state.values, now - state.read_at, state.facts)
            for name, state in self._states.items()
            if state.works and not self._is_stuck(name, now)
        }

    @property
    def recent_events(self) -> deque[Event]:
        """The last events that collectors told of, oldest first."""
        return self._records.recent_events

    async def _first_window(self, crew: CollectorCrew) -> None:
        """Send inventory and one sample soon, so that the machine shows at once."""
        began = self._clock.monotonic()
        await self._ask_all(crew, began + FIRST_READING_WAIT_S)
        if await self._stopped_within(min(FIRST_INTERVAL_S, self._interval_s)):
            return
        # What came so far only primed the rates.
        self._records.begin_anew(self._turned_at)
        await self._ask_all(crew, began + FIRST_WINDOW_WAIT_S)
        self._turned_at = self._clock.monotonic()
        self._flush(self._turned_at, self._clock.wall_ns())

    async def _ask_all(self, crew: CollectorCrew, until: float) -> None:
        now = self._clock.monotonic()
        for state in self._states.values():
            state.due = now
        await self._ask(crew, now)
        await crew.wait(until - self._clock.monotonic())

    def _cut_windows(self, now: float) -> bool:
        """End windows where time is missing; return whether the next samples need one of their own."""
        awake_s, slept_s = now - self._turned_at, self._clock.slept_s() - self._slept_s
        self._slept_s += slept_s
        if slept_s > GAP_S:
            # The window ends where the machine was last seen awake. Monotonic time stood still meanwhile, so
            # rates and the next window are as long as they seem.
            self._flush(*self._seen)
            self._records.begin_later(now)
        elif awake_s > self._interval_s + GAP_S:
            # The agent stood still, the machine did not. The rates that come next are about all that time:
            # they get a window that says so.
            self._flush(*self._seen)
            return True
        return False

    def _close_windows(self, at_once: bool) -> None:
        """Write the windows that are over."""
        now, time_ns = self._clock.monotonic(), self._clock.wall_ns()
        if at_once or now - self._records.window_began >= self._window_s - self._interval_s / 2:
            self._flush(now, time_ns)
        else:
            self._records.flush_new_runs(now, time_ns)

    def _flush(self, now: float, time_ns: int) -> None:
        self._seen = (now, time_ns)
        facts = [state.facts for state in self._states.values() if state.facts]
        self._records.flush(now, time_ns, facts)

    async def _ask(self, crew: CollectorCrew, now: float) -> None:
        """Ask the collectors that are due, the slow ones last."""
        self._ticks += 1
        due = []
        for collector in sorted(self._collectors, key=lambda each: self._states[each.name].took_s):
            state = self._states[collector.name]
            if self._is_stuck(collector.name, now):
                state.values = {}
                self._enter(collector.name, "stuck", f"no answer for {state.deadline_s:g} s")
            if not state.is_due(now, self._interval_s / 2):
                continue
            if crew.busy(collector.name):
                state.skipped += 1
                continue
            state.asked_at = now
            due.append(collector)
        await crew.ask(due)

    def _is_stuck(self, name: str, now: float) -> bool:
        """Return whether a collector takes longer for its sample than it may."""
        return self._crew is not None and self._crew.busy(name) and self._states[name].overdue(now)

    async def _stopped_within(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._stopping.wait()
        except TimeoutError:
            pass
        return self._stopping.is_set()

    def _take(self, collector: Collector, outcome: Outcome) -> None:
        """Take in what a collector brought, in the event loop."""
        now = self._clock.monotonic()
        self._seen = (now, self._clock.wall_ns())
        state = self._states[collector.name]
        result = outcome.result
        state.count(outcome.cost_s, outcome.took_s, now)
        state.values = {}
        if isinstance(result, Reading):
            state.values = result.values
            state.facts = dict(result.inventory) if result.inventory is not None else state.facts
            self._records.add(result.values)
            self._records.add_runs(result.runs, state.asked_at - state.interval_s)
            self._records.tell(result.events, now)
            reason = "; ".join(result.problems)
            self._enter(collector.name, "degraded" if reason else "ok", reason)
        elif isinstance(result, NothingHere):
            self._enter(collector.name, "nothing here", str(result))
        else:
            state.failures += 1
            ours = isinstance(result, CollectorError)
            reason = str(result) if ours else f"{type(result).__name__}: {result}"
            self._enter(collector.name, "failing", reason, None if ours else result)

    def _enter(self, name: str, new: str, reason: str, error: Exception | None = None) -> None:
        """Log a change of state once, not each sample."""
        state = self._states[name]
        if (state.state, state.reason) != (new, reason):
            if new in ("failing", "degraded", "stuck"):
                self._log.warning("collector " + new, collector=name, reason=reason, exc_info=error)
            elif new == "nothing here":
                self._log.info("collector finds nothing here", collector=name, reason=reason)
            elif state.state != "starting":
                self._log.info("collector works again", collector=name)
        state.state, state.reason = new, reason
