"""Keeps the agent's own streams small: removes what the server has, and the oldest when there is too much.

Runs in the thread of the own streams' root. A segment dropped before it was shipped shows as a gap, because
the next one says how many bytes there were.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from tracker.protocol.layout import segment_name

from .clock import Clock
from .entries import remove_stream
from .losses import LossReason
from .streams import Stream


class Trimmer:
    """Trims own streams. keep_s: how long they stay once shipped, for a server that is restored."""

    def __init__(self, keep_s: float, bytes_max: int, clock: Clock) -> None:
        self.problem = ""  #: why something that may go is still there; it is tried again
        self._keep_s = keep_s
        self._bytes_max = bytes_max
        self._clock = clock

    def trim(self, streams: Iterable[Stream], live: Collection[bytes]) -> list[tuple[str, int]]:
        """Remove what may go. Return (reason, bytes) of what was dropped unshipped from whole streams."""
        self.problem = ""
        dropped: list[tuple[str, int]] = []
        left: list[tuple[float, int, Stream, int]] = []  # (mtime, bytes, stream, segment)
        now = self._clock.wall_ns() / 1e9
        for stream in streams:
            files = self._files(stream)
            old = [number for mtime, _, number in files if now - mtime > self._keep_s]
            if stream.ended and stream.id not in live and len(old) == len(files):
                self._try_remove(stream)
                continue
            shipped = (
                set(stream.entry.tail.segments.sealed_before(stream.position)) if stream.learned else set()
            )
            self._try_remove(stream, shipped.intersection(old))
            left += [(m, size, stream, n) for m, size, n in files if n not in shipped.intersection(old)]
        total = sum(size for _, size, _, _ in left)
        for _, size, stream, number in sorted(left, key=lambda item: (item[0], item[3])):
            if total <= self._bytes_max:
                break
            newest = stream.entry.tail.segments.numbers[-1:] == (number,)
            if newest and stream.id in live:
                continue
            if not self._try_remove(stream, [number]):
                continue
            total -= size
            if newest and not stream.ended:
                dropped.append((LossReason.STATE_LIMIT.text, size))
        return dropped

    def _try_remove(self, stream: Stream, numbers: Collection[int] | None = None) -> bool:
        """Remove segments, or all of a stream. One that stays must not keep the others."""
        try:
            remove_stream(stream.entry, numbers)
        except OSError as error:
            self.problem = f"{stream.entry.place.path} cannot be trimmed: {error.strerror or error}"
            return False
        return True

    def _files(self, stream: Stream) -> list[tuple[float, int, int]]:
        files = []
        for number in stream.entry.tail.segments.numbers:
            try:
                status = stream.entry.tail.segments.disk.status(
                    os.path.join(stream.entry.place.path, segment_name(stream.id, number))
                )
            except OSError:
                continue
            files.append((status.st_mtime, status.st_size, number))
        return files
