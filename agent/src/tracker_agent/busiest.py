"""Which streams bring most just now: rates from how positions moved between two looks. For `top`.

Looked at only while somebody watches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .streams import Stream, StreamKey

#: So many are shown; whoever wants all has the metrics.
SHOWN_MAX = 100


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    positions: dict[StreamKey, int]
    moved_at: dict[StreamKey, float]


class Busiest:
    """Compares one look with the one before."""

    def __init__(self) -> None:
        self._last: _Look | None = None

    def look(self, streams: Iterable[Stream], now: float) -> list[dict[str, Any]]:
        """Return the busiest and the longest waiting streams as plain JSON values, the busiest first."""
        last = self._last
        positions: dict[StreamKey, int] = {}
        moved_at: dict[StreamKey, float] = {}
        shown = []
        for stream in streams:
            behind = 0 if stream.ended else stream.bytes_behind
            before = stream.position if last is None else last.positions.get(stream.key, stream.position)
            moved = max(0, stream.position - before)
            positions[stream.key] = stream.position
            since = now if last is None or moved or not behind else last.moved_at.get(stream.key, now)
            moved_at[stream.key] = since
            if not (moved or behind or stream.live):
                continue
            span = 0.0 if last is None else now - last.at
            shown.append(
                {
                    "run": stream.header.run,
                    "stream": stream.id.hex(),
                    "uid": stream.uid,
                    "user": stream.user,
                    "live": stream.live,
                    "own": stream.own,
                    "parked": None if stream.parked is None else stream.parked.code,
                    "bytes_per_s": moved / span if span > 0 else 0.0,
                    "behind_bytes": behind,
                    "waits_s": now - since,
                    "position": stream.position,
                }
            )
        self._last = _Look(now, positions, moved_at)
        shown.sort(key=lambda each: (each["bytes_per_s"], each["behind_bytes"], each["live"]), reverse=True)
        return shown[:SHOWN_MAX]
