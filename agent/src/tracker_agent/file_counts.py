"""What was done with the files of runs, and what could not be, with reasons. Shared by all file lanes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from .allowance import TokenBucket
from .clock import Clock
from .counters import Counters
from .losses import LossReason
from .run_files import File, RunFiles

#: Parts of files in memory and on their way at once, over all servers.
PARTS_AT_ONCE = 4
#: Files are read this much faster than they are sent: what the servers have already is only read.
HASHING_SHARE = 4


class FileAllowance:
    """What all file lanes of an agent may use together."""

    def __init__(self, clock: Clock, bytes_per_s: int) -> None:
        now = clock.monotonic()
        self.sending = TokenBucket(bytes_per_s, now)
        self.hashing = TokenBucket(bytes_per_s * HASHING_SHARE, now)
        self.parts = asyncio.Semaphore(PARTS_AT_ONCE)


@dataclass(eq=False, slots=True)
class FileCounts:
    """Counts since the agent started."""

    counters: Counters
    log: FilteringBoundLogger
    clock: Clock
    stored: int = 0  #: versions that a server has
    stored_bytes: int = 0
    known_before: int = 0  #: of these, such as a project had already: not a byte was sent
    hashed_bytes: int = 0
    sent_bytes: int = 0
    parts: int = 0
    changed: int = 0  #: versions that were gone before they were sent: the file was read again
    not_sent: int = field(default=0)  #: files lost or refused

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "stored": {"files": self.stored, "bytes": self.stored_bytes},
            "known_before": self.known_before,
            "hashed_bytes": self.hashed_bytes,
            "sent_bytes": self.sent_bytes,
            "parts": self.parts,
            "changed": self.changed,
            "not_sent": self.not_sent,
        }

    def lose(self, run: RunFiles, path: str, size: int, reason: str) -> None:
        """Count a file that will not be sent."""
        self.not_sent += 1
        self.counters.add_loss(reason, size)
        self.log.warning("file not sent", run=run.place.path, path=path, bytes=size, reason=reason)

    def gone(self, run: RunFiles, file: File) -> None:
        """Give up a file that was deleted before it was sent."""
        self.lose(run, file.path, file.signature.size, LossReason.FILE_GONE.text)
        run.drop(file)
        run.walk_at = 0.0

    def set_aside(self, run: RunFiles, file: File, reason: str) -> None:
        """Give up a version that is not accepted."""
        self.lose(run, file.path, file.signature.size, reason)
        now = self.clock.monotonic()
        run.set_aside(file, reason, now)
        run.look_again_if_through(now)

    def begin_again(self, run: RunFiles, file: File) -> None:
        """Have a file read again: it is not what was to be sent any more."""
        self.changed += 1
        run.begin_again(file, self.clock.monotonic())
