"""What `sync` handed over to this agent: kept in <state>/adopted.json until the server has it.

A restart goes on with it. One path is one hand-over, done when nothing in it is left that could be shipped.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from .adoption import Adoption, Progress
from .disk import Disk
from .opening import Place
from .run_directories import NoRuns, find_runs

FILE = "adopted.json"
#: Paths that are taken over at once; more wait for one of them to be done.
PATHS_MAX = 1000
#: How often progress is looked at.
LOOK_S = 0.5


class Refusal(Exception):
    """A path is not taken over. str() says why."""


@dataclass(eq=False)
class _Taken:
    adoption: Adoption
    progress: Progress = field(default_factory=Progress)


class Handovers:
    """Adopts what is handed over and lets go of it when it is done. For the event loop only."""

    def __init__(
        self,
        state_dir: str,
        disk: Disk,
        in_thread: Callable[..., Awaitable[Any]],
        adopt: Callable[[Sequence[Place]], Adoption],
        release: Callable[[Adoption], Awaitable[None]],
        log: FilteringBoundLogger,
    ) -> None:
        self._file = os.path.join(state_dir, FILE)
        self._disk = disk
        self._in_thread = in_thread
        self._adopt = adopt
        self._release = release
        self._log = log
        self._taken: dict[str, _Taken] = {}
        self._missing: dict[str, str] = {}  # remembered paths that hold no run just now, and why
        self._came = asyncio.Event()

    async def run(self) -> None:
        """Go on with what was handed over, for ever."""
        for path in self._remembered():
            if path not in self._taken:
                await self._try_adopt(path)
        while True:
            for path, taken in list(self._taken.items()):
                taken.progress = await taken.adoption.progress()
                if taken.progress.done:
                    await self._finish(path, taken)
            for path in list(self._missing):
                await self._try_adopt(path)
            if not self._taken and not self._missing:
                self._came.clear()
                await self._came.wait()
            await asyncio.sleep(LOOK_S)

    async def take(self, paths: Sequence[str]) -> AsyncGenerator[Progress]:
        """Take paths over, then yield how far all of them are, until they are done. Raise Refusal."""
        new = [path for path in dict.fromkeys(paths) if path not in self._taken]
        if len(self._taken) + len(self._missing) + len(new) > PATHS_MAX:
            raise Refusal(f"{PATHS_MAX} directories wait already; wait until some of them are done")
        found = {path: await self._find(path) for path in new}
        taken = {path: self._taken[path] for path in paths if path in self._taken}
        try:
            self._remember([*self._taken, *self._missing, *new])
        except OSError as error:
            raise Refusal(f"{self._file} cannot be written: {error.strerror or error}") from error
        for path, runs in found.items():
            taken[path] = self._taken[path] = _Taken(self._adopt(runs), Progress(runs=len(runs)))
            self._log.info("runs were handed over", path=path, runs=len(runs))
        self._came.set()
        while True:
            yield _sum(each.progress for each in taken.values())
            if all(each.progress.done for each in taken.values()):
                return
            await asyncio.sleep(LOOK_S)

    def status(self) -> dict[str, Any]:
        """Return plain JSON values."""
        paths = [{"path": path, **taken.progress.to_json()} for path, taken in self._taken.items()]
        return {
            "paths": paths,
            "problems": [
                f"handed over for sync, but not there: {path}: {why} → mount it again"
                for path, why in self._missing.items()
            ],
        }

    async def _try_adopt(self, path: str) -> None:
        try:
            self._taken[path] = _Taken(self._adopt(await self._find(path)))
            self._missing.pop(path, None)
        except Refusal as error:
            self._missing[path] = str(error)

    async def _find(self, path: str) -> list[Place]:
        try:
            runs: list[Place] = await self._in_thread(find_runs, path)
        except NoRuns as error:
            raise Refusal(str(error)) from error
        return runs

    async def _finish(self, path: str, taken: _Taken) -> None:
        del self._taken[path]
        await self._release(taken.adoption)
        progress = taken.progress
        self._log.info(
            "runs that were handed over are shipped",
            path=path,
            streams=progress.streams,
            shipped=progress.shipped,
            bytes=progress.bytes_shipped,
            problems=progress.problems,
        )
        try:
            self._remember([*self._taken, *self._missing])
        except OSError as error:
            # Then it is looked at once more after a restart, which ships nothing twice.
            self._log.warning("cannot forget what is done", file=self._file, problem=str(error))

    def _remembered(self) -> list[str]:
        try:
            paths = json.loads(self._disk.read_file(self._file))
            return [path for path in paths if isinstance(path, str)][:PATHS_MAX]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, RecursionError) as error:
            self._log.warning(
                "what was handed over for sync is forgotten; run `tracker-agent sync` again",
                file=self._file,
                problem=str(error),
            )
            return []

    def _remember(self, paths: Sequence[str]) -> None:
        self._disk.replace_file(self._file, json.dumps(paths).encode())


def _sum(parts: Iterable[Progress]) -> Progress:
    """Return several hand-overs' progress as one."""
    total = Progress(done=True)
    for part in parts:
        total.runs += part.runs
        total.streams += part.streams
        total.shipped += part.shipped
        total.live += part.live
        total.bytes += part.bytes
        total.bytes_shipped += part.bytes_shipped
        total.files += part.files
        total.waiting_for = total.waiting_for or part.waiting_for
        total.problems += part.problems
        total.done &= part.done
    return total
