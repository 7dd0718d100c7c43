"""The witness: follows writers from when they are seen alive, and finds out how they ended.

It asks the Scene in a thread of its own, one question after the other, and waits a bounded time for each
answer: no evidence is better than a stuck agent, and what is missing is said.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from structlog.typing import FilteringBoundLogger

from .clock import Clock
from .evidence import Findings
from .exit_status import ExitStatus
from .scene import Baseline, Scene
from .spool_thread import SpoolThread
from .streams import Stream, StreamKey
from .witness_memory import Remembered, WitnessMemory

#: How often counters are taken anew while somebody lives.
REFRESH_S = 5.0
#: How long a dead process may stay unreaped before its wait status is given up.
STATUS_WAIT_S = 2.0
STATUS_LOOK_S = 0.05
#: An answer that takes longer is none.
SCENE_WAIT_S = 5.0
#: What was seen is written down this often at most, for the agent after a restart.
REMEMBER_S = 1.0
NO_AGENT = "its end was not seen: no agent ran here then"
#: Arrivals and departures that may wait to be looked into; of more, nothing is found out.
WAITING_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Testimony:
    """What was found out about one writer's end, and when that was (ns since 1970; None: nobody saw it)."""

    died_ns: int | None
    findings: Findings


@dataclass(eq=False, slots=True)
class _Case:
    """One writer: a process, as one stream's lock names it."""

    stream: Stream
    pid: int
    died_ns: int | None = None
    deadline: float = 0.0
    baseline: Baseline | None = None
    looked: bool = False  #: its baseline was taken, or cannot be
    late: bool = False  #: it ended while no agent ran
    testimony: Testimony | None = None


class Witness:
    """Collects findings about writers. Everything but the scene is for the event loop only.

    told(stream): called when a testimony that was asked for is there.
    """

    def __init__(
        self,
        scene: Callable[[], Scene],
        thread: Callable[[str], SpoolThread],
        memory: WitnessMemory,
        clock: Clock,
        log: FilteringBoundLogger,
        told: Callable[[Stream], None],
    ) -> None:
        self._make_scene = scene
        self._start_thread = thread
        self._scene: Scene | None = None
        self._thread: SpoolThread | None = None
        self._memory = memory
        self._remembered: dict[StreamKey, Remembered] | None = None  # None: not read yet
        self._asked: dict[StreamKey, Stream] = {}  # before it was
        self._remember_at: float | None = None
        self._clock = clock
        self._log = log
        self._told = told
        self._cases: dict[StreamKey, _Case] = {}
        self._arrived: deque[_Case] = deque()
        self._departed: deque[_Case] = deque()
        self._let_go: deque[Baseline] = deque()
        self._something = asyncio.Event()
        self._unlooked = 0
        self._timeouts = 0

    def lives(self, stream: Stream) -> None:
        """Follow a stream's writer. May be called again and again."""
        pid = stream.entry.holder
        case = self._cases.get(stream.key)
        if not pid or stream.own or (case is not None and case.pid == pid):
            return
        if case is not None:
            self.forget(stream)
        case = self._cases[stream.key] = _Case(stream, pid)
        self._enqueue(self._arrived, case)

    def died(self, stream: Stream) -> None:
        """Find out how a stream's writer ended. May be called again."""
        case = self._cases.get(stream.key)
        if case is not None and case.died_ns is None and not case.late:
            case.died_ns = self._clock.wall_ns()
            case.deadline = self._clock.monotonic() + STATUS_WAIT_S
            self._enqueue(self._departed, case)

    def testimony(self, stream: Stream) -> Testimony | None:
        """Return what was found out about the end of a stream's writer; None: not yet, told() will follow."""
        case = self._cases.get(stream.key)
        if case is None:
            return self._recall(stream)
        self.died(stream)
        if stream.exited:
            case.deadline = 0.0  # it told itself how it ended
        return case.testimony

    def _recall(self, stream: Stream) -> Testimony | None:
        """Return what was seen of a writer before this agent was started, or look at what is left."""
        if self._remembered is None:
            self._asked[stream.key] = stream
            return None
        known = self._remembered.get(stream.key)
        if known is not None and known.findings is not None:
            return Testimony(known.died_ns, known.findings)
        if known is None or known.baseline is None:
            return Testimony(None, Findings(missing=(NO_AGENT,)))
        case = self._cases[stream.key] = _Case(stream, known.baseline.pid, baseline=known.baseline, late=True)
        self._enqueue(self._departed, case)
        return case.testimony

    def forget(self, stream: Stream) -> None:
        """Let go of a stream's writer."""
        self._asked.pop(stream.key, None)
        if self._remembered and self._remembered.pop(stream.key, None) is not None:
            self._changed()
        case = self._cases.pop(stream.key, None)
        if case is None:
            return
        self._changed()
        if case.baseline is not None:
            self._let_go.append(case.baseline)
            case.baseline = None
            self._something.set()

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what status shows under "evidence"."""
        problem = "not opened yet" if self._scene is None else self._scene.kernel_log_problem()
        return {
            "writers": sum(case.died_ns is None for case in self._cases.values()),
            "kernel_log": problem or "read",
            "unlooked": self._unlooked,
            "timeouts": self._timeouts,
        }

    async def close(self) -> None:
        """Let go of everything, in the thread that holds it."""
        if self._thread is not None:
            if self._remember_at is not None:
                await self._remember()
            if self._scene is not None:
                await self._ask(self._scene.close)
            self._thread.close()

    async def run(self) -> None:
        """Look into arrivals and departures until cancelled."""
        if self._thread is None:
            self._thread = self._start_thread("evidence")
        while self._scene is None:
            self._scene = await self._ask(self._make_scene)
        scene = self._scene
        await self._read_memory()
        refresh_at = self._clock.monotonic() + REFRESH_S
        while True:
            await self._wait(refresh_at)
            self._something.clear()
            while self._let_go:
                await self._ask(scene.forget, self._let_go.popleft())
            while self._arrived:
                await self._arrive(scene, self._arrived.popleft())
            for _ in range(len(self._departed)):
                await self._depart(scene, self._departed.popleft())
            if self._clock.monotonic() >= refresh_at:
                refresh_at = self._clock.monotonic() + REFRESH_S
                alive = [case.baseline for case in self._cases.values() if case.died_ns is None]
                await self._ask(scene.refresh, [each for each in alive if each is not None])
            if self._remember_at is not None and self._clock.monotonic() >= self._remember_at:
                await self._remember()

    async def _wait(self, refresh_at: float) -> None:
        if self._arrived or self._let_go:
            return
        until = None
        if self._departed:
            until = STATUS_LOOK_S
        elif any(case.died_ns is None for case in self._cases.values()):
            until = max(0.0, refresh_at - self._clock.monotonic())
        if self._remember_at is not None:
            left = max(0.0, self._remember_at - self._clock.monotonic())
            until = left if until is None else min(until, left)
        try:
            async with asyncio.timeout(until):
                await self._something.wait()
        except TimeoutError:
            pass

    async def _arrive(self, scene: Scene, case: _Case) -> None:
        if self._cases.get(case.stream.key) is not case:
            return
        baseline = await self._ask(scene.arrive, case.pid, case.stream.header.clock)
        if self._cases.get(case.stream.key) is case:
            case.baseline, case.looked = baseline, True
            self._changed()
        elif baseline is not None:
            await self._ask(scene.forget, baseline)

    async def _depart(self, scene: Scene, case: _Case) -> None:
        if self._cases.get(case.stream.key) is not case:
            return
        try:
            await self._look_at(scene, case)
        except Exception as error:
            # Whatever went wrong, somebody waits for a word.
            self._testify(case, Findings(missing=(f"looking failed: {error!r}",)))
            raise

    async def _look_at(self, scene: Scene, case: _Case) -> None:
        if case.baseline is None:
            self._testify(
                case,
                Findings(missing=("it was gone, or hidden from the agent, before anything was looked at",)),
            )
            return
        status: ExitStatus | None = await self._ask(scene.status, case.baseline)
        if status is None and self._clock.monotonic() < case.deadline:
            self._departed.append(case)
            return
        baseline = case.baseline
        findings = None if baseline is None else await self._ask(scene.depart, baseline, status)
        findings = findings or Findings(status, missing=("it took too long to look",))
        if case.late:
            findings = replace(findings, missing=(*findings.missing, NO_AGENT), witnessed=False)
        self._testify(case, findings)
        if baseline is not None:
            case.baseline = None
            await self._ask(scene.forget, baseline)

    def _testify(self, case: _Case, findings: Findings) -> None:
        case.testimony = Testimony(case.died_ns, findings)
        self._changed()
        if self._cases.get(case.stream.key) is case:
            self._told(case.stream)

    # What outlives a restart of the agent.

    def _changed(self) -> None:
        if self._remember_at is None:
            self._remember_at = self._clock.monotonic() + REMEMBER_S
            self._something.set()

    async def _read_memory(self) -> None:
        if self._remembered is None:
            found = await self._ask(self._memory.read)
            self._remembered, complaint = found or ({}, "what was seen before a restart cannot be read")
            if complaint:
                self._log.warning("evidence", problem=complaint)
        asked, self._asked = self._asked, {}
        for stream in asked.values():
            self._told(stream)

    async def _remember(self) -> None:
        self._remember_at = None
        known = dict(self._remembered or {})
        for key, case in self._cases.items():
            findings = None if case.testimony is None else case.testimony.findings
            if findings is not None or case.baseline is not None:
                known[key] = Remembered(case.died_ns, findings, case.baseline if findings is None else None)
        try:
            await self._ask(self._memory.write, known)
        except OSError as error:
            self._log.error("evidence cannot be kept over a restart", error=str(error))

    def _enqueue(self, queue: deque[_Case], case: _Case) -> None:
        if len(queue) >= WAITING_MAX:
            self._unlooked += 1
            if queue is self._departed:
                self._testify(case, Findings(missing=("too many writers ended at once",)))
            return
        queue.append(case)
        self._something.set()

    async def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Return the scene's answer, None when it takes too long."""
        assert self._thread is not None
        try:
            async with asyncio.timeout(SCENE_WAIT_S):
                return await self._thread.call(question, *arguments)
        except TimeoutError:
            self._timeouts += 1
            return None
