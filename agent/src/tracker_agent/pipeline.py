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
from collections.abc import Callable, Collection, Sequence
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
from .collectors.collector import LiveRun
from .counters import Counters
from .credentials import Credential, Credentials
from .endpoint import Endpoint, EndpointSettings, Sender
from .file_lanes import FileLanes
from .handovers import Handovers
from .lane import Lane, LaneSettings
from .lanes import Lanes
from .machine import Machine
from .observations import Observations, is_deleted
from .opening import Place
from .own_stream import Identity, OwnStreams
from .requests import Requests
from .retention import Limits
from .roots import Roots
from .settings import ServerSettings
from .shipped_since import ShippedSince
from .shipping_settings import PipelineSettings
from .shipping_status import (
    in_flight_status,
    servers_status,
    shipping_status,
    stuck_loops,
    watch_state,
)
from .streams import Stream, StreamKey
from .supervisor import Supervisor
from .trimmer import Trimmer
from .waits import Waits
from .watcher import Watcher
from .witness import Witness
from .witness_memory import WitnessMemory
from .writers import Writers

HOUSEKEEPING_S = 2.0
#: Descriptors kept for everything that is no pidfd.
FDS_RESERVED = 512


class Pipeline:
    """Ships every stream of the spools and the agent's own. One per configuration: build anew on SIGHUP."""

    def __init__(
        self,
        settings: PipelineSettings,
        identity: Identity,
        own: OwnStreams,
        clock: Clock,
        log: FilteringBoundLogger,
        connect: Callable[[ServerSettings, float], Sender] | None = None,
        machine: Machine | None = None,
        counters: Counters | None = None,
    ) -> None:
        if connect is None:
            # Here, since its library takes longer to load than all the rest of a start.
            from .transport import connect_to

            connect = connect_to
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
        self._credentials = Credentials(settings.servers, settings.one_key, settings.uid_map)
        self._lanes = Lanes(
            {sender.url: self._endpoint(sender) for sender in self._senders},
            self._credentials,
            self._make_lane,
            self._tasks,
        )
        self._witness = Witness(
            partial(machine.scene, settings.crash.kernel_log != "off"),
            machine.thread,
            WitnessMemory(settings.state_dir, identity.boot, machine.disk),
            clock,
            log,
            self._heard,
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
        self._roots = Roots(settings, own, machine, clock, self._tasks)
        self._writers = Writers(
            _pidfds_max(settings),
            clock,
            self._roots.look_soon,
            self._observations.live,
            self._lanes.ready,
            machine.deaths,
            self._witness.died,
        )
        self._requests = Requests(
            self._lanes.all, self._lanes.endpoints, identity.machine, machine.disk, clock, self.counters, log
        )
        self._files = FileLanes(
            settings.state_dir,
            settings.files,
            self._lanes.endpoints,
            machine,
            clock,
            self.counters,
            log,
            self._tasks.start,
            self._lanes.busy,
        )
        self._catalogue = Catalogue(
            identity,
            self._credentials,
            self._lanes,
            self._writers,
            self._observations,
            self._files,
            Aliases(settings.state_dir, identity.machine, machine.disk, log),
            self.counters,
            log,
        )
        self.replay = self._catalogue.replay
        self.handovers = Handovers(
            settings.state_dir, machine.disk, machine.in_thread, self.adopt, self.release, log
        )
        self._stopping = asyncio.Event()
        self._watcher: Watcher | None = None
        self._caretaker: Caretaker | None = None
        self._own_problems: list[str] = []

    # Running.

    async def run(self) -> None:
        """Ship until stop() is called. Raises nothing a caller could mend."""
        loop = asyncio.get_running_loop()
        self._observations.read()
        if self._settings.watch is not False:
            self._watcher = self._machine.watcher(lambda path: _call_in(loop, self._roots.hint, path))
        self._catalogue.watcher = self._watcher
        self._roots.begin(self._watcher, self._catalogue, self._writers)
        self._caretaker = self._make_caretaker()
        self._files.begin()
        self._lanes.lane(self._credentials.default)
        self._tasks.start("housekeeping", self._keep_house)
        follow_keys = self._credentials.follow_key_files
        self._tasks.start("keys", partial(follow_keys, self._machine.in_thread, self._catalogue.move_streams))
        self._tasks.start("witness", self._witness.run)
        if self._settings.allow_stop:
            self._tasks.start("requests", self._requests.run)
        self._tasks.start("retention", self._caretaker.run)
        self._tasks.start("handovers", self.handovers.run)
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
        self._files.close()
        await self._roots.close()
        for sender in self._senders:
            await sender.close()

    def adopt(self, runs: Sequence[Place]) -> Adoption:
        """Ship these run directories too, wherever they were written, and leave them as they are."""
        root = self._roots.adopt(runs)
        return Adoption(
            root,
            tuple(runs),
            self._catalogue.streams,
            self._lanes.of,
            self._observations.settled,
            self._files.files_done,
        )

    async def release(self, adoption: Adoption) -> None:
        """Forget run directories that were adopted."""
        await self._roots.release(adoption.root)

    def live_runs(self) -> Collection[LiveRun]:
        """Return the writers of runs that live on this host. May be called from any thread."""
        return self._writers.live_runs()

    def way_of(self, key: StreamKey) -> tuple[str, StreamKey] | None:
        """Return what credential ships a stream and what its server files it under; None: nothing does."""
        stream = self._catalogue.streams.get(key)
        credential = self._lanes.credential_of(stream) if stream is not None else ""
        if stream is None or isinstance(credential, str):
            return None
        return credential.name, stream.server_key

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
            self._roots.all,
            self._catalogue.streams,
            self._catalogue.kept,
            self._files.files_done,
            self._clock,
            self.counters,
            self._log,
        )

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
        settings = LaneSettings(self._settings.flush_interval_s, self._settings.batch_bytes)
        lane = Lane(
            credential,
            endpoint,
            settings,
            self._identity,
            self._clock,
            self.counters,
            self._log,
            self._catalogue.ended,
            self._writers.exited,
            partial(self._observations.restored, endpoint.url),
        )
        endpoint.epoch = endpoint.epoch or self._observations.epoch(endpoint.url)
        return lane

    # What becomes of writers.

    def _heard(self, stream: Stream) -> None:
        self._observations.heard(stream)

    def _own_grew(self, stream: bytes) -> None:
        known = self._catalogue.streams.get((self._machine.uid, stream))
        if known is not None:
            self._lanes.ready(known)
        else:
            self._roots.own.hurry()

    # Housekeeping.

    async def _keep_house(self) -> None:
        trimmer = Trimmer(self._settings.own_keep_s, self._settings.limits.state_bytes, self._clock)
        own_root = self._roots.own
        looked_for_lost = False
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            if not looked_for_lost and all(root.scanned for root in self._roots.all):
                looked_for_lost = True
                await self._look_for_lost()
            self._waits.look(self._catalogue.streams.values(), self._clock.monotonic())
            self._observations.keep(self._lanes.epochs())
            own = [stream for stream in self._catalogue.streams.values() if stream.own]
            if own_root.thread.busy:
                continue  # a hung disk is no reason to hang, too
            for reason, size in await own_root.thread.call(trimmer.trim, own, self._own.live):
                self.counters.add_loss(reason, size)
                self._log.warning("own data dropped", reason=reason, bytes=size)
            self._own_problems = [trimmer.problem] if trimmer.problem else []
            await self._lanes.close_idle()

    async def _look_for_lost(self) -> None:
        """Tell of streams that were alive when an agent last ran here and have been deleted since."""
        for key, seen in self._observations.lost(self._catalogue.streams):
            root = next((each for each in self._roots.all if each.path == seen.root), None)
            if root is None or root.thread.busy:
                continue  # no longer one of the spools, or its disk hangs: no evidence
            if await root.thread.call(is_deleted, self._machine.disk, seen.root, seen.path, key[1]):
                self._observations.deleted_unseen(key, seen)

    # Status.

    def stuck(self) -> list[str]:
        """Return the loops that should have come round and have not: restarting the agent would help."""
        if self._stopping.is_set():
            return []
        now, settings = self._clock.monotonic(), self._settings
        roots, lanes = self._roots.all, self._lanes.all()
        return stuck_loops(roots, lanes, now, settings.scan_interval_s, settings.request_timeout_s)

    @property
    def streams(self) -> Collection[Stream]:
        """Every stream that is known."""
        return self._catalogue.streams.values()

    def _file_problems(self) -> list[str]:
        """Return what is wrong with replaced certificates and passwords."""
        return [problem for sender in self._senders if (problem := getattr(sender, "problem", None))]

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what `tracker-agent status --json` shows under "shipping"."""
        return {
            "servers": servers_status(self._settings.servers, self._lanes.endpoints, self._senders),
            "in_flight": in_flight_status(self._allowance),
            "tasks": self._tasks.status(),
            "oldest_wait_s": self._waits.longest_s(),
            "retention": self._caretaker.status() if self._caretaker else None,
            "handovers": self.handovers.status(),
            "files": self._files.status(),
            **shipping_status(
                self._lanes.all(), self._catalogue.streams.values(), self._catalogue.kept, self._roots.all
            ),
            "credentials": {"problems": [*self._credentials.problems, *self._file_problems()]},
            "own": {"problems": self._own_problems},
            "unobserved": self._observations.unwritten,
            "evidence": self._witness.status(),
            "stop_requests": self._requests.status(),
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
