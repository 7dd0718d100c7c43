"""The collectors there are, of which the settings choose."""

from __future__ import annotations

from ..settings import SamplerSettings
from .collector import Collector
from .cpu import CpuCollector
from .disk import DiskCollector
from .memory import MemoryCollector
from .network import NetworkCollector
from .nvidia import NvidiaCollector


def build_collectors(settings: SamplerSettings) -> list[Collector]:
    """Return the collectors that the settings ask for."""
    collectors: list[Collector] = [CpuCollector(), MemoryCollector(), NetworkCollector(), DiskCollector()]
    if settings.gpu != "off":
        collectors.append(NvidiaCollector())
    return collectors
