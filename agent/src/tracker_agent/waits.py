"""For how long written data has waited for a server: what operators call the lag.

Looked at every few seconds, so that a stream whose data goes out between two looks counts as not waiting.
"""

from __future__ import annotations

from collections.abc import Iterable

from .streams import Stream, StreamKey


class Waits:
    """Remembers since when each stream stands where it stands, with data behind that."""

    def __init__(self) -> None:
        self._since: dict[StreamKey, tuple[int, float]] = {}  # position, since
        self._looked_at = 0.0

    def look(self, streams: Iterable[Stream], now: float) -> None:
        """Look at all streams. Those that are parked wait for something else than time."""
        since: dict[StreamKey, tuple[int, float]] = {}
        for stream in streams:
            if stream.ended or stream.parked is not None or not stream.bytes_behind:
                continue
            known = self._since.get(stream.key)
            moved = known is None or known[0] != stream.position
            since[stream.key] = (stream.position, now) if moved or known is None else known
        self._since, self._looked_at = since, now

    def longest_s(self) -> float:
        """Return how long the stream that has waited longest waited at the last look; 0 when none did."""
        return max((self._looked_at - at for _, at in self._since.values()), default=0.0)
