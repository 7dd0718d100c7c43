"""One agent: the real Pipeline and everything below it, on the simulated machine. It dies and comes back."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from tracker.protocol import bodies, kinds
from tracker.protocol.header import Header
from tracker_agent.machine import Machine
from tracker_agent.own_stream import Identity, OwnStreams
from tracker_agent.pipeline import Pipeline
from tracker_agent.shipping_settings import PipelineSettings

from .agent_loop import AgentLoop, ProcessDiedError
from .files_of_writers import SimWriter, WriterFiles
from .host import Host, Process
from .network import Network, SimSender
from .process_disk import ProcessDisk
from .sim_machine import SimClock, SimDeaths, SimScene, SimThread, SimWatcher
from .sim_remover import SimRemover
from .trainings import MACHINE
from .world import World

STATE = "/simulated/state"
OWN_SEGMENT_BYTES = 1500
SAMPLE_EVERY_S = 4.0


class AgentProcess:
    """A running agent."""

    def __init__(
        self,
        host: Host,
        files: WriterFiles,
        networks: Mapping[str, Network],
        settings: PipelineSettings,
        log: AgentLog,
    ) -> None:
        self.host = host
        self.process: Process = host.start("agent")
        self.loop = AgentLoop(host.world, self.process.die)
        self.process.at_death.append(self.loop.kill)
        self.disk = ProcessDisk(host, self.loop)
        self.own_streams: dict[bytes, str] = {}  #: stream → credential
        self._files = files
        clock = SimClock(host)
        identity = Identity(MACHINE, host.boot, "node-1", "0.0")
        self.own = SimOwnStreams(STATE, identity, clock, OWN_SEGMENT_BYTES, self._new_id, self._open_writer)
        self.own.pid = self.process.pid
        machine = Machine(
            disk=self.disk,
            uid=0,
            thread=lambda name: SimThread(name, host, self.loop),
            in_thread=self._in_thread,
            remover=lambda disk: SimRemover(self.disk, host),
            scene=SimScene,
            deaths=lambda most, died: SimDeaths(most, died, host, self.loop),
            watcher=lambda changed: SimWatcher(changed, host, self.loop),
            uniform=host.world.random.uniform,
        )
        self.pipeline = Pipeline(
            settings,
            identity,
            self.own,
            clock,
            log,  # type: ignore[arg-type]
            connect=lambda server, _: SimSender(networks[server.url], self.loop),
            machine=machine,
        )
        self.task: Any = None
        self.loop.call_soon(self._begin)

    def _begin(self) -> None:
        self.task = self.loop.create_task(self.pipeline.run())
        self.loop.call_later(SAMPLE_EVERY_S, self._sample)

    def _sample(self) -> None:
        now = SimClock(self.host).wall_ns()
        try:
            self.own.stream().write(
                kinds.SAMPLE, bodies.Sample(now, 10**9, {"cpu": (1.0, 1.0, 1.0, 1.0, 1)}).encode()
            )
        except OSError:
            pass  # the sampler counts what it drops
        self.loop.call_later(SAMPLE_EVERY_S, self._sample)

    def stop(self) -> None:
        """Stop as SIGTERM does."""

        async def stop() -> None:
            await self.pipeline.stop(3.0)
            await self.task
            self.own.close()
            self.loop.kill()

        self.loop.call_soon(lambda: self.loop.create_task(stop()))

    def _new_id(self) -> bytes:
        return self.host.world.random.randbytes(16)

    def _open_writer(self, directory: str, header: Header, segment_bytes: int) -> SimWriter:
        self.loop.step()
        self.host.disk.make_directories(directory, 0)
        self.own_streams[header.stream] = directory.rpartition("/")[2]
        return OwnWriter(self._files, self.process, 0, directory, header, segment_bytes, self.loop)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.host.world.chance(self.host.faults.disk_slow):
            await asyncio.sleep(self.host.world.random.uniform(0, 0.2))
        return function(*arguments)


class SimOwnStreams(OwnStreams):
    """Own streams of a process that is not the one that simulates it."""

    pid = 0

    def _header(self) -> Header:
        return super()._header()._replace(pid=self.pid)


class OwnWriter(SimWriter):
    """Writes an own stream; the agent's disk may refuse, and its death may come within a write."""

    def __init__(
        self,
        files: WriterFiles,
        process: Process,
        uid: int,
        directory: str,
        header: Header,
        size: int,
        loop: AgentLoop,
    ) -> None:
        self._loop = loop
        super().__init__(files, process, uid, directory, header, size)

    def write(self, kind: int, body: bytes) -> None:
        host, files = self._files.host, self._files
        files.torn = self._loop.fuse == 1
        files.short = not files.torn and host.world.chance(host.faults.write_failed)
        if files.short:
            host.fired("write_failed")
        try:
            if not files.torn:
                self._loop.step()
            super().write(kind, body)
        except ProcessDiedError:
            self._loop.kill()
            raise
        finally:
            files.torn = files.short = False


class AgentLog:
    """Takes the agent's log lines. A task that crashes is a fault of the agent, whatever befell it."""

    def __init__(self, world: World) -> None:
        self.crashes: list[str] = []
        self._world = world

    def bind(self, **_fields: Any) -> AgentLog:
        return self

    def info(self, event: str, **fields: Any) -> None:
        if self._world.log is not None:
            self._world.log.append(f"{self._world.now:.6f} agent: {event} {fields}")

    debug = warning = info

    def error(self, event: str, **fields: Any) -> None:
        problem = fields.get("exc_info")
        if isinstance(problem, BaseException):
            frames = reversed(traceback.extract_tb(problem.__traceback__))
            where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in frames)
            self.crashes.append(f"{event}: {problem!r} in {where}")
        self.info(event, **fields)

    exception = critical = error
