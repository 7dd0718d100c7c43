"""For how long the server has had all of each run: what retention counts from, kept across restarts.

A cache: without it the time counts anew. It is counted by the monotonic clock, and by the wall clock only
while no agent runs, so that a clock that jumps makes nothing old.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Any

from .clock import Clock
from .disk import Disk
from .opening import Place

FILE = "retention.json"
VERSION = 1
#: A time without an agent counts as this long at most: the wall clock may have been set.
ABSENCE_MAX_S = 86_400.0
#: How much time may go uncounted when the agent is killed.
SAVE_INTERVAL_S = 3600.0

_Key = tuple[str, str, str]


class ShippedSince:
    """Reads and writes <state>/retention.json: {"version", "counted_s", "wall_s", "runs":
    [[root, user, run, bytes, since]]}. `since` is a value that counted_s had."""

    def __init__(self, state_dir: str, clock: Clock, disk: Disk) -> None:
        self.path = os.path.join(state_dir, FILE)
        self._clock = clock
        self._disk = disk
        self._began = clock.monotonic()
        self._before_s = 0.0
        self._runs: dict[_Key, tuple[int, float]] = {}
        self._saved_at: float | None = None

    @property
    def counted_s(self) -> float:
        """The time counted so far, over all agents with this state."""
        return self._before_s + self._clock.monotonic() - self._began

    def read(self) -> str | None:
        """Take up what the last agent knew. Return a complaint when the file was unusable."""
        try:
            counted_s, wall_s, runs = _parse(json.loads(self._disk.read_file(self.path)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            return f"{self.path} cannot be used ({error}); runs that were shipped stay longer"
        absence_s = min(max(self._clock.wall_ns() / 1e9 - wall_s, 0.0), ABSENCE_MAX_S)
        self._before_s, self._began = counted_s + absence_s, self._clock.monotonic()
        self._runs = runs
        return None

    def whole_at(self, place: Place, size: int, now_s: float) -> float:
        """Take down that the server has all `size` bytes of a run; return what counted_s was at that time.

        now_s: what it is now.
        """
        key = (place.root, place.user, place.name)
        known = self._runs.get(key)
        if known is None or known[0] != size:
            known = self._runs[key] = (size, now_s)
            self._saved_at = None
        return known[1]

    def keep_only(self, places: Collection[Place]) -> None:
        """Forget every other run: the server has not all of it (any more), or it is gone."""
        kept = {(place.root, place.user, place.name) for place in places}
        for key in self._runs.keys() - kept:
            del self._runs[key]
            self._saved_at = None

    def save(self, at_once: bool = False) -> None:
        """Write the file when it is out of date. Raise OSError."""
        now = self._clock.monotonic()
        if self._saved_at is not None and now - self._saved_at < SAVE_INTERVAL_S and not at_once:
            return
        runs = [[*key, *value] for key, value in self._runs.items()]
        wall_s = self._clock.wall_ns() / 1e9
        fields = {"version": VERSION, "counted_s": self.counted_s, "wall_s": wall_s, "runs": runs}
        self._disk.replace_file(self.path, json.dumps(fields).encode())
        self._saved_at = now


def _parse(fields: Any) -> tuple[float, float, dict[_Key, tuple[int, float]]]:
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        raise ValueError("it is not of this version")
    runs = {
        (str(root), str(user), str(run)): (int(size), float(since))
        for root, user, run, size, since in fields.get("runs", ())
    }
    return float(fields.get("counted_s", 0.0)), float(fields.get("wall_s", 0.0)), runs
