"""The only door to NVML: a process of its own that answers one JSON line for each line it is asked.

An NVML call can hang in the driver, where no thread can be stopped; the agent, in nvidia.py, puts a
deadline on every answer and kills this process. It ends when its stdin does.

    {"gpus": [{"index", "uuid", "name", "memory_bytes", "values": {name: number}, "problem": text?}],
     "driver": text, "cuda": text}
    {"absent": text}      nothing to measure here; the process ends
    {"fatal": text}       only a new process can go on; the process ends
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pynvml

#: How often the driver is opened anew while a GPU is lost or their number is not the one before.
REOPEN_INTERVAL_S = 30.0

#: No library, or no driver: nothing to measure.
_ABSENT = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
#: After these the library in this process never works again: the driver was changed under it, or the
#: devices were taken away from this process.
_FATAL = (
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    pynvml.NVML_ERROR_OPERATING_SYSTEM,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
)
_NOT_OFFERED = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_NO_DATA,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
)


class Fatal(Exception):
    """Only a new process can go on."""


class Absent(Exception):
    """There is no NVIDIA driver here."""


def main() -> int:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a library prints must not come between the answers.
    os.dup2(2, 1)
    driver = Driver(time.monotonic)
    for _ in sys.stdin:
        try:
            answer, last = driver.sample(), False
        except Absent as error:
            answer, last = {"absent": str(error)}, True
        except Fatal as error:
            answer, last = {"fatal": str(error)}, True
        try:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
        except BrokenPipeError:
            return 0
        if last:
            return 0
    return 0


class Driver:
    """One initialised NVML and the devices it lists."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._opened_at: float | None = None
        self._devices: list[Device] = []
        self._facts: dict[str, Any] = {}

    def sample(self) -> dict[str, Any]:
        """Return one answer. Raise Absent or Fatal."""
        if self._opened_at is None:
            self._open()
        answer = self._read()
        assert self._opened_at is not None
        ill = len(answer["gpus"]) != self._count() or any("problem" in gpu for gpu in answer["gpus"])
        if ill and self._monotonic() - self._opened_at >= REOPEN_INTERVAL_S:
            self._close()
            self._open()
            answer = self._read()
        return answer

    def _open(self) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            if error.value in _ABSENT:
                raise Absent(_text(error)) from error
            raise Fatal(f"nvmlInit: {_text(error)}") from error
        self._opened_at = self._monotonic()
        # nvmlInit tolerates a GPU that does not work; asking for its handle then fails, for it alone.
        self._devices = [Device(index) for index in range(self._count())]
        self._facts = {
            "driver": _value_of(pynvml.nvmlSystemGetDriverVersion),
            "cuda": _cuda(_value_of(pynvml.nvmlSystemGetCudaDriverVersion_v2)),
        }

    def _close(self) -> None:
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            raise Fatal(f"nvmlShutdown: {_text(error)}") from error

    def _count(self) -> int:
        try:
            return int(pynvml.nvmlDeviceGetCount())
        except pynvml.NVMLError as error:
            raise Fatal(f"nvmlDeviceGetCount: {_text(error)}") from error

    def _read(self) -> dict[str, Any]:
        return {**self._facts, "gpus": [device.read() for device in self._devices]}


class Device:
    """One GPU, by the index NVML gives it (the order of the PCI bus)."""

    def __init__(self, index: int) -> None:
        self._facts: dict[str, Any] = {"index": index}
        self._problem = ""
        try:
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            self._facts["uuid"] = _value_of(pynvml.nvmlDeviceGetUUID, self._handle)
            self._facts["name"] = _value_of(pynvml.nvmlDeviceGetName, self._handle)
            memory = _memory(self._handle)
            self._facts["memory_bytes"] = None if memory is None else memory.total
        except pynvml.NVMLError as error:
            _raise_if_fatal(error)
            self._problem = _text(error)

    def read(self) -> dict[str, Any]:
        """Return facts and values; a GPU that answers with an error has a problem and no values."""
        if self._problem:
            return {**self._facts, "values": {}, "problem": self._problem}
        try:
            return {**self._facts, "values": self._values()}
        except pynvml.NVMLError as error:
            _raise_if_fatal(error)
            return {**self._facts, "values": {}, "problem": _text(error)}

    def _values(self) -> dict[str, float]:
        handle = self._handle
        values: dict[str, float | None] = {}
        busy = _value_of(pynvml.nvmlDeviceGetUtilizationRates, handle)
        if busy is not None:
            values["utilization.percent"] = busy.gpu
            values["memory_controller.percent"] = busy.memory
        memory = _memory(handle)
        if memory is not None and memory.total:
            values["memory.used.bytes"] = memory.used
            values["memory.total.bytes"] = memory.total
            values["memory.percent"] = 100.0 * memory.used / memory.total
        values["temperature.celsius"] = _value_of(
            pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU
        )
        values["power.watts"] = _watts(_value_of(pynvml.nvmlDeviceGetPowerUsage, handle))
        values["power_limit.watts"] = _watts(_value_of(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle))
        values["clock.sm.mhz"] = _value_of(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM)
        values["clock.memory.mhz"] = _value_of(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM)
        return {name: value for name, value in values.items() if value is not None}


def _memory(handle: Any) -> Any:
    """Return memory use; version 2 counts what the driver keeps for itself apart from `used`."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as error:
        if error.value not in _NOT_OFFERED:
            raise
    return _value_of(pynvml.nvmlDeviceGetMemoryInfo, handle)


def _value_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function answers, None where this GPU or driver does not offer it."""
    try:
        value = function(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _NOT_OFFERED:
            return None
        raise
    except pynvml.NVMLLibraryMismatchError:
        # Not an NVMLError: what pynvml makes of a symbol that an old driver lacks.
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _raise_if_fatal(error: Any) -> None:
    if error.value in _FATAL:
        raise Fatal(_text(error)) from error


def _text(error: Any) -> str:
    return f"{type(error).__name__.removeprefix('NVMLError_')} ({error.value})"


def _watts(milliwatts: float | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000.0


def _cuda(version: int | None) -> str | None:
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"


if __name__ == "__main__":
    sys.exit(main())
