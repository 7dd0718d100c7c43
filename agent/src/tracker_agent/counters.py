"""Counts what the pipeline did and, with reasons, what it could not ship; the tap is told what passes.

One for the whole life of an agent, also when a reload builds another pipeline: what was lost stays shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .losses import reason_of
from .pieces import Data
from .streams import Stream

#: Reasons name details, servers' words too, so their number has a bound; further ones are counted by code.
REASONS_MAX = 200


@dataclass(slots=True)
class Loss:
    """What one reason has cost so far."""

    gaps: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Counters:
    """Counts since the agent started."""

    requests: int = 0
    bytes_shipped: int = 0  #: acknowledged bytes of record streams, gaps not included
    bytes_sent: int = 0  #: compressed bytes of requests
    failures: Counter[str] = field(
        default_factory=Counter
    )  #: answers and errors that were no success, by kind
    losses: dict[str, Loss] = field(default_factory=dict)
    tap: Callable[[Stream, Data], None] | None = field(default=None, repr=False)  #: see tap.py

    def add_shipped(self, stream: Stream, piece: Data, start: int, end: int) -> None:
        """Count the bytes of a piece from start to end, which a server took."""
        first, last = max(piece.offset, start), min(piece.end, end)
        if last <= first:
            return
        self.bytes_shipped += last - first
        if self.tap is not None:
            whole = last - first == len(piece.data)
            taken = piece.data[first - piece.offset : last - piece.offset]
            self.tap(stream, piece if whole else Data(first, taken))

    def add_loss(self, reason: str, size: int) -> None:
        """Count a gap that the server acknowledged. reason: a text of losses.py."""
        if reason not in self.losses and len(self.losses) >= REASONS_MAX:
            reason = reason_of(reason).text
        loss = self.losses.setdefault(reason, Loss())
        loss.gaps += 1
        loss.bytes += size

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "requests": self.requests,
            "bytes_shipped": self.bytes_shipped,
            "bytes_sent": self.bytes_sent,
            "failures": dict(self.failures),
            "losses": {
                reason: {"code": reason_of(reason).code, "gaps": loss.gaps, "bytes": loss.bytes}
                for reason, loss in self.losses.items()
            },
        }
