"""The catalogue of what was found: every stream that is shipped, and those that are not, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from structlog.typing import FilteringBoundLogger

from tracker.protocol.header import Header

from .aliases import Aliases
from .counters import Counters
from .credentials import Credentials
from .file_lanes import FileLanes
from .lanes import Lanes
from .losses import LossReason
from .observations import Observations
from .opening import Place
from .own_stream import Identity
from .root import Root
from .scanner import Entry, Findings
from .streams import Stream, StreamKey
from .watcher import Watcher
from .writers import Writers


class Catalogue:
    """Takes in what scans find, and tells lanes, writers and observations of it. For the event loop only."""

    def __init__(
        self,
        identity: Identity,
        credentials: Credentials,
        lanes: Lanes,
        writers: Writers,
        observations: Observations,
        files: FileLanes,
        aliases: Aliases,
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        self.streams: dict[StreamKey, Stream] = {}
        self.kept: dict[Entry, str] = {}  #: streams that are not for this agent to ship, and why
        self._identity = identity
        self._credentials = credentials
        self._lanes = lanes
        self._writers = writers
        self._observations = observations
        self.watcher: Watcher | None = None
        self._by_place: dict[Place, dict[StreamKey, Stream]] = {}
        self._files = files
        self._aliases = aliases
        self._counters = counters
        self._log = log

    def apply(self, root: Root, findings: Findings) -> None:
        """Act on what a scan of a root found."""
        for uid, key in findings.keys:
            if self._credentials.set(uid, key):
                self._log.info("a user's key changed", uid=uid)
                self.move_streams(uid)
        for entry in findings.gone:
            self._gone(entry)
        for entry in findings.found:
            self._found(root, entry)
        for entry in findings.writers:
            stream = self.of(entry)
            if stream is not None:
                self._writers.see(stream)
                if stream.live:
                    self._see_files(stream)
        for entry in findings.grown:
            stream = self.of(entry)
            if stream is not None:
                if stream.ended:
                    stream.ended = False
                    self._see_files(stream)
                stream.pending = max(stream.pending, stream.bytes_behind)
                self._lanes.ready(stream)

    def of(self, entry: Entry) -> Stream | None:
        """Return the stream that is read from these files, None when they are not shipped."""
        stream = self.streams.get((entry.place.uid, entry.stream))
        return stream if stream is not None and stream.entry is entry else None

    def _found(self, root: Root, entry: Entry) -> None:
        header = entry.header
        assert header is not None
        key = (entry.place.uid, entry.stream)
        reason = self._reason_to_keep(root, header)
        if reason is None and key in self.streams:
            reason = f"duplicate: also in {self.streams[key].entry.place.path}"
        if reason is not None:
            self.kept[entry] = reason
            entry.finished = True
            return
        stream = self.streams[key] = Stream(entry, header, root.thread, root.own)
        stream.alias = self._aliases.of(key)
        self._by_place.setdefault(entry.place, {})[key] = stream
        self._lanes.assign(stream)
        self._see_files(stream)
        self._writers.see(stream)
        if stream.live:
            root.watch(entry.place.path)

    def ended(self, stream: Stream) -> None:
        """Note that a stream's writer is gone and the server has all of it."""
        place = stream.entry.place
        stream.entry.finished = True
        if self.watcher is not None:
            self.watcher.disarm(place.path)
        self._observations.gone(stream)
        if all(other.ended for other in self._by_place.get(place, {}).values()):
            self._files.run_ended(place)

    def _see_files(self, stream: Stream) -> None:
        if not stream.own and stream.header.run is not None:
            credential = self._lanes.credential_of(stream)
            self._files.run_seen(stream.entry.place, stream.entry.stream, credential)

    def _drop(self, stream: Stream) -> None:
        """Forget a stream, and its run with the last one."""
        place = stream.entry.place
        self._writers.forget(stream)
        self._lanes.forget(stream)
        del self.streams[stream.key]
        here = self._by_place[place]
        del here[stream.key]
        if not here:
            del self._by_place[place]
            self._files.run_gone(place)

    def _reason_to_keep(self, root: Root, header: Header) -> str | None:
        if root.own or root.adopted:
            return None
        if header.offline:
            return "offline: kept for sync"
        mine = header.machine == self._identity.machine
        if not mine and (not header.boot or header.boot != self._identity.boot):
            return "elsewhere: written by another machine, whose agent ships it"
        return None

    def _gone(self, entry: Entry) -> None:
        self.kept.pop(entry, None)
        stream = self.of(entry)
        if stream is None:
            return
        left = stream.bytes_behind
        if not stream.ended and left:
            self._counters.add_loss(entry.removed_because or LossReason.DELETED.text, left)
            self._log.warning(
                "stream deleted before it was shipped",
                path=entry.place.path,
                stream=stream.id.hex(),
                bytes=left,
            )
        if not self._observations.settled(stream):
            self._observations.deleted(stream)
        self._drop(stream)
        self._observations.forget(stream)
        for other in [other for other in self.kept if (other.place.uid, other.stream) == stream.key]:
            # The other copy takes its place when it is found again.
            del self.kept[other]
            other.announced, other.finished, other.size = False, False, -1

    def let_go(self, entries: Iterable[Entry]) -> None:
        """Forget streams whose files stay where they are."""
        for entry in entries:
            self.kept.pop(entry, None)
            stream = self.of(entry)
            if stream is not None:
                self._drop(stream)

    def replay(self, run: str | None, stream_id: str | None, as_new: bool) -> list[dict[str, Any]]:
        """Take up the parked streams of a run, one stream, or (both None) all. Return them as plain JSON.

        as_new: ship those that diverged whole, under new ids. Raise OSError when these cannot be kept.
        """
        replayed = []
        for stream in list(self.streams.values()):
            lane, parked = self._lanes.of(stream), stream.parked
            asked = run in (None, stream.header.run) and stream_id in (None, stream.entry.stream.hex())
            if parked is None or lane is None or not asked:
                continue
            shown = {**stream.to_json(), "as_new": None}
            if as_new and parked.code == "diverged":
                alias = self._aliases.give(stream.key)
                lane.ship_as_new(stream, alias)
                shown["as_new"] = alias.hex()
            else:
                lane.retry(stream)
            replayed.append(shown)
        return replayed

    # Keys.

    def move_streams(self, uid: int | None = None) -> None:
        """Give a user's streams (None: everybody's) to the lanes of new keys."""
        for stream in list(self.streams.values()):
            if uid in (None, stream.uid) or stream.own:
                self._lanes.assign(stream)
                self._see_files(stream)
                self._writers.see(stream)
