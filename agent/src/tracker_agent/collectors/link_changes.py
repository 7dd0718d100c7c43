"""Links that go down and come back, told as events."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from .collector import Event

#: A link that flaps all the time is told of this often, with how many changes there were.
QUIET_S = 60.0


class _Told(NamedTuple):
    up: bool
    changes: int
    at: float


class LinkChanges:
    """Compares the state of links and their counters of changes with what was told last."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def look(self, link: str, up: bool, changes: int, now: float, wall_ns: int) -> Event | None:
        """Return what happened to a link. changes: how often it went down or up, by the kernel's count."""
        told = self._told.get(link)
        if told is None or changes < told.changes:
            # New, or its driver began anew: whatever happened is before our time.
            self._told[link] = _Told(up, changes, float("-inf"))
            return None
        if (up, changes) == told[:2] or now - told.at < QUIET_S:
            return None
        self._told[link] = _Told(up, changes, now)
        count = max(1, changes - told.changes)
        if not up:
            title, level = f"{link} lost its link", "warn"
        elif not told.up:
            title, level = f"{link} has its link again", "info"
        else:
            title, level = f"{link} lost its link for a moment", "warn"
        text = f"{title}: it is {'up' if up else 'down'} now, after {count} change{'s' if count > 1 else ''}."
        return Event(wall_ns, title, text, level, {"link": link, "up": up, "changes": count})

    def keep(self, links: Collection[str]) -> None:
        """Forget the links that are not among these."""
        self._told = {link: told for link, told in self._told.items() if link in links}
