"""Which streams are shipped under another id, since the server has other bytes under theirs.

Kept in <state>/aliases.json. The id follows from how often a stream was shipped as new, see
tracker.protocol.renaming: should the file be lost, the same command ships the same stream and nothing twice.
"""

from __future__ import annotations

import json
import os

from structlog.typing import FilteringBoundLogger

from tracker.protocol.renaming import renamed_id

from .disk import Disk
from .streams import StreamKey

FILE = "aliases.json"


class Aliases:
    """How often each stream was shipped as new. Writing raises OSError."""

    def __init__(self, state_dir: str, machine: str, disk: Disk, log: FilteringBoundLogger) -> None:
        self._path = os.path.join(state_dir, FILE)
        self._machine = machine
        self._disk = disk
        self._times: dict[StreamKey, int] = {}
        try:
            self._times = _parse(disk.read_file(self._path))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            log.warning(
                "which streams were shipped as new is forgotten; they will be parked as diverged again, "
                "`tracker-agent replay --as-new` takes them up where they were",
                file=self._path,
                problem=str(error),
            )

    def of(self, key: StreamKey) -> bytes | None:
        """Return the id that a stream is shipped under, None for its own."""
        times = self._times.get(key)
        return None if times is None else renamed_id(key[1], self._machine, times)

    def give(self, key: StreamKey) -> bytes:
        """Return a new id for a stream, and remember it."""
        self._write({**self._times, key: self._times.get(key, 0) + 1})
        alias = self.of(key)
        assert alias is not None
        return alias

    def _write(self, times: dict[StreamKey, int]) -> None:
        fields = {f"{uid}/{stream.hex()}": count for (uid, stream), count in times.items()}
        self._disk.replace_file(self._path, json.dumps(fields).encode())
        self._times = times


def _parse(content: bytes) -> dict[StreamKey, int]:
    times = {}
    for name, count in json.loads(content).items():
        uid, _, stream = name.partition("/")
        times[int(uid), bytes.fromhex(stream)] = int(count)
    return times
