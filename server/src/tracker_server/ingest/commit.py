"""commit(): the one way records get into the store, whatever front door they came through."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class AgentInfo:
    """Who sent the entries: the agent's version, and the machine it runs on ("" when it is none)."""

    version: str = ""
    machine: str = ""
    host: str = ""


@dataclass(frozen=True)
class Lines:
    """Whole lines of one segment, at a byte offset of the logical stream."""

    uid: int
    user: str
    stream: bytes  #: 16 bytes
    offset: int
    data: bytes


@dataclass(frozen=True)
class GapEntry:
    """Bytes that cannot be shipped, and why."""

    uid: int
    user: str
    stream: bytes
    offset: int
    bytes: int
    reason: str


Entry = Lines | GapEntry


@dataclass(frozen=True)
class Outcome:
    """What became of one stream's entries. Without an error all of them are stored.

    error: hole, diverged, forbidden, bad_lines or bad_stream. `next` is where the stream is to go on (None when it
    is none of the caller's business), `at` the offset of the first bad byte.
    """

    uid: int
    stream: bytes
    next: int | None
    error: str | None = None
    reason: str | None = None
    at: int | None = None


@dataclass(frozen=True)
class RunNews:
    """A run has something new; `cursor` as in PointStore."""

    entity: str
    project: str
    run: str
    cursor: int
    state: str
    updated: int


@dataclass(frozen=True)
class HostNews:
    """A host has new samples or inventory."""

    entity: str
    machine: str


@dataclass
class Committed:
    """One outcome per distinct (uid, stream) in order of first mention, and what to tell live readers."""

    outcomes: list[Outcome] = field(default_factory=list)
    news: list[RunNews | HostNews] = field(default_factory=list)


# def commit(store: Store, principal: Principal, agent: AgentInfo, entries: Sequence[Entry], now: int) -> Committed
__all__ = ["AgentInfo", "Committed", "Entry", "GapEntry", "HostNews", "Lines", "Outcome", "RunNews", "Sequence"]
