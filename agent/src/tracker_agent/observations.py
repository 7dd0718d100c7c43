"""Writes down, once each, what the agent saw of writers: in its own streams, where the server finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger

from tracker.protocol import bodies, kinds

from .checkpoint import Checkpoint, Remembered
from .clock import Clock
from .counters import Counters
from .credentials import Credential
from .evidence import judge
from .own_stream import OwnStreams
from .streams import Stream, StreamKey
from .witness import Witness


class Observations:
    """What was observed of each stream's writer: "live", then "gone". Survives restarts in the checkpoint.

    credential_of(stream): names the own stream that goes where the stream goes, or says why nothing goes
    anywhere. wrote(id): called with the id of an own stream that has something new.
    """

    def __init__(
        self,
        own: OwnStreams,
        boot: str,
        checkpoint: Checkpoint,
        clock: Clock,
        counters: Counters,
        log: FilteringBoundLogger,
        credential_of: Callable[[Stream], Credential | str],
        wrote: Callable[[bytes], None],
        witness: Witness,
    ) -> None:
        self._own = own
        self._boot = boot
        self._checkpoint = checkpoint
        self._clock = clock
        self._counters = counters
        self._log = log
        self._credential_of = credential_of
        self._wrote = wrote
        self._witness = witness
        self._awaited: dict[StreamKey, Stream] = {}  # gone, and it is being found out why
        self._servers: dict[str, Remembered] = {}  # by URL
        self._saved = True
        self._unwritten: dict[StreamKey, Stream] = {}  # gone, but the disk refused to take that down

    @property
    def unwritten(self) -> int:
        """Number of ends that could not be written down."""
        return len(self._unwritten)

    def read(self) -> None:
        """Take up what was observed before a restart."""
        self._servers, complaint = self._checkpoint.read()
        if complaint is not None:
            self._log.warning("checkpoint", problem=complaint)

    def live(self, stream: Stream) -> None:
        """Note that a stream's writer is alive."""
        self._witness.lives(stream)
        self._observe(stream, "live", {"pid": stream.entry.holder})

    def gone(self, stream: Stream) -> None:
        """Note that a stream's writer is gone and the server has all of it."""
        if stream.own or self._known_of(stream) == "gone":
            return
        testimony = self._witness.testimony(stream)
        if testimony is None:
            self._awaited[stream.key] = stream
            return
        # Who was seen to die did not die of a reboot that came later.
        boot_now = self._boot if testimony.died_ns is None else stream.header.boot
        verdict = judge(testimony.findings, exited=stream.exited, boot=stream.header.boot, boot_now=boot_now)
        facts = {"pid": stream.header.pid, "cause": verdict.cause, **verdict.facts}
        if testimony.died_ns is not None:
            facts["died"] = testimony.died_ns
        if verdict.evidence:
            facts["evidence"] = dict(verdict.evidence)
        self._observe(stream, "gone", facts)

    def heard(self, stream: Stream) -> None:
        """Note that the witness has found out what there is to find out about a stream's writer."""
        if self._awaited.pop(stream.key, None) is not None:
            self.gone(stream)

    def settled(self, stream: Stream) -> bool:
        """Return whether a stream's end is written down, or there is nothing to write."""
        return stream.own or stream.header.run is None or self._known_of(stream) == "gone"

    def deleted(self, stream: Stream) -> None:
        """Note that a stream's files are gone before its end: nothing more can come of it.

        Found again elsewhere, it is live again.
        """
        if not stream.own:
            self._observe(stream, "gone", {"pid": stream.header.pid, "cause": "deleted from the spool"})

    def forget(self, stream: Stream) -> None:
        """Forget a stream whose files are gone."""
        self._unwritten.pop(stream.key, None)
        self._awaited.pop(stream.key, None)
        self._witness.forget(stream)
        for known in self._servers.values():
            if known.observed.pop(stream.key, None) is not None:
                self._saved = False

    def epoch(self, server: str) -> str | None:
        """Return what a server called its state when it was last heard."""
        known = self._servers.get(server)
        return None if known is None else known.epoch

    def restored(self, server: str) -> None:
        """Observe everything anew for a server that was restored."""
        self._of_server(server).observed.clear()
        self._saved = False

    def keep(self, epochs: Mapping[str, str]) -> None:
        """Write what could not be written before, and the checkpoint when it is out of date."""
        for stream in list(self._unwritten.values()):
            self.gone(stream)
        for server, epoch in epochs.items():
            if self._of_server(server).epoch != epoch:
                self._of_server(server).epoch = epoch
                self._saved = False
        if not self._saved:
            self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        try:
            # A checkpoint that outlived what it says was told would keep it from being told again.
            self._own.sync()
            self._checkpoint.write(self._servers)
            self._saved = True
        except OSError as error:
            self._counters.failures["checkpoint"] += 1
            self._log.error("checkpoint cannot be written; it is only a cache", error=str(error))

    def _of_server(self, server: str) -> Remembered:
        return self._servers.setdefault(server, Remembered())

    def _known_of(self, stream: Stream) -> str | None:
        """Return what the stream's server was told of it."""
        credential = self._credential_of(stream)
        known = None if isinstance(credential, str) else self._servers.get(credential.server)
        return None if known is None else known.observed.get(stream.key)

    def _observe(self, stream: Stream, state: str, facts: dict[str, Any]) -> None:
        credential = self._credential_of(stream)
        if stream.header.run is None or isinstance(credential, str):
            return  # with no credential it goes nowhere, and is observed once it does
        told = self._of_server(credential.server).observed
        if told.get(stream.key) in (state, "gone"):
            return
        observed = bodies.Observed(self._clock.wall_ns(), stream.uid, stream.id, state, facts)
        try:
            own = self._own.stream(credential.name)
            own.write(kinds.OBSERVED, observed.encode())
        except OSError as error:
            if state == "gone":
                self._unwritten[stream.key] = stream
            self._counters.failures["own stream"] += 1
            self._log.error("cannot write down what was observed", stream=stream.id.hex(), error=str(error))
            return
        self._unwritten.pop(stream.key, None)
        told[stream.key] = state
        self._saved = False
        self._wrote(own.stream)
