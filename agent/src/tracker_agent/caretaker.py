"""Carries out retention: gathers what is known of each run and has the keeper of each spool remove what may
go. What goes, and in which order, decides retention.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Any

from structlog.typing import FilteringBoundLogger

from .clock import Clock
from .counters import Counters
from .entries import Entry
from .opening import Place
from .removal import Remover
from .retention import Limits
from .root import Root
from .shipped_since import ShippedSince
from .spool_keeper import KnownRun, SpoolKeeper
from .spool_thread import SPOOL_WAIT_S
from .streams import Stream, StreamKey

ROUND_S = 30.0
#: A round that takes long comes back that much later: it costs at most this part of a core.
ROUND_SHARE = 0.001
ROUND_MAX_S = 300.0
#: Run directories that cannot be removed are named, so many at most.
PROBLEMS_MAX = 200


class Caretaker:
    """Removes what may go. files_done(place): whether a run's files are on the server, too."""

    def __init__(  # noqa: PLR0913, PLR0917 - its collaborators; nobody else makes one
        self,
        limits: Limits,
        remover: Remover,
        since: ShippedSince,
        roots: Collection[Root],
        streams: Mapping[StreamKey, Stream],
        kept: Mapping[Entry, str],
        files_done: Callable[[Place], bool],
        clock: Clock,
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        self._limits = limits
        self._remover = remover
        self._since = since
        self._roots = roots
        self._streams = streams
        self._kept = kept
        self._files_done = files_done
        self._clock = clock
        self._counters = counters
        self._log = log
        self._keepers: dict[str, SpoolKeeper] = {}
        self._working: dict[str, asyncio.Future[None]] = {}
        complaint = since.read()
        if complaint is not None:
            log.warning("retention", problem=complaint)

    async def run(self) -> None:
        """Look after the spools for ever."""
        pause_s = ROUND_S
        while True:
            await asyncio.sleep(pause_s)
            began = self._clock.monotonic()
            await self.round()
            took_s = self._clock.monotonic() - began
            pause_s = min(max(ROUND_S, took_s / ROUND_SHARE), ROUND_MAX_S)

    async def round(self) -> None:
        """Remove what is due now, up to a bound."""
        known = self._know()
        self.save(at_once=False)
        for root in self._roots:
            if root.own or root.adopted or root.path in self._working:
                continue  # a hung disk is no reason to hang, too
            here = known.get(root.path, {})
            self._working[root.path] = asyncio.ensure_future(root.thread.call(self._keeper(root).work, here))
        if self._working:
            await asyncio.wait(self._working.values(), timeout=SPOOL_WAIT_S)
        for path, work in list(self._working.items()):
            if work.done():
                del self._working[path]
                work.result()

    def _keeper(self, root: Root) -> SpoolKeeper:
        keeper = self._keepers.get(root.path)
        if keeper is None:
            keeper = SpoolKeeper(root.scanner, self._limits, self._remover, self._clock, self._log)
            self._keepers[root.path] = keeper
        return keeper

    def save(self, at_once: bool = True) -> None:
        """Write down since when runs are shipped."""
        try:
            self._since.save(at_once)
        except OSError as error:
            self._counters.failures["retention state"] += 1
            self._log.error("cannot write down since when runs are shipped", error=str(error))

    def status(self) -> dict[str, Any]:
        """Return plain JSON values."""
        keepers = self._keepers
        removed = [keeper.removed for keeper in keepers.values()]
        problems = {path: reason for keeper in keepers.values() for path, reason in keeper.problems.items()}
        return {
            "removed": {
                "runs": sum(each.runs for each in removed),
                "segments": sum(each.segments for each in removed),
                "bytes": sum(each.disk_bytes for each in removed),
                "unshipped_bytes": sum(each.unshipped_bytes for each in removed),
            },
            "bytes_by_uid": {
                path: {str(uid): size for uid, size in keeper.bytes_of.items()}
                for path, keeper in keepers.items()
            },
            "over_limit": [line for keeper in keepers.values() for line in keeper.over],
            "problems": [
                {"path": path, "reason": reason} for path, reason in islice(problems.items(), PROBLEMS_MAX)
            ],
        }

    def _know(self) -> dict[str, dict[Place, KnownRun]]:
        """Gather what is known of each root's run directories, and since when the server has all of each."""
        # By identity, which is quick: the streams of a directory share their Place.
        runs: dict[int, tuple[Place, KnownRun]] = {}
        for stream in self._streams.values():
            if not stream.own:
                place = stream.entry.place
                runs.setdefault(id(place), (place, KnownRun()))[1].streams.append(stream)
        for entry in self._kept:
            runs.setdefault(id(entry.place), (entry.place, KnownRun()))[1].foreign = True
        whole = []
        now_s = self._since.counted_s
        known: dict[str, dict[Place, KnownRun]] = {}
        for place, run in runs.values():
            known.setdefault(place.root, {})[place] = run
            shipped = all(each.ended and each.parked is None and not each.live for each in run.streams)
            if shipped and not run.foreign and self._files_done(place):
                whole.append(place)
                size = sum(stream.position for stream in run.streams)
                run.whole_s = now_s - self._since.whole_at(place, size, now_s)
        self._since.keep_only(whole)
        return known
