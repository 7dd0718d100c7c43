"""One GPU: its facts, and its values of one moment, put together from what it offers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from .nvidia_calls import Calls, Lost, NvmlError, call
from .nvidia_core import (
    core_values,
    link_values,
    memory_temperature,
    memory_values,
    pcie_rates,
    power_values,
    present,
    throttle_values,
)
from .nvidia_fields import FAST_FIELDS, SLOW_FIELDS, Counters, Field, Values, read_fields
from .nvidia_gpm import Gpm, GpmSamples
from .nvidia_mig import MigDevice, find_parts
from .nvidia_nvlink import NvLinks
from .nvidia_processes import Processes

#: How often facts, modes, links and counters of errors are read.
SLOW_INTERVAL_S = 30.0

_FAST = tuple(map(Field, FAST_FIELDS))
_SLOW = {name: Field(number) for name, number in SLOW_FIELDS.items()}
_BUSY_PERCENT = 50.0
_MODES = {0: "off", 1: "on"}
_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


class Device:
    """One GPU, by the index NVML gives it (the order of the PCI bus)."""

    def __init__(self, index: int, gpm: Gpm, monotonic: Callable[[], float]) -> None:
        self.index = index
        self.handle: Any = None
        self.calls = calls = Calls(monotonic)
        self._monotonic = monotonic
        self._shared_gpm = gpm
        self._gpm = GpmSamples(gpm, calls, monotonic)
        self._links = NvLinks(calls)
        self._processes = Processes(calls)
        self._parts: list[MigDevice] = []
        self._counters = Counters()
        self._facts: dict[str, Any] = {"index": index}
        self._slow: dict[str, float | None] = {}
        self._slow_due = 0.0
        self._fields_missed = False
        self._lost = ""

    @property
    def lost(self) -> bool:
        """Whether the GPU stopped answering; it is left alone until the driver is opened anew."""
        return bool(self._lost)

    def open(self) -> None:
        """Get the handle and the facts, unless that is done. Raise Fatal; a GPU that is lost is marked so."""
        if self.handle is not None or self._lost:
            return
        try:
            try:
                self.handle = call("nvmlDeviceGetHandleByIndex", self.index)
            except NvmlError as error:
                self.calls.judge("handle", error.code, "handle")
                # The handle is no value that may be missing: without it the GPU is lost, whatever the reason.
                raise Lost(str(error)) from error
            self._read_facts()
        except Lost as error:
            self._lost = str(error)

    def read(self, codecs: bool) -> dict[str, Any]:
        """Return facts, values, processes and parts; a lost GPU has a problem and no values."""
        answer: dict[str, Any] = {"values": {}, "processes": [], "mig": []}
        if not self._lost:
            try:
                answer = self._read(codecs)
            except Lost as error:
                self._lost = str(error)
        problem = self._lost or self.calls.problem()
        if problem:
            answer |= {"problem": problem, "lost": bool(self._lost)}
        return {**self._facts, **answer}

    def facts_only(self) -> dict[str, Any]:
        """Return what is known without a call, which would wake a GPU that sleeps."""
        return {**self._facts, "values": {}, "processes": [], "mig": []}

    def reread_soon(self) -> None:
        """Read at the next sample what else is read seldom: something happened to this GPU."""
        self._slow_due = 0.0

    def restart_gpm(self) -> None:
        """Make the buffers anew: known to help after an Xid."""
        self._gpm.free()

    def free(self) -> None:
        """Give back what the driver lent."""
        self._gpm.free()
        for part in self._parts:
            part.free()
        self._parts = []

    def _read(self, codecs: bool) -> dict[str, Any]:
        calls, handle, counters = self.calls, self.handle, self._counters
        now = self._monotonic()
        slow = now >= self._slow_due
        fields = [*_FAST, *self._links.fast_fields()]
        if slow:
            self._slow_due = now + SLOW_INTERVAL_S
            fields += [*_SLOW.values(), *self._links.slow_fields()]
        found = read_fields(calls, handle, fields)
        now = self._monotonic()
        if slow:
            self._read_slow(found)
            self._fields_missed = not found
        elif found and self._fields_missed:
            # They work again: half a minute is too long for what was missed.
            self._fields_missed = False
            self.reread_soon()
        values: dict[str, float | None] = dict(self._slow)
        values.update(core_values(calls, handle, codecs))
        values.update(power_values(calls, handle, found, counters, now))
        values.update(throttle_values(calls, handle, found, counters, now))
        values["temperature.memory.celsius"] = memory_temperature(found)
        limit, power = values.get("power_limit.watts"), values.get("power.watts")
        values["power.percent"] = 100.0 * power / limit if limit and power is not None else None
        pcie, links = pcie_rates(found, counters, now), self._links.rates(found, counters, now)
        busy = (values.get("utilization.percent") or 0.0) >= _BUSY_PERCENT
        gpm = self._gpm.values(handle, busy=busy)
        # The byte counters of PCIe may wrap in less than an interval; those of NVLink are 64 bits wide.
        values.update({**present(pcie), **gpm, **present(links)})
        instances: dict[int, dict[str, float]] = {}
        parts = self._read_parts(instances)
        processes = [] if parts else self._processes.read(handle)
        if processes is not None and not parts:
            values["processes.count"] = len(processes)
        return {"values": present(values), "processes": processes or [], "mig": parts}

    def _read_parts(self, instances: dict[int, dict[str, float]]) -> list[dict[str, Any]]:
        found = []
        for part in list(self._parts):
            try:
                found.append(part.read(instances))
            except Lost:
                # A part that was taken away; if the whole GPU is lost, the next call about it says so.
                part.free()
                self._parts.remove(part)
                self.reread_soon()
        return found

    def _read_slow(self, fields: Values) -> None:
        """Read what changes seldom. Later samples repeat it."""
        slow: dict[str, float | None] = {name: fields.get(field) for name, field in _SLOW.items()}
        if self._links.learn(fields):
            # Their fields can be asked for from now on.
            self.reread_soon()
        slow.update(self._links.slow_values(self.handle, fields))
        slow.update(self._links.fabric_values(self.handle))
        slow.update(link_values(self.calls, self.handle))
        self._slow = slow
        self._read_modes()
        self._find_parts()

    def _read_facts(self) -> None:
        ask, handle = self.calls.ask, self.handle
        self._facts["uuid"] = ask("nvmlDeviceGetUUID", handle)
        self._facts["name"] = ask("nvmlDeviceGetName", handle)
        memory = memory_values(self.calls, handle)
        self._facts["memory_bytes"] = memory.get("memory.total.bytes")
        self._facts["vbios"] = ask("nvmlDeviceGetVbiosVersion", handle)
        pci = ask("nvmlDeviceGetPciInfo_v3", handle)
        self._facts["pci_bus_id"] = None if pci is None else _text(pci.busId)

    def _read_modes(self) -> None:
        ask, handle = self.calls.ask, self.handle
        ecc, mig = ask("nvmlDeviceGetEccMode", handle), ask("nvmlDeviceGetMigMode", handle)
        self._facts |= {
            "persistence_mode": _MODES.get(ask("nvmlDeviceGetPersistenceMode", handle)),
            "compute_mode": _COMPUTE_MODES.get(ask("nvmlDeviceGetComputeMode", handle)),
            "ecc_mode": None if ecc is None else _MODES.get(ecc[0]),
            "mig_mode": None if mig is None else _MODES.get(mig[0]),
        }

    def _find_parts(self) -> None:
        """Look for MIG devices; those known by number and UUID stay, with what was counted for them."""
        if self._facts["mig_mode"] != "on":
            found = []
        else:
            found = find_parts(self.calls, self.handle, self._shared_gpm, self._monotonic)
        before = {(part.number, part.facts["uuid"]): part for part in self._parts}
        self._parts = [before.pop((part.number, part.facts["uuid"]), part) for part in found]
        for gone in before.values():
            gone.free()


def address_of(handle: Any) -> int:
    """Return what tells one device's handle from another's."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
