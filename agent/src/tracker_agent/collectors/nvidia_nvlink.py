"""NVLinks: their traffic, their state and their errors, which each generation keeps in other fields.

Up to NVLink 4 traffic is counted in KiB for all links together, and errors for each link; NVLink 5 counts
bytes and errors for all links together. Some drivers answer the fields of the other generation with
success and 0, so the version of the links decides what is asked first. Totals of errors over links that
older fields offer are always 0 on Hopper; they are added up here instead.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from .nvidia_calls import Calls, structure
from .nvidia_fields import ALL_LINKS, Counters, Field, Values

_LINK_COUNT, _LINK_STATE, _LINK_VERSION = 91, 165, 166
#: The number that field 166 has for NVLink 5.
_VERSION_5 = 7
_LINKS_MAX = 36
#: State 1: the fabric manager does not run, 2: it is at it; 0: there is no fabric.
FABRIC_JOINED = 3
_KIB = 1024
#: (sent, received, bytes in one unit of theirs)
_TRAFFIC_4 = (Field(138, ALL_LINKS), Field(139, ALL_LINKS), _KIB)
_TRAFFIC_5 = (Field(202, ALL_LINKS), Field(204, ALL_LINKS), 1)
_ERRORS_OF_A_LINK: Mapping[str, int] = {
    "nvlink.replays.count": 161,
    "nvlink.recoveries.count": 162,
    "nvlink.crc_errors.count": 163,
}
_ERRORS_OF_ALL: Mapping[str, int] = {
    "nvlink.malformed_packets.count": 206,
    "nvlink.buffer_overruns.count": 207,
    "nvlink.receive_errors.count": 208,
    "nvlink.integrity_errors.count": 211,
    "nvlink.discards.count": 212,
    "nvlink.failed_recoveries.count": 214,
    "nvlink.recoveries.count": 215,
    "nvlink.effective_errors.count": 219,
    "nvlink.symbol_errors.count": 221,
}


class NvLinks:
    """The links of one GPU."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._count = 0
        self._version = 0.0

    def fast_fields(self) -> list[Field]:
        """Return what to ask each sample: the counters of one generation."""
        if not self._count:
            return []
        first, second = (_TRAFFIC_5, _TRAFFIC_4) if self._version >= _VERSION_5 else (_TRAFFIC_4, _TRAFFIC_5)
        chosen = second if self._calls.refuses(first[0]) else first
        return [*chosen[:2]]

    def slow_fields(self) -> list[Field]:
        """Return what to ask seldom. How many links there are is known from the second time on."""
        fields = [Field(_LINK_COUNT)]
        if self._count:
            fields.append(Field(_LINK_VERSION, 0))
            fields += [Field(field, ALL_LINKS) for field in _ERRORS_OF_ALL.values()]
            ids = (_LINK_STATE, *_ERRORS_OF_A_LINK.values())
            fields += [Field(field, link) for link in range(self._count) for field in ids]
        return fields

    def learn(self, fields: Values) -> bool:
        """Take note of how many links there are; return whether that is news."""
        count = min(int(fields.get(Field(_LINK_COUNT), self._count)), _LINKS_MAX)
        self._version = fields.get(Field(_LINK_VERSION, 0), self._version)
        news = count != self._count
        self._count = count
        return news

    def rates(self, fields: Values, counters: Counters, now: float) -> dict[str, float | None]:
        """Return bytes per second over all links."""
        for sent, received, unit in (_TRAFFIC_4, _TRAFFIC_5):
            if sent in fields:
                rates = {
                    "nvlink.sent.bytes_per_s": counters.rate(f"nvlink {sent.id}", fields[sent], now),
                    "nvlink.received.bytes_per_s": counters.rate(
                        f"nvlink {received.id}", fields.get(received), now
                    ),
                }
                return {name: None if rate is None else rate * unit for name, rate in rates.items()}
        return {}

    def slow_values(self, device: Any, fields: Values) -> dict[str, float | None]:
        """Return states and errors."""
        values: dict[str, float | None] = {}
        for name, field in _ERRORS_OF_ALL.items():
            values[name] = fields.get(Field(field, ALL_LINKS))
        for name, field in _ERRORS_OF_A_LINK.items():
            errors = self._of_links(field, fields)
            if errors:
                values[name] = sum(errors.values())
        states = self._of_links(_LINK_STATE, fields)
        if not states and self._calls.refuses(Field(_LINK_STATE, 0)):
            asked = {
                link: self._calls.ask("nvmlDeviceGetNvLinkState", device, link) for link in range(self._count)
            }
            states = {link: state for link, state in asked.items() if state is not None}
        if states:
            values["nvlink.links_up.count"] = sum(bool(state) for state in states.values())
            values["nvlink.links_down.count"] = sum(not state for state in states.values())
        return values

    def fabric_values(self, device: Any) -> dict[str, float | None]:
        """Return whether the GPU has joined the fabric of its NVSwitches; nothing where there are none."""
        kind = structure("c_nvmlGpuFabricInfoV_t")
        if kind is None or not self._count:
            return {}
        fabric = kind()
        question, function = "fabric", "nvmlDeviceGetGpuFabricInfoV"
        if self._calls.ask_as(question, function, device, ctypes.byref(fabric)) is None or not fabric.state:
            return {}
        # What the status says counts once the GPU has tried.
        status = fabric.status if fabric.state == FABRIC_JOINED else None
        return {"nvlink.fabric_state.code": fabric.state, "nvlink.fabric_status.code": status}

    def _of_links(self, field: int, fields: Values) -> dict[int, float]:
        found = {link: fields.get(Field(field, link)) for link in range(self._count)}
        return {link: value for link, value in found.items() if value is not None}
