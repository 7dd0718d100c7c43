"""Record streams made in memory, and ingest requests that carry them."""

from __future__ import annotations

import os
from typing import Any

import msgpack
import zstandard

from tests.support.http_client import Answer, ask
from tracker.protocol import bodies
from tracker.protocol.codec import Seeds, encode_line
from tracker.protocol.header import Header, encode_header
from tracker.protocol.kinds import (
    ALERT,
    CONFIG,
    CONSOLE,
    EXIT,
    HOST,
    METRICS,
    OBSERVED,
    RUN,
    SAMPLE,
    SUMMARY,
    VALUE,
)

START_NS = 1_700_000_000_000_000_000


class RecordStream:
    """One stream of one segment. `data` is all of it, `sent` how much was taken by take()."""

    def __init__(
        self,
        run: str | None,
        project: str | None = None,
        stream: bytes | None = None,
        uid: int = 1000,
        *,
        stop: bool | None = None,
        machine: str = "machine-1",
    ) -> None:
        self.stream = stream or os.urandom(16)
        self.uid = uid
        self.seeds = Seeds(self.stream, 0)
        header = Header(
            stream=self.stream,
            run=run,
            segment=0,
            base=0,
            machine=machine,
            boot="boot-1",
            pid=4321,
            started=START_NS,
            clock=0,
            writer="tests/0",
            host="node-1",
            stop=stop,
        )
        self.data = encode_header(header)
        self.sent = 0
        if project is not None:
            self.add(RUN, bodies.Run(START_NS, {"project": project}))

    def add(self, kind: int, body: Any) -> None:
        """Append one record."""
        self.data += encode_line(kind, body.encode(), self.seeds[kind])

    def log(self, step: int, values: dict[str, float], time: int | None = None) -> None:
        """Append METRICS."""
        self.add(METRICS, bodies.Metrics(START_NS + step if time is None else time, step, values))

    def print(self, *lines: str) -> None:
        """Append CONSOLE."""
        self.add(CONSOLE, bodies.Console(START_NS, "stdout", list(lines)))

    def configure(self, **config: Any) -> None:
        """Append CONFIG."""
        self.add(CONFIG, bodies.Patch(START_NS, config))

    def summarize(self, **summary: Any) -> None:
        """Append SUMMARY."""
        self.add(SUMMARY, bodies.Patch(START_NS, summary))

    def show(self, name: str, text: str) -> None:
        """Append VALUE of type text."""
        self.add(VALUE, bodies.Value(START_NS, 0, name, "text", text))

    def sample(self, time: int, **values: float) -> None:
        """Append SAMPLE of a host's own stream."""
        windows = {name: (value, value, value, value, 1) for name, value in values.items()}
        self.add(SAMPLE, bodies.Sample(time, 10**9, windows))

    def sample_about(self, other: RecordStream, time: int, **values: float) -> None:
        """Append SAMPLE of a host's own stream about the writer of another."""
        windows = {name: (value, value, value, value, 1) for name, value in values.items()}
        self.add(SAMPLE, bodies.Sample(time, 10**9, windows, (other.uid, other.stream)))

    def alert(self, time: int, title: str, text: str = "", level: str = "error", **facts: Any) -> None:
        """Append ALERT."""
        self.add(ALERT, bodies.Alert(time, title, text, level, facts))

    def inventory(self, **inventory: Any) -> None:
        """Append HOST of a host's own stream."""
        self.add(HOST, bodies.Host(START_NS, inventory))

    def exit(self, code: int = 0, facts: dict[str, Any] | None = None) -> None:
        """Append EXIT."""
        self.add(EXIT, bodies.Exit(START_NS, code, None, facts))

    def observe(self, other: RecordStream, state: str, **facts: Any) -> None:
        """Append OBSERVED of a host's own stream."""
        self.add(OBSERVED, bodies.Observed(START_NS, other.uid, other.stream, state, facts))

    def take(self) -> list[Any]:
        """Return an ingest entry of what was added since the last one."""
        entry = [self.stream, self.sent, self.data[self.sent :], {"uid": self.uid, "user": "ada"}]
        self.sent = len(self.data)
        return entry


def pack_request(entries: list[Any]) -> bytes:
    """Return the compressed body of an ingest request."""
    request = {
        "agent": "0.1.0",
        "machine": "machine-1",
        "host": "node-1",
        "time": START_NS,
        "entries": entries,
    }
    return zstandard.compress(msgpack.packb(request))


def send(url: str, key: str, *entries: Any) -> Answer:
    """Ingest entries as an agent does."""
    return ask(
        url,
        "POST",
        "/api/v1/ingest",
        key=key,
        body=pack_request(list(entries)),
        headers={
            "Content-Type": "application/msgpack",
            "Content-Encoding": "zstd",
            "X-Tracker-Agent": "0.1.0",
            "X-Tracker-Protocol": "1",
        },
    )
