"""The agent's own streams: what it samples and observes goes through files like everything else.

One stream per credential under <state>/streams/, written with the same StreamWriter as the shim's and
tailed like any other. Nothing here talks to the server.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tracker.protocol.header import Header
from tracker.protocol.writer import StreamWriter

from .clock import Clock

#: The credential that the operator configured: host samples travel with it.
DEFAULT = "default"

#: Own segments are small, so that what the server has can be removed soon.
SEGMENT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Identity:
    """What the HEADERs of this agent's streams say about it."""

    machine: str
    boot: str
    host: str
    version: str


class OwnStream:
    """One stream of the agent. write() is thread-safe and raises OSError when the disk refuses."""

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self.stream = writer.header.stream

    def write(self, kind: int, body: bytes) -> None:
        """Append one record."""
        with self._lock:
            self._writer.write(kind, body)

    def sync(self) -> None:
        """Keep what was written over a power loss: all of it but the end of a segment that was just left."""
        with self._lock:
            self._writer.sync()

    def close(self) -> None:
        """Close the stream; it is shipped to its end by this or the next agent."""
        with self._lock:
            self._writer.close()


class OwnStreams:
    """Opens one OwnStream per credential when it is first asked for.

    Lives as long as the process: its live locks are POSIX locks, which the process would lose if it
    opened their files again.
    """

    def __init__(
        self,
        state_dir: str,
        identity: Identity,
        clock: Clock,
        segment_bytes: int = SEGMENT_BYTES,
        new_id: Callable[[], bytes] | None = None,
        open_writer: Callable[[str, Header, int], StreamWriter] | None = None,
    ) -> None:
        self.directory = os.path.join(state_dir, "streams")
        self._identity = identity
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._new_id = new_id or partial(secrets.token_bytes, 16)
        self._open_writer = open_writer or _open_writer
        self._open: dict[str, OwnStream] = {}
        #: Ids of the streams that this process is writing. Replaced whole: other threads read it.
        self.live: frozenset[bytes] = frozenset()

    def stream(self, credential: str = DEFAULT) -> OwnStream:
        """Return the stream of a credential, creating it when needed. Raise OSError."""
        own = self._open.get(credential)
        if own is None:
            directory = os.path.join(self.directory, credential)
            header = self._header()
            # Known as ours before its lock file is there: whoever asked for the lock would drop it.
            self.live |= {header.stream}
            writer = self._open_writer(directory, header, self._segment_bytes)
            own = self._open[credential] = OwnStream(writer)
        return own

    def sync(self) -> None:
        """Keep what was written over a power loss. Raise OSError."""
        for own in self._open.values():
            own.sync()

    def close(self) -> None:
        """Close all streams."""
        for own in self._open.values():
            own.close()
        self._open.clear()
        self.live = frozenset()

    def _header(self) -> Header:
        return Header(
            stream=self._new_id(),
            run=None,
            segment=0,
            base=0,
            machine=self._identity.machine,
            boot=self._identity.boot,
            pid=os.getpid(),
            started=self._clock.wall_ns(),
            clock=self._clock.monotonic_ns(),
            writer=f"tracker-agent/{self._identity.version}",
            host=self._identity.host,
        )


def _open_writer(directory: str, header: Header, segment_bytes: int) -> StreamWriter:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    return StreamWriter(directory, header, segment_bytes)
