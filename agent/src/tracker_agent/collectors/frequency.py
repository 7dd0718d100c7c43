"""frequency: the clocks of the cores, from cpufreq.

On x86 with kernels before 5.18 each read may make the kernel wait for 10 ms, so this is not done often.
"""

from __future__ import annotations

import re

from .collector import Collector, Metric, NothingHere, Reading

_CPUS = "sys/devices/system/cpu"
_POLICY = re.compile(r"policy\d+")
_CPU = re.compile(r"cpu\d+")
_KHZ_PER_MHZ = 1000
#: Of a machine with more clocks than this, as many are read, spread over all of them.
CLOCKS_MAX = 256


class FrequencyCollector(Collector):
    """Clocks of the cores: mean, slowest and fastest at the moment, and the lowest limit in force."""

    name = "frequency"
    interval_s = 30.0
    cost = "two files for each core or policy; 3 ms with 128 cores"
    metrics = (
        Metric("host.frequency.mean.mhz", "MHz", "cpufreq scaling_cur_freq", "mean of the cores' clocks"),
        Metric("host.frequency.min.mhz", "MHz", "cpufreq scaling_cur_freq", "the slowest core"),
        Metric("host.frequency.max.mhz", "MHz", "cpufreq scaling_cur_freq", "the fastest core"),
        Metric(
            "host.frequency.limit.mhz",
            "MHz",
            "cpufreq scaling_max_freq",
            "the highest clock allowed, of the core that is allowed least",
        ),
    )

    def sample(self) -> Reading:
        directories = self._directories()
        if len(directories) > CLOCKS_MAX:
            step = len(directories) / CLOCKS_MAX
            directories = [directories[int(index * step)] for index in range(CLOCKS_MAX)]
        # "<unknown>" where a driver does not know: no number.
        clocks = self._numbers(directories, "scaling_cur_freq")
        limits = self._numbers(directories, "scaling_max_freq")
        if not clocks:
            raise NothingHere("no clocks of cores (cpufreq)")
        values = {
            "host.frequency.mean.mhz": sum(clocks) / len(clocks),
            "host.frequency.min.mhz": min(clocks),
            "host.frequency.max.mhz": max(clocks),
        }
        if limits:
            values["host.frequency.limit.mhz"] = min(limits)
        return Reading(values)

    def _directories(self) -> list[str]:
        kernel = self.context.kernel
        policies = [name for name in kernel.names(f"{_CPUS}/cpufreq") if _POLICY.fullmatch(name)]
        if policies:
            return [f"{_CPUS}/cpufreq/{name}" for name in policies]
        # Kernels before 4.3 keep them with each core.
        return [f"{_CPUS}/{name}/cpufreq" for name in kernel.names(_CPUS) if _CPU.fullmatch(name)]

    def _numbers(self, directories: list[str], file: str) -> list[float]:
        read = (self.context.kernel.number(f"{directory}/{file}") for directory in directories)
        return [khz / _KHZ_PER_MHZ for khz in read if khz]
