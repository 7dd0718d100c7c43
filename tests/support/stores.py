"""A real store in a directory, with entities and principals in it, and short ways to commit to it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, event, insert

from tests.support.streams import START, StreamBytes
from tracker_server.ingest.commit import AgentInfo, Committed, Entry, Lines, Outcome, commit
from tracker_server.principal import Principal
from tracker_server.store import schema
from tracker_server.store.engine import inserted_id
from tracker_server.store.runs import RunDetail
from tracker_server.store.store import Store, open_store


def open_in(directory: Path, busy_timeout_s: float = 10.0) -> Store:
    """Open the store of a directory, making it when there is none."""
    return open_store(
        f"sqlite:///{directory / 'tracker.db'}", directory / "blobs", busy_timeout_s=busy_timeout_s
    )


def add_principal(
    store: Store,
    name: str = "alice",
    *,
    entity: str = "default",
    kind: str = "user",
    scopes: tuple[str, ...] = ("ingest", "read"),
) -> Principal:
    """Make a principal (and its entity where there is none)."""
    with store.write() as transaction:
        entity_id = transaction.execute(
            schema.entities.select().where(schema.entities.c.name == entity)
        ).scalar()
        if entity_id is None:
            entity_id = inserted_id(
                transaction.execute(insert(schema.entities).values(name=entity, created=0))
            )
        principal_id = inserted_id(
            transaction.execute(
                insert(schema.principals).values(entity_id=entity_id, name=name, kind=kind, created=0)
            )
        )
    return Principal(principal_id, kind, entity_id, entity, name, frozenset(scopes))


class Committer:
    """Commits as one principal, under one uid."""

    def __init__(self, store: Store, principal: Principal, uid: int = 1000) -> None:
        self.store = store
        self.principal = principal
        self.uid = uid
        self.now = itertools.count(START)

    def commit(self, *entries: Entry, agent: AgentInfo | None = None) -> Committed:
        """Commit entries as they are."""
        return commit(self.store, self.principal, agent or AgentInfo(), entries, next(self.now))

    def send(self, *streams: StreamBytes) -> list[Outcome]:
        """Commit what each stream has new."""
        return self.commit(*(self.lines(stream) for stream in streams)).outcomes

    def lines(self, stream: StreamBytes) -> Lines:
        """Return what a stream has new as an entry."""
        return Lines(self.uid, "user", stream.stream, *stream.take())

    def part(self, stream: StreamBytes, start: int, end: int) -> Lines:
        """Return bytes of a stream as an entry."""
        return Lines(self.uid, "user", stream.stream, start, bytes(stream.data[start:end]))

    def detail(self, run: str = "run1", project: str = "p") -> RunDetail:
        """Return a run as it is now."""
        return self.store.runs.detail(self.store.runs.get(self.principal.entity_id, project, run))


@contextmanager
def failing_at(number: int, *engines: Engine) -> Iterator[None]:
    """Fail the number-th statement that the engines execute within the block with ZeroDivisionError."""
    count = 0

    def fail(*_: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise ZeroDivisionError

    for engine in engines:
        event.listen(engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", fail)
