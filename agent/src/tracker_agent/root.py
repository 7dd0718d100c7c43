"""A directory tree that is scanned, and the thread that does it: a spool, or the agent's own streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from .clock import Clock
from .open_files import OpenFiles
from .scanner import Findings, Scanner
from .spool_thread import SpoolThread
from .streams import Stream, StreamKey
from .watcher import Watcher


class Root:
    """Scans every interval, at once after a hint. watcher: None where no hints are to be had."""

    def __init__(
        self,
        scanner: Scanner,
        files: OpenFiles,
        own: bool,
        watcher: Watcher | None,
        interval_s: float,
        clock: Clock,
        thread: SpoolThread,
    ) -> None:
        self.path = scanner.root
        self.own = own
        self.scanned = False  #: all that is there was looked at once
        self.adopted = False  #: handed over by `sync`: shipped wherever it was written, and never removed
        self.scanner = scanner
        self.files = files
        self.thread = thread
        self.turned_at = clock.monotonic()
        self.scan_s: float | None = None  #: how long the last scan took
        self._watcher = watcher
        self._interval_s = interval_s
        self._clock = clock
        self._hints: set[str] = set()
        self._hinted = asyncio.Event()
        self.look_soon = asyncio.Event()  #: there are writers to ask about
        self._to_arm: dict[str, None] = {self.path: None}

    @property
    def watched(self) -> bool:
        """Whether hints come from here."""
        return self._watcher is not None and self._watcher.problem is None

    async def scan_forever(
        self, streams: Mapping[StreamKey, Stream], apply: Callable[[Root, Findings], None]
    ) -> None:
        """Scan and hand over what was found. streams: those that are known, kept up to date by apply."""
        while True:
            self.turned_at = self._clock.monotonic()
            await self._arm(streams)
            hints, self._hints = self._hints, set()
            self._hinted.clear()
            began = self._clock.monotonic()
            findings = await self.thread.call(self.scanner.scan, began, hints)
            self.scan_s = self._clock.monotonic() - began
            if self._watcher is not None and findings.fresh:
                self._to_arm.update(dict.fromkeys(findings.fresh))
                self.hurry()
            apply(self, findings)
            if findings.more:
                continue
            self.scanned = True
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._hinted.wait()
            except TimeoutError:
                pass

    def hurry(self) -> None:
        """Scan now."""
        self._hinted.set()

    def hint(self, path: str) -> None:
        """Take a hint that a directory changed, if it lies here."""
        if path == self.path or path.startswith(self.path + "/"):
            self._hints.add(path)
            self._to_arm[path] = None
            self.hurry()

    def watch(self, path: str) -> None:
        """Ask for hints about a directory."""
        if self._watcher is not None:
            self._to_arm.setdefault(path)

    async def close(self) -> None:
        """Close the files, if the disk answers; else its descriptors go with the process."""
        if not self.thread.busy:
            await self.thread.call(self.files.close_all)
        self.thread.close()

    async def _arm(self, streams: Mapping[StreamKey, Stream]) -> None:
        """Arm the directories that changed, before they are scanned; those of busy streams later."""
        if self._watcher is None or not self._to_arm:
            return
        now = self._clock.monotonic()
        in_path: dict[str, list[Stream]] = {}
        for stream in streams.values():
            place = stream.entry.place
            if place.root == self.path and place.path in self._to_arm:
                in_path.setdefault(place.path, []).append(stream)
        chosen = []
        for path in list(self._to_arm):
            here = in_path.get(path, [])
            if here and all(stream.ended for stream in here):
                del self._to_arm[path]
            elif not any(stream.hot_until > now for stream in here):
                del self._to_arm[path]
                chosen.append(path)
        if not chosen:
            return
        watcher = self._watcher
        await self.thread.call(lambda: [watcher.arm(path) for path in chosen])
        self._hints.update(chosen)
