"""Events of the driver, Xids above all: the only thing NVML tells without being asked again and again.

What happened before a GPU was registered is not told; the kernel's log has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .nvidia_calls import FATAL, Fatal, NvmlError, call

#: So many are told one by one in a sample; of more only how many there were.
EVENTS_MAX = 20
#: So many are taken from the driver in a sample, lest a storm take all the time there is.
TAKEN_MAX = 200

XID = 0x8
#: By their bit: what they are called on the way to the agent.
KINDS: Mapping[int, str] = {
    0x2: "double bit error",
    XID: "xid",
    0x100: "mig changed",
    0x200: "single bit error storm",
    0x400: "memory retired",
    0x800: "memory retirement failed",
    0x1000: "poison",
    0x2000: "fatal poison",
    0x4000: "unavailable",
    0x8000: "recovery action",
}
_NO_INSTANCE = 0xFFFFFFFF


class EventSet:
    """The events of all GPUs. Where the driver offers none, there are none."""

    def __init__(self) -> None:
        self._set: Any = None
        try:
            self._set = call("nvmlEventSetCreate")
        except NvmlError as error:
            _raise_if_fatal(error)

    def register(self, device: Any) -> None:
        """Listen to what a GPU can tell of KINDS."""
        if self._set is None:
            return
        try:
            offered = call("nvmlDeviceGetSupportedEventTypes", device)
            wanted = sum(kind for kind in KINDS if kind & offered)
            if wanted:
                call("nvmlDeviceRegisterEvents", device, wanted, self._set)
        except NvmlError as error:
            _raise_if_fatal(error)

    def take(self) -> tuple[list[Any], Counter[str]]:
        """Return the events since the last time, and the kinds of those beyond EVENTS_MAX."""
        told: list[Any] = []
        rest: Counter[str] = Counter()
        if self._set is None:
            return told, rest
        for _ in range(TAKEN_MAX):
            try:
                event = call("nvmlEventSetWait_v2", self._set, 0)
            except NvmlError as error:
                # TIMEOUT: no more. Whatever else, GPU_IS_LOST say, the values of that GPU tell.
                _raise_if_fatal(error)
                return told, rest
            if len(told) < EVENTS_MAX:
                told.append(event)
            else:
                rest[describe(event)] += 1
        return told, rest

    def free(self) -> None:
        """Stop listening."""
        if self._set is not None:
            try:
                call("nvmlEventSetFree", self._set)
            except NvmlError:
                # The driver drops it when this process ends.
                pass
            self._set = None


def describe(event: Any) -> str:
    """Return what an event is, in a word or two."""
    if event.eventType == XID:
        return f"Xid {event.eventData}"
    return KINDS.get(event.eventType, f"event {event.eventType:#x}")


def as_json(event: Any, index: int | None) -> dict[str, Any]:
    """Return an event for the agent. index: of its GPU, None where it is not known."""
    shown: dict[str, Any] = {"kind": KINDS.get(event.eventType, f"event {event.eventType:#x}")}
    shown |= {"index": index, "data": event.eventData}
    for name, instance in (("gi", event.gpuInstanceId), ("ci", event.computeInstanceId)):
        if instance != _NO_INSTANCE:
            shown[name] = instance
    return shown


def _raise_if_fatal(error: NvmlError) -> None:
    if error.code in FATAL:
        raise Fatal(f"events: {error}") from error
