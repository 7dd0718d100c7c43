"""The session with the driver: opened once, kept while all is well, opened anew while something is not.

Opening is dear: where persistence mode is off it takes seconds for each GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any

from .nvidia_calls import ABSENT, Absent, Calls, Fatal, NvmlError, call
from .nvidia_device import Device, address_of
from .nvidia_events import XID, EventSet, as_json
from .nvidia_gpm import Gpm

#: How often the driver is opened anew while a GPU is lost or their number is not the one before.
REOPEN_INTERVAL_S = 30.0
#: How often this process looks at itself.
SELF_CHECK_INTERVAL_S = 30.0
#: Libraries of some drivers leak; a new process then goes on.
RSS_BYTES_MAX = 512 * 1024 * 1024


class Driver:
    """One initialised NVML and the devices it lists."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._opened_at: float | None = None
        self._reopen = False
        self._gpm = Gpm()
        self._events: EventSet | None = None
        self._devices: list[Device] = []
        self._facts: dict[str, Any] = {}
        self._self_check_due = 0.0

    def sample(
        self,
        tell: Callable[[dict[str, Any]], None],
        asleep: Collection[int] = (),
        codecs: bool = False,
        reopen: bool = False,
    ) -> dict[str, Any]:
        """Return one answer. Raise Absent or Fatal.

        tell: takes what happened, before anything is asked that may hang because of it. asleep: indexes of
        GPUs that must not be woken. reopen: the machine's GPUs are not those of before.
        """
        self._check_self()
        if self._reopen and self._opened_at is not None:
            self.close()
        if self._opened_at is None:
            self._open()
        self._tell_events(tell)
        answer = self._read(asleep, codecs)
        assert self._opened_at is not None
        ill = self._count() != len(self._devices) or any(device.lost for device in self._devices)
        # Not at once: the agent must know that the next answer may take long.
        self._reopen = reopen or (ill and self._monotonic() - self._opened_at >= REOPEN_INTERVAL_S)
        return {**answer, "reopens": self._reopen}

    def close(self) -> None:
        """Let the driver go. Raise Fatal."""
        if self._opened_at is None:
            return
        self._opened_at = None
        self._reopen = False
        for device in self._devices:
            device.free()
        if self._events is not None:
            self._events.free()
        try:
            call("nvmlShutdown")
        except NvmlError as error:
            raise Fatal(f"nvmlShutdown: {error}") from error

    def _open(self) -> None:
        try:
            call("nvmlInit")
        except NvmlError as error:
            if error.code in ABSENT:
                raise Absent(str(error)) from error
            raise Fatal(f"nvmlInit: {error}") from error
        self._opened_at = self._monotonic()
        # nvmlInit tolerates a GPU that does not work; asking for its handle then fails, for it alone.
        self._devices = [Device(index, self._gpm, self._monotonic) for index in range(self._count())]
        self._events = EventSet()
        system = Calls(self._monotonic)
        self._facts = {
            "driver": system.ask("nvmlSystemGetDriverVersion"),
            "cuda": _cuda(system.ask("nvmlSystemGetCudaDriverVersion_v2")),
        }

    def _count(self) -> int:
        try:
            return int(call("nvmlDeviceGetCount"))
        except NvmlError as error:
            raise Fatal(f"nvmlDeviceGetCount: {error}") from error

    def _read(self, asleep: Collection[int], codecs: bool) -> dict[str, Any]:
        gpus = []
        for device in self._devices:
            if device.index in asleep:
                gpus.append(device.facts_only())
                continue
            if device.handle is None and not device.lost:
                device.open()
                if device.handle is not None and self._events is not None:
                    self._events.register(device.handle)
            gpus.append(device.read(codecs))
        return {**self._facts, "gpus": gpus}

    def _tell_events(self, tell: Callable[[dict[str, Any]], None]) -> None:
        assert self._events is not None
        taken, rest = self._events.take()
        if not taken:
            return
        devices = {address_of(device.handle): device for device in self._devices if device.handle is not None}
        concerned = [devices.get(address_of(event.device)) for event in taken]
        told = [
            as_json(event, None if device is None else device.index)
            for event, device in zip(taken, concerned, strict=True)
        ]
        # First tell: what an Xid calls for may hang like anything else.
        tell({"events": told, "more_events": dict(rest)})
        for event, device in zip(taken, concerned, strict=True):
            if device is not None:
                device.reread_soon()
                if event.eventType == XID:
                    device.restart_gpm()

    def _check_self(self) -> None:
        now = self._monotonic()
        if now < self._self_check_due:
            return
        self._self_check_due = now + SELF_CHECK_INTERVAL_S
        with open("/proc/self/statm", encoding="ascii") as file:
            rss_bytes = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if rss_bytes > RSS_BYTES_MAX:
            raise Fatal(f"the driver's library has grown to {rss_bytes >> 20} MiB; starting over")


def _cuda(version: int | None) -> str | None:
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"
