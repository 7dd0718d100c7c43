"""What the witness saw, kept over a restart of the agent: baselines of the living, findings about the dead.

A cache of the agent's state. A file that cannot be used is done without: then causes are unknown that might
have been known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .disk import Disk
from .evidence import Findings, MemoryKills
from .exit_status import ExitStatus
from .kernel_log import KernelEvent
from .memory_group import Group
from .scene import Baseline
from .streams import StreamKey

FILE = "evidence.json"
VERSION = 1
#: Writers that are remembered; of more, nothing is known after a restart.
WRITERS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Remembered:
    """One writer: findings when it was seen to die, else the baseline it had."""

    died_ns: int | None
    findings: Findings | None
    baseline: Baseline | None


class WitnessMemory:
    """Reads and writes <state>/evidence.json. Baselines are of this boot only: their clocks end with it."""

    def __init__(self, state_dir: str, boot: str, disk: Disk) -> None:
        self._path = os.path.join(state_dir, FILE)
        self._boot = boot
        self._disk = disk

    def read(self) -> tuple[dict[StreamKey, Remembered], str]:
        """Return what was seen before a restart, and what was wrong with the file."""
        try:
            fields = json.loads(self._disk.read_file(self._path))
            if fields["version"] != VERSION:
                return {}, ""
            same_boot = fields["boot"] == self._boot
            found = {_key(name): _remembered(each, same_boot) for name, each in fields["writers"].items()}
        except FileNotFoundError:
            return {}, ""
        except OSError as error:
            return {}, f"{self._path} cannot be read: {error.strerror}; going on without it"
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            return {}, f"{self._path} is damaged ({error!r}); going on without it"
        return found, ""

    def write(self, writers: Mapping[StreamKey, Remembered]) -> None:
        """Replace the file. Raise OSError."""
        kept = {
            f"{uid}/{stream.hex()}": {
                "died": each.died_ns,
                "findings": None if each.findings is None else asdict(each.findings),
                "baseline": None if each.baseline is None else {**asdict(each.baseline), "pidfd": -1},
            }
            for (uid, stream), each in list(writers.items())[-WRITERS_MAX:]
        }
        fields = {"version": VERSION, "boot": self._boot, "writers": kept}
        self._disk.replace_file(self._path, json.dumps(fields).encode())


def _key(name: str) -> StreamKey:
    uid, _, stream = name.partition("/")
    return int(uid), bytes.fromhex(stream)


def _remembered(fields: dict[str, Any], same_boot: bool) -> Remembered:
    died, findings, baseline = fields["died"], fields["findings"], fields["baseline"]
    if not isinstance(died, int | None):
        raise TypeError("a time is no number")
    return Remembered(
        died,
        None if findings is None else _findings(findings),
        _baseline(baseline) if baseline is not None and same_boot else None,
    )


def _findings(fields: dict[str, Any]) -> Findings:
    status, memory = fields["status"], fields["memory"]
    return Findings(
        None if status is None else ExitStatus(**status),
        None if memory is None else MemoryKills(**{**memory, "limit": _limit(memory["limit"])}),
        tuple(KernelEvent(**each) for each in fields["kernel"]),
        tuple(KernelEvent(**each) for each in fields["gpu"]),
        tuple(map(str, fields["missing"])),
        bool(fields["runs_on"]),
        bool(fields["witnessed"]),
    )


def _baseline(fields: dict[str, Any]) -> Baseline:
    group = fields["group"]
    return Baseline(
        **{
            **fields,
            "group": None if group is None else Group(**group),
            "limit": _limit(fields["limit"]),
            "pidfd": -1,
        }
    )


def _limit(fields: Any) -> tuple[str, int] | None:
    return None if fields is None else (str(fields[0]), int(fields[1]))
