"""Builds the bytes of record streams in memory, the way a writer would put them into files."""

from __future__ import annotations

import itertools
import random
from typing import Any

from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, encode_line
from tracker.protocol.header import Header, encode_header

START = 1_700_000_000_000_000_000


class StreamBytes:
    """One stream under construction. take() returns what was added since the last take()."""

    def __init__(
        self,
        stream: bytes = b"",
        run: str | None = "run1",
        *,
        project: str | None = "p",
        machine: str = "m" * 32,
        rank: int | None = None,
        stop: bool | None = None,
        parent: bytes | None = None,
        role: str | None = None,
        started: int = START,
        version: int = 1,
        fields: dict[str, Any] | None = None,
    ) -> None:
        self.stream = stream or random.randbytes(16)
        self.header = Header(
            stream=self.stream,
            run=run,
            segment=0,
            base=0,
            machine=machine,
            boot="b" * 32,
            pid=4711,
            started=started,
            clock=1,
            writer="test/1",
            host="node1",
            rank=rank,
            stop=stop,
            parent=parent,
            role=role,
            version=version,
        )
        self.data = bytearray(encode_header(self.header))
        self.taken = 0
        self.clock = itertools.count(started + 1_000_000, 1_000_000)
        self._seeds = Seeds(self.stream, 0)
        if run is not None and project is not None:
            self.add(kinds.RUN, bodies.Run(started, {"project": project, **(fields or {})}).encode())

    @property
    def end(self) -> int:
        """The offset after everything added so far."""
        return len(self.data)

    def add(self, kind: int, body: bytes) -> int:
        """Append one line; return its offset."""
        at = len(self.data)
        self.data += encode_line(kind, body, self._seeds[kind])
        return at

    def roll(self) -> None:
        """Start the next segment."""
        self.header = self.header._replace(segment=self.header.segment + 1, base=len(self.data))
        self._seeds = Seeds(self.stream, self.header.segment)
        self.data += encode_header(self.header)

    def log(self, values: dict[str, Any], step: int | None = None) -> int:
        """Append METRICS; return its offset."""
        return self.add(kinds.METRICS, bodies.Metrics(next(self.clock), step, values).encode())

    def print(self, *lines: str, stream: str = "stdout") -> int:
        """Append CONSOLE; return its offset."""
        return self.add(kinds.CONSOLE, bodies.Console(next(self.clock), stream, list(lines)).encode())

    def config(self, values: dict[str, Any], removed: tuple[str, ...] = ()) -> int:
        """Append CONFIG; return its offset."""
        return self.add(kinds.CONFIG, bodies.Patch(next(self.clock), values, removed).encode())

    def summary(self, values: dict[str, Any], removed: tuple[str, ...] = ()) -> int:
        """Append SUMMARY; return its offset."""
        return self.add(kinds.SUMMARY, bodies.Patch(next(self.clock), values, removed).encode())

    def exit(
        self, code: int = 0, exception: dict[str, str] | None = None, facts: dict[str, Any] | None = None
    ) -> int:
        """Append EXIT; return its offset."""
        return self.add(kinds.EXIT, bodies.Exit(next(self.clock), code, exception, facts).encode())

    def observed(self, other: StreamBytes, state: str, uid: int = 1000, **facts: Any) -> int:
        """Append OBSERVED about another stream; return its offset."""
        seen = bodies.Observed(next(self.clock), uid, other.stream, state, {"pid": 1, **facts})
        return self.add(kinds.OBSERVED, seen.encode())

    def sample(
        self,
        values: dict[str, tuple[float, float, float, float, int]],
        about: StreamBytes | None = None,
        uid: int = 1000,
    ) -> int:
        """Append SAMPLE, of the machine or about another stream's writer; return its offset."""
        target = None if about is None else (uid, about.stream)
        sample = bodies.Sample(next(self.clock), 30_000_000_000, values, target)
        return self.add(kinds.SAMPLE, sample.encode())

    def alert(self, title: str, level: str = "error", time: int | None = None, **facts: Any) -> int:
        """Append ALERT; return its offset."""
        time = next(self.clock) if time is None else time
        return self.add(kinds.ALERT, bodies.Alert(time, title, "text of " + title, level, facts).encode())

    def take(self) -> tuple[int, bytes]:
        """Return (offset, bytes) added since the last call."""
        at, self.taken = self.taken, len(self.data)
        return at, bytes(self.data[at:])
