"""commit(): the one way records get into the store, whatever front door they came through."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..principal import INGEST, Principal
from .position import RefusedError
from .writer import Writer

if TYPE_CHECKING:
    from ..store.store import Store


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

    error: hole, diverged, forbidden, bad_lines or bad_stream. `next` is where the stream is to go on
    (None when it is none of the caller's business), `at` the offset of the first bad byte.
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
    """A host, or a process on it that writes a run, has new samples, or the host another inventory."""

    entity: str
    machine: str


@dataclass(frozen=True)
class HostEventNews:
    """Something happened to a host."""

    entity: str
    machine: str


AnyNews = RunNews | HostNews | HostEventNews


@dataclass
class Committed:
    """One outcome per distinct (uid, stream) in order of first mention, and what to tell live readers."""

    outcomes: list[Outcome] = field(default_factory=list)
    news: list[AnyNews] = field(default_factory=list)


def commit(
    store: "Store", principal: Principal, agent: AgentInfo, entries: Sequence[Entry], now: int
) -> Committed:
    """Store what is new in the entries, exactly once, and say where each stream goes on.

    Data, offsets, run states and summaries are in the database for good when this returns. A stream
    whose entry is refused keeps what came before it and hinders no other. `now` is ns since 1970.
    Raise TooLargeError, with nothing stored, for what would hold up others for too long.
    """
    streams: dict[tuple[int, bytes], list[Entry]] = {}
    for entry in entries:
        streams.setdefault((entry.uid, entry.stream), []).append(entry)
    if not principal.may(INGEST):
        reason = "this key may not ingest"
        return Committed([Outcome(uid, stream, None, "forbidden", reason) for uid, stream in streams])
    committed = Committed()
    with store.transaction() as transaction:
        writer = Writer(transaction, principal, now)
        if agent.machine:
            writer.touch_host(agent.machine, agent.host, agent.version)
        for (uid, stream), parts in streams.items():
            committed.outcomes.append(_commit_stream(writer, uid, stream, parts))
        committed.news = [
            *(
                RunNews(principal.entity, row.project, row.run, row.cursor, row.state, row.updated)
                for row in writer.changed_runs()
            ),
            *(HostNews(principal.entity, machine) for machine in writer.changed_hosts()),
            *(HostEventNews(principal.entity, machine) for machine in writer.hosts_with_events()),
        ]
    return committed


def _commit_stream(writer: Writer, uid: int, stream: bytes, entries: list[Entry]) -> Outcome:
    """Store one stream's entries in order, each whole or not at all, up to the first that is refused."""
    reached = 0
    for entry in entries:
        try:
            with writer.savepoint():
                if isinstance(entry, Lines):
                    reached = writer.add_lines(uid, stream, entry.user, entry.offset, entry.data)
                else:
                    reached = writer.add_gap(uid, stream, entry.user, entry.offset, entry.bytes, entry.reason)
        except RefusedError as refused:
            next_offset = writer.next_of(uid, stream) if refused.show_next else None
            return Outcome(uid, stream, next_offset, refused.code, refused.reason, refused.at)
    return Outcome(uid, stream, reached)
