"""The processes that use GPUs, handed from the collector that asks the driver to the one that knows runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process on one GPU or one part of it. None: not to be had."""

    pid: int  #: as the host counts
    uuid: str  #: of the GPU, or of the MIG device
    index: int  #: of the GPU, as host.gpu.<index> has it
    memory_bytes: int | None
    sm_percent: float | None  #: time with a kernel of this process running
    mig: int | None = None  #: of the MIG device, as host.gpu.<index>.mig.<mig> has it


class GpuProcesses:
    """What the last sample found. Whole tuples are replaced, so threads may read and write."""

    def __init__(self) -> None:
        self._rows: tuple[GpuProcess, ...] = ()
        self._gpus: tuple[Mapping[str, Any], ...] = ()

    def put(self, rows: Sequence[GpuProcess], gpus: Sequence[Mapping[str, Any]]) -> None:
        """Replace what is known; empty while the driver is not asked. gpus: facts, as in the inventory."""
        self._rows, self._gpus = tuple(rows), tuple(gpus)

    def rows(self) -> tuple[GpuProcess, ...]:
        """Return the processes on all GPUs."""
        return self._rows

    def gpus(self) -> tuple[Mapping[str, Any], ...]:
        """Return facts about the GPUs: "index", "uuid", "mig_devices" and so on."""
        return self._gpus
