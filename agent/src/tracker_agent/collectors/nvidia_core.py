"""What every GPU has: load, memory, temperatures, power, clocks, and why the clocks are low."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .nvidia_calls import Calls
from .nvidia_fields import (
    ENERGY,
    MEMORY_TEMPERATURE,
    PCIE_RECEIVED,
    PCIE_SENT,
    POWER_AVERAGE,
    POWER_INSTANT,
    THROTTLED,
    Counters,
    Field,
    Values,
)

_TEMPERATURE_GPU = 0
_CLOCKS = {"graphics": 0, "sm": 1, "memory": 2}
_MEMORY_V2 = 0x02000028
#: Bits of nvmlDeviceGetCurrentClocksEventReasons.
_REASON_BITS = {
    "idle": 0x1,
    "clocks_set": 0x2,
    "power_cap": 0x4,
    "hardware": 0x8,
    "sync_boost": 0x10,
    "software_thermal": 0x20,
    "hardware_thermal": 0x40,
    "power_brake": 0x80,
}
_SLOWING = ("power_cap", "hardware", "sync_boost", "software_thermal", "hardware_thermal", "power_brake")


def core_values(calls: Calls, device: Any, codecs: bool) -> dict[str, float | None]:
    """Return load, memory, temperature, clocks and fan of a GPU. codecs: also of its video engines."""
    values: dict[str, float | None] = {}
    busy = calls.ask("nvmlDeviceGetUtilizationRates", device)
    if busy is not None:
        values["utilization.percent"] = _percent(busy.gpu)
        values["memory_controller.percent"] = _percent(busy.memory)
    values.update(memory_values(calls, device))
    values["temperature.celsius"] = calls.ask("nvmlDeviceGetTemperature", device, _TEMPERATURE_GPU)
    values["temperature.margin.celsius"] = calls.ask("nvmlDeviceGetMarginTemperature", device)
    for name, kind in _CLOCKS.items():
        values[f"clock.{name}.mhz"] = calls.ask("nvmlDeviceGetClockInfo", device, kind)
    values["fan.percent"] = calls.ask("nvmlDeviceGetFanSpeed", device)
    if codecs:
        for name in ("encoder", "decoder"):
            answer = calls.ask(f"nvmlDeviceGet{name.capitalize()}Utilization", device)
            values[f"{name}.percent"] = None if answer is None else _percent(answer[0])
    return values


def memory_values(calls: Calls, device: Any) -> dict[str, float | None]:
    """Return the memory of a GPU or MIG device.

    Version 2 counts what the driver keeps for itself apart from `used`; version 1, where there is no
    other, has both in one.
    """
    memory = calls.ask("nvmlDeviceGetMemoryInfo", device, _MEMORY_V2)
    values: dict[str, float | None] = {}
    if memory is not None:
        values["memory.reserved.bytes"] = memory.reserved
    else:
        memory = calls.ask("nvmlDeviceGetMemoryInfo", device)
    # The sum is what tells nonsense: a part that was switched off answers zeros or -1.
    if memory is None or not memory.total or memory.used > memory.total:
        return {}
    values["memory.used.bytes"] = memory.used
    values["memory.free.bytes"] = memory.free
    values["memory.total.bytes"] = memory.total
    values["memory.percent"] = 100.0 * memory.used / memory.total
    return values


def power_values(
    calls: Calls, device: Any, fields: Values, counters: Counters, now: float
) -> dict[str, float | None]:
    """Return power in watts and energy in joules; the driver counts in thousandths."""
    average = fields.get(Field(POWER_AVERAGE))
    if average is None:
        average = calls.ask("nvmlDeviceGetPowerUsage", device)
    energy = fields.get(Field(ENERGY))
    if energy is None:
        energy = calls.ask("nvmlDeviceGetTotalEnergyConsumption", device)
    return {
        "power.watts": _thousandth(average),
        "power.instant.watts": _thousandth(fields.get(Field(POWER_INSTANT))),
        "energy.joules": _thousandth(energy),
        "power.mean.watts": _thousandth(counters.rate("energy", energy, now)),
    }


def memory_temperature(fields: Values) -> float | None:
    """Return the temperature of the memory. Boards without the sensor say 0, which no memory has."""
    return fields.get(Field(MEMORY_TEMPERATURE)) or None


def pcie_rates(fields: Values, counters: Counters, now: float) -> dict[str, float | None]:
    """Return bytes per second over PCIe."""
    return {
        "pcie.sent.bytes_per_s": counters.rate("pcie sent", fields.get(Field(PCIE_SENT)), now),
        "pcie.received.bytes_per_s": counters.rate("pcie received", fields.get(Field(PCIE_RECEIVED)), now),
    }


def throttle_values(
    calls: Calls, device: Any, fields: Values, counters: Counters, now: float
) -> dict[str, float | None]:
    """Return for each reason how much of the time it slowed the clocks.

    The driver's counters of nanoseconds tell exactly; a look at this moment (100 or 0 %) misses what is
    short, and stands in only where there is no counter.
    """
    values: dict[str, float | None] = {}
    for reason, field in THROTTLED.items():
        rate = counters.rate(reason, fields.get(Field(field)), now)
        # Two clocks never agree to the last per mille.
        values[f"throttle.{reason}.percent"] = None if rate is None else min(100.0, rate / 1e7)
    bits = calls.ask("nvmlDeviceGetCurrentClocksEventReasons", device)
    if bits is None:
        # Its name until driver 535.
        bits = calls.ask("nvmlDeviceGetCurrentClocksThrottleReasons", device)
    if bits is not None:
        values["throttle.reasons.count"] = sum(bool(bits & _REASON_BITS[name]) for name in _SLOWING)
        for reason, bit in _REASON_BITS.items():
            if reason not in THROTTLED or Field(THROTTLED[reason]) not in fields:
                values[f"throttle.{reason}.percent"] = 100.0 if bits & bit else 0.0
    return values


def link_values(calls: Calls, device: Any) -> dict[str, float | None]:
    """Return what the PCIe link is and could be. Asked seldom."""
    return {
        "pcie.generation.count": calls.ask("nvmlDeviceGetCurrPcieLinkGeneration", device),
        "pcie.generation_max.count": calls.ask("nvmlDeviceGetMaxPcieLinkGeneration", device),
        "pcie.width.count": calls.ask("nvmlDeviceGetCurrPcieLinkWidth", device),
        "pcie.width_max.count": calls.ask("nvmlDeviceGetMaxPcieLinkWidth", device),
        "power_limit.watts": _thousandth(calls.ask("nvmlDeviceGetEnforcedPowerLimit", device)),
    }


def present(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the values that there are."""
    return {name: value for name, value in values.items() if value is not None}


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1000.0


def _percent(value: int) -> float | None:
    return value if 0 <= value <= 100 else None
