"""ProjectStore: the numbers of projects, for what is kept by project but belongs to no run (blobs)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from .accounts import Database
from .schema import projects


class ProjectStore:
    """Finds projects by name within one entity. May be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def try_id(self, entity_id: int, name: str) -> int | None:
        """Return a project's number, or None when the entity has no such project."""
        with self._database.read() as connection:
            return _number(connection.scalar(_find(entity_id, name)))

    def ensure(self, entity_id: int, name: str, now: int) -> int:
        """Return a project's number; make the project when a file arrives before its first run does."""
        with self._database.write() as connection:
            found = _number(connection.scalar(_find(entity_id, name)))
            if found is None:
                made = connection.execute(
                    projects.insert().values(entity_id=entity_id, name=name, created=now)
                )
                key = made.inserted_primary_key
                assert key is not None
                found = int(key[0])
            return found


def _find(entity_id: int, name: str) -> Any:
    return select(projects.c.id).where(projects.c.entity_id == entity_id, projects.c.name == name)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
