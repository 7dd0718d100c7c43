"""The collectors there are, of which the settings choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..settings import CollectorSettings, SamplerSettings
from .amd import AmdCollector
from .cgroup import CgroupCollector
from .collector import Collector, Context
from .cpu import CpuCollector
from .disk import DiskCollector
from .edac import EdacCollector
from .filesystem import FilesystemCollector
from .frequency import FrequencyCollector
from .infiniband import InfinibandCollector
from .lustre import LustreCollector
from .memory import MemoryCollector
from .network import NetworkCollector
from .nfs import NfsCollector
from .numa import NumaCollector
from .nvidia import NvidiaCollector
from .openmetrics import OpenMetricsCollector
from .power import PowerCollector
from .pressure import PressureCollector
from .processes import ProcessesCollector
from .tcp import TcpCollector
from .thermal import ThermalCollector
from .vmstat import VmstatCollector

#: By name, in the order of the table of metrics.
COLLECTORS: Mapping[str, type[Collector]] = {
    kind.name: kind
    for kind in (
        CpuCollector,
        FrequencyCollector,
        MemoryCollector,
        VmstatCollector,
        PressureCollector,
        NumaCollector,
        EdacCollector,
        ThermalCollector,
        PowerCollector,
        DiskCollector,
        FilesystemCollector,
        NfsCollector,
        LustreCollector,
        NetworkCollector,
        TcpCollector,
        InfinibandCollector,
        NvidiaCollector,
        AmdCollector,
        ProcessesCollector,
        CgroupCollector,
        OpenMetricsCollector,
    )
}


def build_collectors(
    settings: SamplerSettings,
    sections: Mapping[str, CollectorSettings] | None = None,
    context: Context | None = None,
) -> list[Collector]:
    """Return the collectors that the settings ask for. sections: [collectors.NAME], by name."""
    context = context or Context()
    chosen = []
    for name, kind in COLLECTORS.items():
        section = (sections or {}).get(name) or kind.Settings()
        on = kind.default if section.enabled == "auto" else section.enabled == "on"
        if on and not (name == "nvidia" and settings.gpu == "off"):
            chosen.append(kind(replace(context, settings=section)))
    return chosen
