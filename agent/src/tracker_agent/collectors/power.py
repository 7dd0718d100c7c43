"""power: what processors and memory draw, by RAPL's energy counters; the whole machine, by its meter.

Since kernel 5.10 the counters of RAPL are for root alone (they betray secrets of other processes).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .collector import Collector, Context, Metric, NothingHere, Reading

_RAPL = "sys/class/powercap"
#: "intel-rapl:0" is a package, "intel-rapl:0:1" a part of it. intel-rapl-mmio shows the same packages again.
_ZONE = re.compile(r"intel-rapl:\d+(?::\d+)?")
_HWMON = "sys/class/hwmon"
_MICRO = 1_000_000
#: More than any package draws. A counter that went back by less than a plausible wrap was set back instead.
WATTS_MAX = 2000.0
#: Zones and meters are looked for this often.
RESCAN_S = 60.0


class Zone(NamedTuple):
    """One counter: its directory, its name in metrics, what it is part of the sum of, where it wraps."""

    directory: str
    name: str
    kind: str
    range_uj: int | None


class PowerCollector(Collector):
    """Power of the processors, the main memory and the whole machine, where the kernel tells it."""

    name = "power"
    interval_s = 10.0
    cost = "a file for each processor, part of it and meter"
    metrics = (
        Metric("host.power.cpu.watts", "W", "RAPL energy_uj of packages", "all processors together"),
        Metric("host.power.dram.watts", "W", "RAPL energy_uj of dram", "main memory, all of it"),
        Metric("host.power.platform.watts", "W", "RAPL energy_uj of psys", "processor and board, on laptops"),
        Metric(
            "host.power.#.watts",
            "W",
            "RAPL energy_uj",
            "one package, or the memory of one: package-0, dram-0",
        ),
        Metric("host.power.system.watts", "W", "hwmon power_meter", "the whole machine, by its own meter"),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._zones: tuple[Zone, ...] = ()
        self._meters: tuple[str, ...] = ()
        self._scanned_at: float | None = None
        self._before: dict[str, int] = {}
        self._at = 0.0

    def sample(self) -> Reading:
        kernel = self.context.kernel
        now = self.context.monotonic()
        if self._scanned_at is None or now - self._scanned_at >= RESCAN_S:
            self._zones, self._meters, self._scanned_at = self._find_zones(), self._find_meters(), now
        energies = {
            zone.name: energy
            for zone in self._zones
            if (energy := kernel.number(f"{zone.directory}/energy_uj")) is not None
        }
        meters = [watts for file in self._meters if (watts := kernel.number(file)) is not None]
        if not energies and not meters:
            raise NothingHere(
                "no energy counters (RAPL)"
                if not self._zones
                else "the energy counters (RAPL) are not for us"
            )
        values = self._watts(energies, now)
        if meters:
            values["host.power.system.watts"] = sum(meters) / _MICRO
        return Reading(values)

    def _watts(self, energies: dict[str, int], now: float) -> dict[str, float]:
        before, self._before = self._before, energies
        elapsed_s, self._at = now - self._at, now
        values: dict[str, float] = {}
        sums: dict[str, list[float | None]] = {}
        for zone in self._zones:
            if zone.name in energies:
                old = before.get(zone.name)
                watts = (
                    None if old is None else watts_between(old, energies[zone.name], elapsed_s, zone.range_uj)
                )
                sums.setdefault(zone.kind, []).append(watts)
                if watts is not None and zone.kind != "platform":
                    values[f"host.power.{zone.name}.watts"] = watts
        for kind, parts in sums.items():
            known = [watts for watts in parts if watts is not None]
            # A sum with a part missing would look like a saving.
            if len(known) == len(parts):
                values[f"host.power.{kind}.watts"] = sum(known)
        return values

    def _find_zones(self) -> tuple[Zone, ...]:
        kernel = self.context.kernel
        zones = []
        for directory in filter(_ZONE.fullmatch, kernel.names(_RAPL)):
            path = f"{_RAPL}/{directory}"
            name = kernel.word(f"{path}/name") or ""
            package = directory.split(":")[1]
            range_uj = kernel.number(f"{path}/max_energy_range_uj")
            # "core" and "uncore" are parts of the package.
            if name.startswith("package-"):
                zones.append(Zone(path, name, "cpu", range_uj))
            elif name == "dram":
                zones.append(Zone(path, f"dram-{package}", "dram", range_uj))
            elif name == "psys":
                zones.append(Zone(path, f"platform-{package}", "platform", range_uj))
        return tuple(zones)

    def _find_meters(self) -> tuple[str, ...]:
        kernel = self.context.kernel
        return tuple(
            f"{_HWMON}/{directory}/power1_average"
            for directory in kernel.names(_HWMON)
            if kernel.word(f"{_HWMON}/{directory}/name") == "power_meter"
        )


def watts_between(old_uj: int, new_uj: int, elapsed_s: float, range_uj: int | None) -> float | None:
    """Return the mean power between two readings of a counter that wraps at a range; None: not known.

    A counter that went back wrapped, or was set back: the first where the power that follows is plausible and
    the time too short for a second wrap.
    """
    if elapsed_s <= 0:
        return None
    grown_uj = new_uj - old_uj
    if range_uj and elapsed_s * WATTS_MAX * _MICRO >= range_uj:
        # It may have wrapped more than once meanwhile (a suspended host).
        return None
    if grown_uj < 0:
        if not range_uj:
            return None
        grown_uj += range_uj
    watts = grown_uj / _MICRO / elapsed_s
    return watts if 0 <= watts <= WATTS_MAX else None
