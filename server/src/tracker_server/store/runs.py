"""RunStore: questions about runs, projects and their streams. Reads only; ingest writes."""

import base64
import builtins
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select

from tracker.protocol import bodies, kinds
from tracker.protocol.errors import BodyError

from . import schema
from .chunk_points import LAST
from .definitions import Definitions, Extremes
from .endings import Ending, read_endings
from .engine import AnyRow, Database
from .errors import NotFound
from .points import PointStore
from .streams import Stream, read_streams
from .text import clean_text, json_value, load_json

#: How much of its summary a run shows in a list; of runs with very many metrics, nothing.
LIST_VALUES = 8
LIST_METRICS_MAX = 200
#: All points of so many metrics are read for one summary; "mean" and "first" of others are left out.
READ_METRICS_MAX = 100


@dataclass(frozen=True)
class Run:
    """One run. Times are ns. id and points_id are the store's own numbers, never shown."""

    id: int
    points_id: int
    entity: str
    project: str
    run: str
    name: str
    notes: str
    tags: list[str]
    group: str
    job_type: str
    state: str  #: running, finished, failed or crashed
    exit_code: int | None
    created: int
    updated: int
    finished: int | None
    cause: str | None  #: why it ended, where that is more than code 0
    user: str
    host: str
    machine: str
    agent_seen: int | None  #: when the agent of its host last spoke
    steps: int | None  #: greatest step so far
    points: int
    metrics: int
    cursor: int  #: METRICS records so far
    console_lines: int
    principal: str  #: name of the owner
    principal_id: int
    uid: int
    #: In lists: the first few values of the summary, for columns. None elsewhere.
    summary: dict[str, Any] | None = None


@dataclass(frozen=True)
class RunPage:
    """Runs in the order asked for. cursor is None on the last page; total ignores paging."""

    runs: list[Run]
    cursor: str | None
    total: int


@dataclass(frozen=True)
class Project:
    """A project and how many runs it has."""

    entity: str
    project: str
    runs: int
    updated: int


@dataclass(frozen=True)
class RunDetail:
    """config and summary as JSON values; summary numbers may be NaN or infinite floats."""

    run: Run
    config: dict[str, Any]
    summary: dict[str, Any]
    fields: dict[str, Any]
    streams: list[Stream]


@dataclass(frozen=True)
class Value:
    """A VALUE record as it was logged."""

    time: int
    step: int | None
    name: str
    type: str
    data: Any
    ordinal: int
    offset: int


class RunStore:
    """Every question is asked within one entity: a run elsewhere is NotFound, as if there were none."""

    def __init__(self, database: Database, points: PointStore) -> None:
        self._database = database
        self._points = points

    def list(
        self,
        entity_id: int,
        *,
        project: str | None = None,
        state: str | None = None,
        q: str | None = None,
        sort: str = "-created",
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return a page of runs. sort: created, updated, name or state, "-" before it for descending.

        q is looked for in name, run id, notes and tags, ignoring case. Raise ValueError on a cursor
        that is not of this sort.
        """
        descending, column = sort.startswith("-"), sort.removeprefix("-")
        if column not in _SORTS:
            raise ValueError("sort is one of %s" % ", ".join(_SORTS))
        runs = schema.runs.c
        key: ColumnElement[Any] = _SORTS[column]
        where: list[ColumnElement[bool]] = [schema.projects.c.entity_id == entity_id]
        if project is not None:
            where.append(schema.projects.c.name == project)
        if state is not None:
            where.append(runs.state == state)
        if q:
            where.append(
                or_(
                    *(
                        text.icontains(clean_text(q), autoescape=True)
                        for text in (runs.name, runs.run, runs.notes, runs.tags)
                    )
                )
            )
        query = _RUNS.where(*where)
        if cursor is not None:
            value, last_id = _read_cursor(cursor, sort)
            beyond = key < value if descending else key > value
            beyond_tie = runs.id < last_id if descending else runs.id > last_id
            query = query.where(or_(beyond, and_(key == value, beyond_tie)))
        order = (key.desc(), runs.id.desc()) if descending else (key.asc(), runs.id.asc())
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(*order).limit(limit + 1)).all()
            total = connection.execute(
                select(func.count()).select_from(schema.runs).join(schema.projects).where(*where)
            ).scalar_one()
            following = None
            if len(rows) > limit:
                rows = rows[:limit]
                following = _write_cursor(sort, getattr(rows[-1], column), rows[-1].id)
            values = _first_values(connection, rows)
        found = [replace(_run(row), summary=values[row.points_id]) for row in rows]
        return RunPage(found, following, int(total))

    def projects(self, entity_id: int) -> builtins.list[Project]:
        """Return the projects of an entity, by name."""
        projects, runs = schema.projects.c, schema.runs.c
        query = (
            select(
                schema.entities.c.name.label("entity"),
                projects.name,
                func.count(runs.id).label("runs"),
                func.coalesce(func.max(runs.updated), projects.created).label("updated"),
            )
            .select_from(schema.projects.join(schema.entities).outerjoin(schema.runs))
            .where(projects.entity_id == entity_id)
            .group_by(schema.entities.c.name, projects.id, projects.name, projects.created)
        )
        with self._database.read() as connection:
            found = [
                Project(row.entity, row.name, row.runs, row.updated) for row in connection.execute(query)
            ]
        return sorted(found, key=lambda each: each.project)

    def find(self, entity_id: int, run: str, project: str | None = None) -> Run:
        """Return the newest run of that id, in a project or in any. Raise NotFound."""
        query = _RUNS.where(schema.projects.c.entity_id == entity_id, schema.runs.c.run == run)
        if project is not None:
            query = query.where(schema.projects.c.name == project)
        query = query.order_by(schema.runs.c.created.desc(), schema.runs.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("there is no run %s" % run)
        return _run(row)

    def get(self, entity_id: int, project: str, run: str) -> Run:
        """Return a run. Raise NotFound."""
        return self.find(entity_id, run, project)

    def detail(self, run: Run) -> RunDetail:
        """Return what a run was told and what became of its streams."""
        runs, metrics = schema.runs.c, schema.metrics.c
        with self._database.read() as connection:
            fresh = connection.execute(_RUNS.where(runs.id == run.id)).one_or_none()
            if fresh is None:
                raise NotFound("there is no run %s any more" % run.run)
            documents = connection.execute(
                select(runs.config, runs.summary, runs.hidden, runs.fields).where(runs.id == run.id)
            ).one()
            rows = connection.execute(
                select(metrics.name, metrics.last, metrics.min, metrics.max).where(
                    metrics.points_id == run.points_id
                )
            ).all()
            streams = read_streams(connection, run.id)
        removed = set(load_json(documents.hidden))
        by_hand = load_json(documents.summary)
        fields = load_json(documents.fields)
        extremes = [
            (row.name, Extremes(LAST.unpack(row.last)[0], row.min, row.max))
            for row in sorted(rows, key=lambda row: row.name)
            if row.name not in removed and row.name not in by_hand
        ]
        points = _AllPoints(self._points, run.points_id)
        summary = Definitions(fields.get("metrics")).summary(extremes, points.mean, points.first)
        summary.update(by_hand)
        return RunDetail(_run(fresh), load_json(documents.config), summary, fields, streams)

    def streams(self, run: Run) -> builtins.list[Stream]:
        """Return the streams of a run, by ordinal."""
        with self._database.read() as connection:
            return read_streams(connection, run.id)

    def endings(self, run: Run) -> builtins.list[Ending]:
        """Return how each writer of a run ended, by ordinal."""
        with self._database.read() as connection:
            return read_endings(connection, run.id)

    def is_granted(self, run: Run, principal_id: int) -> bool:
        """Return whether a principal may write into a run under any uid though it is not its own."""
        grants = schema.run_grants.c
        query = select(grants.id).where(
            grants.run_id == run.id, grants.principal_id == principal_id, grants.uid.is_(None)
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def stream_ids(self, run: Run) -> builtins.list[str]:
        """Return the ids of a run's streams in hex, by ordinal."""
        streams = schema.streams.c
        query = select(streams.stream).where(streams.run_id == run.id).order_by(streams.ordinal)
        with self._database.read() as connection:
            return [stream.hex() for stream in connection.execute(query).scalars()]

    def values(
        self, run: Run, *, name: str | None = None, type_: str | None = None, limit: int = 1000
    ) -> builtins.list[Value]:
        """Return the newest `limit` VALUE records, of one name or type if these are given, oldest first."""
        raw, streams = schema.raw_records.c, schema.streams.c
        query = (
            select(raw.body, raw.offset, streams.ordinal)
            .join(schema.streams, streams.id == raw.stream_id)
            .where(streams.run_id == run.id, raw.kind == kinds.VALUE)
            .order_by(raw.id.desc())
        )
        found: list[Value] = []
        with self._database.read() as connection:
            for row in connection.execute(query):
                try:
                    value = bodies.decode_value(row.body)
                    data = json_value(value.data)
                except (BodyError, ValueError):
                    continue  # kept raw and counted as a problem when it arrived
                wanted = name is None or clean_text(value.name) == name
                if wanted and (type_ is None or clean_text(value.type) == type_):
                    found.append(
                        Value(
                            value.time,
                            value.step,
                            clean_text(value.name),
                            clean_text(value.type),
                            data,
                            row.ordinal,
                            row.offset,
                        )
                    )
                    if len(found) == limit:
                        break
        return found[::-1]

    def grant(self, run: Run, principal_id: int, uid: int | None, granted_by: int, now: int) -> None:
        """Let another principal write into a run, under one uid or under any. May be called twice."""
        grants = schema.run_grants.c
        same_uid = grants.uid.is_(None) if uid is None else grants.uid == uid
        with self._database.write() as transaction:
            query = select(grants.id).where(
                grants.run_id == run.id, grants.principal_id == principal_id, same_uid
            )
            if transaction.execute(query).first() is None:
                transaction.execute(
                    insert(schema.run_grants).values(
                        run_id=run.id, principal_id=principal_id, uid=uid, granted_by=granted_by, created=now
                    )
                )


def _run(row: AnyRow) -> Run:
    return Run(
        id=row.id,
        points_id=row.points_id,
        entity=row.entity,
        project=row.project,
        run=row.run,
        name=row.name,
        notes=row.notes,
        tags=load_json(row.tags),
        group=row.group,
        job_type=row.job_type,
        state=row.state,
        exit_code=row.exit_code,
        created=row.created,
        updated=row.updated,
        finished=row.finished,
        cause=row.cause,
        user=row.user,
        host=row.host,
        machine=row.machine,
        agent_seen=row.agent_seen,
        steps=row.steps,
        points=row.points,
        metrics=row.metrics,
        cursor=row.cursor,
        console_lines=row.console_lines,
        principal=row.principal,
        principal_id=row.principal_id,
        uid=row.uid,
    )


def _first_values(connection: Connection, rows: Sequence[AnyRow]) -> dict[int, dict[str, Any]]:
    """Return the first values of each run's summary by points id: what was set by hand, then metrics."""
    found: dict[int, dict[str, Any]] = {}
    removed = {row.points_id: set(load_json(row.hidden)) for row in rows}
    definitions = {row.points_id: Definitions(load_json(row.fields).get("metrics")) for row in rows}
    for row in rows:
        by_hand = load_json(row.summary)
        scalars = [(name, v) for name, v in by_hand.items() if isinstance(v, (bool, int, float, str))]
        found[row.points_id] = dict(scalars[:LIST_VALUES])
    metrics = schema.metrics.c
    few = [row.points_id for row in rows if 0 < row.metrics <= LIST_METRICS_MAX]
    query = select(metrics.points_id, metrics.name, metrics.last).where(metrics.points_id.in_(few))
    for points_id, name, last in connection.execute(query.order_by(metrics.id)) if few else ():
        values = found[points_id]
        left_out = name in removed[points_id] or definitions[points_id].is_left_out(name)
        if len(values) < LIST_VALUES and not left_out:
            values.setdefault(name, LAST.unpack(last)[0])
    return found


class _AllPoints:
    """Looks through all points of a metric, for the few definitions that ask for that."""

    def __init__(self, points: PointStore, points_id: int) -> None:
        self._points = points
        self._points_id = points_id
        self._left = READ_METRICS_MAX

    def mean(self, name: str) -> float | None:
        """Return the mean of the finite values."""
        if not self._may_read():
            return None
        _, found = self._points.series(self._points_id, [name], buckets=1)
        mean = float(found[name].mean[0]) if name in found and len(found[name].mean) else math.nan
        return None if math.isnan(mean) else mean

    def first(self, name: str) -> float | None:
        """Return the value that came first."""
        if not self._may_read():
            return None
        found = self._points.points(self._points_id, [name], limit=1).points.get(name)
        return float(found.value[0]) if found is not None and len(found.value) else None

    def _may_read(self) -> bool:
        self._left -= 1
        return self._left >= 0


def _write_cursor(sort: str, value: Any, run_id: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, value, run_id]).encode()).decode()


def _read_cursor(cursor: str, sort: str) -> tuple[Any, int]:
    try:
        written, value, run_id = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, TypeError) as error:
        raise ValueError("not a cursor of this server") from error
    right = int if sort.removeprefix("-") in ("created", "updated") else str
    if written != sort or type(value) is not right or type(run_id) is not int:
        raise ValueError("not a cursor of this sort")
    if any(type(number) is int and not -(2**63) <= number < 2**63 for number in (value, run_id)):
        raise ValueError("not a cursor of this server")
    return value, run_id


_SORTS: dict[str, ColumnElement[Any]] = {
    name: schema.runs.c[name] for name in ("created", "updated", "name", "state")
}
_RUNS = (
    select(
        schema.runs,
        schema.projects.c.name.label("project"),
        schema.entities.c.name.label("entity"),
        schema.principals.c.name.label("principal"),
        schema.hosts.c.seen.label("agent_seen"),
        schema.point_sets.c.step_max.label("steps"),
        schema.point_sets.c.points,
        schema.point_sets.c.metrics,
        schema.point_sets.c.records.label("cursor"),
    )
    .join(schema.projects, schema.projects.c.id == schema.runs.c.project_id)
    .join(schema.entities, schema.entities.c.id == schema.projects.c.entity_id)
    .join(schema.principals, schema.principals.c.id == schema.runs.c.principal_id)
    .join(schema.point_sets, schema.point_sets.c.id == schema.runs.c.points_id)
    .outerjoin(
        schema.hosts,
        and_(
            schema.hosts.c.entity_id == schema.projects.c.entity_id,
            schema.hosts.c.machine == schema.runs.c.machine,
        ),
    )
)
