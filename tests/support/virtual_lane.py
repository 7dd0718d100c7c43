"""A lane of the agent in virtual time: real files, real decisions, no threads, no sockets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog

from tests.support.virtual_server import VirtualServer
from tests.support.virtual_time import VirtualClock
from tracker_agent.allowance import Allowance
from tracker_agent.counters import Counters
from tracker_agent.disk import Disk
from tracker_agent.endpoint import Endpoint, EndpointSettings
from tracker_agent.lane import Lane, LaneSettings
from tracker_agent.open_files import OpenFiles
from tracker_agent.opening import Place
from tracker_agent.own_stream import Identity
from tracker_agent.streams import Stream
from tracker_agent.tailer import Tail


class InlineThread:
    """Stands for a SpoolThread: runs what it is given at once, or, hung, never."""

    def __init__(self, name: str = "disk") -> None:
        self.name = name
        self.hung = False
        self.busy = False

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.hung:
            await asyncio.Event().wait()
        return function(*arguments)


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """Stand for asyncio.to_thread."""
    return function(*arguments)


@dataclass
class VirtualAgent:
    """One endpoint and the lanes that share it. Build it inside run_virtually()."""

    root: Path
    server: VirtualServer = field(default_factory=VirtualServer)
    settings: EndpointSettings = field(default_factory=EndpointSettings)
    uniform: Callable[[float, float], float] = field(default=lambda low, high: high)
    memory_bytes: int = 32 * 2**20
    backfill_bytes_per_s: int = 2**40
    batch_bytes: int = 4 * 2**20

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.counters = Counters()
        self.log = structlog.get_logger()
        self.allowance = Allowance(self.clock, self.memory_bytes, self.backfill_bytes_per_s)
        self.endpoint = Endpoint(
            self.server, self.settings, self.allowance, self.clock, self.log, self.uniform, at_once, "9.9"
        )
        self.files = OpenFiles(Disk(), 64)
        self.thread: Any = InlineThread()
        self.lanes: list[Lane] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ended: list[Stream] = []
        self.restored = 0

    def lane(self, key: str | None = "key") -> Lane:
        """Make a lane and start it."""
        settings = LaneSettings(0.2, self.batch_bytes)
        credential: Any = SimpleNamespace(name=key, key=key, server=self.server.url)
        lane = Lane(
            credential, self.endpoint, settings, Identity("machine", "boot", "host", "9.9"), self.clock,
            self.counters, self.log, self.ended.append, lambda stream: None, self._restored,
        )  # fmt: skip
        self.lanes.append(lane)
        self.tasks.append(asyncio.ensure_future(lane.run()))
        return lane

    def stream(self, stream: bytes, run: str = "run", live: bool = False, thread: Any = None) -> Stream:
        """Make a stream of what lies in <root>/<uid>/<run>."""
        place = Place(str(self.root), str(os.getuid()), run, os.getuid())
        tail = Tail(place, stream, self.files)
        self.scan(tail)
        header = tail.header()
        assert header is not None
        entry: Any = SimpleNamespace(place=place, user="ada", stream=stream, tail=tail, finished=False)
        return Stream(entry, header, thread or self.thread, own=False, live=live)

    def scan(self, tail: Tail) -> None:
        """Notice which segments there are, and how long the last one is."""
        start = tail.segments.stream.hex()
        names = [name for name in os.listdir(tail.segments.place.path) if name.startswith(start)]
        segments = sorted(name for name in names if name.endswith(".mpl"))
        tail.segments.set_numbers(int(name.split(".")[1]) for name in segments)
        tail.header()
        tail.grown(os.path.getsize(os.path.join(tail.segments.place.path, segments[-1])))

    async def until(
        self, condition: Callable[[], Any], within_s: float = 3600.0, step_s: float = 0.01
    ) -> float:
        """Let time pass until something is true; return how much of it did."""
        began = self.clock.monotonic()
        while not condition():
            assert self.clock.monotonic() - began < within_s, f"not within {within_s} s"
            for task in self.tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(step_s)
        return self.clock.monotonic() - began

    async def close(self) -> None:
        """End the lanes."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.files.close_all()

    def _restored(self) -> None:
        self.restored += 1
