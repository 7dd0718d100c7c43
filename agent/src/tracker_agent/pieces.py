"""What reading a stream yields: pieces of it in order, and where and why the reading stopped."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Diverged(Exception):
    """The file holds other bytes than those already shipped under this id. str() says how one knows."""


@dataclass(frozen=True, slots=True)
class Data:
    """Whole lines of one segment."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Position behind the lines."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Missing:
    """Bytes that cannot be shipped, and why."""

    offset: int
    size: int
    reason: str

    @property
    def end(self) -> int:
        """Position behind the gap."""
        return self.offset + self.size


Piece = Data | Missing


class State(enum.Enum):
    """Where a reading stopped."""

    MORE = "more"  #: the limit was reached; there is more already
    WAITING = "waiting"  #: whatever comes next is not written yet
    END = "end"  #: the writer is gone and everything was read


@dataclass(slots=True)
class Reading:
    """What read() found."""

    pieces: list[Piece] = field(default_factory=list)
    position: int = 0  #: behind the pieces
    state: State = State.MORE
    pending: int = 0  #: bytes known to be left in this segment
    exited: bool = False  #: the last line read is an EXIT
    stuck: bool = False  #: WAITING with bytes that are no whole line yet

    def add_missing(self, size: int, reason: str) -> None:
        """Add a gap; one that follows on another for the same reason makes that longer."""
        last = self.pieces[-1] if self.pieces else None
        if isinstance(last, Missing) and last.reason == reason:
            self.pieces[-1] = Missing(last.offset, last.size + size, reason)
        else:
            self.pieces.append(Missing(self.position, size, reason))
        self.position += size
        self.exited = False

    @property
    def data_bytes(self) -> int:
        """Bytes of records among the pieces."""
        return sum(len(piece.data) for piece in self.pieces if isinstance(piece, Data))
