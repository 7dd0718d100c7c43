"""Events of hosts: what happened to a machine and when, such as an error of a GPU. The newest are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from . import schema
from .engine import Database
from .text import dump_json, load_json

#: Events that one host is remembered to have had; those that arrived first make room.
EVENTS_MAX = 10_000
#: By how much it matters, the least first.
LEVELS = ("info", "warn", "error")


@dataclass(frozen=True)
class HostEvent:
    """Something that happened to a machine at a time (ns). facts is a JSON map."""

    time: int
    level: str
    title: str
    text: str
    facts: dict[str, Any]


class HostEventRows:
    """Writes events, within the transaction of one commit()."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, host_id: int, events: Sequence[HostEvent]) -> None:
        """Keep events of a host, and forget its oldest ones beyond EVENTS_MAX."""
        table = schema.host_events
        self._connection.execute(
            insert(table),
            [
                {
                    "host_id": host_id,
                    "time": event.time,
                    "level": event.level,
                    "title": event.title,
                    "text": event.text,
                    "facts": dump_json(event.facts),
                }
                for event in events[-EVENTS_MAX:]
            ],
        )
        of_host = table.c.host_id == host_id
        kept = select(table.c.id).where(of_host).order_by(table.c.id.desc())
        first = self._connection.execute(kept.offset(EVENTS_MAX).limit(1)).scalar_one_or_none()
        if first is not None:
            self._connection.execute(delete(table).where(of_host, table.c.id <= first))


class HostEventStore:
    """Answers questions about events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self,
        host_id: int,
        *,
        start: int | None = None,
        end: int | None = None,
        level: str | None = None,
        limit: int = 1000,
    ) -> tuple[list[HostEvent], bool]:
        """Return the newest events with start <= time <= end, newest first, and whether there are more.

        level: this level and those that matter more.
        """
        table = schema.host_events.c
        query = select(table.time, table.level, table.title, table.text, table.facts).where(
            table.host_id == host_id
        )
        if start is not None:
            query = query.where(table.time >= start)
        if end is not None:
            query = query.where(table.time <= end)
        if level is not None:
            query = query.where(table.level.in_(LEVELS[LEVELS.index(level) :]))
        query = query.order_by(table.time.desc(), table.id.desc()).limit(limit + 1)
        with self._database.read() as connection:
            found = [
                HostEvent(row.time, row.level, row.title, row.text, load_json(row.facts))
                for row in connection.execute(query)
            ]
        return found[:limit], len(found) > limit
