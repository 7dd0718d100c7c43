"""Folder: turns tails into chunks off the request path, and merges small tails.

Blobs are computed outside the write transaction; one transaction then swaps old rows for new
ones. Whatever dies at whatever moment, readers see either the one or the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, func, insert, select

from . import schema
from .chunk import (
    AxisBlock,
    TailBlock,
    ValueBlock,
    decode_tail,
    encode_axis,
    encode_tail,
    encode_values,
    merge_tails,
)
from .chunk_points import LAST
from .column_stats import column_stats
from .engine import AnyRow, Database, inserted_id
from .errors import StoreDamaged, StoreError
from .tail_debt import FOLD_POINTS, FOLD_RECORDS, TAIL_ROWS_MAX, TailDebt


@dataclass
class FoldReport:
    """What one round did. failed: why sets could not be folded, by id; they stay readable as they are."""

    folded: int = 0
    merged: int = 0
    failed: dict[int, str] = field(default_factory=dict)


@dataclass
class _Piece:
    """New rows that stand for consecutive records: an axis and its chunks."""

    axis: dict[str, Any]
    chunks: list[dict[str, Any]]


class Folder:
    """One at a time per database: only the thread that runs it touches existing tails."""

    def __init__(self, database: Database, debt: TailDebt) -> None:
        self._database = database
        self._debt = debt

    def learn_debt(self) -> None:
        """Count the tails that an earlier process left."""
        tails = schema.tails.c
        query = select(
            tails.points_id, func.count(), func.sum(tails.records), func.sum(tails.points)
        ).group_by(tails.points_id)
        with self._database.read() as connection:
            for points_id, rows, records, points in connection.execute(query):
                if rows > 1 or records >= FOLD_RECORDS or points >= FOLD_POINTS:
                    self._debt.add(points_id, int(records), int(points), rows)

    def fold_due(self, now: float) -> FoldReport:
        """Fold or merge every set that is due. `now` is monotonic seconds."""
        report = FoldReport()
        for points_id in self._debt.due(now):
            try:
                self.fold(points_id, report, now)
            except StoreDamaged as error:
                # Left as it is until more arrives, so that one bad set does not keep others waiting.
                self._debt.settle(points_id, 1, 0, 0, now)
                report.failed[points_id] = str(error)
        return report

    def fold(self, points_id: int, report: FoldReport, now: float = 0.0, everything: bool = False) -> None:
        """Fold the full groups of tails of a set into chunks and merge what is left over."""
        rows = self._tail_sizes(points_id)
        left = []
        for group in _groups(rows):
            records, points = sum(row.records for row in group), sum(row.points for row in group)
            if records < FOLD_RECORDS and points < FOLD_POINTS and not everything:
                left = group
                continue
            pieces = _cut(group[0].first, self._load(group))
            with self._database.write() as transaction:
                _remove(transaction, group)
                for piece in pieces:
                    _insert(transaction, piece, points_id)
            report.folded += 1
        merging = _mergeable(left) if len(left) > TAIL_ROWS_MAX else left
        if len(merging) > 1:
            merged = encode_tail(self._load(merging))
            with self._database.write() as transaction:
                _remove(transaction, merging)
                transaction.execute(
                    insert(schema.tails).values(
                        points_id=points_id,
                        first=merging[0].first,
                        records=sum(row.records for row in merging),
                        points=sum(row.points for row in merging),
                        blob=merged,
                    )
                )
            report.merged += 1
        self._debt.settle(
            points_id,
            len(left) - len(merging) + bool(merging),
            sum(row.records for row in left),
            sum(row.points for row in left),
            now,
        )

    def _tail_sizes(self, points_id: int) -> list[AnyRow]:
        tails = schema.tails.c
        query = select(tails.id, tails.first, tails.records, tails.points)
        with self._database.read() as connection:
            found = connection.execute(query.where(tails.points_id == points_id).order_by(tails.first))
            return list(found.all())

    def _load(self, rows: list[AnyRow]) -> TailBlock:
        tails = schema.tails.c
        blobs = {}
        with self._database.read() as connection:
            for part in _parts([row.id for row in rows]):
                for row in connection.execute(select(tails.id, tails.blob).where(tails.id.in_(part))):
                    blobs[row.id] = row.blob
        if len(blobs) != len(rows):
            raise StoreError("tails went away while they were folded: is another server using this database?")
        return merge_tails([decode_tail(blobs[row.id]) for row in rows])


def _groups(rows: list[AnyRow]) -> Iterator[list[AnyRow]]:
    """Yield consecutive rows, each group just large enough to be folded; the last may be smaller."""
    group: list[AnyRow] = []
    records = points = 0
    for row in rows:
        group.append(row)
        records += row.records
        points += row.points
        if records >= FOLD_RECORDS or points >= FOLD_POINTS:
            yield group
            group, records, points = [], 0, 0
    if group:
        yield group


def _mergeable(rows: list[AnyRow]) -> list[AnyRow]:
    """Return the newest rows, as far back as an older row is not much larger than all newer ones.

    Each record is so rewritten a logarithmic number of times, and few rows remain.
    """
    start = len(rows) - 1
    total = rows[start].records
    while start and rows[start - 1].records <= 2 * total:
        start -= 1
        total += rows[start].records
    return rows[start:]


def _cut(first: int, tail: TailBlock) -> list[_Piece]:
    """Return a tail as pieces of FOLD_RECORDS records, or up to twice that for the last."""
    pieces = max(1, tail.axis.records // FOLD_RECORDS)
    column = np.repeat(np.arange(len(tail.metric)), tail.count)
    made = []
    for number in range(pieces):
        start = number * FOLD_RECORDS
        end = tail.axis.records if number == pieces - 1 else start + FOLD_RECORDS
        inside = (tail.record >= start) & (tail.record < end)
        count = np.bincount(column[inside], minlength=len(tail.metric))
        part = TailBlock(
            tail.axis.cut(start, end),
            tail.metric[count > 0],
            count[count > 0],
            tail.record[inside] - start,
            tail.value[inside],
        )
        made.append(_piece(first + start, part))
    return made


def _piece(first: int, tail: TailBlock) -> _Piece:
    axis = tail.axis
    row = {
        "first": first,
        "records": axis.records,
        "step_min": int(axis.step.min()),
        "step_max": int(axis.step.max()),
        "time_min": int(axis.time.min()),
        "time_max": int(axis.time.max()),
        "blob": encode_axis(axis),
    }
    chunks: list[dict[str, Any]] = []
    if len(tail.metric):
        stats = column_stats(tail)
        ends = np.cumsum(tail.count)
        for index, (metric, end) in enumerate(zip(tail.metric.tolist(), ends.tolist(), strict=True)):
            part = slice(end - int(tail.count[index]), end)
            record, value = tail.record[part], tail.value[part]
            finite = len(value) > stats.special[index]
            chunks.append(
                {
                    "metric_id": metric,
                    "count": len(value),
                    "special": int(stats.special[index]),
                    "min": float(stats.min[index]) if finite else None,
                    "max": float(stats.max[index]) if finite else None,
                    "last": LAST.pack(value[_last(axis, record)]),
                    "blob": encode_values(ValueBlock(record, value), axis.records),
                }
            )
    return _Piece(row, chunks)


def _last(axis: AxisBlock, record: Any) -> int:
    """Return which of some records is last by (step, ordinal, offset)."""
    step = axis.step[record]
    if (step[1:] > step[:-1]).all():
        return len(step) - 1
    return int(np.lexsort((axis.offset[record], axis.ordinal[record], step))[-1])


def _remove(transaction: Connection, rows: list[AnyRow]) -> None:
    removed = 0
    for part in _parts([row.id for row in rows]):
        removed += transaction.execute(delete(schema.tails).where(schema.tails.c.id.in_(part))).rowcount
    if removed != len(rows):
        raise StoreError("tails went away while they were folded: is another server using this database?")


def _insert(transaction: Connection, piece: _Piece, points_id: int) -> None:
    axis_id = inserted_id(transaction.execute(insert(schema.axes).values(points_id=points_id, **piece.axis)))
    if piece.chunks:
        transaction.execute(insert(schema.chunks), [{**row, "axis_id": axis_id} for row in piece.chunks])


def _parts(ids: list[int]) -> Iterator[list[int]]:
    for at in range(0, len(ids), 500):
        yield ids[at : at + 500]
