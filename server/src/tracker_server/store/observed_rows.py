"""ObservedRows: what agents saw of streams that have not arrived yet, kept until they do."""

from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select

from . import schema
from .engine import AnyRow
from .text import dump_json


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
    ) -> None:
        """Keep what was seen of a stream that has not arrived."""
        table = schema.observed.c
        self._connection.execute(
            delete(schema.observed).where(
                table.entity_id == entity_id,
                table.principal_id == principal_id,
                table.uid == uid,
                table.stream == stream,
            )
        )
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
