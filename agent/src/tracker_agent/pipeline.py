"""READ SECOND: tail → batch → upload → ack, from the files of a spool to the server's acknowledgement.

    Root         (one per spool)         scans in a thread of its own: finds streams, notices growth
    Pipeline     (here, the event loop)  knows every stream, gives each to the Lane of its credential
    Writers, Observations                who writes the streams; what was seen of them is written down
    Lane         (one per credential)    READ THIRD: learns positions, reads what the batcher allots,
                                         uploads, acts on the answer

The files are the queue: nothing is held that cannot be read again, and a position moves only when the
server says so. That is why killing the agent anywhere, or deleting its state, neither loses nor doubles
anything.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from structlog.typing import FilteringBoundLogger

from .adoption import Adoption
from .aliases import Aliases
from .allowance import Allowance
from .caretaker import Caretaker
from .catalogue import Catalogue
from .checkpoint import Checkpoint
from .clock import Clock
from .counters import Counters
from .credentials import Credential, Credentials
from .endpoint import Endpoint, EndpointSettings, Sender
from .handovers import Handovers
from .lane import Lane, LaneSettings
from .lanes import Lanes
from .machine import Machine
from .observations import Observations
from .open_files import OpenFiles
from .opening import Place
from .own_stream import Identity, OwnStreams
from .requests import Requests
from .retention import Limits
from .root import Root
from .scanner import Entry, Scanner
from .settings import CrashSettings, FileSettings, LimitSettings, RetentionSettings, ServerSettings
from .shipped_since import ShippedSince
from .shipping_status import lane_status, shipping_status, stuck_loops, watch_state
from .streams import Stream
from .supervisor import Supervisor
from .transport import connect_to
from .trimmer import Trimmer
from .waits import Waits
from .watcher import Watcher, sends_events
from .witness import Witness
from .writers import Writers

HOUSEKEEPING_S = 2.0
#: Descriptors kept for everything that is no pidfd.
FDS_RESERVED = 512


@dataclass(frozen=True)
class PipelineSettings:
    """Everything that may be configured about shipping. Times in seconds."""

    state_dir: str
    spools: tuple[str, ...]
    servers: tuple[ServerSettings, ...]  #: the default one first, then those that users may choose
    watch: bool | None = None  #: True, False, or None: on where the file system sends events
    scan_interval_s: float = 0.5
    flush_interval_s: float = 0.2
    batch_bytes: int = 4 * 1024 * 1024
    probe_interval_s: float = 300.0  #: how often a refused key or stream is tried again
    retry_first_s: float = 1.0
    retry_max_s: float = 300.0
    request_timeout_s: float = 60.0
    limits: LimitSettings = field(default_factory=LimitSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    files: FileSettings = field(default_factory=FileSettings)
    crash: CrashSettings = field(default_factory=CrashSettings)
    allow_stop: bool = True  #: whether servers may ask runs that allow it to stop
    one_key: bool = False  #: everything goes to the default server with the operator's key
    pidfds_max: int = 4096
    own_keep_s: float = 3600.0  #: how long own streams stay once the server has them


class Pipeline:
    """Ships every stream of the spools and the agent's own. One per configuration: build anew on SIGHUP."""

    def __init__(
        self,
        settings: PipelineSettings,
        identity: Identity,
        own: OwnStreams,
        clock: Clock,
        log: FilteringBoundLogger,
        connect: Callable[[ServerSettings, float], Sender] = connect_to,
        machine: Machine | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._machine = machine = machine or Machine()
        self.counters = counters or Counters()
        self._waits = Waits()
        self._settings = settings
        self._identity = identity
        self._own = own
        self._clock = clock
        self._log = log
        self._tasks = Supervisor(clock, log)
        self._senders = [connect(server, settings.request_timeout_s) for server in settings.servers]
        self._allowance = Allowance(clock, settings.limits.memory_bytes, settings.limits.backfill_bytes_per_s)
        self._credentials = Credentials(settings.servers, settings.one_key)
        self._lanes = Lanes(
            {sender.url: self._endpoint(sender) for sender in self._senders},
            self._credentials,
            self._make_lane,
            self._tasks,
        )
        self._witness = Witness(
            partial(machine.scene, settings.crash.kernel_log != "off"), machine.thread, clock, self._heard
        )
        self._observations = Observations(
            own,
            identity.boot,
            Checkpoint(settings.state_dir, machine.disk),
            clock,
            self.counters,
            log,
            self._lanes.credential_of,
            self._own_grew,
            self._witness,
        )
        self._writers = Writers(
            _pidfds_max(settings),
            clock,
            self._look_soon,
            self._observations.live,
            self._lanes.ready,
            machine.deaths,
            self._witness.died,
        )
        self._requests = Requests(
            self._lanes.all, self._lanes.endpoints, identity.machine, machine.disk, clock, self.counters, log
        )
        self._catalogue = Catalogue(
            identity,
            self._credentials,
            self._lanes,
            self._writers,
            self._observations,
            Aliases(settings.state_dir, identity.machine, machine.disk, log),
            self.counters,
            log,
        )
        self._roots: list[Root] = []
        self._to_look: dict[Root, dict[Entry, None]] = {}
        self._adopted = 0
        self.replay = self._catalogue.replay
        self.handovers = Handovers(
            settings.state_dir, machine.disk, machine.in_thread, self.adopt, self.release, log
        )
        self._stopping = asyncio.Event()
        self._watcher: Watcher | None = None
        self._caretaker: Caretaker | None = None

    # Running.

    async def run(self) -> None:
        """Ship until stop() is called. Raises nothing a caller could mend."""
        loop = asyncio.get_running_loop()
        self._observations.read()
        if self._settings.watch is not False:
            self._watcher = self._machine.watcher(lambda path: _call_in(loop, self._hint, path))
        self._roots = [self._root(path, own=False) for path in self._settings.spools]
        self._roots.append(self._root(self._own.directory, own=True))
        self._caretaker = self._make_caretaker()
        self._lanes.lane(self._credentials.default)
        for root in self._roots:
            self._start_root(root)
        self._start("housekeeping", self._keep_house)
        follow_keys = self._credentials.follow_key_files
        self._start("keys", partial(follow_keys, self._machine.in_thread, self._catalogue.move_streams))
        self._start("witness", self._witness.run)
        if self._settings.allow_stop:
            self._start("requests", self._requests.run)
        self._start("retention", self._caretaker.run)
        self._start("handovers", self.handovers.run)
        try:
            await self._stopping.wait()
        finally:
            await self._close()

    async def stop(self, grace_s: float = 8.0) -> None:
        """Let what is in flight finish, write the checkpoint, and return within about grace_s."""
        deadline = self._clock.monotonic() + grace_s
        lanes = self._lanes.all()
        for lane in lanes:
            lane.close()
        while any(lane.client.in_flight for lane in lanes) and self._clock.monotonic() < deadline:  # noqa: ASYNC110 - bounded by the deadline
            await asyncio.sleep(0.01)
        self._stopping.set()

    async def _close(self) -> None:
        await self._tasks.cancel_all()
        self._writers.close()
        await self._witness.close()
        if self._watcher is not None:
            await self._machine.in_thread(self._watcher.close)
        self._observations.keep(self._lanes.epochs())
        if self._caretaker is not None:
            self._caretaker.save()
        for root in self._roots:
            await root.close()
        for sender in self._senders:
            await sender.close()

    def _start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        self._tasks.start(name, run)

    def _root(self, path: str, own: bool, runs: Sequence[Place] | None = None) -> Root:
        files = OpenFiles(
            self._machine.disk, max(1, self._settings.limits.open_files // (1 + len(self._settings.spools)))
        )
        scanner = Scanner(
            path,
            self._machine.disk,
            files,
            self._settings.scan_interval_s,
            self._clock.wall_ns,
            own_uid=self._machine.uid if own else None,
            own_live=lambda: self._own.live if own else frozenset(),
            runs=runs,
        )
        watched = runs is None and (self._settings.watch is True or sends_events(path))
        watcher = self._watcher if watched else None
        thread = self._machine.thread(path)
        return Root(scanner, files, own, watcher, self._settings.scan_interval_s, self._clock, thread)

    def _start_root(self, root: Root) -> None:
        known = self._catalogue
        self._start(f"scan {root.path}", partial(root.scan_forever, known.streams, known.apply))
        self._start(f"look {root.path}", partial(self._look_forever, root))

    def adopt(self, runs: Sequence[Place]) -> Adoption:
        """Ship these run directories too, wherever they were written, and leave them as they are."""
        self._adopted += 1
        root = self._root(f"sync #{self._adopted}", own=False, runs=runs)
        root.adopted = True
        self._roots.insert(-1, root)
        self._start_root(root)
        return Adoption(
            root,
            tuple(runs),
            self._catalogue.streams,
            self._lanes.of,
            self._observations.settled,
            lambda place: True,
        )

    async def release(self, adoption: Adoption) -> None:
        """Forget run directories that were adopted."""
        root = adoption.root
        self._roots.remove(root)
        for name in (f"scan {root.path}", f"look {root.path}"):
            await self._tasks.cancel(name)
        self._catalogue.let_go(await root.thread.call(root.scanner.entries))
        await root.close()

    @property
    def own_shipped(self) -> bool:
        """Whether the server has all that the agent wrote down itself."""
        written = self._own.live
        own = [stream for stream in self.streams if stream.own]
        known = {stream.entry.stream for stream in own}
        return written <= known and all(stream.learned and not stream.bytes_behind for stream in own)

    def _make_caretaker(self) -> Caretaker:
        settings, disk = self._settings, self._machine.disk
        return Caretaker(
            Limits(
                settings.retention.shipped_s,
                settings.limits.spool_bytes_per_user,
                settings.limits.spool_bytes,
            ),
            self._machine.remover(disk),
            ShippedSince(settings.state_dir, self._clock, disk),
            self._roots,
            self._catalogue.streams,
            self._catalogue.kept,
            lambda place: True,
            self._clock,
            self.counters,
            self._log,
        )

    # What scans find.

    def _hint(self, path: str) -> None:
        for root in self._roots:
            root.hint(path)

    # Which lane a stream takes.

    def _endpoint(self, sender: Sender) -> Endpoint:
        settings = self._settings
        return Endpoint(
            sender,
            EndpointSettings(settings.retry_first_s, settings.retry_max_s, settings.probe_interval_s),
            self._allowance,
            self._clock,
            self._log,
            self._machine.uniform,
            self._machine.in_thread,
            self._identity.version,
        )

    def _make_lane(self, credential: Credential, endpoint: Endpoint) -> Lane:
        settings = LaneSettings(
            self._settings.flush_interval_s,
            self._settings.batch_bytes,
            self._settings.probe_interval_s,
            self._settings.retry_first_s,
            self._settings.retry_max_s,
        )
        lane = Lane(
            credential,
            endpoint,
            settings,
            self._identity,
            self._clock,
            self.counters,
            self._log,
            self._ended,
            self._writers.exited,
            partial(self._observations.restored, endpoint.url),
        )
        endpoint.epoch = endpoint.epoch or self._observations.epoch(endpoint.url)
        return lane

    # What becomes of writers.

    def _look_soon(self, streams: Iterable[Stream]) -> None:
        """Ask for some streams' locks now."""
        for stream in streams:
            for root in self._roots:
                if stream.thread is root.thread:
                    self._to_look.setdefault(root, {})[stream.entry] = None
                    root.look_soon.set()

    async def _look_forever(self, root: Root) -> None:
        while True:
            await root.look_soon.wait()
            root.look_soon.clear()
            for entry in await root.thread.call(root.scanner.look, self._to_look.pop(root, {})):
                stream = self._catalogue.of(entry)
                if stream is not None:
                    self._writers.see_again(stream)

    def _ended(self, stream: Stream) -> None:
        """Note that a stream's writer is gone and the server has all of it."""
        stream.entry.finished = True
        if self._watcher is not None:
            self._watcher.disarm(stream.entry.place.path)
        self._observations.gone(stream)

    def _heard(self, stream: Stream) -> None:
        self._observations.heard(stream)

    def _own_grew(self, stream: bytes) -> None:
        known = self._catalogue.streams.get((self._machine.uid, stream))
        if known is not None:
            self._lanes.ready(known)
        else:
            self._roots[-1].hurry()

    # Housekeeping.

    async def _keep_house(self) -> None:
        trimmer = Trimmer(self._settings.own_keep_s, self._settings.limits.state_bytes, self._clock)
        own_root = self._roots[-1]
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._waits.look(self._catalogue.streams.values(), self._clock.monotonic())
            self._observations.keep(self._lanes.epochs())
            own = [stream for stream in self._catalogue.streams.values() if stream.own]
            if own_root.thread.busy:
                continue  # a hung disk is no reason to hang, too
            for reason, size in await own_root.thread.call(trimmer.trim, own, self._own.live):
                self.counters.add_loss(reason, size)
                self._log.warning("own data dropped", reason=reason, bytes=size)
            await self._lanes.close_idle()

    # Status.

    def stuck(self) -> list[str]:
        """Return the loops that should have come round and have not: restarting the agent would help."""
        if self._stopping.is_set():
            return []
        now, settings = self._clock.monotonic(), self._settings
        roots, lanes = self._roots, self._lanes.all()
        return stuck_loops(roots, lanes, now, settings.scan_interval_s, settings.request_timeout_s)

    @property
    def streams(self) -> Collection[Stream]:
        """Every stream that is known."""
        return self._catalogue.streams.values()

    def lanes(self) -> list[dict[str, Any]]:
        """Return the lanes as status shows them."""
        return [lane_status(lane) for lane in self._lanes.all()]

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what `tracker-agent status --json` shows under "shipping"."""
        return {
            "server": self._settings.servers[0].url,
            "tasks": self._tasks.status(),
            "oldest_wait_s": self._waits.longest_s(),
            "retention": self._caretaker.status() if self._caretaker else None,
            "handovers": self.handovers.status(),
            **shipping_status(
                self._lanes.all(), self._catalogue.streams.values(), self._catalogue.kept, self._roots
            ),
            "credentials": {"problems": list(self._credentials.problems)},
            "unobserved": self._observations.unwritten,
            "evidence": self._witness.status(),
            "requests": self._requests.status(),
            "watch": watch_state(self._watcher),
            "pidfds": self._writers.watched,
            **self.counters.to_json(),
        }


def _pidfds_max(settings: PipelineSettings) -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return settings.pidfds_max if soft < 0 else min(settings.pidfds_max, max(0, soft - FDS_RESERVED))


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[[str], None], path: str) -> None:
    try:
        loop.call_soon_threadsafe(function, path)
    except RuntimeError:
        pass  # the loop is closed
