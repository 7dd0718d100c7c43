"""Sends the bytes of files in parts, each from where the server says that the upload goes on.

A file stays open while it is sent, so that deleting or renaming it stops nothing. One that is written to
meanwhile is noticed, and at the latest by the server, which has the digest.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .allowance import TokenBucket
from .clock import Clock
from .file_client import FileClient, FilesUnavailable, PartAnswer, PartTooLarge
from .file_counts import FileAllowance, FileCounts
from .file_tree import Signature
from .file_watch import Changed, FileWatch
from .losses import LossReason
from .opening import Refused
from .run_files import Destination, File, RunFiles, Stage, Version

PART_BYTES = 4 * 1024 * 1024
#: A slow network, or a server that takes no more, makes parts smaller, down to this.
PART_BYTES_MIN = 64 * 1024
#: Files of one part are sent so many at a time, and so many before a part of a large one.
SMALL_AT_ONCE = 4
SMALL_PER_TURN = 32
#: Files wait while records do, but no longer than this for each part.
YIELD_S = 5.0
YIELD_STEP_S = 0.05
#: A file whose disk does not answer within this time is left alone for as long again.
DISK_WAIT_S = 30.0
#: Answers in a row that bring an upload no further.
SETBACKS_MAX = 5


#: Some bytes in some project.
Content = tuple[Destination | None, str]


@dataclass(eq=False, slots=True)
class _Upload:
    """A file that is open for sending."""

    run: RunFiles
    watch: FileWatch
    file: File
    version: Version
    destination: Destination
    fd: int
    setbacks: int = 0

    @property
    def content(self) -> Content:
        """What is sent, and whereto."""
        return (self.destination, self.version.digest)

    @property
    def wanted(self) -> bool:
        """Whether the server still lacks this version."""
        return self.file.version is self.version and self.version.stage is Stage.SEND


class FileSender:
    """Sends for one lane. records_wait() tells whether records of the same server are waiting."""

    def __init__(
        self,
        client: FileClient,
        clock: Clock,
        allowance: FileAllowance,
        counts: FileCounts,
        records_wait: Callable[[], bool],
    ) -> None:
        self.part_bytes = PART_BYTES
        self._client = client
        self._clock = clock
        self._rate: TokenBucket = allowance.sending
        self._parts = allowance.parts
        self._counts = counts
        self._records_wait = records_wait
        self._large: _Upload | None = None
        self._arrived: set[Content] = set()  #: since files were last chosen

    async def send(self, runs: Iterable[RunFiles], watches: Mapping[RunFiles, FileWatch]) -> bool:
        """Send some small files and a part of a large one. Return False when there was nothing to send."""
        small, large = self._choose(runs)
        await self._send_small(small, watches)
        sent_large = await self._send_large(large, watches)
        return bool(small) or sent_large

    def _choose(
        self, runs: Iterable[RunFiles]
    ) -> tuple[list[tuple[RunFiles, File]], list[tuple[RunFiles, File]]]:
        """Return some small files and all large ones, of several with one content in a project the first."""
        now = self._clock.monotonic()
        small: list[tuple[RunFiles, File]] = []
        large: list[tuple[RunFiles, File]] = []
        chosen: set[Content] = set()
        if self._large is not None:
            chosen.add(self._large.content)
        for run in runs:
            for file in list(run.to_send(now)):
                assert file.version is not None
                content = (run.destination, file.version.digest)
                if content in self._arrived:
                    file.version.stage = Stage.TELL  # another file brought its bytes
                elif content not in chosen:
                    chosen.add(content)
                    if not self._is_small(file):
                        large.append((run, file))
                    elif len(small) < SMALL_PER_TURN:
                        small.append((run, file))
        self._arrived.clear()
        return small, large

    def smaller_parts(self) -> None:
        """Send less at a time from now on: a part took too long."""
        self.part_bytes = max(PART_BYTES_MIN, self.part_bytes // 2)

    async def records_first(self) -> None:
        """Let records of the same server go first, but not for ever."""
        until = self._clock.monotonic() + YIELD_S
        while self._records_wait() and self._clock.monotonic() < until:  # noqa: ASYNC110 - bounded, and records do not tell
            await asyncio.sleep(YIELD_STEP_S)

    def forget(self, run: RunFiles) -> None:
        """Stop sending for a run."""
        if self._large is not None and self._large.run is run:
            self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._large is not None:
            os.close(self._large.fd)
            self._large = None

    def _is_small(self, file: File) -> bool:
        assert file.version is not None
        return file.version.signature.size <= self.part_bytes

    async def _send_small(
        self, chosen: list[tuple[RunFiles, File]], watches: Mapping[RunFiles, FileWatch]
    ) -> None:
        waiting = iter(chosen)

        async def send_some() -> None:
            for run, file in waiting:
                upload = await self._open(run, file, watches)
                if upload is not None:
                    try:
                        await self._send_part(upload)
                    finally:
                        os.close(upload.fd)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(SMALL_AT_ONCE, len(chosen))):
                group.create_task(send_some())

    async def _send_large(
        self, files: list[tuple[RunFiles, File]], watches: Mapping[RunFiles, FileWatch]
    ) -> bool:
        """Send a part of one large file, of the same one until it is through. False: there is none."""
        if self._large is None and files:
            run, file = min(files, key=lambda each: each[1].signature.size)
            self._large = await self._open(run, file, watches)
        upload = self._large
        if upload is None:
            return bool(files)
        try:
            await self._send_part(upload)
        except BaseException:
            self.close()
            raise
        if not upload.wanted or upload.file.retry_at > self._clock.monotonic():
            self.close()
        return True

    async def _open(self, run: RunFiles, file: File, watches: Mapping[RunFiles, FileWatch]) -> _Upload | None:
        """Open the version that is to be sent, if the file still holds it."""
        version, watch, destination = file.version, watches.get(run), run.destination
        if version is None or watch is None or destination is None or version.stage is not Stage.SEND:
            return None
        try:
            async with asyncio.timeout(DISK_WAIT_S):
                fd, signature = await watch.open(run.place, file.path)
        except TimeoutError:
            file.retry_at = self._clock.monotonic() + DISK_WAIT_S
        except FileNotFoundError:
            self._counts.gone(run, file)
        except Refused as error:
            self._counts.set_aside(run, file, LossReason.FILE_REFUSED.because(str(error)))
        except OSError:
            file.trouble(self._clock.monotonic())
        else:
            if holds(signature, version.signature):
                return _Upload(run, watch, file, version, destination, fd)
            os.close(fd)
            self._counts.begin_again(run, file)
        return None

    async def _send_part(self, upload: _Upload) -> None:
        await self.records_first()
        async with self._parts:
            part = await self._read_part(upload)
            if part is None or not upload.wanted:
                return
            pause = self._rate.delay_s(self._clock.monotonic())
            if pause > 0:
                await asyncio.sleep(pause)
            self._rate.spend(len(part), self._clock.monotonic())
            self._counts.parts += 1
            self._counts.sent_bytes += len(part)
            version = upload.version
            version.sent += len(part)
            try:
                answer = await self._client.send(
                    upload.destination, version.digest, version.offset, version.signature.size, part
                )
            except PartTooLarge as error:
                if self.part_bytes <= PART_BYTES_MIN:
                    raise FilesUnavailable(f"the server takes no parts: {error}") from error
                self.smaller_parts()
                return
        if upload.wanted:
            self._apply(upload, answer)

    async def _read_part(self, upload: _Upload) -> bytes | None:
        version = upload.version
        length = min(self.part_bytes, version.signature.size - version.offset)
        try:
            async with asyncio.timeout(DISK_WAIT_S):
                return await upload.watch.read(upload.fd, version.offset, length, version.signature)
        except TimeoutError:
            upload.file.retry_at = self._clock.monotonic() + DISK_WAIT_S
        except Changed:
            self._counts.begin_again(upload.run, upload.file)
        except OSError:
            upload.file.trouble(self._clock.monotonic())
        return None

    def _apply(self, upload: _Upload, answer: PartAnswer) -> None:
        version = upload.version
        if answer.refused:
            reason = LossReason.FILE_REFUSED.because(answer.wrong)
            self._counts.set_aside(upload.run, upload.file, reason)
        elif answer.wrong:
            # It changed without a trace, or the server's half of it did: read it and send it again.
            self._counts.begin_again(upload.run, upload.file)
        elif answer.done:
            version.stage = Stage.TELL
            self._arrived.add(upload.content)
            self.part_bytes = min(PART_BYTES, self.part_bytes * 2)
        else:
            if answer.offset <= version.offset:  # the server has less than it said
                upload.setbacks += 1
                if upload.setbacks > SETBACKS_MAX:
                    upload.file.trouble(self._clock.monotonic())
            version.offset = answer.offset


def holds(now: Signature, version: Signature) -> bool:
    """Return whether a file holds a version: it is that one, under whatever name, or has grown since."""
    same = (now.device, now.inode, now.size, now.mtime_ns) == (
        version.device,
        version.inode,
        version.size,
        version.mtime_ns,
    )
    return same or now.grew_from(version)
