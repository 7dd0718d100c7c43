"""Which processes use a GPU, how much of its memory and for how much of the time.

NVML counts pids as the host does, whatever container a process is in.
"""

from __future__ import annotations

from typing import Any

from .nvidia_calls import Calls

#: Of one GPU; more are a mistake of the driver.
PROCESSES_MAX = 1024


class Processes:
    """The processes of one GPU or MIG device."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        #: The newest time, as the driver counts (µs), that utilisation was seen for.
        self._seen = 0

    def read(self, device: Any, utilisation: bool = True) -> list[dict[str, Any]] | None:
        """Return {"pid", "memory_bytes", "sm_percent"} of each; None where the driver does not tell.

        utilisation: also ask how busy they are, which MIG devices cannot say.
        """
        running = self._calls.ask("nvmlDeviceGetComputeRunningProcesses_v3", device)
        if running is None:
            running = self._calls.ask("nvmlDeviceGetComputeRunningProcesses_v2", device)
        if running is None:
            return None
        memory: dict[int, int | None] = {}
        for each in running[:PROCESSES_MAX]:
            used = each.usedGpuMemory
            # A process in several contexts is listed for each of them.
            memory[each.pid] = used if memory.get(each.pid) is None else (memory[each.pid] or 0) + (used or 0)
        busy = self._utilisation(device) if utilisation and memory else None
        return [
            {
                "pid": pid,
                "memory_bytes": used,
                "sm_percent": None if busy is None else busy.get(pid, 0.0),
            }
            for pid, used in memory.items()
        ]

    def _utilisation(self, device: Any) -> dict[int, float] | None:
        """Return the mean since the sample before by pid; None where it is not to be had, or at first."""
        question = ("nvmlDeviceGetProcessUtilization",)
        if self._calls.refuses(question):
            return None
        samples = self._calls.ask_as(question, "nvmlDeviceGetProcessUtilization", device, self._seen)
        if self._calls.refuses(question):
            return None
        # Nobody was busy: the driver says NOT_FOUND.
        samples = samples or []
        first, seen = not self._seen, self._seen
        self._seen = max((sample.timeStamp for sample in samples), default=seen or 1)
        if first:
            # The driver remembers more than the time since we look.
            return None
        found: dict[int, list[int]] = {}
        for sample in samples:
            # Drivers are known to answer -1 and what lies before the time that was asked for.
            if sample.timeStamp > seen and sample.smUtil <= 100:
                found.setdefault(sample.pid, []).append(sample.smUtil)
        return {pid: sum(shares) / len(shares) for pid, shares in found.items()}
