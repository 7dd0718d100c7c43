"""Looks after the files of the runs in one spool: walks them, and reads them to learn their digests.

All of it runs in a thread of its own, block by block, so that neither a big file nor a hung mount holds up
records, and no faster than a bound.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from itertools import islice
from typing import Any

from .clock import Clock
from .file_counts import FileAllowance, FileCounts
from .file_digests import FileDigests
from .file_tree import FileTree, Signature, walk_files
from .losses import LossReason
from .machine import Machine
from .opening import Place, Refused
from .run_files import File, RunFiles

#: How often the files of a live run are looked at.
WALK_S = 5.0
#: Walks per second, however many runs are alive: bounds what they cost.
WALKS_PER_S = 50.0
#: A walk that takes long comes back that much later: it costs at most this part of a core.
WALK_SHARE = 0.01
#: A run directory that cannot be walked is tried again after this.
UNREADABLE_S = 30.0
BLOCK_BYTES = 4 * 1024 * 1024
#: Files up to this are read at one go.
SMALL_BYTES = 256 * 1024
#: Files above this are read beside the others, so that those need not wait for them.
LARGE_BYTES = 64 * 1024 * 1024
#: Files known at once, over all runs of the spool; ended runs wait for their turn beyond it.
FILES_KNOWN_MAX = 100_000
IDLE_S = 0.5
#: Stands for the files beyond the bounds of a walk.
REST = "…"


class Changed(Exception):
    """A file is not what it was."""


class FileWatch:
    """Walks and hashes for one root. Its own state is touched in the event loop only."""

    def __init__(
        self,
        root: str,
        machine: Machine,
        clock: Clock,
        digests: FileDigests,
        allowance: FileAllowance,
        counts: FileCounts,
        bytes_max: int,
        ready: Callable[[RunFiles], None],
    ) -> None:
        self.runs: dict[Place, RunFiles] = {}  #: those that are not done
        self.problem: str | None = None
        self._disk = machine.disk
        self._thread = machine.thread(f"files {root}")
        self._clock = clock
        self._digests = digests
        self._hashing = allowance.hashing
        self._counts = counts
        self._bytes_max = bytes_max
        self._tell_ready = ready
        self._changed = asyncio.Event()
        self._alive = 0
        self._departed: list[RunFiles] = []

    def add(self, run: RunFiles) -> None:
        """Look after a run, from now on or again."""
        self.runs[run.place] = run
        self._changed.set()

    def depart(self, run: RunFiles) -> None:
        """Look no more after a run, but once: what is gone and was not sent is lost."""
        if self.runs.get(run.place) is run:
            del self.runs[run.place]
        if run.pending:
            self._departed.append(run)
            self._changed.set()

    def hurry(self) -> None:
        """Look at what is due now."""
        self._changed.set()

    def close(self) -> None:
        """Let the thread end."""
        self._thread.close()

    @property
    def busy(self) -> bool:
        """Whether the disk is at work, or hangs."""
        return self._thread.busy

    # Walking.

    async def walk_forever(self) -> None:
        """Walk each run when it is due."""
        while True:
            now = self._clock.monotonic()
            due = [run for run in self.runs.values() if run.walk_at <= now]
            self._alive = sum(not run.ended for run in self.runs.values())
            while self._departed:
                await self._take_leave(self._departed.pop())
            known = sum(len(run.files) for run in self.runs.values())
            for run in due:
                # One that nobody writes any more waits until others are through.
                crowded = known > FILES_KNOWN_MAX and run.ended and not run.files
                if self.runs.get(run.place) is run and not crowded:
                    known -= len(run.files)
                    await self._walk(run)
                    known += len(run.files)
            await self._pause(IDLE_S)

    async def _take_leave(self, run: RunFiles) -> None:
        try:
            tree = await self._thread.call(walk_files, self._disk, run.place)
        except FileNotFoundError:
            tree = FileTree()
        except (OSError, Refused):
            return  # it is there
        for file in run.pending:
            if file.path not in tree.files:
                self._counts.gone(run, file)

    async def _walk(self, run: RunFiles) -> None:
        began = self._clock.monotonic()
        # The writer may end while we walk: what it wrote last is then seen by the next walk.
        ended = run.ended
        try:
            tree = await self._thread.call(walk_files, self._disk, run.place)
        except FileNotFoundError:
            run.walk_at = began + UNREADABLE_S  # the scanner will say so
            return
        except (OSError, Refused) as error:
            run.reason = f"cannot be walked: {error}"
            run.walk_at = self._clock.monotonic() + UNREADABLE_S
            return
        now = self._clock.monotonic()
        run.walk_at = now + max(WALK_S, self._alive / WALKS_PER_S, (now - began) / WALK_SHARE)
        before = len(run.refused)
        if tree.truncated:
            tree.refused[REST] = "more files than are looked at in one run"
        for lost in run.see(tree, now, self._clock.wall_ns()):
            self._counts.lose(run, lost.path, lost.bytes, LossReason.FILE_GONE.text)
        for path, reason in islice(run.refused.items(), before, None):
            self._counts.lose(run, path, 0, LossReason.FILE_REFUSED.because(reason))
        if run.done and ended:
            run.close()
            del self.runs[run.place]
        else:
            run.done = False
            self._tell_ready(run)
            self._changed.set()

    # Reading.

    async def hash_forever(self, large: bool) -> None:
        """Learn the digest of each large or small file that is due, in the order of their size."""
        while True:
            now = self._clock.monotonic()
            due = [
                (run, file)
                for run in [run for run in self.runs.values() if run.unread]
                for file in run.to_hash(now)
                if (file.signature.size > LARGE_BYTES) == large
            ]
            due.sort(key=lambda each: each[1].signature.size)
            for run, file in due:
                await self._hash_one(run, file)
            if not due:
                await self._pause(IDLE_S)

    async def _hash_one(self, run: RunFiles, file: File) -> None:
        now = self._clock.monotonic()
        if run.files.get(file.path) is not file or file.in_flight or run.hash_at(file) > now:
            return
        if file.signature.size > self._bytes_max:
            run.hashed(file, file.signature, "")
            self._counts.set_aside(run, file, LossReason.FILE_TOO_LARGE.text)
            return
        digest = self._digests.get(file.signature)
        if digest is not None:
            run.hashed(file, file.signature, digest)
            self._tell_ready(run)
            return
        try:
            signature, digest = await self._digest(run.place, file)
        except FileNotFoundError:
            run.walk_at = 0.0
            file.trouble(now)
        except (OSError, Refused, Changed) as error:
            file.trouble(self._clock.monotonic())
            file.reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        else:
            run.hashed(file, signature, digest)
            self._tell_ready(run)

    async def _digest(self, place: Place, file: File) -> tuple[Signature, str]:
        """Read a file as long as it is now. Raise Changed when another one stands in its place."""
        if file.signature.size <= SMALL_BYTES:
            return await self._digest_small(place, file)
        fd, signature = await self.open(place, file.path)
        try:
            if signature != file.signature and not signature.grew_from(file.signature):
                file.signature, file.changed_at = signature, self._clock.monotonic()
                raise Changed("it has changed since it was seen")
            digest: Any = hashlib.sha256()
            offset = 0
            while offset < signature.size:
                pause = self._hashing.delay_s(self._clock.monotonic())
                if pause > 0:
                    await asyncio.sleep(pause)
                block = min(BLOCK_BYTES, signature.size - offset)
                read = await self._thread.call(self._hash_block, digest, fd, offset, block)
                if read == 0:
                    raise Changed("it became shorter while it was read")
                offset += read
                self._counts.hashed_bytes += read
                self._hashing.spend(read, self._clock.monotonic())
            after = await self._thread.call(_signature, fd)
        finally:
            os.close(fd)
        if after != signature and not after.grew_from(signature):
            raise Changed("it changed while it was read")
        if after == signature:
            self._digests.add(signature, digest.hexdigest(), self._clock.wall_ns())
        return signature, digest.hexdigest()

    async def _digest_small(self, place: Place, file: File) -> tuple[Signature, str]:
        """Read a file at one go: there may be very many of them."""
        signature, after, digest = await self._thread.call(self._read_small, place, file.path)
        self._hashing.spend(signature.size, self._clock.monotonic())
        self._counts.hashed_bytes += signature.size
        if after != signature:
            file.signature, file.changed_at = after, self._clock.monotonic()
            raise Changed("it changed while it was read")
        self._digests.add(signature, digest, self._clock.wall_ns())
        pause = self._hashing.delay_s(self._clock.monotonic())
        if pause > 0:
            await asyncio.sleep(pause)
        return signature, digest

    def _read_small(self, place: Place, path: str) -> tuple[Signature, Signature, str]:
        fd, signature = self._open(place, path)
        try:
            if signature.size > BLOCK_BYTES:
                raise Changed("it has grown since it was seen")
            content = self._disk.pread(fd, signature.size, 0)
            if len(content) != signature.size:
                raise Changed("it became shorter while it was read")
            return signature, _signature(fd), hashlib.sha256(content).hexdigest()
        finally:
            os.close(fd)

    def _hash_block(self, digest: Any, fd: int, offset: int, size: int) -> int:
        block = self._disk.pread(fd, size, offset)
        digest.update(block)
        return len(block)

    # For the lanes.

    async def open(self, place: Place, path: str) -> tuple[int, Signature]:
        """Open a file of a run. Raise Refused or OSError."""
        return await self._thread.call(self._open, place, path)

    def _open(self, place: Place, path: str) -> tuple[int, Signature]:
        fd = self._disk.open_file(place, path)
        try:
            return fd, _signature(fd)
        except BaseException:
            os.close(fd)
            raise

    async def read(self, fd: int, offset: int, size: int, version: Signature) -> bytes:
        """Return bytes of an open file that is still that version, or grew from it. Raise Changed."""
        return await self._thread.call(self._read, fd, offset, size, version)

    def _read(self, fd: int, offset: int, size: int, version: Signature) -> bytes:
        part = bytearray()
        while len(part) < size:
            block = self._disk.pread(fd, size - len(part), offset + len(part))
            if not block:
                raise Changed("it became shorter while it was sent")
            part += block
        after = _signature(fd)
        # A file that was deleted, or renamed, has another ctime and the same content.
        same = (after.size, after.mtime_ns) == (version.size, version.mtime_ns)
        if not same and not after.grew_from(version):
            raise Changed("it changed while it was sent")
        return bytes(part)

    async def _pause(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass


def _signature(fd: int) -> Signature:
    return Signature.of(os.fstat(fd))
