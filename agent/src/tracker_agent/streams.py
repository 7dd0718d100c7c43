"""What the pipeline knows of one stream. Touched in the event loop only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tracker.protocol.header import Header

from .entries import Entry
from .spool_thread import SpoolThread

#: (uid, stream id): what a stream is filed under, by the server within the key's entity.
StreamKey = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Parked:
    """Why a stream is not shipped for now. until None: not before something changes."""

    code: str
    reason: str
    until: float | None


@dataclass(eq=False, slots=True)
class Stream:
    """One stream that is to be shipped."""

    entry: Entry
    header: Header
    thread: SpoolThread
    own: bool  #: written by an agent on this host about itself
    live: bool = False
    pid: int = 0
    position: int = 0  #: what the server has, as it said last
    acknowledged: int = 0  #: the most it ever said it has; more than `position` once it was restored
    learned: bool = False  #: `position` is known and was compared with the files
    parked: Parked | None = None
    ended: bool = False  #: shipped to its end
    exited: bool = False  #: the last line read is an EXIT
    started_live: bool = False  #: its writer was seen alive by this agent
    died_at: float | None = None  #: when this agent saw that the writer is gone
    hot_until: float = 0.0  #: read at every flush until then
    stuck: tuple[int, float] | None = None  #: (position, since): bytes there that are no whole line
    setbacks: int = 0  #: answers in a row that did not move it
    refusals: int = 0  #: lines that the server refused since `refusals_since`
    refusals_since: float = 0.0
    alias: bytes | None = None  #: another id that it is shipped under, see alias.py
    pending: int = 0
    refused: dict[int, tuple[int, str]] = field(
        default_factory=dict
    )  #: offset → size, reason: lines set aside

    @property
    def id(self) -> bytes:
        """The stream id that the server knows it under."""
        return self.alias or self.entry.stream

    @property
    def uid(self) -> int:
        """Owner of the files."""
        return self.entry.place.uid

    @property
    def user(self) -> str:
        """Name of the owner."""
        return self.entry.user

    @property
    def key(self) -> StreamKey:
        """What this agent files it under: its own id, whatever the server knows it as."""
        return (self.entry.place.uid, self.entry.stream)

    @property
    def server_key(self) -> StreamKey:
        """What the server files it under."""
        return (self.entry.place.uid, self.id)

    def moved_to(self, position: int) -> None:
        """Take note of where the server says that it goes on."""
        self.position = position
        self.acknowledged = max(self.acknowledged, position)

    @property
    def bytes_behind(self) -> int:
        """Bytes known to be written behind `position`."""
        return self.entry.tail.end - self.position if self.entry.tail.end > self.position else 0

    def to_json(self) -> dict[str, Any]:
        """Return what status shows."""
        shown = {
            "stream": self.id.hex(),
            "uid": self.uid,
            "run": self.header.run,
            "path": self.entry.place.path,
            "position": self.position,
            "live": self.live,
        }
        if self.parked is not None:
            shown |= {"code": self.parked.code, "reason": self.parked.reason}
        return shown
