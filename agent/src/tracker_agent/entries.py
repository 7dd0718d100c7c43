"""What a scan finds: streams, and what changed of them since the scan before."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from tracker.protocol.header import Header
from tracker.protocol.layout import live_name, parse_segment_name

from .credentials import UserKeys
from .opening import Place
from .tailer import Tail


@dataclass(eq=False, slots=True)
class Entry:
    """A stream found in a run directory. The scanner's thread owns it, but for the two flags."""

    place: Place
    user: str
    stream: bytes
    tail: Tail
    header: Header | None = None
    holder: int | None = None  #: pid of the writer when last asked; 0: one we cannot see
    announced: bool = False
    size: int = -1
    inode: int = -1
    #: What the newest segment was when it was refused: not read again while it stays so.
    refused: tuple[int, ...] | None = None
    refusal: str | None = None  #: why it is no stream to ship
    # Set by the pipeline:
    finished: bool = False  #: shipped to its end: no need to look at its files
    ask_lock: bool = True  #: nothing else tells when its writer dies
    # Set by the caretaker:
    removed_because: str | None = None  #: a limit made it go before it was shipped


@dataclass(slots=True)
class Findings:
    """What changed since the last call."""

    found: list[Entry] = field(default_factory=list)
    grown: list[Entry] = field(default_factory=list)
    gone: list[Entry] = field(default_factory=list)
    writers: list[Entry] = field(default_factory=list)  #: `holder` changed
    keys: list[tuple[int, UserKeys]] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)  #: new directories in which more may appear soon
    more: bool = False  #: there was more to look at than one call does
    next_due: float = 0.0


def remove_stream(entry: Entry, numbers: Iterable[int] | None = None) -> None:
    """Remove segments of one of the agent's own streams; with None all of them and the lock file."""
    segments = entry.tail.segments
    chosen = segments.numbers if numbers is None else tuple(numbers)
    segments.close(chosen)
    for number in chosen:
        segments.disk.unlink(os.path.join(entry.place.path, segments.name(number)))
    if numbers is None:
        segments.disk.unlink(os.path.join(entry.place.path, live_name(entry.stream)))


def sort_names(names: Iterable[str]) -> tuple[dict[bytes, set[int]], list[str]]:
    """Return the numbers of each stream's segments, and names that look like segments and are none."""
    segments: dict[bytes, set[int]] = {}
    odd = []
    for name in names:
        parsed = parse_segment_name(name)
        if parsed is not None:
            segments.setdefault(parsed[0], set()).add(parsed[1])
        elif name.endswith(".mpl"):
            odd.append(name)
    return segments, odd
