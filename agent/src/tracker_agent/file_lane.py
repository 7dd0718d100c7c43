"""A FileLane ships the files that travel with one key: tells the server of them, sends what it lacks.

Below records in everything: its requests use connections of their own, wait while records of the same server
do, and keep to a rate. Nothing is held that a crash could lose: what the server has, it says when asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

from structlog.typing import FilteringBoundLogger

from .answers import TooLarge
from .clock import Clock
from .credentials import Credential
from .endpoint import Endpoint
from .file_client import CAPABILITY, FileClient, FileOutcome, FilesUnavailable, ToldFile
from .file_counts import FileAllowance, FileCounts
from .file_sender import FileSender
from .file_watch import FileWatch
from .ingest_client import LockedOut
from .losses import LossReason
from .retry import RETRY_AFTER_MAX_S, Backoff
from .run_files import File, RunFiles, Stage, Version

TOLD_PER_REQUEST = 500
#: The first records of a run are on their way: it is told again, later and later, up to this.
UNKNOWN_FIRST_S = 0.25
UNKNOWN_MAX_S = 60.0
#: A version that the server was told of so often is put off.
TOLD_MAX = 4
#: Files become ready one by one; what becomes ready within this time goes into one request.
GATHER_S = 0.05
#: How often what was put off is looked at.
IDLE_S = 1.0


class FileLane:
    """Files of the runs that one credential ships. Everything happens in one event loop."""

    def __init__(
        self,
        credential: Credential,
        endpoint: Endpoint,
        clock: Clock,
        allowance: FileAllowance,
        counts: FileCounts,
        log: FilteringBoundLogger,
        records_wait: Callable[[str], bool],
    ) -> None:
        self.credential = credential
        self.state = "connecting"
        self.reason = ""
        self.runs: dict[RunFiles, FileWatch] = {}
        self._endpoint = endpoint
        self._clock = clock
        self._counts = counts
        self._log = log.bind(credential=credential.name, server=endpoint.url)
        self._client = FileClient(credential.key, endpoint, clock)
        self._sender = FileSender(self._client, clock, allowance, counts, lambda: records_wait(endpoint.url))
        settings = endpoint.settings
        self._backoff = Backoff(settings.retry_first_s, settings.retry_max_s, endpoint.uniform)
        self._told_per_request = TOLD_PER_REQUEST
        self._next_try: float | None = None
        self._ready: dict[RunFiles, None] = {}
        self._wake = asyncio.Event()
        self._ended = False

    def add(self, run: RunFiles, watch: FileWatch) -> None:
        """Ship a run's files from now on."""
        self.runs[run] = watch
        run.destination, run.tell_at, run.reason = None, 0.0, ""
        self.ready(run)

    def remove(self, run: RunFiles) -> None:
        """Ship a run's files no more."""
        self.runs.pop(run, None)
        self._ready.pop(run, None)
        self._sender.forget(run)

    def ready(self, run: RunFiles) -> None:
        """Note that a run may have something to tell or to send."""
        if run in self.runs:
            self._ready[run] = None
            self._wake.set()

    def end(self) -> None:
        """Let run() return soon: no run travels with this key any more."""
        self._ended = True
        self._wake.set()

    def close(self) -> None:
        """Close what is open. The task that runs the lane must have ended."""
        self._sender.close()

    @property
    def next_try_s(self) -> float | None:
        """Seconds until the server is tried again, None when nobody waits for that."""
        return None if self._next_try is None else max(0.0, self._next_try - self._clock.monotonic())

    async def run(self) -> None:
        """Ship until cancelled, or told to end."""
        while not self._ended:
            if not self._ready:
                await self._wait(None)
                continue
            try:
                if not self._endpoint.admits:
                    self.state, self.reason = "waiting", self._endpoint.reason
                await self._endpoint.ready()
                if CAPABILITY not in self._endpoint.capabilities and not await self._client.is_offered():
                    raise LockedOut("the server takes no files: it is older than this agent")
                if not await self._turn():
                    await self._wait(IDLE_S)
                    await asyncio.sleep(GATHER_S)
                continue
            except* FilesUnavailable as group:
                pause = self._unavailable(_first(group))
            except* LockedOut as group:
                self._turn_to("parked", str(_first(group)))
                pause = self._endpoint.settings.probe_interval_s
            self._next_try = self._clock.monotonic() + pause
            await asyncio.sleep(pause)
            self._next_try = None

    async def _turn(self) -> bool:
        """Do one round of work. Return False when there was none."""
        told = await self._tell()
        sent = await self._sender.send(list(self._ready), self.runs)
        for run in list(self._ready):
            if not any(file.in_flight for file in run.files.values()):
                del self._ready[run]
        if told or sent:
            self._turn_to("shipping", "")
            self._backoff.success()
        return told or sent

    def _unavailable(self, error: BaseException) -> float:
        """Return how long to wait."""
        assert isinstance(error, FilesUnavailable)
        self._turn_to("retrying", str(error))
        if error.timed_out:
            self._sender.smaller_parts()
        asked_s = error.retry_after_s
        return self._backoff.failure(None if asked_s is None else min(asked_s, RETRY_AFTER_MAX_S))

    async def _wait(self, seconds: float | None) -> None:
        self._wake.clear()
        if not self._ready and self.state == "shipping":
            self._turn_to("idle", "")
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _turn_to(self, state: str, reason: str) -> None:
        if reason and (state, reason) != (self.state, self.reason):
            self._log.warning("files wait", state=state, reason=reason)
        self.state, self.reason = state, reason

    # Telling.

    async def _tell(self) -> bool:
        worked = False
        for run in list(self._ready):
            now = self._clock.monotonic()
            if run.tell_at <= now:
                files = list(islice(run.to_tell(now), self._told_per_request))
                if files:
                    await self._sender.records_first()
                    await self._tell_of(run, files)
                    worked = True
        return worked

    async def _tell_of(self, run: RunFiles, files: list[File]) -> None:
        versions = [(file, file.version) for file in files if file.version is not None]
        told = []
        for file, version in versions:
            told.append(ToldFile(file.path, version.digest, version.signature, file.revision))
            version.told += 1
        restorations = self._endpoint.restorations
        answer = await self._client.tell(run.place.uid, run.stream, told)
        if isinstance(answer, TooLarge):
            if len(told) == 1:
                raise FilesUnavailable(answer.reason)
            self._told_per_request = len(told) // 2
            return
        if not self._endpoint.hear(answer.epoch, restorations) or self._endpoint.restorations != restorations:
            return  # the server was restored: all of them are told again
        now = self._clock.monotonic()
        if answer.error is not None:
            self._put_off(run, answer.error, answer.reason, now)
            return
        run.unknown, run.reason, run.destination = 0, "", answer.destination
        for (file, version), outcome in zip(versions, answer.outcomes, strict=True):
            if file.version is version and run in self.runs:
                self._apply(run, file, version, outcome, now)
        run.look_again_if_through(now)

    def _apply(self, run: RunFiles, file: File, version: Version, outcome: FileOutcome, now: float) -> None:
        if outcome.state == "stored":
            self._counts.stored += 1
            self._counts.stored_bytes += version.signature.size
            self._counts.known_before += version.sent == 0
            run.stored(file, outcome.revision, now)
        elif outcome.state == "refused":
            reason = LossReason.FILE_REFUSED.because(outcome.reason or "no reason given")
            self._counts.set_aside(run, file, reason)
        else:
            file.revision = outcome.revision
            if outcome.state == "missing":
                version.stage = Stage.SEND
                version.offset = min(outcome.offset, version.signature.size)
            if version.told > TOLD_MAX:
                file.trouble(now)

    def _put_off(self, run: RunFiles, code: str, reason: str, now: float) -> None:
        """Wait with a run that the server will not hear of."""
        if code == "unknown":
            # Its first records are on their way; or the stream that names it is one that never arrives.
            run.try_another_stream()
            run.tell_at = now + min(UNKNOWN_MAX_S, UNKNOWN_FIRST_S * 2.0 ** min(run.unknown, 10))
            run.unknown += 1
        else:
            run.tell_at = now + self._endpoint.settings.probe_interval_s
        run.reason = f"{code}: {reason}"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return one of the errors that requests at the same time ended with."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
