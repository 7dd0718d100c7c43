"""The witness: follows writers from when they are seen alive, and finds out how they ended.

It asks the Scene in a thread of its own, one question after the other, and waits a bounded time for each
answer: no evidence is better than a stuck agent, and what is missing is said.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .clock import Clock
from .evidence import Findings
from .exit_status import ExitStatus
from .scene import Baseline, Scene
from .spool_thread import SpoolThread
from .streams import Stream, StreamKey

#: How often counters are taken anew while somebody lives.
REFRESH_S = 5.0
#: How long a dead process may stay unreaped before its wait status is given up.
STATUS_WAIT_S = 2.0
STATUS_LOOK_S = 0.05
#: An answer that takes longer is none.
SCENE_WAIT_S = 5.0
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
    testimony: Testimony | None = None


class Witness:
    """Collects findings about writers. Everything but the scene is for the event loop only.

    told(stream): called when a testimony that was asked for is there.
    """

    def __init__(
        self,
        scene: Callable[[], Scene],
        thread: Callable[[str], SpoolThread],
        clock: Clock,
        told: Callable[[Stream], None],
    ) -> None:
        self._make_scene = scene
        self._start_thread = thread
        self._scene: Scene | None = None
        self._thread: SpoolThread | None = None
        self._clock = clock
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
        if case is not None and case.died_ns is None:
            case.died_ns = self._clock.wall_ns()
            case.deadline = self._clock.monotonic() + STATUS_WAIT_S
            self._enqueue(self._departed, case)

    def testimony(self, stream: Stream) -> Testimony | None:
        """Return what was found out about the end of a stream's writer; None: not yet, told() will follow."""
        case = self._cases.get(stream.key)
        if case is None:
            return Testimony(None, Findings(missing=("its end was not seen: no agent ran here then",)))
        self.died(stream)
        if stream.exited:
            case.deadline = 0.0  # it told itself how it ended
        return case.testimony

    def forget(self, stream: Stream) -> None:
        """Let go of a stream's writer."""
        case = self._cases.pop(stream.key, None)
        if case is not None and case.baseline is not None:
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

    async def _wait(self, refresh_at: float) -> None:
        if self._arrived or self._let_go:
            return
        until = None
        if self._departed:
            until = STATUS_LOOK_S
        elif any(case.died_ns is None for case in self._cases.values()):
            until = max(0.0, refresh_at - self._clock.monotonic())
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
        elif baseline is not None:
            await self._ask(scene.forget, baseline)

    async def _depart(self, scene: Scene, case: _Case) -> None:
        if self._cases.get(case.stream.key) is not case:
            return
        if case.baseline is None:
            self._testify(case, Findings(missing=("it was gone before anything could be looked at",)))
            return
        status: ExitStatus | None = await self._ask(scene.status, case.baseline)
        if status is None and self._clock.monotonic() < case.deadline:
            self._departed.append(case)
            return
        baseline = case.baseline
        findings = None if baseline is None else await self._ask(scene.depart, baseline, status)
        self._testify(case, findings or Findings(status, missing=("it took too long to look",)))
        if baseline is not None:
            case.baseline = None
            await self._ask(scene.forget, baseline)

    def _testify(self, case: _Case, findings: Findings) -> None:
        case.testimony = Testimony(case.died_ns, findings)
        if self._cases.get(case.stream.key) is case:
            self._told(case.stream)

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
