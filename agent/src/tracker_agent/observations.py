"""Writes down, once each, what the agent saw of writers: in its own streams, where the server finds it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger

from tracker.protocol import bodies, kinds

from .checkpoint import Checkpoint, Remembered, Sighting
from .clock import Clock
from .counters import Counters
from .credentials import Credential
from .disk import Disk
from .evidence import judge
from .own_stream import OwnStreams
from .streams import Stream, StreamKey
from .witness import NO_AGENT, Witness


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

    def lost(self, known: Collection[StreamKey]) -> list[tuple[StreamKey, Sighting]]:
        """Return the streams that were alive before a restart and are not among those known now."""
        return [
            (key, seen)
            for server in self._servers.values()
            for key, seen in server.sightings.items()
            if key not in known
        ]

    def deleted_unseen(self, key: StreamKey, seen: Sighting) -> None:
        """Note that a stream was deleted while no agent ran. Found again, it is live again."""
        uid, stream = key
        facts = {"cause": "deleted from the spool", "evidence": {"missing": NO_AGENT}}
        if self._write(seen.credential, uid, stream, "gone", facts):
            for server in self._servers.values():
                server.forget(key)

    def forget(self, stream: Stream) -> None:
        """Forget a stream whose files are gone."""
        self._unwritten.pop(stream.key, None)
        self._awaited.pop(stream.key, None)
        self._witness.forget(stream)
        for known in self._servers.values():
            if known.forget(stream.key):
                self._saved = False

    def epoch(self, server: str) -> str | None:
        """Return what a server called its state when it was last heard."""
        known = self._servers.get(server)
        return None if known is None else known.epoch

    def restored(self, server: str) -> None:
        """Observe everything anew for a server that was restored."""
        self._of_server(server).observed.clear()
        self._of_server(server).sightings.clear()
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
        known = self._of_server(credential.server)
        if known.observed.get(stream.key) in (state, "gone"):
            return
        if not self._write(credential.name, stream.uid, stream.id, state, facts):
            if state == "gone":
                self._unwritten[stream.key] = stream
            return
        self._unwritten.pop(stream.key, None)
        known.observed[stream.key] = state
        known.sightings.pop(stream.key, None)
        if state == "live":
            place = stream.entry.place
            known.sightings[stream.key] = Sighting(credential.name, place.root, place.path)

    def _write(self, credential: str, uid: int, stream: bytes, state: str, facts: dict[str, Any]) -> bool:
        """Write down what was observed. False: the disk refused."""
        observed = bodies.Observed(self._clock.wall_ns(), uid, stream, state, facts)
        try:
            own = self._own.stream(credential)
            own.write(kinds.OBSERVED, observed.encode())
        except OSError as error:
            self._counters.failures["own stream"] += 1
            self._log.error("cannot write down what was observed", stream=stream.hex(), error=str(error))
            return False
        self._saved = False
        self._wrote(own.stream)
        return True


def is_deleted(disk: Disk, root: str, path: str, stream: bytes) -> bool:
    """Return whether nothing is left of a stream where it lay. A root that is away is no evidence."""
    try:
        disk.status(root, follow=True)
        names = disk.names(path)
    except FileNotFoundError as error:
        return bool(error.filename != root)
    except OSError:
        return False
    return not any(name.startswith(stream.hex() + ".") for name in names)
