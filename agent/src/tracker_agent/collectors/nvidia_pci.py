"""Which GPUs sleep: the kernel's word on their power, read without waking them as any call of NVML would.

Laptops switch a GPU off while nobody uses it, and an open driver counts as use. So where every GPU of the
machine may sleep, the driver is let go of as well while nothing runs on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .kernel import Kernel

LIST_INTERVAL_S = 20.0
#: GPUs that may sleep and have nothing to do for this long are left alone for REST_S.
IDLE_S = 60.0
REST_S = 60.0
#: A GPU that only draws a screen is busier than nothing, and nobody measures it.
IDLE_PERCENT_MAX = 2.0

_DRIVER = "sys/bus/pci/drivers/nvidia"
_POWER = "sys/bus/pci/devices/{}/power/{}"


class PciGpus:
    """The GPUs the driver has, in the order of their addresses, which is that of NVML's indexes."""

    def __init__(self, kernel: Kernel, monotonic: Callable[[], float]) -> None:
        self._kernel = kernel
        self._monotonic = monotonic
        self._listed_at: float | None = None
        self._addresses: list[str] = []
        self._may_sleep: list[bool] = []
        self._opened_with: list[str] | None = None
        self._idle_since: float | None = None
        self._rests_until = 0.0

    def asleep(self) -> list[int]:
        """Return the indexes of those that sleep now."""
        self._list()
        return [
            index
            for index, address in enumerate(self._addresses)
            if self._may_sleep[index]
            and self._kernel.word(_POWER.format(address, "runtime_status")) == "suspended"
        ]

    def all_asleep(self, asleep: list[int]) -> bool:
        """Return whether there are GPUs, and all sleep."""
        return bool(self._addresses) and len(asleep) == len(self._addresses)

    def resting(self) -> bool:
        """Return whether GPUs that had nothing to do are given the time to fall asleep."""
        return self._monotonic() < self._rests_until

    def changed(self) -> bool:
        """Return, once, that the GPUs are others than those of the last time."""
        self._list()
        before, self._opened_with = self._opened_with, self._addresses
        return before is not None and before != self._addresses

    def note(self, gpus: Iterable[Mapping[str, Any]]) -> bool:
        """Take note of a sample; return whether to let go of the driver now, for REST_S."""
        now = self._monotonic()
        if not self._addresses or not all(self._may_sleep) or not all(map(_idle, gpus)):
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since < IDLE_S:
            return False
        self._idle_since = None
        self._rests_until = now + REST_S
        return True

    def _list(self) -> None:
        now = self._monotonic()
        if self._listed_at is not None and now - self._listed_at < LIST_INTERVAL_S:
            return
        self._listed_at = now
        self._addresses = [name for name in self._kernel.names(_DRIVER) if ":" in name]
        # "on": never switched off, so that its state need not be read each time.
        self._may_sleep = [
            self._kernel.word(_POWER.format(address, "control")) == "auto" for address in self._addresses
        ]


def _idle(gpu: Mapping[str, Any]) -> bool:
    busy = gpu["values"].get("utilization.percent", 0.0)
    return busy <= IDLE_PERCENT_MAX and not gpu["processes"] and not gpu["mig"]
