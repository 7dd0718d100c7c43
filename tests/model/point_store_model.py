"""The simplest thing that is a PointStore: lists of points, sorted and counted when asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tracker_server.store.points import Axis, MetricSummary, PointBatch, PointPage, Points, Series


class Point(NamedTuple):
    """One point; record is its place in the order of arrival."""

    record: int
    step: int
    time: int
    ordinal: int
    offset: int
    value: float


@dataclass
class _Set:
    records: int = 0
    metrics: dict[str, list[Point]] = field(default_factory=dict)


class PointStoreModel:
    """In memory; says what every PointStore has to answer."""

    def __init__(self) -> None:
        self._sets: list[_Set] = []

    def create(self, transaction: Any) -> int:
        self._sets.append(_Set())
        return len(self._sets) - 1

    def append(self, transaction: Any, points_id: int, batch: PointBatch) -> int:
        held = self._sets[points_id]
        for column, record, value in zip(batch.column, batch.record, batch.value, strict=True):
            held.metrics.setdefault(batch.names[column], []).append(
                Point(
                    held.records + int(record),
                    int(batch.step[record]),
                    int(batch.time[record]),
                    batch.ordinal,
                    int(batch.offset[record]),
                    float(value),
                )
            )
        held.records += batch.records
        return held.records

    def cursor(self, points_id: int) -> int:
        return self._sets[points_id].records

    def metrics(self, points_id: int) -> list[MetricSummary]:
        found = []
        for name, points in sorted(self._sets[points_id].metrics.items()):
            last = max(points, key=lambda point: (point.step, point.ordinal, point.offset))
            finite = [point.value for point in points if math.isfinite(point.value)]
            found.append(
                MetricSummary(
                    name,
                    len(points),
                    len(points) - len(finite),
                    last.value,
                    last.step,
                    min(finite, default=None),
                    max(finite, default=None),
                )
            )
        return found

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
        held = self._sets[points_id]
        found = {}
        for name in names:
            if name in held.metrics:
                key = {"step": lambda p: p.step, "time": lambda p: p.time}[x]
                points = sorted(held.metrics[name], key=lambda p: (key(p), p.ordinal, p.offset))
                points = [
                    p for p in points if (start is None or key(p) >= start) and (end is None or key(p) <= end)
                ]
                found[name] = _bucketed(points, key, start, end, buckets)
        return held.records, found

    def points(
        self, points_id: int, names: Sequence[str], *, after: int = 0, limit: int = 10_000
    ) -> PointPage:
        held = self._sets[points_id]
        here = {name: held.metrics[name] for name in names if name in held.metrics}
        cursor, taken = held.records, 0
        for record in sorted({p.record for points in here.values() for p in points if p.record >= after}):
            taken += sum(p.record == record for points in here.values() for p in points)
            if taken >= limit:
                cursor = record + 1
                break
        page = {
            name: _columns([p for p in points if after <= p.record < cursor]) for name, points in here.items()
        }
        return PointPage(cursor, cursor < held.records, page)


def _bucketed(points: list[Point], key: Any, start: int | None, end: int | None, buckets: int) -> Series:
    groups: dict[int, list[Point]] = {}
    if len(points) <= buckets:
        groups = {index: [point] for index, point in enumerate(points)}
    else:
        low = key(points[0]) if start is None else start
        high = key(points[-1]) if end is None else end
        shift = max(0, ((high - low + 1) * buckets).bit_length() - 63)
        for point in points:
            number = ((key(point) - low) >> shift) * buckets // max(1, (high - low + 1) >> shift)
            groups.setdefault(min(number, buckets - 1), []).append(point)
    rows = []
    for group in groups.values():
        finite = [p.value for p in group if math.isfinite(p.value)]
        rows.append(
            (
                key(group[-1]),
                group[-1].step,
                group[-1].time,
                group[-1].value,
                min(finite, default=math.nan),
                max(finite, default=math.nan),
                # The sum of halves stays finite where that of the values would not.
                math.fsum(v / len(finite) for v in finite) if finite else math.nan,
                len(group),
                len(group) - len(finite),
            )
        )
    columns = list(zip(*rows, strict=True)) or [()] * 9
    ints, floats = np.int64, np.float64
    kinds = (ints, ints, ints, floats, floats, floats, floats, ints, ints)
    return Series(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def _columns(points: list[Point]) -> Points:
    return Points(
        np.array([p.step for p in points], np.int64),
        np.array([p.time for p in points], np.int64),
        np.array([p.value for p in points], np.float64),
        np.array([p.ordinal for p in points], np.int64),
        np.array([p.offset for p in points], np.int64),
    )
