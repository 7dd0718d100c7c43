"""READ SECOND: tail → batch → upload → ack, from the files of a spool to the server's acknowledgement.

    Scanner (one per spool, in a SpoolThread)   finds streams, notices growth, asks writers' locks
    Pipeline (here, in the event loop)          knows every stream, gives each to the Lane of its credential,
                                                writes down what it saw of writers
    Lane (uploader.py, one per credential)      learns positions, reads (tailer.py) what the batcher allots,
                                                sends, acts on the answer

The files are the queue: nothing is held that cannot be read again, and a position moves only when the
server says so. That is why killing the agent anywhere, or deleting its state, neither loses nor doubles
anything.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from structlog.typing import FilteringBoundLogger

from tracker.protocol import bodies, kinds
from tracker.protocol.header import Header

from .checkpoint import Checkpoint
from .clock import Clock
from .counters import Counters
from .credentials import Credential, Credentials
from .liveness import Deaths
from .opening import Opener
from .own_stream import Identity, OwnStreams
from .scanner import Entry, Findings, Scanner
from .spool_thread import SpoolThread
from .streams import Stream, StreamKey
from .tailer import OpenFiles
from .transport import Transport
from .trimmer import Trimmer
from .uploader import Lane, LaneSettings, Sender
from .watcher import Watcher, sends_events

#: status() lists at most this many streams of each sort.
LISTED_MAX = 200
HOUSEKEEPING_S = 2.0
#: A scan that has not come round for this long, and waits for no disk, is stuck.
SCAN_TURN_S = 60.0
#: A lane that has work, and has not come round for this long after a request must have ended, is stuck.
LANE_TURN_S = 120.0
#: Descriptors kept for everything that is no pidfd.
FDS_RESERVED = 512


@dataclass(frozen=True)
class PipelineSettings:
    """Everything that may be configured about shipping. Times in seconds."""

    state_dir: str
    spools: tuple[str, ...]
    server_url: str
    key: str | None = field(
        repr=False
    )  #: the operator's; users' own keys come from <spool>/<uid>/credentials
    watch: bool | None = None  #: True, False, or None: on where the file system sends events
    scan_interval_s: float = 0.5
    flush_interval_s: float = 0.2
    batch_bytes: int = 4 * 1024 * 1024
    probe_interval_s: float = 300.0  #: how often a refused key or stream is tried again
    retry_first_s: float = 1.0
    retry_max_s: float = 300.0
    request_timeout_s: float = 60.0
    open_files_max: int = 128  #: segments held open per spool
    pidfds_max: int = 4096
    own_keep_s: float = 3600.0  #: how long own streams stay once the server has them
    own_bytes_max: int = 256 * 1024 * 1024  #: own streams never take more disk than this


@dataclass(eq=False)
class _Root:
    """A directory tree that is scanned, and the thread that does it."""

    path: str
    own: bool
    thread: SpoolThread
    files: OpenFiles
    scanner: Scanner
    watched: bool
    turned_at: float
    hints: set[str] = field(default_factory=set)
    hinted: asyncio.Event = field(default_factory=asyncio.Event)
    to_arm: dict[str, None] = field(default_factory=dict)


class Pipeline:
    """Ships every stream of the spools and the agent's own. One per configuration: build anew on SIGHUP."""

    def __init__(
        self,
        settings: PipelineSettings,
        identity: Identity,
        own: OwnStreams,
        clock: Clock,
        log: FilteringBoundLogger,
        sender: Sender | None = None,
    ) -> None:
        self.counters = Counters()
        self._settings = settings
        self._identity = identity
        self._own = own
        self._clock = clock
        self._log = log
        self._transport = None
        if sender is None:
            sender = self._transport = Transport(settings.server_url, settings.request_timeout_s)
        self._sender = sender
        self._credentials = Credentials(settings.key)
        self._checkpoint = Checkpoint(settings.state_dir, settings.server_url)
        self._lanes: dict[str | None, Lane] = {}
        self._streams: dict[StreamKey, Stream] = {}
        self._lane_of: dict[StreamKey, Lane] = {}
        self._by_pid: dict[int, set[Stream]] = {}
        self._kept: dict[Entry, str] = {}  # streams that are not for this agent to ship, and why
        self._observed: dict[StreamKey, str] = {}
        self._observed_saved = True
        self._unobserved: dict[StreamKey, Stream] = {}  # ended, but the disk refused to take that down
        self._roots: list[_Root] = []
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stopping = asyncio.Event()
        self._watcher: Watcher | None = None
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        pidfds_max = (
            settings.pidfds_max if soft < 0 else min(settings.pidfds_max, max(0, soft - FDS_RESERVED))
        )
        self._deaths = Deaths(pidfds_max, self._died)

    # Running.

    async def run(self) -> None:
        """Ship until stop() is called. Raises nothing a caller could mend."""
        loop = asyncio.get_running_loop()
        self._observed, complaint = self._checkpoint.read()
        if complaint is not None:
            self._log.warning("checkpoint", problem=complaint)
        if self._settings.watch is not False:
            self._watcher = Watcher(lambda path: _call_in(loop, self._hint, path))
        opener = Opener()
        self._roots = [self._root(path, opener, own=False) for path in self._settings.spools]
        self._roots.append(self._root(self._own.directory, opener, own=True))
        self._lane(self._credentials.of(os.getuid()))
        for root in self._roots:
            self._start(f"scan {root.path}", partial(self._scan_forever, root))
        self._start("housekeeping", self._keep_house)
        try:
            await self._stopping.wait()
        finally:
            await self._close()

    async def stop(self, grace_s: float = 8.0) -> None:
        """Let what is in flight finish, write the checkpoint, and return within about grace_s."""
        deadline = self._clock.monotonic() + grace_s
        for lane in self._lanes.values():
            lane.close()
        while any(lane.in_flight for lane in self._lanes.values()) and self._clock.monotonic() < deadline:  # noqa: ASYNC110 - bounded by the deadline
            await asyncio.sleep(0.01)
        self._stopping.set()

    async def _close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._deaths.close()
        if self._watcher is not None:
            await asyncio.to_thread(self._watcher.close)
        self._save_checkpoint()
        for root in self._roots:
            # Only when it answers; else its descriptors go with the process.
            if not root.thread.busy:
                await root.thread.call(root.files.close_all)
            root.thread.close()
        if self._transport is not None:
            await self._transport.close()

    def _start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._supervise(name, work), name=name)
        self._tasks[task] = name
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _supervise(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task for ever: a fault in it is logged and counted, and it starts again."""
        while True:
            try:
                await work()
                return
            except Exception as error:  # noqa: BLE001 - a supervised task's loop
                self.counters.failures[f"task {name}"] += 1
                self._log.error("task failed, starting it again", task=name, exc_info=error)
            await asyncio.sleep(1.0)

    def _root(self, path: str, opener: Opener, own: bool) -> _Root:
        files = OpenFiles(opener, self._settings.open_files_max)
        scanner = Scanner(
            path,
            opener,
            files,
            self._settings.scan_interval_s,
            self._clock.wall_ns,
            self._settings.server_url,
            own_uid=os.getuid() if own else None,
            own_live=lambda: self._own.live if own else frozenset(),
        )
        watched = self._watcher is not None and (self._settings.watch is True or sends_events(path))
        root = _Root(path, own, SpoolThread(path), files, scanner, watched, self._clock.monotonic())
        root.to_arm[path] = None
        return root

    # Scanning.

    async def _scan_forever(self, root: _Root) -> None:
        while True:
            root.turned_at = self._clock.monotonic()
            await self._arm(root)
            hints, root.hints = root.hints, set()
            root.hinted.clear()
            findings = await root.thread.call(root.scanner.scan, self._clock.monotonic(), hints)
            self._apply(root, findings)
            if findings.more:
                continue
            try:
                async with asyncio.timeout(self._settings.scan_interval_s):
                    await root.hinted.wait()
            except TimeoutError:
                pass

    def _hint(self, path: str) -> None:
        for root in self._roots:
            if path == root.path or path.startswith(root.path + "/"):
                root.hints.add(path)
                root.to_arm[path] = None
                root.hinted.set()

    async def _arm(self, root: _Root) -> None:
        """Arm the directories that changed, before they are scanned; those of busy streams later."""
        if not root.watched or self._watcher is None or not root.to_arm:
            return
        now = self._clock.monotonic()
        streams: dict[str, list[Stream]] = {}
        for stream in self._streams.values():
            if stream.entry.place.path in root.to_arm:
                streams.setdefault(stream.entry.place.path, []).append(stream)
        chosen = []
        for path in list(root.to_arm):
            here = streams.get(path, [])
            if here and all(stream.ended for stream in here):
                del root.to_arm[path]
            elif not any(stream.hot_until > now for stream in here):
                del root.to_arm[path]
                chosen.append(path)
        if not chosen:
            return
        watcher = self._watcher
        await root.thread.call(lambda: [watcher.arm(path) for path in chosen])
        root.hints.update(chosen)

    def _apply(self, root: _Root, findings: Findings) -> None:
        for uid, key in findings.keys:
            if self._credentials.set(uid, key):
                self._log.info("a user's key changed", uid=uid)
                self._move_streams(uid)
        if root.watched and findings.fresh:
            root.to_arm.update(dict.fromkeys(findings.fresh))
            root.hinted.set()
        for entry in findings.gone:
            self._gone(entry)
        for entry in findings.found:
            self._found(root, entry)
        for entry in findings.writers:
            stream = self._stream_of(entry)
            if stream is not None:
                self._see_writer(stream)
        for entry in findings.grown:
            stream = self._stream_of(entry)
            if stream is not None:
                if stream.ended:
                    stream.ended = False
                stream.pending = max(stream.pending, stream.bytes_behind)
                self._lane_of[stream.key].ready(stream)

    def _stream_of(self, entry: Entry) -> Stream | None:
        stream = self._streams.get((entry.place.uid, entry.stream))
        return stream if stream is not None and stream.entry is entry else None

    def _found(self, root: _Root, entry: Entry) -> None:
        header = entry.header
        assert header is not None
        key = (entry.place.uid, entry.stream)
        reason = self._reason_to_keep(root, header)
        if reason is None and key in self._streams:
            reason = f"duplicate: also in {self._streams[key].entry.place.path}"
        if reason is not None:
            self._kept[entry] = reason
            entry.finished = True
            return
        stream = Stream(entry, header, root.thread, root.own)
        self._streams[key] = stream
        self._see_writer(stream)
        self._assign(stream)
        if root.watched and stream.live:
            root.to_arm.setdefault(entry.place.path)

    def _reason_to_keep(self, root: _Root, header: Header) -> str | None:
        if root.own:
            return None
        if header.offline:
            return "offline: kept for sync"
        mine = header.machine == self._identity.machine
        if not mine and (not header.boot or header.boot != self._identity.boot):
            return "elsewhere: written by another machine, whose agent ships it"
        return None

    def _gone(self, entry: Entry) -> None:
        self._kept.pop(entry, None)
        stream = self._stream_of(entry)
        if stream is None:
            return
        left = stream.bytes_behind
        if not stream.ended and left:
            self.counters.add_loss("deleted from the spool before it was shipped", left)
            self._log.warning(
                "stream deleted before it was shipped",
                path=entry.place.path,
                stream=stream.id.hex(),
                bytes=left,
            )
        self._forget_writer(stream)
        if not stream.ended and not stream.own:
            # Nothing more can come of it. Found again elsewhere, it is live again.
            self._observe(stream, "gone", {"pid": stream.header.pid, "cause": "deleted from the spool"})
        del self._streams[stream.key]
        self._lane_of.pop(stream.key).remove(stream)
        self._unobserved.pop(stream.key, None)
        if self._observed.pop(stream.key, None) is not None:
            self._observed_saved = False
        for other in [other for other in self._kept if (other.place.uid, other.stream) == stream.key]:
            # The other copy takes its place when it is found again.
            del self._kept[other]
            other.announced, other.finished, other.size = False, False, -1

    # Credentials.

    def _lane(self, credential: Credential) -> Lane:
        lane = self._lanes.get(credential.key)
        if lane is None:
            settings = LaneSettings(
                self._settings.flush_interval_s,
                self._settings.batch_bytes,
                self._settings.probe_interval_s,
                self._settings.retry_first_s,
                self._settings.retry_max_s,
            )
            lane = Lane(
                credential,
                self._sender,
                settings,
                self._identity,
                self._clock,
                self.counters,
                self._log,
                self._ended,
                self._exited,
                self._restored,
            )
            lane.epoch = self._checkpoint.epoch
            self._lanes[credential.key] = lane
            self._start(f"lane {credential.name}", lane.run)
        return lane

    def _credential_of(self, stream: Stream) -> Credential:
        if stream.own:
            return self._credentials.named(stream.entry.place.name)
        return self._credentials.of(stream.uid)

    def _assign(self, stream: Stream) -> None:
        lane = self._lane(self._credential_of(stream))
        former = self._lane_of.get(stream.key)
        if former is lane:
            return
        if former is not None:
            former.remove(stream)
            stream.parked = None
        self._lane_of[stream.key] = lane
        lane.add(stream)

    def _move_streams(self, uid: int) -> None:
        """Give a user's streams to the lane of his new key."""
        for stream in list(self._streams.values()):
            if stream.uid == uid or stream.own:
                self._assign(stream)

    # Writers.

    def _see_writer(self, stream: Stream) -> None:
        """Act on who holds a stream's lock."""
        holder = stream.entry.holder
        if holder is None:
            self._writer_gone(stream)
            return
        stream.live = stream.started_live = True
        if stream.own:
            return
        if holder != stream.pid:
            self._forget_writer(stream)
            stream.pid = holder
            if self._deaths.watch(holder):
                self._by_pid.setdefault(holder, set()).add(stream)
                stream.entry.ask_lock = False
                # Its pid may have been another process's by the time it was watched.
                self._look_soon([stream])
        self._observe(stream, "live", {"pid": holder})

    def _writer_gone(self, stream: Stream) -> None:
        was_live = stream.live
        stream.live = False
        self._forget_writer(stream)
        if was_live:
            stream.died_at = self._clock.monotonic()
        lane = self._lane_of.get(stream.key)
        if lane is not None:
            lane.ready(stream)

    def _forget_writer(self, stream: Stream) -> None:
        streams = self._by_pid.get(stream.pid)
        if streams is not None:
            streams.discard(stream)
            if not streams:
                del self._by_pid[stream.pid]
                self._deaths.forget(stream.pid)
        stream.pid = 0
        stream.entry.ask_lock = True

    def _died(self, pid: int) -> None:
        self._look_soon(self._by_pid.pop(pid, ()))

    def _look_soon(self, streams: Iterable[Stream]) -> None:
        """Ask for some streams' locks now."""
        chosen = list(streams)
        for root in self._roots:
            entries = [stream.entry for stream in chosen if stream.thread is root.thread]
            if entries:
                self._start(f"look {root.path}", partial(self._look, root, entries))

    async def _look(self, root: _Root, entries: list[Entry]) -> None:
        for entry in await root.thread.call(root.scanner.look, entries):
            stream = self._stream_of(entry)
            if stream is not None:
                if stream.pid not in self._deaths:
                    entry.ask_lock = True
                self._see_writer(stream)

    def _exited(self, stream: Stream) -> None:
        """Look whether the writer has gone too: its process may live on, as in a notebook."""
        stream.entry.ask_lock = True
        self._look_soon([stream])

    def _ended(self, stream: Stream) -> None:
        """Note that a stream's writer is gone and the server has all of it."""
        stream.entry.finished = True
        if self._watcher is not None:
            self._watcher.disarm(stream.entry.place.path)
        if stream.own or self._observed.get(stream.key) == "gone":
            return
        if stream.exited:
            cause = "exit"
        elif stream.header.boot and stream.header.boot != self._identity.boot:
            cause = "reboot"
        else:
            cause = "vanished, cause unknown"
        self._observe(stream, "gone", {"pid": stream.header.pid, "cause": cause})

    def _observe(self, stream: Stream, state: str, facts: dict[str, Any]) -> None:
        """Write what was seen of a writer into the own stream that goes where the writer's goes."""
        if stream.header.run is None or self._observed.get(stream.key) in (state, "gone"):
            return
        observed = bodies.Observed(self._clock.wall_ns(), stream.uid, stream.id, state, facts)
        credential = self._credential_of(stream)
        try:
            own = self._own.stream(credential.name)
            own.write(kinds.OBSERVED, observed.encode())
        except OSError as error:
            if state == "gone":
                self._unobserved[stream.key] = stream
            self.counters.failures["own stream"] += 1
            self._log.error("cannot write down what was observed", stream=stream.id.hex(), error=str(error))
            return
        self._unobserved.pop(stream.key, None)
        self._observed[stream.key] = state
        self._observed_saved = False
        known = self._streams.get((os.getuid(), own.stream))
        if known is not None:
            self._lane_of[known.key].ready(known)
        else:
            self._roots[-1].hinted.set()

    def _restored(self) -> None:
        """Tell a restored server again what was observed."""
        self._observed.clear()
        self._observed_saved = False

    # Housekeeping.

    async def _keep_house(self) -> None:
        trimmer = Trimmer(self._settings.own_keep_s, self._settings.own_bytes_max, self._clock)
        own_root = self._roots[-1]
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            for stream in list(self._unobserved.values()):
                self._ended(stream)
            if not self._observed_saved:
                self._save_checkpoint()
            own = [stream for stream in self._streams.values() if stream.own]
            if own_root.thread.busy:
                continue  # a hung disk is no reason to hang, too
            for reason, size in await own_root.thread.call(trimmer.trim, own, self._own.live):
                self.counters.add_loss(reason, size)
                self._log.warning("own data dropped", reason=reason, bytes=size)
            for key, lane in list(self._lanes.items()):
                if not lane.streams and key != self._settings.key and not lane.in_flight:
                    lane.close()
                    del self._lanes[key]

    def _save_checkpoint(self) -> None:
        epochs = [lane.epoch for lane in self._lanes.values() if lane.epoch is not None]
        try:
            self._checkpoint.write(self._observed, epochs[0] if epochs else None)
            self._observed_saved = True
        except OSError as error:
            self.counters.failures["checkpoint"] += 1
            self._log.error("checkpoint cannot be written; it is only a cache", error=str(error))

    # Status.

    def stuck(self) -> list[str]:
        """Return the loops that should have come round and have not: restarting the agent would help.

        What waits for a disk or a server is not stuck, however long that takes.
        """
        if self._stopping.is_set():
            return []
        now = self._clock.monotonic()
        limit = self._settings.request_timeout_s + LANE_TURN_S
        scans = [
            f"scan {root.path}"
            for root in self._roots
            if not root.thread.busy and now - root.turned_at > SCAN_TURN_S + self._settings.scan_interval_s
        ]
        lanes = [
            f"lane {lane.credential.name}"
            for lane in self._lanes.values()
            if lane.has_work and now - lane.turned_at > limit
        ]
        return scans + lanes

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what `tracker-agent status --json` shows under "shipping"."""
        streams = list(self._streams.values())
        parked = [stream for stream in streams if stream.parked is not None]
        foreign = {path: reason for root in self._roots for path, reason in root.scanner.foreign.items()}
        kept = [
            {"path": entry.place.path, "stream": entry.stream.hex(), "uid": entry.place.uid, "reason": reason}
            for entry, reason in list(self._kept.items())[:LISTED_MAX]
        ]
        return {
            "server": self._settings.server_url,
            "lanes": [
                {
                    "credential": lane.credential.name,
                    "state": lane.state,
                    "reason": lane.reason,
                    "last_contact_s": lane.last_contact_s,
                    "next_try_s": lane.next_try_s,
                    "streams": len(lane.streams),
                    "batch_bytes": lane.batch_bytes,
                }
                for lane in self._lanes.values()
            ],
            "streams": {
                "known": len(streams),
                "live": sum(stream.live for stream in streams),
                "shipped": sum(stream.ended for stream in streams),
                "parked": len(parked),
                "kept": len(self._kept),
                "foreign": len(foreign),
            },
            "behind": self._behind(),
            "unobserved": len(self._unobserved),
            "parked": [stream.to_json() for stream in parked[:LISTED_MAX]],
            "kept": kept,
            "foreign": [
                {"path": path, "reason": reason} for path, reason in list(foreign.items())[:LISTED_MAX]
            ],
            "spools": [
                {
                    "path": root.path,
                    "runs": root.scanner.directories,
                    "problem": root.scanner.problem,
                    "watched": root.watched and self._watcher is not None and self._watcher.problem is None,
                    "open_files": len(root.files),
                }
                for root in self._roots
            ],
            "watch": self._watch_state(),
            "pidfds": len(self._deaths),
            **self.counters.to_json(),
        }

    def _behind(self) -> dict[str, int]:
        """Count what is known to be written and not shipped.

        `unasked`: streams the server was not asked about.
        """
        behind = {"streams": 0, "bytes": 0, "unasked": 0}
        for stream in self._streams.values():
            left = 0 if stream.ended else stream.bytes_behind
            behind["streams"] += left > 0
            behind["bytes"] += left
            behind["unasked"] += not stream.learned and not stream.ended
        return behind

    def _watch_state(self) -> str:
        if self._watcher is None:
            return "off"
        return self._watcher.problem or f"on, {self._watcher.armed} directories"


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[[str], None], path: str) -> None:
    try:
        loop.call_soon_threadsafe(function, path)
    except RuntimeError:
        pass  # the loop is closed
