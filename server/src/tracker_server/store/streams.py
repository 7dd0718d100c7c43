"""The streams of a run as they are shown: who wrote them, how they ended, what is missing from them."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from . import schema
from .engine import AnyRow
from .host_rows import stored_machine
from .stream_rows import read_header_row
from .text import clean_text, load_json


@dataclass(frozen=True)
class Gap:
    """Bytes of a stream that never came."""

    offset: int
    bytes: int
    reason: str


@dataclass(frozen=True)
class Lost:
    """Records the writer had to drop."""

    records: int
    reason: str
    time: int


@dataclass(frozen=True)
class Problem:
    """What was wrong with records that were kept all the same."""

    reason: str
    count: int
    offset: int  #: of the first record it was seen at


@dataclass(frozen=True)
class Stream:
    """One writer of a run. ordinal is the index that points and console lines carry."""

    stream: str  #: hex
    ordinal: int
    uid: int
    user: str
    host: str
    pid: int | None
    rank: int | None
    parent: str | None  #: hex: the stream of who started it
    role: str | None  #: helper, again, supervisor or aside, where it is one
    writer: str
    state: str  #: live, gone or ended
    exit_code: int | None
    exception: dict[str, str] | None
    observed: dict[str, Any] | None
    ending: dict[str, Any] | None  #: facts of its EXIT
    machine: str
    stop: bool  #: it looks for requests to stop
    gpus: dict[str, str] | None  #: what its environment said about GPUs, by variable
    next: int
    gaps: list[Gap]
    lost: list[Lost]
    problems: list[Problem]


def read_streams(connection: Connection, run_id: int) -> list[Stream]:
    """Return the streams of a run, by ordinal."""
    streams = schema.streams
    of_run = streams.c.run_id == run_id
    gaps, lost, problems = (
        _by_stream(connection, table, of_run) for table in (schema.gaps, schema.lost, schema.problems)
    )
    # A row's own `count` is a tuple's method.
    problem_count = list(schema.problems.c.keys()).index("count")
    found = []
    for row in connection.execute(select(streams).where(of_run).order_by(streams.c.ordinal)):
        header = read_header_row(row.header)
        found.append(
            Stream(
                stream=row.stream.hex(),
                ordinal=row.ordinal,
                uid=row.uid,
                user=row.user,
                host="" if header is None else clean_text(header.host),
                pid=None if header is None else header.pid,
                rank=None if header is None else header.rank,
                parent=None if header is None or header.parent is None else header.parent.hex(),
                role=None if header is None or header.role is None else clean_text(header.role),
                writer="" if header is None else clean_text(header.writer),
                state=row.state,
                exit_code=row.exit_code,
                exception=None if row.exception is None else load_json(row.exception),
                observed=None if row.observed is None else load_json(row.observed),
                ending=None if row.ending is None else load_json(row.ending),
                machine="" if header is None else stored_machine(header.machine),
                stop=header is not None and bool(header.stop),
                gpus=None if header is None else header.gpus,
                next=row.next,
                gaps=[Gap(each.offset, each.bytes, each.reason) for each in gaps[row.id]],
                lost=[Lost(each.records, each.reason, each.time) for each in lost[row.id]],
                problems=[
                    Problem(each.reason, each[problem_count], each.offset) for each in problems[row.id]
                ],
            )
        )
    return found


def _by_stream(connection: Connection, table: Any, of_run: ColumnElement[bool]) -> dict[int, list[AnyRow]]:
    rows: dict[int, list[AnyRow]] = defaultdict(list)
    query = select(table).join(schema.streams, schema.streams.c.id == table.c.stream_id).where(of_run)
    for row in connection.execute(query.order_by(table.c.id)):
        rows[row.stream_id].append(row)
    return rows
