"""Field values: most of what a GPU tells, in one call, each value with an error code of its own.

A field has an id (NVML_FI_DEV_…) and a scope, such as the number of a link. Counters become rates here,
between two samples of this process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .nvidia_calls import SUCCESS, Calls, absent

#: The scope that means all links together.
ALL_LINKS = 0xFFFFFFFF

MEMORY_TEMPERATURE = 82
ENERGY = 83
POWER_AVERAGE, POWER_INSTANT = 185, 186
PCIE_SENT, PCIE_RECEIVED = 197, 198
#: Nanoseconds for which each reason slowed the clocks, by the name of the reason.
THROTTLED: Mapping[str, int] = {
    "power_cap": 74,
    "sync_boost": 76,
    "software_thermal": 269,
    "hardware_thermal": 270,
    "power_brake": 271,
}
FAST_FIELDS = (
    MEMORY_TEMPERATURE,
    ENERGY,
    POWER_AVERAGE,
    POWER_INSTANT,
    PCIE_SENT,
    PCIE_RECEIVED,
    *THROTTLED.values(),
)
#: Counters and states that change seldom, by the name of their value.
SLOW_FIELDS: Mapping[str, int] = {
    "ecc.corrected.volatile.count": 3,
    "ecc.uncorrected.volatile.count": 4,
    "ecc.corrected.aggregate.count": 5,
    "ecc.uncorrected.aggregate.count": 6,
    "pages_retired.corrected.count": 29,
    "pages_retired.uncorrected.count": 30,
    "pages_retired.pending.count": 31,
    "rows_remapped.corrected.count": 142,
    "rows_remapped.uncorrected.count": 143,
    "rows_remapped.pending.count": 144,
    "rows_remapped.failed.count": 145,
    "pcie.replays.count": 94,
    "pcie.correctable_errors.count": 173,
    "pcie.naks_received.count": 174,
    "pcie.receiver_errors.count": 175,
    "pcie.bad_tlps.count": 176,
    "pcie.naks_sent.count": 177,
    "pcie.bad_dllps.count": 178,
    "pcie.non_fatal_errors.count": 179,
    "pcie.fatal_errors.count": 180,
    "pcie.unsupported_requests.count": 181,
    "pcie.lcrc_errors.count": 182,
    "pcie.lane_errors.count": 183,
    "recovery_action.code": 230,
}
#: Where the value is, by its type.
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class Field(NamedTuple):
    """What is asked for: an id and what it is about."""

    id: int
    scope: int = 0


Values = Mapping[Field, float]


def read_fields(calls: Calls, device: Any, fields: Iterable[Field]) -> Values:
    """Return the fields that have a value, by one call. Raise Lost or Fatal."""
    wanted = [field for field in fields if not calls.refuses(field)]
    if not wanted:
        return {}
    answers = calls.ask_as("field values", "nvmlDeviceGetFieldValues", device, wanted)
    if answers is None:
        return {}
    values: dict[Field, float] = {}
    for field, answer in zip(wanted, answers, strict=True):
        code = answer.nvmlReturn
        if code != SUCCESS:
            calls.judge(field, code, f"field {field.id}")
            continue
        kind = answer.valueType
        value = getattr(answer.value, _MEMBERS[kind]) if kind < len(_MEMBERS) else None
        if isinstance(value, float) or (value is not None and not absent(value)):
            values[field] = value
    return values


class Counters:
    """Growth per second of counters between two samples."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}

    def rate(self, name: str, value: float | None, now: float) -> float | None:
        """Return the growth per second; None at first, and where the counter went back (reset, wrap)."""
        if value is None:
            return None
        before = self._before.get(name)
        self._before[name] = (value, now)
        if before is None or value < before[0] or now <= before[1]:
            return None
        return (value - before[0]) / (now - before[1])
