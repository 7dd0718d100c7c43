"""RunRows: the statements commit() makes about runs and their projects, within its transaction."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from tracker.protocol.header import Header

from . import schema
from .chunk_points import ChunkPointStore
from .endings import Ending, read_endings
from .engine import AnyRow, inserted_id
from .host_rows import stored_machine
from .text import clean_text, dump_json, load_json


@dataclass
class RunRow:
    """What commit() has to know of a run."""

    id: int
    points_id: int
    principal_id: int
    uid: int
    project: str
    run: str


class RunRows:
    """Reads and writes runs, and makes the projects they are in."""

    def __init__(self, connection: Connection, points: ChunkPointStore) -> None:
        self._connection = connection
        self._points = points
        self._known: dict[int, RunRow] = {}

    def forget(self) -> None:
        """Forget what was read: some of it was undone, and its numbers may be given again."""
        self._known.clear()

    def ensure_project(self, entity_id: int, name: str, now: int) -> int:
        """Return the id of a project, making it when it is new."""
        table = schema.projects.c
        query = select(table.id).where(table.entity_id == entity_id, table.name == name)
        found = self._connection.execute(query).scalar_one_or_none()
        if found is not None:
            return int(found)
        values = {"entity_id": entity_id, "name": name, "created": now}
        return inserted_id(self._connection.execute(insert(schema.projects), values))

    def find(self, project_id: int, run: str) -> RunRow | None:
        """Return a run by its name in a project."""
        query = _FIND_RUN.where(schema.runs.c.project_id == project_id, schema.runs.c.run == run)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else RunRow(*row)

    def get(self, run_id: int) -> RunRow:
        """Return a run that exists. Asked for with each stream of it, and nothing of this changes."""
        run = self._known.get(run_id)
        if run is None:
            row = self._connection.execute(_FIND_RUN.where(schema.runs.c.id == run_id)).one()
            run = self._known[run_id] = RunRow(*row)
        return run

    def insert(
        self,
        project_id: int,
        header: Header,
        principal_id: int,
        uid: int,
        user: str,
        now: int,
    ) -> int:
        """Make a run whose first writer has this HEADER."""
        assert header.run is not None
        made = self._connection.execute(
            insert(schema.runs),
            {
                "project_id": project_id,
                "run": header.run,
                "principal_id": principal_id,
                "uid": uid,
                "user": clean_text(user),
                "machine": stored_machine(header.machine),
                "host": clean_text(header.host),
                "points_id": self._points.create(self._connection),
                "name": header.run,
                "notes": "",
                "tags": "[]",
                "group": "",
                "job_type": "",
                "fields": "{}",
                "config": "{}",
                "summary": "{}",
                "hidden": "[]",
                "state": "running",
                "created": header.started,
                "updated": now,
                "streams": 0,
                "console_lines": 0,
            },
        )
        return inserted_id(made)

    def next_ordinal(self, run_id: int) -> int:
        """Give a run's next stream its number."""
        runs = schema.runs.c
        counted = self._connection.execute(
            update(schema.runs)
            .where(runs.id == run_id)
            .values(streams=runs.streams + 1)
            .returning(runs.streams)
        )
        return int(counted.scalar_one()) - 1

    def is_granted(self, run_id: int, principal_id: int, uid: int) -> bool:
        """Return whether someone who does not own a run may write into it."""
        table = schema.run_grants.c
        query = select(table.id).where(
            table.run_id == run_id,
            table.principal_id == principal_id,
            or_(table.uid.is_(None), table.uid == uid),
        )
        return self._connection.execute(query.limit(1)).first() is not None

    def read_documents(self, run_id: int) -> dict[str, Any]:
        """Return fields, config, summary and hidden of a run as JSON values."""
        runs = schema.runs.c
        names = ("fields", "config", "summary", "hidden")
        query = select(*(runs[name] for name in names)).where(runs.id == run_id)
        row = self._connection.execute(query).one()
        return {name: load_json(text) for name, text in zip(names, row, strict=True)}

    def update(self, run_id: int, values: dict[str, Any]) -> None:
        """Set columns of a run; lists and maps go in as JSON."""
        stored = {
            name: dump_json(value) if isinstance(value, dict | list) else value
            for name, value in values.items()
        }
        self._connection.execute(update(schema.runs).where(schema.runs.c.id == run_id).values(stored))

    def endings(self, run_id: int) -> list[Ending]:
        """Return what is known of the ends of a run's writers, by ordinal."""
        return read_endings(self._connection, run_id)

    def news(self, run_id: int) -> AnyRow:
        """Return (project, run, cursor, state, updated) of a run."""
        return self._connection.execute(_RUN_NEWS, {"run_id": run_id}).one()


_FIND_RUN = select(
    schema.runs.c.id,
    schema.runs.c.points_id,
    schema.runs.c.principal_id,
    schema.runs.c.uid,
    schema.projects.c.name,
    schema.runs.c.run,
).join(schema.projects, schema.projects.c.id == schema.runs.c.project_id)
_RUN_NEWS = (
    select(
        schema.projects.c.name.label("project"),
        schema.runs.c.run,
        schema.point_sets.c.records.label("cursor"),
        schema.runs.c.state,
        schema.runs.c.updated,
    )
    .join(schema.projects, schema.projects.c.id == schema.runs.c.project_id)
    .join(schema.point_sets, schema.point_sets.c.id == schema.runs.c.points_id)
    .where(schema.runs.c.id == bindparam("run_id"))
)
