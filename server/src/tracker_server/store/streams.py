"""StreamRows: the statements commit() is made of. They decide nothing and run in its transaction."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgpack
from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.sql import Select

from tracker.protocol.header import Header

from . import schema
from .chunk_points import ChunkPointStore
from .console import ConsoleStore
from .engine import AnyRow, inserted_id
from .text import clean_text, dump_json, load_json


@dataclass
class StreamRow:
    """One stream as it stands in the database. header None: none has arrived yet."""

    id: int
    principal_id: int
    run_id: int | None
    host_id: int | None
    ordinal: int
    next: int
    crc: int | None
    last: int | None
    header: Header | None
    segment: int
    base: int
    step_max: int | None
    state: str


@dataclass
class RunRow:
    """What commit() has to know of a run."""

    id: int
    points_id: int
    principal_id: int
    uid: int
    project: str
    run: str


class StreamRows:
    """Reads and writes rows about streams, their runs and their hosts."""

    def __init__(self, points: ChunkPointStore, console: ConsoleStore) -> None:
        self.points = points
        self.console = console

    # --- streams -------------------------------------------------------------------------------------

    def find(self, transaction: Connection, entity_id: int, uid: int, stream: bytes) -> StreamRow | None:
        """Return a stream, locked where the database locks rows."""
        row = transaction.execute(
            _FIND_STREAM, {"entity_id": entity_id, "uid": uid, "stream": stream}
        ).one_or_none()
        if row is None:
            return None
        return StreamRow(
            row.id,
            row.principal_id,
            row.run_id,
            row.host_id,
            row.ordinal,
            row.next,
            row.crc,
            row.last,
            None if row.header is None else _load_header(row.header),
            row.segment,
            row.base,
            row.step_max,
            row.state,
        )

    def insert(
        self,
        transaction: Connection,
        entity_id: int,
        uid: int,
        stream: bytes,
        principal_id: int,
        user: str,
        now: int,
    ) -> StreamRow:
        """Make a stream that nothing is known of yet."""
        made = transaction.execute(
            insert(schema.streams),
            {
                "entity_id": entity_id,
                "uid": uid,
                "stream": stream,
                "principal_id": principal_id,
                "user": clean_text(user),
                "ordinal": 0,
                "next": 0,
                "version": 0,
                "segment": 0,
                "base": 0,
                "state": "live",
                "state_time": now,
            },
        )
        return StreamRow(
            inserted_id(made), principal_id, None, None, 0, 0, None, None, None, 0, 0, None, "live"
        )

    def set_position(self, transaction: Connection, row: StreamRow) -> None:
        """Write down where a stream is to go on."""
        transaction.execute(
            _SET_POSITION,
            {
                "b_id": row.id,
                "b_next": row.next,
                "b_crc": row.crc,
                "b_last": row.last,
                "b_segment": row.segment,
                "b_base": row.base,
                "b_step_max": row.step_max,
            },
        )

    def set_header(self, transaction: Connection, row: StreamRow) -> None:
        """Write down who a stream is and what it belongs to."""
        assert row.header is not None
        transaction.execute(
            update(schema.streams)
            .where(schema.streams.c.id == row.id)
            .values(
                header=_dump_header(row.header),
                version=row.header.version,
                run_id=row.run_id,
                host_id=row.host_id,
                ordinal=row.ordinal,
            )
        )

    def set_state(self, transaction: Connection, stream_id: int, state: str, time: int, **more: Any) -> None:
        """Write down a stream's state and what is known about it."""
        transaction.execute(
            update(schema.streams)
            .where(schema.streams.c.id == stream_id)
            .values(state=state, state_time=time, **more)
        )

    def update_stream(self, transaction: Connection, stream_id: int, **values: Any) -> None:
        """Set columns of a stream."""
        transaction.execute(update(schema.streams).where(schema.streams.c.id == stream_id).values(values))

    def count_host_streams(self, transaction: Connection, host_id: int) -> int:
        """Return how many streams about a host there are."""
        query = select(func.count()).where(schema.streams.c.host_id == host_id)
        return int(transaction.execute(query).scalar_one())

    def add_gap(
        self, transaction: Connection, stream_id: int, offset: int, size: int, reason: str, now: int
    ) -> None:
        """Record bytes that will never come."""
        transaction.execute(
            insert(schema.gaps),
            {
                "stream_id": stream_id,
                "offset": offset,
                "bytes": size,
                "reason": clean_text(reason)[:1000],
                "created": now,
            },
        )

    def add_lost(
        self, transaction: Connection, stream_id: int, lost: Iterable[tuple[int, int, str, int]]
    ) -> None:
        """Record (offset, records, reason, time) of records a writer dropped."""
        transaction.execute(
            insert(schema.lost),
            [
                {
                    "stream_id": stream_id,
                    "offset": offset,
                    "records": records,
                    "reason": clean_text(reason)[:1000],
                    "time": time,
                }
                for offset, records, reason, time in lost
            ],
        )

    def add_raw(self, transaction: Connection, stream_id: int, raw: Iterable[tuple[int, int, bytes]]) -> None:
        """Keep (offset, kind, body) of records as they came."""
        transaction.execute(
            insert(schema.raw_records),
            [
                {"stream_id": stream_id, "offset": offset, "kind": kind, "body": body}
                for offset, kind, body in raw
            ],
        )

    def count_problem(
        self, transaction: Connection, stream_id: int, reason: str, count: int, offset: int
    ) -> None:
        """Add to the count of a problem."""
        problems = schema.problems
        where = and_(problems.c.stream_id == stream_id, problems.c.reason == reason)
        changed = transaction.execute(
            update(problems).where(where).values(count=problems.c.count + count)
        ).rowcount
        if not changed:
            transaction.execute(
                insert(problems),
                {"stream_id": stream_id, "reason": reason, "count": count, "offset": offset},
            )

    # --- what agents saw -----------------------------------------------------------------------------

    def remember_observed(
        self,
        transaction: Connection,
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
        transaction.execute(
            delete(schema.observed).where(
                table.entity_id == entity_id,
                table.principal_id == principal_id,
                table.uid == uid,
                table.stream == stream,
            )
        )
        transaction.execute(
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

    def take_observed(
        self, transaction: Connection, entity_id: int, principal_id: int, uid: int, stream: bytes
    ) -> AnyRow | None:
        """Return the last thing seen of a stream by someone who may say so, and forget all of them."""
        table = schema.observed.c
        here = and_(table.entity_id == entity_id, table.uid == uid, table.stream == stream)
        rows = transaction.execute(
            select(table.time, table.state, table.facts, table.trusted, table.principal_id)
            .where(here)
            .order_by(table.time)
        ).all()
        if rows:
            transaction.execute(delete(schema.observed).where(here))
        allowed = [row for row in rows if row.trusted or row.principal_id == principal_id]
        return allowed[-1] if allowed else None

    # --- projects and runs ---------------------------------------------------------------------------

    def ensure_project(self, transaction: Connection, entity_id: int, name: str, now: int) -> int:
        """Return the id of a project, making it when it is new."""
        table = schema.projects.c
        query = select(table.id).where(table.entity_id == entity_id, table.name == name)
        found = transaction.execute(query).scalar_one_or_none()
        if found is not None:
            return int(found)
        values = {"entity_id": entity_id, "name": name, "created": now}
        return inserted_id(transaction.execute(insert(schema.projects), values))

    def find_run(self, transaction: Connection, project_id: int, run: str) -> RunRow | None:
        """Return a run by its name in a project."""
        query = _FIND_RUN.where(schema.runs.c.project_id == project_id, schema.runs.c.run == run)
        row = transaction.execute(query).one_or_none()
        return None if row is None else RunRow(*row)

    def get_run(self, transaction: Connection, run_id: int) -> RunRow:
        """Return a run that exists."""
        return RunRow(*transaction.execute(_FIND_RUN.where(schema.runs.c.id == run_id)).one())

    def insert_run(
        self,
        transaction: Connection,
        project_id: int,
        header: Header,
        principal_id: int,
        uid: int,
        user: str,
        now: int,
    ) -> int:
        """Make a run whose first writer has this HEADER."""
        assert header.run is not None
        made = transaction.execute(
            insert(schema.runs),
            {
                "project_id": project_id,
                "run": header.run,
                "principal_id": principal_id,
                "uid": uid,
                "user": clean_text(user),
                "machine": machineinserted_id(header.machine),
                "host": clean_text(header.host),
                "points_id": self.points.create(transaction),
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

    def next_ordinal(self, transaction: Connection, run_id: int) -> int:
        """Give a run's next stream its number."""
        runs = schema.runs.c
        counted = transaction.execute(
            update(schema.runs)
            .where(runs.id == run_id)
            .values(streams=runs.streams + 1)
            .returning(runs.streams)
        )
        return int(counted.scalar_one()) - 1

    def is_granted(self, transaction: Connection, run_id: int, principal_id: int, uid: int) -> bool:
        """Return whether someone who does not own a run may write into it."""
        table = schema.run_grants.c
        query = select(table.id).where(
            table.run_id == run_id,
            table.principal_id == principal_id,
            or_(table.uid.is_(None), table.uid == uid),
        )
        return transaction.execute(query.limit(1)).first() is not None

    def read_documents(self, transaction: Connection, run_id: int) -> dict[str, Any]:
        """Return fields, config, summary and hidden of a run as JSON values."""
        runs = schema.runs.c
        names = ("fields", "config", "summary", "hidden")
        query = select(*(runs[name] for name in names)).where(runs.id == run_id)
        row = transaction.execute(query).one()
        return {name: load_json(text) for name, text in zip(names, row, strict=True)}

    def update_run(self, transaction: Connection, run_id: int, values: dict[str, Any]) -> None:
        """Set columns of a run; lists and maps go in as JSON."""
        stored = {
            name: dump_json(value) if isinstance(value, dict | list) else value
            for name, value in values.items()
        }
        transaction.execute(update(schema.runs).where(schema.runs.c.id == run_id).values(stored))

    def stream_states(self, transaction: Connection, run_id: int) -> list[tuple[str, int | None, int]]:
        """Return (state, exit code, time of the state) of a run's streams, by ordinal."""
        streams = schema.streams.c
        query = select(streams.state, streams.exit_code, streams.state_time).where(streams.run_id == run_id)
        return [(row[0], row[1], row[2]) for row in transaction.execute(query.order_by(streams.ordinal))]

    def run_news(self, transaction: Connection, run_id: int) -> AnyRow:
        """Return (project, run, cursor, state, updated) of a run."""
        return transaction.execute(_RUN_NEWS, {"run_id": run_id}).one()

    # --- hosts ---------------------------------------------------------------------------------------

    def touch_host(
        self, transaction: Connection, entity_id: int, machine: str, host: str, agent: str | None, now: int
    ) -> AnyRow:
        """Return (id, points_id, principal_id, machine) of a host, making it when it is new."""
        table = schema.hosts.c
        machine = machineinserted_id(machine)
        query = select(table.id, table.points_id, table.principal_id, table.machine).where(
            table.entity_id == entity_id, table.machine == machine
        )
        row = transaction.execute(query).one_or_none()
        if row is None:
            values = {
                "entity_id": entity_id,
                "machine": machine,
                "host": clean_text(host),
                "agent": clean_text(agent or ""),
                "points_id": self.points.create(transaction),
                "inventory": "{}",
                "seen": now,
            }
            transaction.execute(insert(schema.hosts), values)
            row = transaction.execute(query).one()
        return row

    def update_host(self, transaction: Connection, host_id: int, **values: Any) -> None:
        """Set columns of a host."""
        transaction.execute(update(schema.hosts).where(schema.hosts.c.id == host_id).values(values))


def machineinserted_id(machine: str) -> str:
    """Return a machine id as it is stored."""
    return clean_text(machine)[:128]


def _dump_header(header: Header) -> bytes:
    packed = msgpack.packb(header._asdict(), unicode_errors="surrogatepass")
    assert isinstance(packed, bytes)
    return packed


def _load_header(data: bytes) -> Header:
    return Header(**msgpack.unpackb(data, unicode_errors="surrogatepass"))


def read_header_row(data: bytes | None) -> Header | None:
    """Return a stream's stored identity."""
    return None if data is None else _load_header(data)


def _find_stream() -> Select[Any]:
    table = schema.streams.c
    return (
        select(
            table.id,
            table.principal_id,
            table.run_id,
            table.host_id,
            table.ordinal,
            table.next,
            table.crc,
            table.last,
            table.header,
            table.segment,
            table.base,
            table.step_max,
            table.state,
        )
        .where(
            table.entity_id == bindparam("entity_id"),
            table.uid == bindparam("uid"),
            table.stream == bindparam("stream"),
        )
        .with_for_update()
    )


_FIND_STREAM = _find_stream()
_SET_POSITION = (
    update(schema.streams)
    .where(schema.streams.c.id == bindparam("b_id"))
    .values(
        next=bindparam("b_next"),
        crc=bindparam("b_crc"),
        last=bindparam("b_last"),
        segment=bindparam("b_segment"),
        base=bindparam("b_base"),
        step_max=bindparam("b_step_max"),
    )
)
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
