"""Samples of single writers of runs: what the agent of a host measured of their processes.

Each (principal, uid, stream) has a set of points of its own. It may be there before the stream is, because
the agent's stream and the run's are shipped independently: who may speak of a stream is decided when it is
read, too.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, and_, exists, func, insert, or_, select, update

from ..principal import Principal
from . import schema
from .chunk_points import ChunkPointStore
from .engine import Database
from .points import MetricSummary, Series
from .windows import window_metrics, window_series

#: Streams that have not arrived and that one principal's samples are kept of.
UNKNOWN_MAX = 10_000
#: The writer a metric of a run is about is part of its name: system.<ordinal>.<metric>.
PREFIX = "system."
_NAME = re.compile(r"system\.(0|[1-9][0-9]{0,17})\.(.+)", re.DOTALL)


class WriterSampleRows:
    """Finds and makes sets of points, within the transaction of one commit()."""

    def __init__(self, connection: Connection, points: ChunkPointStore) -> None:
        self._connection = connection
        self._points = points
        self._unknown: int | None = None

    def ensure(self, principal: Principal, uid: int, stream: bytes, *, arrived: bool) -> int | None:
        """Return the set for a principal's samples of a stream, making it when it is new.

        None where the stream has not arrived and there are UNKNOWN_MAX such sets already.
        """
        table = schema.writer_samples.c
        query = select(table.id, table.points_id, table.trusted).where(
            table.entity_id == principal.entity_id,
            table.uid == uid,
            table.stream == stream,
            table.principal_id == principal.id,
        )
        row = self._connection.execute(query).one_or_none()
        if row is not None:
            if bool(row.trusted) != principal.trusted:
                change = update(schema.writer_samples).where(table.id == row.id)
                self._connection.execute(change.values(trusted=int(principal.trusted)))
            return int(row.points_id)
        if not arrived and not self._has_room(principal):
            return None
        points_id = self._points.create(self._connection)
        self._connection.execute(
            insert(schema.writer_samples),
            {
                "entity_id": principal.entity_id,
                "principal_id": principal.id,
                "uid": uid,
                "stream": stream,
                "trusted": int(principal.trusted),
                "points_id": points_id,
            },
        )
        return points_id

    def _has_room(self, principal: Principal) -> bool:
        if self._unknown is None:
            table = schema.writer_samples.c
            query = (
                select(func.count())
                .select_from(schema.writer_samples)
                .where(
                    table.entity_id == principal.entity_id,
                    table.principal_id == principal.id,
                    ~exists().where(_same_stream()),
                )
            )
            self._unknown = int(self._connection.execute(query).scalar_one())
        self._unknown += 1
        return self._unknown <= UNKNOWN_MAX


class WriterSamples:
    """Answers questions about the samples of a run's writers."""

    def __init__(self, database: Database, points: ChunkPointStore) -> None:
        self._database = database
        self._points = points

    def metrics(self, run_id: int) -> list[MetricSummary]:
        """Return what is sampled of each writer of a run, by writer and name."""
        return [
            replace(metric, name=f"{PREFIX}{ordinal}.{metric.name}")
            for ordinal, points_id in sorted(self._sets(run_id).items())
            for metric in window_metrics(self._points, points_id)
        ]

    def series(
        self,
        run_id: int,
        names: Sequence[str],
        *,
        start: int | None = None,
        end: int | None = None,
        buckets: int = 500,
    ) -> tuple[int, dict[str, Series]]:
        """Return how many windows there are of the writers asked about, and series by name as for hosts."""
        wanted: dict[int, list[str]] = {}
        for name in names:
            if match := _NAME.fullmatch(name):
                wanted.setdefault(int(match[1]), []).append(match[2])
        sets = self._sets(run_id)
        cursor = 0
        found: dict[str, Series] = {}
        for ordinal in wanted.keys() & sets.keys():
            windows, series = window_series(
                self._points, sets[ordinal], wanted[ordinal], start=start, end=end, buckets=buckets
            )
            cursor += windows
            found |= {f"{PREFIX}{ordinal}.{name}": each for name, each in series.items()}
        return cursor, {name: found[name] for name in names if name in found}

    def _sets(self, run_id: int) -> dict[int, int]:
        """Return the set of points of each writer, by ordinal: of those who may speak of its stream."""
        samples, streams = schema.writer_samples.c, schema.streams.c
        query = (
            select(streams.ordinal, samples.points_id)
            .join(schema.streams, _same_stream())
            .where(
                streams.run_id == run_id,
                or_(samples.trusted == 1, samples.principal_id == streams.principal_id),
            )
            # Of several the last counts: who is trusted, and of those the newest.
            .order_by(samples.trusted, samples.id)
        )
        with self._database.read() as connection:
            return {row.ordinal: row.points_id for row in connection.execute(query)}


def _same_stream() -> ColumnElement[bool]:
    samples, streams = schema.writer_samples.c, schema.streams.c
    return and_(
        streams.entity_id == samples.entity_id,
        streams.uid == samples.uid,
        streams.stream == samples.stream,
    )
