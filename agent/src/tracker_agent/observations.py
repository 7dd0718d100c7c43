"""Writes down, once each, what the agent saw of writers: in its own streams, where the server finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger

from tracker.protocol import bodies, kinds

from .checkpoint import Checkpoint
from .clock import Clock
from .counters import Counters
from .own_stream import OwnStreams
from .streams import Stream, StreamKey


class Observations:
    """What was observed of each stream's writer: "live", then "gone". Survives restarts in the checkpoint.

    credential_name(stream): names the own stream that goes where the stream goes. wrote(id): called with the
    id of an own stream that has something new.
    """

    def __init__(
        self,
        own: OwnStreams,
        boot: str,
        checkpoint: Checkpoint,
        clock: Clock,
        counters: Counters,
        log: FilteringBoundLogger,
        credential_name: Callable[[Stream], str],
        wrote: Callable[[bytes], None],
    ) -> None:
        self._own = own
        self._boot = boot
        self._checkpoint = checkpoint
        self._clock = clock
        self._counters = counters
        self._log = log
        self._credential_name = credential_name
        self._wrote = wrote
        self._observed: dict[StreamKey, str] = {}
        self._saved = True
        self._unwritten: dict[StreamKey, Stream] = {}  # gone, but the disk refused to take that down

    @property
    def unwritten(self) -> int:
        """Number of ends that could not be written down."""
        return len(self._unwritten)

    def read(self) -> None:
        """Take up what was observed before a restart."""
        self._observed, complaint = self._checkpoint.read()
        if complaint is not None:
            self._log.warning("checkpoint", problem=complaint)

    def live(self, stream: Stream) -> None:
        """Note that a stream's writer is alive."""
        self._observe(stream, "live", {"pid": stream.entry.holder})

    def gone(self, stream: Stream) -> None:
        """Note that a stream's writer is gone and the server has all of it."""
        if stream.own or self._observed.get(stream.key) == "gone":
            return
        if stream.exited:
            cause = "exit"
        elif stream.header.boot and stream.header.boot != self._boot:
            cause = "reboot"
        else:
            cause = "vanished, cause unknown"
        self._observe(stream, "gone", {"pid": stream.header.pid, "cause": cause})

    def deleted(self, stream: Stream) -> None:
        """Note that a stream's files are gone before its end: nothing more can come of it.

        Found again elsewhere, it is live again.
        """
        if not stream.own:
            self._observe(stream, "gone", {"pid": stream.header.pid, "cause": "deleted from the spool"})

    def forget(self, stream: Stream) -> None:
        """Forget a stream whose files are gone."""
        self._unwritten.pop(stream.key, None)
        if self._observed.pop(stream.key, None) is not None:
            self._saved = False

    def forget_all(self) -> None:
        """Observe everything anew, for a server that was restored."""
        self._observed.clear()
        self._saved = False

    def keep(self, epoch: str | None) -> None:
        """Write what could not be written before, and the checkpoint when it is out of date."""
        for stream in list(self._unwritten.values()):
            self.gone(stream)
        if not self._saved:
            self.save(epoch)

    def save(self, epoch: str | None) -> None:
        """Write the checkpoint."""
        try:
            self._checkpoint.write(self._observed, epoch)
            self._saved = True
        except OSError as error:
            self._counters.failures["checkpoint"] += 1
            self._log.error("checkpoint cannot be written; it is only a cache", error=str(error))

    def _observe(self, stream: Stream, state: str, facts: dict[str, Any]) -> None:
        if stream.header.run is None or self._observed.get(stream.key) in (state, "gone"):
            return
        observed = bodies.Observed(self._clock.wall_ns(), stream.uid, stream.id, state, facts)
        try:
            own = self._own.stream(self._credential_name(stream))
            own.write(kinds.OBSERVED, observed.encode())
        except OSError as error:
            if state == "gone":
                self._unwritten[stream.key] = stream
            self._counters.failures["own stream"] += 1
            self._log.error("cannot write down what was observed", stream=stream.id.hex(), error=str(error))
            return
        self._unwritten.pop(stream.key, None)
        self._observed[stream.key] = state
        self._saved = False
        self._wrote(own.stream)
