"""The files of all runs. What the pipeline tells goes to a watch for each spool and a lane for each key.

    run_seen → FileWatch (one per spool)      walks and reads files, in a thread of its own
             → FileLane  (one per credential) tells the server of them, sends what it lacks
    files_done ← retention asks before it removes a run

A digest cache in the state directory saves reading unchanged files again; without it nothing is lost.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from structlog.typing import FilteringBoundLogger

from .clock import Clock
from .counters import Counters
from .credentials import Credential
from .endpoint import Endpoint
from .file_counts import FileAllowance, FileCounts
from .file_digests import FileDigests
from .file_lane import FileLane
from .file_watch import FileWatch
from .machine import Machine
from .opening import Place
from .run_files import RunFiles
from .settings import FileSettings

DIGESTS_FILE = "file-digests"
SAVE_S = 60.0
LISTED_MAX = 200


class FileLanes:
    """Ships the files of runs. For the event loop only.

    start(name, run) keeps a task running. records_wait(server URL) tells whether records for it are waiting.
    """

    def __init__(
        self,
        state_dir: str,
        settings: FileSettings,
        endpoints: Mapping[str, Endpoint],
        machine: Machine,
        clock: Clock,
        counters: Counters,
        log: FilteringBoundLogger,
        start: Callable[[str, Callable[[], Awaitable[None]]], object],
        records_wait: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._machine = machine
        self._clock = clock
        self._log = log
        self._start = start
        self._records_wait = records_wait
        self._allowance = FileAllowance(clock, settings.bytes_per_s)
        self._digests = FileDigests(os.path.join(state_dir, DIGESTS_FILE), machine.disk)
        self.counts = FileCounts(counters, log, clock)
        self._runs: dict[Place, RunFiles] = {}
        self._watches: dict[str, FileWatch] = {}
        self._lanes: dict[tuple[str, str | None], FileLane] = {}
        self._lane_of: dict[Place, FileLane] = {}
        self._made = 0
        for url, endpoint in endpoints.items():
            endpoint.tell_restored.append(partial(self._restored, url))

    def begin(self) -> None:
        """Read the cache, and start to keep it."""
        if self._settings.enabled:
            self._digests.load()
            self._start("file digests", self._keep_digests)

    def close(self) -> None:
        """Write the cache and close what is open. The tasks must have ended."""
        self._save()
        for lane in self._lanes.values():
            lane.close()
        for watch in self._watches.values():
            watch.close()

    # What the pipeline tells.

    def run_seen(self, place: Place, stream: bytes, credential: Credential | str) -> None:
        """Look after the files of a run that a stream of this machine writes. May be called again and again.

        credential: that of the stream, or why there is none.
        """
        if not self._settings.enabled:
            return
        run = self._runs.get(place)
        if run is None:
            run = self._runs[place] = RunFiles(place)
        run.see_stream(stream)
        run.ended = run.done = False
        run.walk_at = 0.0
        self._assign(run, credential)
        self._watch(place.root).add(run)

    def run_ended(self, place: Place) -> None:
        """Note that nobody writes a run any more: what lies there now is the last word."""
        run = self._runs.get(place)
        if run is not None and not run.ended:
            run.ended = True
            run.walk_at = run.tell_at = 0.0
            run.unread = True
            self._watch(place.root).add(run)

    def run_gone(self, place: Place) -> None:
        """Forget a run whose streams are gone, most likely with its directory."""
        run = self._runs.pop(place, None)
        if run is None:
            return
        self._watches[place.root].depart(run)
        lane = self._lane_of.pop(place, None)
        if lane is not None:
            lane.remove(run)
            self._end_if_idle(lane)

    def files_done(self, place: Place) -> bool:
        """Return whether a run's directory holds no file that a server still lacks.

        Files that will never be taken are no reason to keep it: they are counted, with the reason.
        """
        if not self._settings.enabled:
            return True
        run = self._runs.get(place)
        return run is not None and run.ended and run.done

    # Who ships what.

    def _assign(self, run: RunFiles, credential: Credential | str) -> None:
        former = self._lane_of.get(run.place)
        lane = None if isinstance(credential, str) else self._lane(credential)
        if former is not None and former is lane:
            return
        if former is not None:
            former.remove(run)
            del self._lane_of[run.place]
            run.tell_all_again()
            self._end_if_idle(former)
        if lane is None:
            run.reason = str(credential)
        else:
            self._lane_of[run.place] = lane
            lane.add(run, self._watch(run.place.root))

    def _lane(self, credential: Credential) -> FileLane | None:
        endpoint = self._endpoints.get(credential.server)
        if endpoint is None:
            return None
        key = (credential.server, credential.key)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = FileLane(
                credential,
                endpoint,
                self._clock,
                self._allowance,
                self.counts,
                self._log,
                self._records_wait,
            )
            # A former key's lane of the same name may still wait for an answer.
            self._made += 1
            self._start(f"files {credential.name} #{self._made}", lane.run)
        return lane

    def _end_if_idle(self, lane: FileLane) -> None:
        if not lane.runs:
            lane.end()
            del self._lanes[lane.credential.server, lane.credential.key]

    def _watch(self, root: str) -> FileWatch:
        watch = self._watches.get(root)
        if watch is None:
            watch = self._watches[root] = FileWatch(
                root,
                self._machine,
                self._clock,
                self._digests,
                self._allowance,
                self.counts,
                self._settings.bytes_max,
                self._ready,
            )
            self._start(f"walk files {root}", watch.walk_forever)
            self._start(f"read files {root}", partial(watch.hash_forever, False))
            self._start(f"read large files {root}", partial(watch.hash_forever, True))
        return watch

    def _ready(self, run: RunFiles) -> None:
        lane = self._lane_of.get(run.place)
        if lane is not None:
            lane.ready(run)

    def _restored(self, server: str, _epoch: str) -> None:
        """Have a server told of everything again: it may have lost files."""
        for run in self._runs.values():
            lane = self._lane_of.get(run.place)
            if lane is not None and lane.credential.server == server:
                run.tell_all_again()
                self._watch(run.place.root).add(run)
                lane.ready(run)

    # Housekeeping and status.

    async def _keep_digests(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            self._save()

    def _save(self) -> None:
        try:
            self._digests.save()
        except OSError as error:
            self._log.warning("digests of files not written down; they are made anew", reason=str(error))

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what is sent, what waits and why, and what never will be."""
        active = [run for watch in self._watches.values() for run in watch.runs.values()]
        waiting = [run for run in active if run.reason and run.pending]
        unread = [
            {"path": os.path.join(run.place.path, file.path), "reason": file.reason}
            for run in active
            for file in run.pending
            if file.reason
        ]
        refused = [
            {"path": os.path.join(run.place.path, path), "reason": reason}
            for run in self._runs.values()
            for path, reason in run.refused.items()
        ]
        return {
            "enabled": self._settings.enabled,
            **self.counts.to_json(),
            "pending": _pending(active),
            "runs": {"known": len(self._runs), "done": sum(run.done for run in self._runs.values())},
            "lanes": [
                {
                    "credential": lane.credential.name,
                    "server": lane.credential.server,
                    "state": lane.state,
                    "reason": lane.reason,
                    "next_try_s": lane.next_try_s,
                    "runs": len(lane.runs),
                }
                for lane in self._lanes.values()
            ],
            "waiting": [{"path": run.place.path, "reason": run.reason} for run in waiting[:LISTED_MAX]],
            "unread": unread[:LISTED_MAX],
            "refused": refused[:LISTED_MAX],
            "refused_known": len(refused),
        }


def _pending(runs: Iterable[RunFiles]) -> dict[str, int]:
    """Count what the servers do not have yet, as far as it is known."""
    files = [file for run in runs for file in run.pending]
    return {"files": len(files), "bytes": sum(file.signature.size for file in files)}
