"""StreamRows: the statements commit() makes about streams. They decide nothing and run in its transaction."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgpack
from sqlalchemy import Connection, and_, bindparam, func, insert, select, update
from sqlalchemy.sql import Select

from tracker.protocol.header import Header

from . import schema
from .engine import inserted_id
from .text import clean_text, load_json


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


class StreamRows:
    """Reads and writes streams, and what is told about them besides their points."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, entity_id: int, uid: int, stream: bytes) -> StreamRow | None:
        """Return a stream, locked where the database locks rows."""
        row = self._connection.execute(
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
        entity_id: int,
        uid: int,
        stream: bytes,
        principal_id: int,
        user: str,
        now: int,
    ) -> StreamRow:
        """Make a stream that nothing is known of yet."""
        made = self._connection.execute(
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

    def set_position(self, row: StreamRow) -> None:
        """Write down where a stream is to go on."""
        self._connection.execute(
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

    def set_header(self, row: StreamRow) -> None:
        """Write down who a stream is and what it belongs to."""
        assert row.header is not None
        self._connection.execute(
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

    def set_state(self, stream_id: int, state: str, time: int, **more: Any) -> None:
        """Write down a stream's state and what is known about it."""
        self._connection.execute(
            update(schema.streams)
            .where(schema.streams.c.id == stream_id)
            .values(state=state, state_time=time, **more)
        )

    def observed(self, stream_id: int) -> dict[str, Any] | None:
        """Return the facts of the last OBSERVED about a stream."""
        query = select(schema.streams.c.observed).where(schema.streams.c.id == stream_id)
        text = self._connection.execute(query).scalar_one()
        return None if text is None else load_json(text)

    def update(self, stream_id: int, **values: Any) -> None:
        """Set columns of a stream."""
        streams = schema.streams
        self._connection.execute(update(streams).where(streams.c.id == stream_id).values(values))

    def count_of_host(self, host_id: int) -> int:
        """Return how many streams about a host there are."""
        query = select(func.count()).where(schema.streams.c.host_id == host_id)
        return int(self._connection.execute(query).scalar_one())

    def add_gap(self, stream_id: int, offset: int, size: int, reason: str, now: int) -> None:
        """Record bytes that will never come."""
        self._connection.execute(
            insert(schema.gaps),
            {
                "stream_id": stream_id,
                "offset": offset,
                "bytes": size,
                "reason": clean_text(reason)[:1000],
                "created": now,
            },
        )

    def add_lost(self, stream_id: int, lost: Iterable[tuple[int, int, str, int]]) -> None:
        """Record (offset, records, reason, time) of records a writer dropped."""
        self._connection.execute(
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

    def add_raw(self, stream_id: int, raw: Iterable[tuple[int, int, bytes]]) -> None:
        """Keep (offset, kind, body) of records as they came."""
        self._connection.execute(
            insert(schema.raw_records),
            [
                {"stream_id": stream_id, "offset": offset, "kind": kind, "body": body}
                for offset, kind, body in raw
            ],
        )

    def count_problem(self, stream_id: int, reason: str, count: int, offset: int) -> None:
        """Add to the count of a problem."""
        problems = schema.problems
        where = and_(problems.c.stream_id == stream_id, problems.c.reason == reason)
        changed = self._connection.execute(
            update(problems).where(where).values(count=problems.c.count + count)
        ).rowcount
        if not changed:
            self._connection.execute(
                insert(problems),
                {"stream_id": stream_id, "reason": reason, "count": count, "offset": offset},
            )


def _dump_header(header: Header) -> bytes:
    packed = msgpack.packb(header._asdict(), unicode_errors="surrogatepass")
    assert isinstance(packed, bytes)
    return packed


#: HEADERs kept as they were read: the state of a run of many ranks is settled anew whenever one of them ends.
HEADERS_KEPT = 4096


@lru_cache(HEADERS_KEPT)
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
