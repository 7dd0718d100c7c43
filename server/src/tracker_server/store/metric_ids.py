"""MetricIds: which number a metric has in its set; new names get one when they first arrive."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, select

from . import schema
from .engine import Database
from .points import Ints

#: Bound parameters in one statement; every database allows more.
NAMES_PER_QUERY = 500
CACHED_NAMES_MAX = 500_000


class MetricIds:
    """Used by the writer only, under its lock. Remembers the sets written last."""

    def __init__(self, database: Database) -> None:
        self._known: OrderedDict[int, dict[str, int]] = OrderedDict()
        self._size = 0
        # A number given out in a transaction that was undone will be given to another name.
        database.on_rollback(self.forget)

    def forget(self) -> None:
        """Learn every number again from the database."""
        self._known.clear()
        self._size = 0

    def ensure(self, transaction: Connection, points_id: int, names: Sequence[str]) -> tuple[Ints, int]:
        """Return the id of each name and how many of them are new."""
        known = self._known.setdefault(points_id, {})
        self._known.move_to_end(points_id)
        missing = [name for name in names if name not in known]
        added = 0
        if missing:
            before = len(known)
            known.update(self._read(transaction, points_id, missing))
            new = [name for name in missing if name not in known]
            known.update(self._insert(transaction, points_id, new))
            added = len(new)
            self._size += len(known) - before
            while self._size > CACHED_NAMES_MAX and len(self._known) > 1:
                _, dropped = self._known.popitem(last=False)
                self._size -= len(dropped)
        return np.fromiter((known[name] for name in names), np.int64, len(names)), added

    def _read(self, transaction: Connection, points_id: int, names: list[str]) -> dict[str, int]:
        table = schema.metrics.c
        found: dict[str, int] = {}
        for at in range(0, len(names), NAMES_PER_QUERY):
            query = select(table.name, table.id).where(
                table.points_id == points_id, table.name.in_(names[at : at + NAMES_PER_QUERY])
            )
            found.update({row.name: row.id for row in transaction.execute(query)})
        return found

    def _insert(self, transaction: Connection, points_id: int, names: list[str]) -> dict[str, int]:
        if not names:
            return {}
        empty: dict[str, Any] = {
            "points_id": points_id,
            "count": 0,
            "special": 0,
            "min": None,
            "max": None,
            "last": b"",
            "last_step": 0,
            "last_ordinal": 0,
            "last_offset": 0,
        }
        rows = transaction.execute(
            insert(schema.metrics).returning(schema.metrics.c.name, schema.metrics.c.id),
            [{**empty, "name": name} for name in names],
        )
        return {row.name: row.id for row in rows}
