"""ChunkPointStore: points as compressed chunks in the metadata database, committed with the offsets.

A batch becomes one tail. folding.py merges tails and folds them into one chunk per metric; queries
read both, so nothing changes for readers when that happens.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    Update,
    and_,
    bindparam,
    case,
    insert,
    or_,
    select,
    update,
)

from . import schema
from .buckets import bucket_series, ordered
from .chunk import (
    AxisBlock,
    TailBlock,
    ValueBlock,
    decode_axis,
    decode_tail,
    decode_values,
    encode_tail,
    tail_from_points,
)
from .column_stats import column_stats
from .engine import Database, inserted_id
from .metric_ids import NAMES_PER_QUERY, MetricIds
from .points import BUCKETS_MAX, Axis, Ints, MetricSummary, PointBatch, PointPage, Points, Series
from .tail_debt import TailDebt

#: The last value of a metric, so that NaN survives every database.
LAST = struct.Struct("<d")


class ChunkPointStore:
    """The embedded PointStore (SQLite or PostgreSQL)."""

    def __init__(self, database: Database, debt: TailDebt) -> None:
        self._database = database
        self._debt = debt
        self._ids = MetricIds(database)

    # --- writing -------------------------------------------------------------------------------------

    def create(self, transaction: Connection) -> int:
        return inserted_id(
            transaction.execute(insert(schema.point_sets).values(records=0, points=0, metrics=0))
        )

    def append(self, transaction: Connection, points_id: int, batch: PointBatch) -> int:
        ids, added = self._ids.ensure(transaction, points_id, batch.names)
        cursor = int(
            transaction.execute(
                _COUNT_RECORDS,
                {
                    "b_id": points_id,
                    "b_records": batch.records,
                    "b_points": batch.points,
                    "b_metrics": added,
                    "b_step": int(batch.step.max()) if batch.records else None,
                },
            ).scalar_one()
        )
        if not batch.records:
            return cursor
        axis = AxisBlock(
            batch.step, batch.time, np.full(batch.records, batch.ordinal, np.int64), batch.offset
        )
        tail = tail_from_points(axis, ids, batch.column, batch.record, batch.value)
        transaction.execute(
            _INSERT_TAIL,
            {
                "points_id": points_id,
                "first": cursor - batch.records,
                "records": batch.records,
                "points": batch.points,
                "blob": encode_tail(tail),
            },
        )
        if batch.points:
            transaction.execute(_SUMMARISE, _summaries(tail, batch.step, batch.offset, batch.ordinal))
        self._debt.add(points_id, batch.records, batch.points)
        return cursor

    # --- reading -------------------------------------------------------------------------------------

    def cursor(self, points_id: int) -> int:
        with self._database.read() as connection:
            return _cursor(connection, points_id)

    def metrics(self, points_id: int) -> list[MetricSummary]:
        table = schema.metrics.c
        query = select(
            table.name,
            table.count.label("points"),
            table.special,
            table.last,
            table.last_step,
            table.min,
            table.max,
        ).where(table.points_id == points_id)
        with self._database.read() as connection:
            found = [
                MetricSummary(
                    row.name,
                    row.points,
                    row.special,
                    LAST.unpack(row.last)[0],
                    row.last_step,
                    row.min,
                    row.max,
                )
                for row in connection.execute(query)
            ]
        # Sorted here, because databases sort text by rules of their own.
        return sorted(found, key=lambda metric: metric.name)

    def series(
        self,
        points_id: int,
        names: Sequence[str],
        *,
        x: Axis = "step",
        start: int | None = None,
        end: int | None = None,
        buckets: int = 500,
    ) -> tuple[int, dict[str, Series]]:
        if not 1 <= buckets <= BUCKETS_MAX:
            raise ValueError("buckets is 1 to %d" % BUCKETS_MAX)
        with self._database.read() as connection:
            reader = _Reader(connection, points_id)
            found = {
                name: reader.collect(metric, x, start, end) for name, metric in reader.find(names).items()
            }
        series = {}
        for name, points in found.items():
            key = points.step if x == "step" else points.time
            inside = np.ones(len(key), bool)
            if start is not None:
                inside &= key >= start
            if end is not None:
                inside &= key <= end
            if not inside.all():
                points = _pick(points, inside)
            order = ordered(x, points.step, points.time, points.ordinal, points.offset)
            if order is not None:
                points = _pick(points, order)
            series[name] = bucket_series(
                x, points.step, points.time, points.value, start=start, end=end, buckets=buckets
            )
        return reader.cursor, series

    def points(
        self, points_id: int, names: Sequence[str], *, after: int = 0, limit: int = 10_000
    ) -> PointPage:
        if limit < 1 or after < 0:
            raise ValueError("limit is at least 1, after at least 0")
        with self._database.read() as connection:
            return _Reader(connection, points_id).page(names, after, limit)


def _summaries(tail: TailBlock, step: Ints, offset: Ints, ordinal: int) -> list[dict[str, object]]:
    """Return what each metric of a batch adds to its summary: parameters of _SUMMARISE."""
    stats = column_stats(tail)
    ends = np.cumsum(tail.count) - 1
    if (step[1:] >= step[:-1]).all():
        at = ends
    else:
        # Within a column by (step, offset); the records of one stream are in order of offset.
        column = np.repeat(np.arange(len(tail.metric)), tail.count)
        at = np.lexsort((tail.record, step[tail.record], column))[ends]
    record = tail.record[at]
    return [
        {
            "b_id": metric,
            "b_count": count,
            "b_special": special,
            "b_min": least if count > special else None,
            "b_max": most if count > special else None,
            "b_last": LAST.pack(last),
            "b_step": last_step,
            "b_ordinal": ordinal,
            "b_offset": last_offset,
        }
        for metric, count, special, least, most, last, last_step, last_offset in zip(
            tail.metric.tolist(),
            tail.count.tolist(),
            stats.special.tolist(),
            stats.min.tolist(),
            stats.max.tolist(),
            tail.value[at].tolist(),
            step[record].tolist(),
            offset[record].tolist(),
            strict=True,
        )
    ]


class _Reader:
    """Reads the blocks of one set inside one transaction, decoding each at most once."""

    def __init__(self, connection: Connection, points_id: int) -> None:
        self.connection = connection
        self.points_id = points_id
        self.cursor = _cursor(connection, points_id)
        self._axes: dict[int, AxisBlock] = {}
        self._tails: list[tuple[int, TailBlock]] | None = None

    def find(self, names: Sequence[str]) -> dict[str, int]:
        """Return the metric ids of those names that exist, in the order asked for."""
        table = schema.metrics
        found: dict[str, int] = {}
        for at in range(0, len(names), NAMES_PER_QUERY):
            rows = self.connection.execute(
                select(table.c.name, table.c.id).where(
                    table.c.points_id == self.points_id, table.c.name.in_(names[at : at + NAMES_PER_QUERY])
                )
            )
            found.update({row.name: row.id for row in rows})
        return {name: found[name] for name in names if name in found}

    def collect(self, metric: int, x: Axis, start: int | None, end: int | None) -> Points:
        """Return a metric's points in order of arrival, leaving out chunks outside the window."""
        axes = schema.axes.c
        low, high = (axes.step_min, axes.step_max) if x == "step" else (axes.time_min, axes.time_max)
        query = _CHUNKS_OF_METRIC.where(schema.chunks.c.metric_id == metric)
        if start is not None:
            query = query.where(high >= start)
        if end is not None:
            query = query.where(low <= end)
        parts = [
            _points_of(self._axis(row.axis_id), decode_values(row.blob))
            for row in self.connection.execute(query).all()
        ]
        for _, tail in self._read_tails():
            values = tail.column(metric)
            if values is not None:
                parts.append(_points_of(tail.axis, values))
        return _concatenate(parts)

    def page(self, names: Sequence[str], after: int, limit: int) -> PointPage:
        """Return the points of records from `after` on, whole records until `limit` is reached."""
        metrics = self.find(names)
        parts: dict[str, list[Points]] = {name: [] for name in metrics}
        taken = 0
        for first, axis, columns in self._blocks(list(metrics.values()), after):
            skip = max(0, after - first)
            per_record = np.zeros(axis.records, np.int64)
            for values in columns.values():
                per_record[slice(None) if values.record is None else values.record] += 1
            per_record[:skip] = 0
            total = taken + np.cumsum(per_record)
            full = int(np.searchsorted(total, limit))
            stop = min(full + 1, axis.records)
            for name, metric in metrics.items():
                if metric in columns:
                    parts[name].append(_points_of(axis, columns[metric], skip, stop))
            if full < axis.records:
                cursor = first + stop
                return PointPage(cursor, cursor < self.cursor, _joined(parts))
            taken = int(total[-1])
        return PointPage(self.cursor, False, _joined(parts))

    def _blocks(
        self, metrics: list[int], after: int
    ) -> Iterator[tuple[int, AxisBlock, dict[int, ValueBlock]]]:
        """Yield (first record, axis, values by metric) of blocks that reach beyond `after`."""
        axes, chunks = schema.axes.c, schema.chunks.c
        headers = self.connection.execute(
            select(axes.id, axes.first)
            .where(axes.points_id == self.points_id, axes.first + axes.records > after)
            .order_by(axes.first)
        ).all()
        for axis_id, first in headers:
            columns: dict[int, ValueBlock] = {}
            for at in range(0, len(metrics), NAMES_PER_QUERY):
                rows = self.connection.execute(
                    select(chunks.metric_id, chunks.blob).where(
                        chunks.axis_id == axis_id, chunks.metric_id.in_(metrics[at : at + NAMES_PER_QUERY])
                    )
                )
                columns.update({row.metric_id: decode_values(row.blob) for row in rows})
            if columns:
                yield first, self._axis(axis_id), columns
        for first, tail in self._read_tails(after):
            found = {metric: tail.column(metric) for metric in metrics}
            yield first, tail.axis, {metric: values for metric, values in found.items() if values}

    def _read_tails(self, after: int = 0) -> list[tuple[int, TailBlock]]:
        if self._tails is None:
            tails = schema.tails.c
            rows = self.connection.execute(
                select(tails.first, tails.blob)
                .where(tails.points_id == self.points_id, tails.first + tails.records > after)
                .order_by(tails.first)
            )
            self._tails = [(row.first, decode_tail(row.blob)) for row in rows]
        return self._tails

    def _axis(self, axis_id: int) -> AxisBlock:
        axis = self._axes.get(axis_id)
        if axis is None:
            query = select(schema.axes.c.blob).where(schema.axes.c.id == axis_id)
            axis = self._axes[axis_id] = decode_axis(self.connection.execute(query).scalar_one())
        return axis


def _cursor(connection: Connection, points_id: int) -> int:
    sets = schema.point_sets.c
    records = connection.execute(select(sets.records).where(sets.id == points_id)).scalar_one_or_none()
    return int(records or 0)


def _points_of(axis: AxisBlock, values: ValueBlock, start: int = 0, end: int | None = None) -> Points:
    """Return the points of records start to end."""
    end = axis.records if end is None else end
    value = values.value
    record: slice | Ints
    if values.record is None:
        record = slice(start, end)
        value = value[record]
    else:
        part = slice(*np.searchsorted(values.record, (start, end)))
        record, value = values.record[part], value[part]
    return Points(axis.step[record], axis.time[record], value, axis.ordinal[record], axis.offset[record])


def _concatenate(parts: list[Points]) -> Points:
    if len(parts) == 1:
        return parts[0]
    none = [np.empty(0, np.int64)]
    return Points(
        np.concatenate([part.step for part in parts] or none),
        np.concatenate([part.time for part in parts] or none),
        np.concatenate([part.value for part in parts] or [np.empty(0, np.float64)]),
        np.concatenate([part.ordinal for part in parts] or none),
        np.concatenate([part.offset for part in parts] or none),
    )


def _joined(parts: dict[str, list[Points]]) -> dict[str, Points]:
    return {name: _concatenate(found) for name, found in parts.items()}


def _pick(points: Points, which: npt.NDArray[Any]) -> Points:
    return Points(
        points.step[which],
        points.time[which],
        points.value[which],
        points.ordinal[which],
        points.offset[which],
    )


def _conditional(later: ColumnElement[bool]) -> dict[str, Any]:
    return {
        column: case((later, bindparam(parameter)), else_=schema.metrics.c[column])
        for column, parameter in (
            ("last", "b_last"),
            ("last_step", "b_step"),
            ("last_ordinal", "b_ordinal"),
            ("last_offset", "b_offset"),
        )
    }


def _summarise() -> Update:
    metric = schema.metrics.c
    step = bindparam("b_step", type_=BigInteger)
    ordinal = bindparam("b_ordinal", type_=BigInteger)
    least, most = bindparam("b_min", type_=Float(53)), bindparam("b_max", type_=Float(53))
    later = or_(
        metric.count == 0,
        step > metric.last_step,
        and_(step == metric.last_step, ordinal > metric.last_ordinal),
        and_(
            step == metric.last_step,
            ordinal == metric.last_ordinal,
            bindparam("b_offset", type_=BigInteger) > metric.last_offset,
        ),
    )
    return (
        update(schema.metrics)
        .where(metric.id == bindparam("b_id"))
        .values(
            {
                "count": metric.count + bindparam("b_count"),
                "special": metric.special + bindparam("b_special"),
                "min": case((least.is_(None), metric.min), (metric.min < least, metric.min), else_=least),
                "max": case((most.is_(None), metric.max), (metric.max > most, metric.max), else_=most),
                **_conditional(later),
            }
        )
    )


_SUMMARISE = _summarise()
_INSERT_TAIL = insert(schema.tails)
_COUNT_RECORDS = (
    update(schema.point_sets)
    .where(schema.point_sets.c.id == bindparam("b_id"))
    .values(
        records=schema.point_sets.c.records + bindparam("b_records"),
        points=schema.point_sets.c.points + bindparam("b_points"),
        metrics=schema.point_sets.c.metrics + bindparam("b_metrics"),
        step_max=case(
            (bindparam("b_step", type_=BigInteger).is_(None), schema.point_sets.c.step_max),
            (
                schema.point_sets.c.step_max > bindparam("b_step", type_=BigInteger),
                schema.point_sets.c.step_max,
            ),
            else_=bindparam("b_step", type_=BigInteger),
        ),
    )
    .returning(schema.point_sets.c.records)
)
_CHUNKS_OF_METRIC = (
    select(schema.chunks.c.axis_id, schema.chunks.c.blob)
    .join(schema.axes, schema.axes.c.id == schema.chunks.c.axis_id)
    .order_by(schema.axes.c.first)
)
