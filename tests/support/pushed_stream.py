"""A record stream pushed to a server's real ingest by a test, without files and without an agent."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from typing import Any

import msgpack
import zstandard

from tracker.protocol import bodies, codec, kinds
from tracker.protocol.header import Header, encode_header

from .server_process import ServerProcess

MACHINE = "0123456789abcdef0123456789abcdef"


class PushedStream:
    """One writer's stream. Records are collected until push(). run=None makes a stream about the host."""

    def __init__(
        self,
        server: ServerProcess,
        run: str | None,
        project: str = "",
        *,
        host: str = "node-07",
        machine: str = MACHINE,
        user: str = "mira",
        rank: int | None = None,
        started: int | None = None,
        stop: bool | None = None,
        **fields: Any,
    ) -> None:
        self.server = server
        self.run = run
        self.project = project
        self.host = host
        self.machine = machine
        self.stream = os.urandom(16)
        self.started = started or time.time_ns()
        self._owner = {"uid": 1000, "user": user}
        self._seeds = codec.Seeds(self.stream, 0)
        self._offset = 0
        header = Header(
            stream=self.stream,
            run=run,
            segment=0,
            base=0,
            machine=machine,
            boot="boot",
            pid=4242,
            started=self.started,
            clock=0,
            writer="test/0",
            host=host,
            rank=rank,
            stop=stop,
        )
        self._bytes = encode_header(header)
        if run is not None:
            self.record(kinds.RUN, bodies.Run(self.started, {"project": project, **fields}).encode())

    @property
    def path(self) -> str:
        """The address of the run's page."""
        return f"/default/{self.project}/{self.run}"

    def record(self, kind: int, body: bytes) -> PushedStream:
        """Add one record."""
        self._bytes += codec.encode_line(kind, body, self._seeds[kind])
        return self

    def log(self, step: int | None, values: dict[str, float], time_ns: int | None = None) -> PushedStream:
        """Add METRICS."""
        return self.record(
            kinds.METRICS, bodies.Metrics(time_ns or time.time_ns(), step, dict(values)).encode()
        )

    def print(self, *lines: str, stream: str = "stdout") -> PushedStream:
        """Add CONSOLE lines."""
        return self.record(kinds.CONSOLE, bodies.Console(time.time_ns(), stream, list(lines)).encode())

    def config(self, values: dict[str, Any]) -> PushedStream:
        """Add CONFIG."""
        return self.record(kinds.CONFIG, bodies.Patch(time.time_ns(), values).encode())

    def exit(
        self, code: int = 0, exception: dict[str, str] | None = None, facts: dict[str, Any] | None = None
    ) -> PushedStream:
        """Add EXIT."""
        return self.record(kinds.EXIT, bodies.Exit(time.time_ns(), code, exception, facts).encode())

    def observe(self, other: PushedStream, state: str, **facts: Any) -> PushedStream:
        """Add OBSERVED, in a stream about the host."""
        seen = bodies.Observed(time.time_ns(), 1000, other.stream, state, facts)
        return self.record(kinds.OBSERVED, seen.encode())

    def sample(
        self, values: dict[str, float], about: PushedStream | None = None, time_ns: int | None = None
    ) -> PushedStream:
        """Add SAMPLE, in a stream about the host: of the machine, or of another stream's writer."""
        windows = {name: (value, value, value, value, 15) for name, value in values.items()}
        target = None if about is None else (1000, about.stream)
        sample = bodies.Sample(time_ns or time.time_ns(), 30 * 10**9, windows, target)
        return self.record(kinds.SAMPLE, sample.encode())

    def alert(
        self, title: str, text: str = "", level: str = "error", time_ns: int | None = None, **facts: Any
    ) -> PushedStream:
        """Add ALERT."""
        alert = bodies.Alert(time_ns or time.time_ns(), title, text, level, facts)
        return self.record(kinds.ALERT, alert.encode())

    def push(self) -> PushedStream:
        """Send what was added; return when the server has committed it."""
        data, self._bytes = self._bytes, b""
        self._send(data, len(data))
        return self

    def gap(self, size: int, reason: str) -> PushedStream:
        """Send what was added, then a gap."""
        if self._bytes:
            self.push()
        self._send({"gap": size, "reason": reason}, size)
        return self

    def _send(self, content: Any, size: int) -> None:
        entry = [self.stream, self._offset, content, self._owner]
        batch = {
            "agent": "0.1.0",
            "machine": self.machine,
            "host": self.host,
            "time": time.time_ns(),
            "entries": [entry],
        }
        packed = msgpack.packb(batch, use_bin_type=True)
        request = urllib.request.Request(
            f"{self.server.url}/api/v1/ingest",
            zstandard.compress(packed),
            {
                "Authorization": f"Bearer {self.server.ingest_key}",
                "Content-Type": "application/msgpack",
                "Content-Encoding": "zstd",
                "X-Tracker-Agent": "0.1.0",
                "X-Tracker-Protocol": "1",
            },
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as response:
            answer = json.loads(response.read())
        self._offset += size
        assert answer["streams"][0].get("next") == self._offset, answer
