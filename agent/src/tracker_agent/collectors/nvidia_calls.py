"""The door to pynvml: calls of NVML, what its errors mean here, and what is left alone because it failed.

Runs in the child process that asks the driver. pynvml may be older than we are and lack functions; the
driver may be older than pynvml and lack symbols: both are the same as a GPU that does not offer something.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pynvml

#: What a GPU does not offer is asked for again this much later: rights and modes change.
REPROBE_S = 300.0
#: What failed for another reason is asked for again this much later, and named until then.
RETRY_S = 30.0
#: A problem nobody asked about again this much after its time is over: its question is of the past.
FORGET_S = 10.0

SUCCESS = 0
_UNINITIALIZED, _INVALID_ARGUMENT, _NOT_SUPPORTED, _NO_PERMISSION = 1, 2, 3, 4
_NOT_FOUND, _INSUFFICIENT_SIZE, _DRIVER_NOT_LOADED = 6, 7, 9
_LIBRARY_NOT_FOUND, _FUNCTION_NOT_FOUND = 12, 13
_GPU_IS_LOST, _RESET_REQUIRED, _OPERATING_SYSTEM, _LIB_RM_VERSION_MISMATCH = 15, 16, 17, 18
_NO_DATA, _VGPU_ECC_NOT_SUPPORTED = 21, 22
_ARGUMENT_VERSION_MISMATCH, _DEPRECATED, _NOT_READY, _GPU_NOT_FOUND = 25, 26, 27, 28

#: No library, or no driver: nothing to measure.
ABSENT = frozenset((_LIBRARY_NOT_FOUND, _DRIVER_NOT_LOADED))
#: After these the library in this process never works again: the driver was changed under it, or the
#: devices were taken away from this process.
FATAL = frozenset((_UNINITIALIZED, _LIB_RM_VERSION_MISMATCH, _OPERATING_SYSTEM, _DRIVER_NOT_LOADED))
#: These are about one GPU, whatever it was asked for.
LOST = frozenset((_GPU_IS_LOST, _RESET_REQUIRED, _GPU_NOT_FOUND))
_NOT_OFFERED = frozenset(
    (
        _NOT_SUPPORTED,
        _FUNCTION_NOT_FOUND,
        _NO_PERMISSION,
        _INVALID_ARGUMENT,
        _ARGUMENT_VERSION_MISMATCH,
        _DEPRECATED,
        _VGPU_ECC_NOT_SUPPORTED,
    )
)
#: Nothing at this moment; 0 is what pynvml raises for an empty list.
_MOMENTARY = frozenset((SUCCESS, _NO_DATA, _NOT_FOUND, _NOT_READY, _INSUFFICIENT_SIZE))

#: "Not available" in values, as the drivers and DCGM say it: -1 in 32 and 64 bits, and the largest numbers.
_SENTINELS_32 = frozenset((0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFF0))
_SENTINEL_64_FROM = 0x7FFFFFFFFFFFFFF0


class Fatal(Exception):
    """Only a new process can go on."""


class Absent(Exception):
    """There is no NVIDIA driver here."""


class Lost(Exception):
    """One GPU does not answer any more; the others do."""


class NvmlError(Exception):
    """A call failed, with an error code of NVML."""

    def __init__(self, code: int) -> None:
        super().__init__(error_text(code))
        self.code = code


def call(name: str, *arguments: Any) -> Any:
    """Return what a function of NVML answers. Raise NvmlError."""
    function = getattr(pynvml, name, None)
    if function is None:
        raise NvmlError(_FUNCTION_NOT_FOUND)
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        raise NvmlError(error.value) from error
    except pynvml.NVMLLibraryMismatchError as error:
        # No NVMLError: what pynvml makes of a symbol that an old driver lacks.
        raise NvmlError(_FUNCTION_NOT_FOUND) from error


def structure(name: str) -> Any:
    """Return a type of pynvml that calls want to be filled in; None where it does not know it."""
    return getattr(pynvml, name, None)


class Calls:
    """Asks one GPU, and remembers what is not worth asking for."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        #: Until when a question is left alone, and the problem that is named until then, if it is one.
        self._refused: dict[Hashable, tuple[float, str]] = {}

    def ask(self, name: str, *arguments: Any) -> Any:
        """Return what a function answers, None where this GPU or driver has no answer.

        The first argument is the device; the others tell questions apart. Raise Lost or Fatal.
        """
        return self.ask_as((name, *arguments[1:]), name, *arguments)

    def ask_as(self, question: Hashable, name: str, *arguments: Any) -> Any:
        """Do as ask() does, for arguments that cannot tell questions apart."""
        if self.refuses(question):
            return None
        try:
            value = call(name, *arguments)
        except NvmlError as error:
            self.judge(question, error.code, name.removeprefix("nvmlDevice").removeprefix("nvml"))
            return None
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return None if type(value) is int and absent(value) else value

    def refuses(self, question: Hashable) -> bool:
        """Return whether a question is not to be asked now."""
        refused = self._refused.get(question)
        if refused is None:
            return False
        if self._monotonic() < refused[0]:
            return True
        del self._refused[question]
        return False

    def refuse(self, question: Hashable) -> None:
        """Leave a question alone for REPROBE_S: its answers are none."""
        self._refused[question] = (self._monotonic() + REPROBE_S, "")

    def judge(self, question: Hashable, code: int, what: str) -> None:
        """Remember what an error code means for a question. Raise Lost or Fatal."""
        if code in FATAL:
            raise Fatal(f"{what}: {error_text(code)}")
        if code in LOST:
            raise Lost(error_text(code))
        if code in _MOMENTARY:
            return
        problem = "" if code in _NOT_OFFERED else f"{what}: {error_text(code)}"
        wait_s = RETRY_S if problem else REPROBE_S
        self._refused[question] = (self._monotonic() + wait_s, problem)

    def problem(self) -> str:
        """Return what failed, other than by not being offered; empty where nothing did."""
        now = self._monotonic()
        problems = sorted(
            {problem for until, problem in self._refused.values() if problem and now < until + FORGET_S}
        )
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        return ", ".join(problems[:3]) + more


def absent(value: int) -> bool:
    """Return whether a whole number stands for "not available"."""
    return value in _SENTINELS_32 or value >= _SENTINEL_64_FROM


def error_text(code: int) -> str:
    """Return an error as people look it up: its name and number."""
    try:
        name = pynvml.nvmlExceptionClass(code).__name__.removeprefix("NVMLError_")
    except ValueError:
        name = "error"
    return f"{name} ({code})"
