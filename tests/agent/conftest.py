"""What the agent's tests share: a spool, writers in it, and a pipeline in the test's own loop."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.fake_tracker_server import FakeTrackerServer
from tracker.protocol import bodies, kinds
from tracker.protocol.header import Header
from tracker.protocol.identity import boot_id, machine_id
from tracker.protocol.writer import StreamWriter
from tracker_agent.clock import Clock
from tracker_agent.own_stream import Identity, OwnStreams
from tracker_agent.pipeline import Pipeline
from tracker_agent.settings import ServerSettings
from tracker_agent.shipping_settings import PipelineSettings

UID = os.getuid()


def make_header(run: str | None = "run", stream: bytes | None = None, **fields: Any) -> Header:
    defaults: dict[str, Any] = {
        "stream": stream or secrets.token_bytes(16),
        "run": run,
        "segment": 0,
        "base": 0,
        "machine": machine_id(),
        "boot": boot_id(),
        "pid": os.getpid(),
        "started": time.time_ns(),
        "clock": time.monotonic_ns(),
        "writer": "tests/1",
    }
    return Header(**{**defaults, **fields})


class Spool:
    """A spool directory and what tests write into it."""

    def __init__(self, root: Path, uid: int = UID) -> None:
        self.root = root
        self.user = root / str(uid)
        self.user.mkdir(parents=True)

    def run(self, name: str) -> Path:
        path = self.user / name
        path.mkdir(exist_ok=True)
        return path

    def write(
        self,
        run: str = "run",
        records: int = 10,
        exit_code: int | None = 0,
        segment_bytes: int = 2**26,
        header: Header | None = None,
        text: str = "loss",
    ) -> bytes:
        """Write a whole stream of a writer that is gone; return its id."""
        writer = StreamWriter(str(self.run(run)), header or make_header(run), segment_bytes)
        writer.write(kinds.RUN, bodies.Run(time.time_ns(), {"project": "p"}).encode())
        for step in range(records):
            writer.write(kinds.METRICS, bodies.Metrics(time.time_ns(), step, {text: step / 7}).encode())
        if exit_code is not None:
            writer.write(kinds.EXIT, bodies.Exit(time.time_ns(), exit_code).encode())
        writer.close()
        return writer.header.stream

    def segments(self, stream: bytes) -> list[Path]:
        found = self.user.glob(f"*/{stream.hex()}.*.mpl")
        return sorted(path for path in found if not path.parent.is_symlink())

    def content(self, stream: bytes) -> bytes:
        return b"".join(path.read_bytes() for path in self.segments(stream))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def server() -> Iterator[FakeTrackerServer]:
    with FakeTrackerServer() as running:
        yield running


async def eventually(condition: Callable[[], Any], timeout_s: float = 15.0, what: str = "") -> Any:
    """Return the first true value of condition()."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {timeout_s} s: {what or condition}")
        await asyncio.sleep(0.01)


Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path, spool: Spool, server: FakeTrackerServer) -> Start:
    """start(**settings): an async context manager around a running pipeline."""

    @asynccontextmanager
    async def run(**changes: Any) -> AsyncIterator[Pipeline]:
        fields: dict[str, Any] = {
            "state_dir": str(tmp_path / "state"),
            "spools": (str(spool.root),),
            "servers": (ServerSettings(url=server.url, key="key"),),
            "watch": False,
            "scan_interval_s": 0.02,
            "flush_interval_s": 0.02,
            "probe_interval_s": 0.1,
            "retry_first_s": 0.02,
            "retry_max_s": 0.1,
            "request_timeout_s": 5.0,
        }
        settings = PipelineSettings(**{**fields, **changes})
        identity = Identity(machine_id(), boot_id(), "host", "0.1.0")
        own = OwnStreams(settings.state_dir, identity, Clock())
        pipeline = Pipeline(settings, identity, own, Clock(), structlog.get_logger())
        task = asyncio.create_task(pipeline.run())
        try:
            yield pipeline
        finally:
            await pipeline.stop()
            await task
            own.close()

    return run
