"""Counters of devices that come, go and start again, and the names that devices have in metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..settings import CollectorSettings, setting

#: Devices that have values of their own; the others only count in the totals.
DEVICES_MAX = 16
#: Mount points may be long; a metric's name is in each window.
NAME_LENGTH_MAX = 48
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")

#: What each device has counted: counter by name, by device.
Counters = Mapping[str, Mapping[str, float]]


def parse_counter(text: str, base: int = 10) -> float | None:
    """Return the number that a counter of the kernel shows; None for what is none, or negative."""
    try:
        value = int(text, base)
    except ValueError:
        return None
    return float(value) if value >= 0 else None


def parse_counters(
    words: Sequence[str], columns: Mapping[str, int], base: int = 10
) -> dict[str, float] | None:
    """Return the counters that stand in these columns of a line; None unless all of them do."""
    values = {}
    for name, column in columns.items():
        value = parse_counter(words[column], base) if column < len(words) else None
        if value is None:
            return None
        values[name] = value
    return values


@dataclass(frozen=True)
class DeviceSettings(CollectorSettings):
    """A collector whose devices have values of their own."""

    devices_max: int = setting(
        DEVICES_MAX,
        "devices with values of their own; the others only count in the totals",
        bounds=(0, 1024),
        reload=True,
    )


def devices_max(settings: CollectorSettings) -> int:
    """Return how many devices may have values of their own."""
    return settings.devices_max if isinstance(settings, DeviceSettings) else DEVICES_MAX


@dataclass(frozen=True)
class Interval:
    """What the counters of each device grew by, in how many seconds (> 0)."""

    seconds: float
    grown: Counters = field(default_factory=dict)

    def per_second(self, device: str, counter: str) -> float | None:
        """Return the growth of one counter; None where it is not known."""
        grown = self.grown.get(device, {}).get(counter)
        return None if grown is None else grown / self.seconds

    def total_per_second(self, counter: str, devices: Iterable[str]) -> float | None:
        """Return the growth of a counter over those devices for which it is known; None for none."""
        known = [self.grown[name][counter] for name in devices if counter in self.grown.get(name, {})]
        return sum(known) / self.seconds if known else None


class DeviceGrowth:
    """Compares counters with those of the sample before, device by device.

    A device that is new has nothing to compare with. One of whose counters one went back began anew (reset,
    wrap, driver reload): what its other counters say is then not the growth of this interval either.
    """

    def __init__(self) -> None:
        self._before: Counters = {}
        self._at: float | None = None

    def since(self, counters: Counters, now: float) -> Interval | None:
        """Return the growth since the last call; None at first, and where the clock did not move."""
        before, at = self._before, self._at
        self._before, self._at = {name: dict(values) for name, values in counters.items()}, now
        if at is None or now <= at:
            return None
        grown = {}
        for device, values in counters.items():
            old = before.get(device)
            if old is None or any(values[name] < value for name, value in old.items() if name in values):
                continue
            grown[device] = {name: value - old[name] for name, value in values.items() if name in old}
        return Interval(now - at, grown)


class MetricNames:
    """Gives each device a name that can stand between the dots of a metric's name, and is no other's.

    A device keeps its name as long as it is there: eth0.100 becomes eth0_100, /data/a data_a, / root.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def of(self, devices: Iterable[str]) -> dict[str, str]:
        """Return the name of each device that is there now."""
        here = sorted(set(devices))
        kept = {device: self._names[device] for device in here if device in self._names}
        taken = set(kept.values())
        for device in here:
            if device not in kept:
                kept[device] = name = _unlike(taken, _safe(device))
                taken.add(name)
        self._names = kept
        return dict(kept)


def _safe(device: str) -> str:
    name = _UNSAFE.sub("_", device).strip("_")[-NAME_LENGTH_MAX:].strip("_")
    return name or ("root" if device == "/" else "unnamed")


def _unlike(taken: set[str], name: str) -> str:
    """Return the name, with a number behind it where others have it already."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
