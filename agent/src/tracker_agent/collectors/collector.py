"""What a collector is: one subject of the machine, read when the sampler asks.

A value that is not to be had is left out, never reported as 0. "Nothing here" (no GPU) and "broken"
are different things: NothingHere and CollectorError.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from ..settings import CollectorSettings
from ..streams import StreamKey
from .gpu_pause import GpuPause
from .gpu_processes import GpuProcesses
from .kernel import Kernel


class NothingHere(Exception):
    """The machine does not have what the collector measures."""


class CollectorError(Exception):
    """The collector could not measure this time. The message says why."""


class Metric(NamedTuple):
    """One line of the table of metrics. `#` in a name stands for a device: an index or a name."""

    name: str
    unit: str
    source: str
    meaning: str


class Event(NamedTuple):
    """Something that happened to the machine at a time (ns since 1970), such as an Xid: shipped as an ALERT.

    level is "info", "warn" or "error"; facts are for programs, such as {"xid": 79, "gpu": "GPU-…"}.
    """

    time: int
    title: str
    text: str
    level: str
    facts: Mapping[str, Any]


class LiveRun(NamedTuple):
    """A writer that lives on this host: its stream, the run's id and the pid as this host counts.

    pid is 0 where it lives in a pid namespace that cannot be seen from here.
    """

    key: StreamKey
    run: str
    pid: int


@dataclass(frozen=True)
class Reading:
    """What one sample brought: values by full metric name, and what was wrong with single devices."""

    values: Mapping[str, float]
    problems: tuple[str, ...] = ()
    #: Facts about the machine that this collector alone knows; None where it has not found out yet.
    inventory: Mapping[str, Any] | None = field(default=None)
    events: tuple[Event, ...] = ()
    #: Values about single writers of runs, by stream: these show on the run's page.
    runs: Mapping[StreamKey, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What collectors get: the kernel's files, a clock that never jumps, their settings, the live runs."""

    settings: CollectorSettings = field(default_factory=CollectorSettings)
    kernel: Kernel = field(default_factory=Kernel)
    monotonic: Callable[[], float] = time.monotonic
    wall_ns: Callable[[], int] = time.time_ns
    #: May be called from the collector's thread.
    live_runs: Callable[[], Collection[LiveRun]] = tuple
    #: Who uses GPUs: written by the collector that asks the driver, read by the one that knows runs.
    gpu_processes: GpuProcesses = field(default_factory=GpuProcesses)
    #: Whether whoever opens a GPU driver must let go of it for a while.
    gpu_pause: GpuPause = field(default_factory=GpuPause)


class Collector:
    """One subject. Never called from two threads at once; it may block, and only itself suffers.

    Its thread stays the same from the first time on that a sample of it was slow.
    """

    #: The word for it, everywhere: file, setting, first part of metric names.
    name: ClassVar[str]
    #: What it may bring.
    metrics: ClassVar[tuple[Metric, ...]] = ()
    #: What a sample costs, in words, for the table of metrics.
    cost: ClassVar[str] = ""
    #: Time between two samples, where the subject is slow or dear; 0: that of the sampler.
    interval_s: ClassVar[float] = 0.0
    #: A sample that takes longer shows as stuck; the others go on without it.
    deadline_s: ClassVar[float] = 10.0
    #: Whether it waits for something by nature (a driver, a network): it then shares no thread with others.
    own_thread: ClassVar[bool] = False
    #: Whether it runs unless the settings say otherwise.
    default: ClassVar[bool] = True
    #: The settings of [collectors.NAME]: a frozen dataclass below CollectorSettings, for settings of its own.
    Settings: ClassVar[type[CollectorSettings]] = CollectorSettings

    def __init__(self, context: Context | None = None) -> None:
        self.context = context or Context()

    def every_s(self, least_s: float) -> float:
        """Return the time between two samples where the sampler takes one each least_s."""
        return max(least_s, self.context.settings.interval_s or self.interval_s)

    def sample(self) -> Reading:
        """Return the values of this moment. Raise NothingHere or CollectorError."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything. Called once, after the last sample."""
