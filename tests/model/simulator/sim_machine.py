"""What else the agent takes from its machine: clocks, threads, deaths and hints, simulated."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from tracker_agent.clock import Clock
from tracker_agent.liveness import Deaths
from tracker_agent.scene import Baseline, Scene
from tracker_agent.spool_thread import SpoolThread
from tracker_agent.watcher import Watcher

from .agent_loop import AgentLoop
from .host import Host
from .sim_disk import START_NS


class SimClock(Clock):
    """The host's clocks."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def wall_ns(self) -> int:
        return START_NS + int(self._host.world.now * 1e9) + self._host.disk.wall_offset_ns

    def monotonic_ns(self) -> int:
        return int(self._host.world.now * 1e9)

    def monotonic(self) -> float:
        return self._host.world.now


class SimThread(SpoolThread):
    """Runs calls one after the other, at once or later; not while the disk hangs."""

    def __init__(self, name: str, host: Host, loop: AgentLoop) -> None:
        self.name = name
        self._host = host
        self._loop = loop
        self._outstanding = set()
        self._queue: deque[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        world = self._host.world
        slow = world.chance(self._host.faults.disk_slow)
        if not slow and not self._outstanding and not self._host.disk.hung:
            self._loop.step()
            return function(*arguments)
        self._host.fired("disk_hung" if self._host.disk.hung else "disk_slow")
        future = self._loop.create_future()
        self._outstanding.add(future)
        self._queue.append((future, function, arguments))
        if len(self._queue) == 1:
            self._loop.call_later(world.random.uniform(0, 0.3), self._run_next)
        return await future

    def _run_next(self) -> None:
        if self._host.disk.hung:
            self._loop.call_later(0.5, self._run_next)
            return
        future, function, arguments = self._queue[0]
        result: Any = None
        error: Exception | None = None
        try:
            result = function(*arguments)
        except Exception as raised:
            error = raised
        self._loop.call_later(self._host.world.random.uniform(0, 0.05), self._settle, future, result, error)

    def _settle(self, future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        self._queue.popleft()
        self._outstanding.discard(future)
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        if self._queue:
            self._loop.call_soon(self._run_next)

    def close(self) -> None:
        pass


class SimDeaths(Deaths):
    """Tells of deaths a little later, as a pidfd does."""

    def __init__(self, pidfds_max: int, died: Callable[[int], None], host: Host, loop: AgentLoop) -> None:
        super().__init__(pidfds_max, died)
        self._host = host
        self._loop = loop

    def watch(self, pid: int) -> bool:
        if pid in self._pidfds:
            return True
        process = self._host.processes.get(pid)
        if pid <= 0 or len(self._pidfds) >= self._pidfds_max or process is None or not process.alive:
            return False
        self._pidfds[pid] = id(process)
        process.at_death.append(lambda: self._loop.call_soon(self._told, pid, id(process)))
        return True

    def _told(self, pid: int, process: int) -> None:
        if self._pidfds.get(pid) == process:
            self._readable(pid)

    def forget(self, pid: int) -> None:
        self._pidfds.pop(pid, None)


class SimScene(Scene):
    """Sees nothing of the ends of processes."""

    def __init__(self, kernel_log: bool = True) -> None:
        pass

    def kernel_log_problem(self) -> str:
        return "simulated"

    def arrive(self, pid: int, stream_began_ns: int) -> Baseline | None:
        return None

    def refresh(self, baselines: Iterable[Baseline]) -> None:
        pass

    def close(self) -> None:
        pass


class SimWatcher(Watcher):
    """Hints, once per arming; some get lost."""

    def __init__(self, changed: Callable[[str], None], host: Host, loop: AgentLoop) -> None:
        self.problem = None
        self._host = host
        self._loop = loop
        self._tell = changed
        self._paths: dict[str, None] = {}
        host.disk.changed = self._changed_on_disk

    @property
    def armed(self) -> int:
        return len(self._paths)

    def arm(self, path: str) -> bool:
        self._loop.step()
        if not self._host.disk.exists(path):
            return False
        self._paths[path] = None
        return True

    def disarm(self, path: str) -> None:
        self._paths.pop(path, None)

    def _changed_on_disk(self, path: str) -> None:
        if path in self._paths and not self._loop.dead:
            del self._paths[path]
            if self._host.world.chance(self._host.faults.hint_lost):
                self._host.fired("hint_lost")
            else:
                self._loop.call_later(0.001, self._tell, path)

    def close(self) -> None:
        self._paths.clear()
