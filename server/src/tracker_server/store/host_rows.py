"""HostRows: the statements commit() makes about the machines agents run on, within its transaction."""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from . import schema
from .chunk_points import ChunkPointStore
from .engine import AnyRow
from .text import clean_text


class HostRows:
    """Reads and writes hosts."""

    def __init__(self, connection: Connection, points: ChunkPointStore) -> None:
        self._connection = connection
        self._points = points

    def touch(self, entity_id: int, machine: str, host: str, agent: str | None, now: int) -> AnyRow:
        """Return (id, points_id, principal_id, machine) of a host, making it when it is new."""
        table = schema.hosts.c
        machine = stored_machine(machine)
        query = select(table.id, table.points_id, table.principal_id, table.machine).where(
            table.entity_id == entity_id, table.machine == machine
        )
        row = self._connection.execute(query).one_or_none()
        if row is None:
            values = {
                "entity_id": entity_id,
                "machine": machine,
                "host": clean_text(host),
                "agent": clean_text(agent or ""),
                "points_id": self._points.create(self._connection),
                "inventory": "{}",
                "seen": now,
            }
            self._connection.execute(insert(schema.hosts), values)
            row = self._connection.execute(query).one()
        return row

    def update(self, host_id: int, **values: Any) -> None:
        """Set columns of a host."""
        self._connection.execute(update(schema.hosts).where(schema.hosts.c.id == host_id).values(values))


def stored_machine(machine: str) -> str:
    """Return a machine id as it is stored."""
    return clean_text(machine)[:128]
