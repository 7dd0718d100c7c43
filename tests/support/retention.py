"""A caretaker for a running pipeline whose rounds and clock the test decides about."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from tracker_agent.caretaker import Caretaker
from tracker_agent.disk import Disk
from tracker_agent.opening import Place
from tracker_agent.pipeline import Pipeline
from tracker_agent.removal import Remover
from tracker_agent.retention import Limits
from tracker_agent.shipped_since import ShippedSince

KEEP_S = 7 * 86_400.0


class FakeClock:
    """Goes on only when told to. The wall clock starts at today's time."""

    def __init__(self) -> None:
        self._monotonic = 1000.0
        self._wall = time.time()

    def monotonic(self) -> float:
        return self._monotonic

    def wall_ns(self) -> int:
        return int(self._wall * 1e9)

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        self._wall += seconds

    def set_wall(self, seconds: float) -> None:
        self._wall += seconds


def make_caretaker(
    pipeline: Pipeline,
    state: Path,
    clock: FakeClock,
    limits: Limits | None = None,
    files_done: Callable[[Place], bool] = lambda place: True,
) -> Caretaker:
    """Return a caretaker of what a pipeline knows."""
    anyone: Any = clock
    disk = Disk()
    return Caretaker(
        limits or Limits(KEEP_S),
        Remover(disk),
        ShippedSince(str(state), anyone, disk),
        pipeline._roots.all,
        pipeline._catalogue.streams,
        pipeline._catalogue.kept,
        files_done,
        anyone,
        pipeline.counters,
        structlog.get_logger(),
    )
