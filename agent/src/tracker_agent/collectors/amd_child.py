"""The only door to amdsmi: a process of its own that answers one JSON line for each line it is asked.

It ends when its stdin does.

    {"gpus": [{"index", "uuid", "name", "pci_bus_id", "vbios", "memory_bytes",
               "values": {name: number}, "problem": text?}], "driver": text}
    {"absent": text}      nothing to measure here; the process ends
    {"fatal": text}       only a new process can go on; the process ends
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: Where ROCm puts the Python package if it was not installed for this interpreter.
ROCM_PACKAGES = "/opt/rocm/share/amd_smi"
#: How often what changes seldom or is dear is read.
SLOW_INTERVAL_S = 30.0
#: How often the library is opened anew while a GPU does not answer.
REOPEN_INTERVAL_S = 30.0

#: AMDSMI_STATUS_*: invalid, not supported, not yet implemented, no such symbol, no permission, file error,
#: not found, no data, no energy driver, file not found, setting unavailable. A value less, no failure.
_NOT_OFFERED = frozenset((1, 2, 3, 5, 10, 14, 31, 40, 45, 52, 55))
#: What the library's unsigned integers say for "not here", where its Python side does not say "N/A".
_SENTINELS = frozenset((2**16 - 1, 2**32 - 1, 2**64 - 1))
#: pcie_link_speed, in 0.1 GT/s, by generation.
_GENERATIONS = {25: 1, 50: 2, 80: 3, 160: 4, 320: 5, 640: 6}
#: One of energy_accumulator where the library does not say: 2^-16 J.
_ENERGY_MICROJOULES = 15.259
#: power_cap is in µW, and was in W once; no GPU takes 100 kW.
_WATTS_MAX = 100_000


class Absent(Exception):
    """There is no AMD GPU here, or no library to ask."""


class Fatal(Exception):
    """Only a new process can go on."""


def main() -> int:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a library prints must not come between the answers.
    os.dup2(2, 1)
    library: Library | None = None
    for _ in sys.stdin:
        try:
            library = library or Library(_import(), time.monotonic)
            answer = library.sample()
        except Absent as error:
            answer = {"absent": str(error)}
        except Fatal as error:
            answer = {"fatal": str(error)}
        try:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
        except BrokenPipeError:
            return 0
        if "gpus" not in answer:
            return 0
    return 0


def _import() -> Any:
    try:
        return importlib.import_module("amdsmi")
    except ModuleNotFoundError:
        sys.path.append(ROCM_PACKAGES)
    except Exception as error:
        raise Absent(_unusable(error)) from error
    try:
        return importlib.import_module("amdsmi")
    except ModuleNotFoundError as error:
        raise Absent("the Python package amdsmi of ROCm is not installed") from error
    except Exception as error:
        # It loads libamd_smi.so as it is imported, and raises this and that where it is missing or old.
        raise Absent(_unusable(error)) from error


def _unusable(error: Exception) -> str:
    return f"amdsmi cannot be used: {type(error).__name__}: {error}".splitlines()[0]


class Library:
    """One initialised amdsmi and the GPUs it lists."""

    def __init__(self, amdsmi: Any, monotonic: Callable[[], float]) -> None:
        self._amdsmi = amdsmi
        self._monotonic = monotonic
        self._opened_at: float | None = None
        self._gpus: list[Gpu] = []

    def sample(self) -> dict[str, Any]:
        """Return one answer. Raise Absent or Fatal."""
        if self._opened_at is None:
            self._open()
        answer = self._read()
        assert self._opened_at is not None
        ill = any(gpu.get("problem") for gpu in answer["gpus"])
        if ill and self._monotonic() - self._opened_at >= REOPEN_INTERVAL_S:
            self._close()
            self._open()
            answer = self._read()
        return answer

    def _open(self) -> None:
        amdsmi = self._amdsmi
        try:
            amdsmi.amdsmi_init()
            handles = amdsmi.amdsmi_get_processor_handles()
        except amdsmi.AmdSmiException as error:
            raise Absent(f"amdsmi_init: {_text(error)}") from error
        if not handles:
            raise Absent("amdsmi lists no GPU")
        self._opened_at = self._monotonic()
        self._gpus = [
            Gpu(index, Calls(amdsmi, handle), self._monotonic) for index, handle in enumerate(handles)
        ]

    def _close(self) -> None:
        try:
            self._amdsmi.amdsmi_shut_down()
        except self._amdsmi.AmdSmiException as error:
            raise Fatal(f"amdsmi_shut_down: {_text(error)}") from error

    def _read(self) -> dict[str, Any]:
        gpus = [gpu.read() for gpu in self._gpus]
        driver = next((gpu["driver"] for gpu in gpus if gpu["driver"]), None)
        return {"driver": driver, "gpus": gpus}


class Calls:
    """Asks about one GPU, and notes why a call failed that should not have."""

    def __init__(self, amdsmi: Any, handle: Any) -> None:
        self._amdsmi = amdsmi
        self._handle = handle
        self.problem = ""

    def ask(self, name: str, *arguments: Any) -> Any:
        """Return what a function answers, None where this GPU, driver or library does not offer it."""
        function = getattr(self._amdsmi, name, None)
        if function is None:
            return None
        try:
            return function(self._handle, *arguments)
        except self._amdsmi.AmdSmiException as error:
            if getattr(error, "err_code", None) not in _NOT_OFFERED:
                self.problem = self.problem or f"{name}: {_text(error)}"
            return None

    def table(self, name: str, *arguments: Any) -> Mapping[str, Any]:
        """Return what a function that answers a dictionary answers; empty where it is not offered."""
        answer = self.ask(name, *arguments)
        return answer if isinstance(answer, dict) else {}

    def memory_type(self) -> Any:
        """Return the word for the GPU's own memory."""
        return self._amdsmi.AmdSmiMemoryType.VRAM


class Gpu:
    """One GPU, by its place in the library's list, which is that of the PCI bus."""

    def __init__(self, index: int, calls: Calls, monotonic: Callable[[], float]) -> None:
        self._calls = calls
        self._monotonic = monotonic
        self._slow_at: float | None = None
        self._slow: dict[str, float | None] = {}
        self._before: dict[str, float] = {}
        self._before_at = 0.0
        asic = calls.table("amdsmi_get_gpu_asic_info")
        energy = calls.table("amdsmi_get_energy_count")
        self._joules = (_number(energy.get("counter_resolution")) or _ENERGY_MICROJOULES) / 1e6
        self._total = _number(calls.ask("amdsmi_get_gpu_memory_total", calls.memory_type()))
        self._facts = {
            "index": index,
            "uuid": _word(calls.ask("amdsmi_get_gpu_device_uuid")),
            "name": _word(asic.get("market_name")),
            "pci_bus_id": _word(calls.ask("amdsmi_get_gpu_device_bdf")),
            "vbios": _word(calls.table("amdsmi_get_gpu_vbios_info").get("version")),
            "driver": _word(calls.table("amdsmi_get_gpu_driver_info").get("driver_version")),
            "memory_bytes": None if self._total is None else int(self._total),
        }

    def read(self) -> dict[str, Any]:
        """Return facts and values; a call that failed is a problem, and its values are missing."""
        self._calls.problem = ""
        now = self._monotonic()
        # One read of the driver's table has nearly everything.
        table = self._calls.table("amdsmi_get_gpu_metrics_info")
        values = self._plain(table) | self._memory() | self._since_before(table, now)
        if self._slow_at is None or now - self._slow_at >= SLOW_INTERVAL_S:
            self._slow_at, self._slow = now, self._seldom()
        values |= self._slow
        watts, limit = values.get("power.watts"), values.get("power_limit.watts")
        if watts is not None and limit:
            values["power.percent"] = 100.0 * watts / limit
        known = {name: value for name, value in values.items() if value is not None}
        return {**self._facts, "values": known, "problem": self._calls.problem}

    def _plain(self, table: Mapping[str, Any]) -> dict[str, float | None]:
        activity: Mapping[str, Any] = {}
        if _number(table.get("average_gfx_activity")) is None:
            activity = self._calls.table("amdsmi_get_gpu_activity")
        speed = _number(table.get("pcie_link_speed"))
        slowed = table.get("throttle_status")
        return {
            "utilization.percent": _first(table.get("average_gfx_activity"), activity.get("gfx_activity")),
            "memory_controller.percent": _first(
                table.get("average_umc_activity"), activity.get("umc_activity")
            ),
            "temperature.celsius": _first(table.get("temperature_edge"), table.get("temperature_hotspot")),
            "temperature.hotspot.celsius": _number(table.get("temperature_hotspot")),
            "temperature.memory.celsius": _number(table.get("temperature_mem")),
            "power.watts": _first(table.get("current_socket_power"), table.get("average_socket_power")),
            "clock.sm.mhz": _first(table.get("current_gfxclk"), _mean(table.get("current_gfxclks"))),
            "clock.memory.mhz": _number(table.get("current_uclk")),
            "pcie.width.count": _number(table.get("pcie_link_width")),
            "pcie.generation.count": None if speed is None else _GENERATIONS.get(int(speed)),
            "pcie.replays.count": _number(table.get("pcie_replay_count_acc")),
            "pcie.naks_sent.count": _number(table.get("pcie_nak_sent_count_acc")),
            "pcie.naks_received.count": _number(table.get("pcie_nak_rcvd_count_acc")),
            "throttle.active.count": float(slowed) if isinstance(slowed, bool) else None,
        }

    def _memory(self) -> dict[str, float | None]:
        used = _number(self._calls.ask("amdsmi_get_gpu_memory_usage", self._calls.memory_type()))
        if used is None or not self._total:
            return {"memory.used.bytes": used, "memory.total.bytes": self._total}
        return {
            "memory.used.bytes": used,
            "memory.free.bytes": max(0.0, self._total - used),
            "memory.total.bytes": self._total,
            "memory.percent": 100.0 * used / self._total,
        }

    def _since_before(self, table: Mapping[str, Any], now: float) -> dict[str, float | None]:
        """Return what is told by how much counters grew; one that went back, or is new, tells nothing."""
        counters = {
            "energy": _number(table.get("energy_accumulator")),
            "ticks": _number(table.get("accumulation_counter")),
            "power": _number(table.get("ppt_residency_acc")),
            "prochot": _number(table.get("prochot_residency_acc")),
            "chip": _number(table.get("socket_thm_residency_acc")),
            "regulators": _number(table.get("vr_thm_residency_acc")),
            "memory": _number(table.get("hbm_thm_residency_acc")),
            "xgmi_read": _sum(table.get("xgmi_read_data_acc")),
            "xgmi_written": _sum(table.get("xgmi_write_data_acc")),
        }
        known = {name: value for name, value in counters.items() if value is not None}
        before, seconds = self._before, now - self._before_at
        self._before, self._before_at = known, now
        grown = {
            name: value - before[name]
            for name, value in known.items()
            if name in before and value >= before[name]
        }
        ticks = grown.get("ticks")

        def share(*names: str) -> float | None:
            parts = [grown[name] for name in names if name in grown]
            return min(100.0, 100.0 * max(parts) / ticks) if parts and ticks else None

        def rate(name: str, unit: float) -> float | None:
            return grown[name] * unit / seconds if name in grown and seconds > 0 else None

        energy = counters["energy"]
        return {
            "energy.joules": None if energy is None else energy * self._joules,
            "power.mean.watts": rate("energy", self._joules),
            "throttle.power_cap.percent": share("power"),
            "throttle.hardware_thermal.percent": share("chip", "regulators", "memory"),
            "throttle.prochot.percent": share("prochot"),
            "xgmi.read.bytes_per_s": rate("xgmi_read", 1024),
            "xgmi.written.bytes_per_s": rate("xgmi_written", 1024),
        }

    def _seldom(self) -> dict[str, float | None]:
        cap = _number(self._calls.table("amdsmi_get_power_cap_info").get("power_cap"))
        errors = self._calls.table("amdsmi_get_gpu_total_ecc_count")
        fan = _number(self._calls.ask("amdsmi_get_gpu_fan_speed", 0))
        fan_max = _number(self._calls.ask("amdsmi_get_gpu_fan_speed_max", 0))
        return {
            "power_limit.watts": cap / 1e6 if cap and cap > _WATTS_MAX else cap or None,
            "fan.percent": 100.0 * fan / fan_max if fan is not None and fan >= 0 and fan_max else None,
            "ecc.corrected.volatile.count": _number(errors.get("correctable_count")),
            "ecc.uncorrected.volatile.count": _number(errors.get("uncorrectable_count")),
        }


def _number(value: Any) -> float | None:
    """Return a number; None for "N/A", for what the library says instead of nothing, and for no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value in _SENTINELS:
        return None
    return float(value)


def _first(*values: Any) -> float | None:
    return next((number for number in map(_number, values) if number is not None), None)


def _numbers(values: Any) -> list[float]:
    each: Iterable[Any] = values if isinstance(values, list) else ()
    return [number for number in map(_number, each) if number is not None]


def _mean(values: Any) -> float | None:
    numbers = _numbers(values)
    return sum(numbers) / len(numbers) if numbers else None


def _sum(values: Any) -> float | None:
    numbers = _numbers(values)
    return sum(numbers) if numbers else None


def _word(value: Any) -> str | None:
    return value.strip() if isinstance(value, str) and value.strip() not in ("", "N/A") else None


def _text(error: Any) -> str:
    return " ".join(str(getattr(error, "err_info", "") or error).split())


if __name__ == "__main__":
    sys.exit(main())
