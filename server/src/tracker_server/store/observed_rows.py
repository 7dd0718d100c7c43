"""ObservedRows: what agents saw of streams that have not arrived yet, kept until they do."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select

from . import schema
from .engine import AnyRow
from .text import dump_json

#: Streams that one principal is remembered to have seen; the one seen longest ago makes room.
REMEMBERED_MAX = 10_000


class ObservedRows:
    """Reads and writes observations, within the transaction of one commit()."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def remember(
        self,
        entity_id: int,
        principal_id: int,
        trusted: bool,
        uid: int,
        stream: bytes,
        time: int,
        state: str,
        facts: Any,
    ) -> int:
        """Keep what was seen of a stream that has not arrived. Return how many were forgotten for it."""
        table = schema.observed.c
        of_principal = and_(table.entity_id == entity_id, table.principal_id == principal_id)
        self._connection.execute(
            delete(schema.observed).where(of_principal, table.uid == uid, table.stream == stream)
        )
        forgotten = self._make_room(of_principal)
        self._connection.execute(
            insert(schema.observed),
            {
                "entity_id": entity_id,
                "principal_id": principal_id,
                "uid": uid,
                "stream": stream,
                "trusted": int(trusted),
                "time": time,
                "state": state,
                "facts": dump_json(facts),
            },
        )
        return forgotten

    def _make_room(self, of_principal: ColumnElement[bool]) -> int:
        ids = select(schema.observed.c.id).where(of_principal).order_by(schema.observed.c.id)
        count = select(func.count()).select_from(schema.observed).where(of_principal)
        surplus = int(self._connection.execute(count).scalar_one()) - REMEMBERED_MAX + 1
        if surplus <= 0:
            return 0
        self._connection.execute(delete(schema.observed).where(schema.observed.c.id.in_(ids.limit(surplus))))
        return surplus

    def take(self, entity_id: int, principal_id: int, uid: int, stream: bytes) -> AnyRow | None:
        """Return the last thing seen of a stream by someone who may say so, and forget all of them."""
        table = schema.observed.c
        here = and_(table.entity_id == entity_id, table.uid == uid, table.stream == stream)
        rows = self._connection.execute(
            select(table.time, table.state, table.facts, table.trusted, table.principal_id)
            .where(here)
            .order_by(table.time)
        ).all()
        if rows:
            self._connection.execute(delete(schema.observed).where(here))
        allowed = [row for row in rows if row.trusted or row.principal_id == principal_id]
        return allowed[-1] if allowed else None
