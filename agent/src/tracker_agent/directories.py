"""What the scanner remembers of each directory, to see at one glance whether it changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from .entries import Entry
from .opening import Place


@dataclass(eq=False, slots=True)
class Directory:
    """A run directory."""

    place: Place
    user: str
    stamp: tuple[int, int] = (0, 0)  # mtime and inode when last listed
    settled: bool = False
    relist_at: float = 0.0
    active_at: float = 0.0
    entries: dict[bytes, Entry] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    gone: bool = False
    due: float = 0.0


@dataclass(eq=False, slots=True)
class User:
    """A user's directory."""

    name: str
    uid: int
    user: str
    stamp: tuple[int, int] = (0, 0)
    settled: bool = False
    relist_at: float = 0.0
    credentials: tuple[int, int, int] | None = None
    directories: dict[str, Directory] = field(default_factory=dict)
