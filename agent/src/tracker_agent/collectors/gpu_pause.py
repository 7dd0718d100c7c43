"""The operator's wish that nothing here holds the GPUs' drivers for a while, as for a reset or a new driver.

Whoever keeps a driver open registers here. The wish outlasts a reload of the settings, not the agent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

#: Longer would be forgotten; asking again extends it.
PAUSE_S_MAX = 24 * 3600.0


class GpuPause:
    """Until when GPUs are left alone. May be used from any thread."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._until: float | None = None
        self._until_wall = 0.0
        self._holders: list[Callable[[], str]] = []

    def hold(self, release: Callable[[], str]) -> None:
        """Register who opens a driver. release() lets go of it and returns what hinders, else nothing."""
        with self._lock:
            self._holders.append(release)

    def drop(self, release: Callable[[], str]) -> None:
        """Forget one who opens no driver any more."""
        with self._lock:
            if release in self._holders:
                self._holders.remove(release)

    def begin(self, for_s: float) -> list[str]:
        """Pause, and return what hinders that all drivers are let go of now. Blocks for some seconds."""
        with self._lock:
            self._until = self._monotonic() + for_s
            self._until_wall = self._wall() + for_s
            holders = list(self._holders)
        return [problem for problem in (release() for release in holders) if problem]

    def end(self) -> bool:
        """Go on; return whether there was a pause."""
        with self._lock:
            was, self._until = self._left_s() > 0, None
        return was

    def left_s(self) -> float:
        """Return how long the pause lasts; 0 where there is none."""
        with self._lock:
            return self._left_s()

    def until(self) -> str:
        """Return when the pause ends, for people."""
        with self._lock:
            return datetime.fromtimestamp(self._until_wall, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    def _left_s(self) -> float:
        return 0.0 if self._until is None else max(0.0, self._until - self._monotonic())
