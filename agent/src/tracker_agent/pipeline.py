"""READ SECOND: tail → batch → upload → ack, from the files of a spool to the server's acknowledgement.

The files are the queue: nothing is held that cannot be read again, and a position moves only when the
server says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from structlog.typing import FilteringBoundLogger

from .clock import Clock
from .own_stream import Identity, OwnStreams


@dataclass(frozen=True)
class PipelineSettings:
    """Everything that may be configured about shipping. Times in seconds."""

    state_dir: str
    spools: tuple[str, ...]
    server_url: str
    key: str | None  #: the operator's key; users' own keys come from <spool>/<uid>/credentials
    watch: bool | None = None  #: True, False, or None: on where the file system sends events
    scan_interval_s: float = 0.5
    flush_interval_s: float = 0.2
    batch_bytes: int = 4 * 1024 * 1024
    probe_interval_s: float = 300.0  #: how often a refused key or stream is tried again
    retry_first_s: float = 1.0
    retry_max_s: float = 300.0
    request_timeout_s: float = 60.0
    open_files_max: int = 128
    pidfds_max: int = 256


class Pipeline:
    """Ships every stream of the spools and the agent's own. One per configuration: build anew on SIGHUP."""

    def __init__(
        self,
        settings: PipelineSettings,
        identity: Identity,
        own: OwnStreams,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._own = own
        self._clock = clock
        self._log = log
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Ship until stop() is called. Raises nothing a caller could mend."""
        await self._stopping.wait()

    async def stop(self, grace_s: float = 8.0) -> None:
        """Let what is in flight finish, write the checkpoint, and return within about grace_s."""
        self._stopping.set()

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what `tracker-agent status --json` shows under "shipping"."""
        return {}
