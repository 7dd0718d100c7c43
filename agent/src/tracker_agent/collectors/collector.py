"""What a collector is: one subject of the machine, read when the sampler asks.

A value that is not to be had is left out, never reported as 0. "Nothing here" (no GPU) and "broken"
are different things: NothingHere and CollectorError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


class NothingHere(Exception):
    """The machine does not have what the collector measures."""


class CollectorError(Exception):
    """The collector could not measure this time. The message says why."""


class Metric(NamedTuple):
    """One line of the table of metrics. `#` in a name stands for the index of a device."""

    name: str
    unit: str
    source: str
    meaning: str


@dataclass(frozen=True)
class Reading:
    """What one sample brought: values by full metric name, and what was wrong with single devices."""

    values: Mapping[str, float]
    problems: tuple[str, ...] = ()
    #: Facts about the machine that this collector alone knows; None where it has not found out yet.
    inventory: Mapping[str, Any] | None = field(default=None)


class Collector(Protocol):
    """One subject. Called from one thread of its own, so it may block, and only itself suffers."""

    @property
    def name(self) -> str:
        """The word for it, everywhere: file, setting, metric names."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What it may bring."""

    def sample(self) -> Reading:
        """Return the values of this moment. Raise NothingHere or CollectorError."""

    def close(self) -> None:
        """Let go of everything. Called once, after the last sample."""
