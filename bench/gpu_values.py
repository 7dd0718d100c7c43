"""Which of our GPU values nvidia-smi shows too, how far apart the two may be, and how they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.nvidia_smi import Table

MIB = float(1 << 20)
#: Share of the samples that must lie within the tolerance: a clock may change between two questions.
AGREE_SHARE = 0.9


class Shared(NamedTuple):
    """One value that both know. They may differ by `within` or `share` of the larger, whichever is more."""

    name: str
    smi: str
    factor: float = 1.0  #: theirs times this is in our unit
    within: float = 0.0
    share: float = 0.0


#: nvidia-smi is asked just before and just after us; between its two answers ours must lie, give or take.
SHARED = (
    Shared("utilization.percent", "utilization.gpu", within=15),
    Shared("memory_controller.percent", "utilization.memory", within=15),
    Shared("memory.used.bytes", "memory.used", MIB, within=16 * MIB, share=0.01),
    Shared("memory.free.bytes", "memory.free", MIB, within=16 * MIB, share=0.01),
    Shared("memory.reserved.bytes", "memory.reserved", MIB, within=2 * MIB),
    Shared("memory.total.bytes", "memory.total", MIB, within=2 * MIB),
    Shared("temperature.celsius", "temperature.gpu", within=2),
    Shared("temperature.memory.celsius", "temperature.memory", within=2),
    Shared("temperature.margin.celsius", "temperature.gpu.tlimit", within=2),
    Shared("power.watts", "power.draw.average", within=15, share=0.05),
    Shared("power.instant.watts", "power.draw.instant", within=30, share=0.2),
    Shared("power_limit.watts", "enforced.power.limit", within=0.5),
    Shared("clock.sm.mhz", "clocks.current.sm", within=60, share=0.1),
    Shared("clock.memory.mhz", "clocks.current.memory", within=10),
    Shared("clock.graphics.mhz", "clocks.current.graphics", within=60, share=0.1),
    Shared("fan.percent", "fan.speed", within=3),
    Shared("pcie.generation.count", "pcie.link.gen.gpucurrent"),
    Shared("pcie.width.count", "pcie.link.width.current"),
    Shared("ecc.corrected.volatile.count", "ecc.errors.corrected.volatile.total"),
    Shared("ecc.uncorrected.volatile.count", "ecc.errors.uncorrected.volatile.total"),
    Shared("ecc.corrected.aggregate.count", "ecc.errors.corrected.aggregate.total"),
    Shared("ecc.uncorrected.aggregate.count", "ecc.errors.uncorrected.aggregate.total"),
)
#: Counters of nvidia-smi in microseconds; ours is percent of the time between two samples.
THROTTLE = {
    "throttle.power_cap.percent": "clocks_event_reasons_counters.sw_power_cap",
    "throttle.sync_boost.percent": "clocks_event_reasons_counters.sync_boost",
    "throttle.software_thermal.percent": "clocks_event_reasons_counters.sw_thermal_slowdown",
    "throttle.hardware_thermal.percent": "clocks_event_reasons_counters.hw_thermal_slowdown",
    "throttle.power_brake.percent": "clocks_event_reasons_counters.hw_power_brake_slowdown",
}
#: Our names of the GPM metrics that `nvidia-smi dmon --gpm-metrics` shows in percent.
GPM = {
    1: "graphics.active.percent",
    2: "sm.active.percent",
    3: "sm.occupancy.percent",
    5: "tensor.active.percent",
    7: "tensor.hmma.percent",
    10: "dram.active.percent",
    12: "fp32.active.percent",
}
GPM_WITHIN = 10.0
FIELDS = ("index", "name", "driver_version", *(each.smi for each in SHARED), *THROTTLE.values())


@dataclass
class Verdict:
    """How one value of one GPU compared over all samples."""

    compared: int = 0
    agreed: int = 0
    worst: float = 0.0  #: distance beyond what nvidia-smi said before and after, in our unit
    ours: float | None = None
    theirs: float | None = None

    def add(self, ours: float, low: float, high: float, allowed: float) -> None:
        """Compare one value with the range nvidia-smi gave."""
        distance = max(0.0, low - ours, ours - high)
        self.compared += 1
        self.agreed += distance <= allowed
        if distance >= self.worst or self.ours is None:
            self.worst, self.ours, self.theirs = distance, ours, (low + high) / 2

    @property
    def good(self) -> bool:
        return self.compared > 0 and self.agreed >= AGREE_SHARE * self.compared

    def shown(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "agrees": self.good,
            "within_tolerance": f"{self.agreed}/{self.compared}",
            "worst_distance": round(self.worst, 3),
            "then_ours": self.ours,
            "then_theirs": self.theirs,
        }


@dataclass
class Comparison:
    """Verdicts by GPU and value, and what only one of the two offers."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    only_smi: set[str] = field(default_factory=set)
    only_ours: set[str] = field(default_factory=set)

    def compare(self, ours: Mapping[str, float], before: Table, after: Table) -> None:
        """Take in one sample: our values by full name, nvidia-smi's answers around it."""
        for uuid in before.keys() & after.keys():
            index = before[uuid].get("index")
            if not isinstance(index, float):
                continue
            for shared in SHARED:
                self._compare_one(
                    f"host.gpu.{int(index)}.{shared.name}", shared, ours, before[uuid], after[uuid]
                )

    def _compare_one(
        self,
        name: str,
        shared: Shared,
        ours: Mapping[str, float],
        before: Mapping[str, float | str | None],
        after: Mapping[str, float | str | None],
    ) -> None:
        first, second, value = before.get(shared.smi), after.get(shared.smi), ours.get(name)
        if not isinstance(first, float) or not isinstance(second, float):
            if value is not None:
                self.only_ours.add(name)
            return
        if value is None:
            self.only_smi.add(name)
            return
        low, high = sorted((first * shared.factor, second * shared.factor))
        allowed = max(shared.within, shared.share * max(abs(high), abs(value)))
        self.verdicts.setdefault(name, Verdict()).add(value, low, high, allowed)

    def compare_means(
        self, name: str, ours: Sequence[float], theirs: float, within: float, share: float
    ) -> None:
        """Compare the mean of all our samples with one mean of nvidia-smi's."""
        if ours:
            allowed = max(within, share * abs(theirs))
            self.verdicts.setdefault(name, Verdict()).add(sum(ours) / len(ours), theirs, theirs, allowed)

    @property
    def missing_of_ours(self) -> list[str]:
        """Values that nvidia-smi has and we never had."""
        return sorted(self.only_smi - set(self.verdicts))

    def disagreeing(self) -> list[str]:
        """Return the names of the values that do not agree."""
        return sorted(name for name, verdict in self.verdicts.items() if not verdict.good)
