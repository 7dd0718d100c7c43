"""MIG: the parts a GPU is divided into, each with memory and processes of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .nvidia_calls import Calls, Lost
from .nvidia_core import memory_values, present
from .nvidia_gpm import Gpm, GpmSamples
from .nvidia_processes import Processes

#: The most that a GPU can be divided into is 7; some room.
_PARTS_MAX = 16


class MigDevice:
    """One part, by its number within the GPU. A part that was taken away costs its own values only."""

    def __init__(self, number: int, handle: Any, gpu: Any, gpm: Gpm, monotonic: Callable[[], float]) -> None:
        self.number = number
        self._handle = handle
        self._gpu = gpu
        self._calls = calls = Calls(monotonic)
        self._gpm = GpmSamples(gpm, calls, monotonic)
        self._processes = Processes(calls)
        memory = memory_values(calls, handle)
        self.facts = {
            "index": number,
            "uuid": calls.ask("nvmlDeviceGetUUID", handle),
            "name": calls.ask("nvmlDeviceGetName", handle),
            "memory_bytes": memory.get("memory.total.bytes"),
            "gi": calls.ask("nvmlDeviceGetGpuInstanceId", handle),
            "ci": calls.ask("nvmlDeviceGetComputeInstanceId", handle),
        }

    def read(self, instances: dict[int, dict[str, float]]) -> dict[str, Any]:
        """Return {"index", "values", "processes"}.

        instances: what GPM said about GPU instances in this sample; parts share them, and fill this in.
        """
        values = memory_values(self._calls, self._handle)
        processes = self._processes.read(self._handle, utilisation=False)
        if processes is not None:
            values["processes.count"] = len(processes)
        instance = self.facts["gi"]
        if instance is not None:
            if instance not in instances:
                instances[instance] = self._gpm.values(self._gpu, instance)
            values.update(instances[instance])
        return {**self.facts, "values": present(values), "processes": processes or []}

    def free(self) -> None:
        """Give back what the driver lent."""
        self._gpm.free()


def find_parts(calls: Calls, gpu: Any, gpm: Gpm, monotonic: Callable[[], float]) -> list[MigDevice]:
    """Return the parts of a GPU whose MIG mode is on."""
    count = calls.ask("nvmlDeviceGetMaxMigDeviceCount", gpu) or 0
    parts = []
    for number in range(min(count, _PARTS_MAX)):
        # The numbers have holes: NOT_FOUND is no refusal.
        handle = calls.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu, number)
        if handle is not None:
            try:
                parts.append(MigDevice(number, handle, gpu, gpm, monotonic))
            except Lost:
                # Taken away between the two calls.
                continue
    return parts
