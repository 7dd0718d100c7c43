"""The directory trees that are scanned: spools, what `sync` handed over, and the agent's own streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from .catalogue import Catalogue
from .clock import Clock
from .machine import Machine
from .open_files import OpenFiles
from .opening import Place
from .own_stream import OwnStreams
from .root import Root
from .scanner import Entry, Scanner
from .shipping_settings import PipelineSettings
from .streams import Stream
from .supervisor import Supervisor
from .watcher import Watcher, sends_events
from .writers import Writers


class Roots:
    """Builds roots and keeps their scans running. For the event loop only."""

    def __init__(
        self,
        settings: PipelineSettings,
        own: OwnStreams,
        machine: Machine,
        clock: Clock,
        tasks: Supervisor,
    ) -> None:
        self.all: list[Root] = []  #: the agent's own streams come last
        self._settings = settings
        self._own = own
        self._machine = machine
        self._clock = clock
        self._tasks = tasks
        self._watcher: Watcher | None = None
        self._adopted = 0
        self._to_look: dict[Root, dict[Entry, None]] = {}

    @property
    def own(self) -> Root:
        """The root of the agent's own streams."""
        return self.all[-1]

    def begin(self, watcher: Watcher | None, catalogue: Catalogue, writers: Writers) -> None:
        """Scan the spools and the agent's own streams from now on."""
        self._watcher, self._catalogue, self._writers = watcher, catalogue, writers
        self.all += [self._build(path) for path in self._settings.spools]
        self.all.append(self._build(self._own.directory, own=True))
        for root in self.all:
            self._start(root)

    def adopt(self, runs: Sequence[Place]) -> Root:
        """Scan these run directories too, whatever machine they were written on."""
        self._adopted += 1
        root = self._build(f"sync #{self._adopted}", runs=runs)
        root.adopted = True
        self.all.insert(-1, root)
        self._start(root)
        return root

    async def release(self, root: Root) -> None:
        """Scan an adopted root no longer, and forget its streams."""
        self.all.remove(root)
        self._to_look.pop(root, None)
        for task in _task_names(root):
            await self._tasks.cancel(task)
        self._catalogue.let_go(await root.thread.call(root.scanner.entries))
        await root.close()

    async def close(self) -> None:
        """Close all files. The tasks must have ended."""
        for root in self.all:
            await root.close()

    def hint(self, path: str) -> None:
        """Take a hint that a directory changed."""
        for root in self.all:
            root.hint(path)

    def look_soon(self, streams: Iterable[Stream]) -> None:
        """Ask for some streams' locks now."""
        for stream in streams:
            for root in self.all:
                if stream.thread is root.thread:
                    self._to_look.setdefault(root, {})[stream.entry] = None
                    root.look_soon.set()

    def _build(self, path: str, own: bool = False, runs: Sequence[Place] | None = None) -> Root:
        settings = self._settings
        files = OpenFiles(
            self._machine.disk, max(1, settings.limits.open_files // (1 + len(settings.spools)))
        )
        scanner = Scanner(
            path,
            self._machine.disk,
            files,
            settings.scan_interval_s,
            self._clock.wall_ns,
            own_uid=self._machine.uid if own else None,
            own_live=lambda: self._own.live if own else frozenset(),
            runs=runs,
            uid_map=settings.uid_map,
        )
        watched = runs is None and (settings.watch is True or sends_events(path))
        watcher = self._watcher if watched else None
        thread = self._machine.thread(path)
        return Root(scanner, files, own, watcher, settings.scan_interval_s, self._clock, thread)

    def _start(self, root: Root) -> None:
        scan, look = _task_names(root)
        known = self._catalogue
        self._tasks.start(scan, partial(root.scan_forever, known.streams, known.apply))
        self._tasks.start(look, partial(self._look_forever, root))

    async def _look_forever(self, root: Root) -> None:
        while True:
            await root.look_soon.wait()
            root.look_soon.clear()
            for entry in await root.thread.call(root.scanner.look, self._to_look.pop(root, {})):
                stream = self._catalogue.of(entry)
                if stream is not None:
                    self._writers.see_again(stream)


def _task_names(root: Root) -> tuple[str, str]:
    return f"scan {root.path}", f"look {root.path}"
