"""PointBatches from records written down plainly, and comparison of what stores answer about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from tracker_server.store.points import MetricSummary, PointBatch, PointPage, Series

#: (step, time, values)
Record = tuple[int, int, dict[str, float]]


def make_batch(records: Sequence[Record], ordinal: int = 0, offset: int = 0) -> PointBatch:
    """Return a batch; record i lies at offset + 100 i of its stream."""
    names: dict[str, int] = {}
    column: list[int] = []
    record: list[int] = []
    value: list[float] = []
    for index, (_, _, values) in enumerate(records):
        for name, number in values.items():
            column.append(names.setdefault(name, len(names)))
            record.append(index)
            value.append(number)
    return PointBatch(
        list(names),
        ordinal,
        np.array([step for step, _, _ in records], np.int64),
        np.array([time for _, time, _ in records], np.int64),
        np.arange(len(records), dtype=np.int64) * 100 + offset,
        np.array(column, np.uint32),
        np.array(record, np.uint32),
        np.array(value, np.float64),
    )


def assert_same_series(found: dict[str, Series], expected: dict[str, Series]) -> None:
    """Compare all columns; means may differ in the last bits."""
    assert list(found) == list(expected)
    for name, series in expected.items():
        for each in fields(Series):
            got, want = getattr(found[name], each.name), getattr(series, each.name)
            assert got.dtype == want.dtype, (name, each.name)
            if each.name == "mean":
                scale = np.maximum(np.abs(series.min), np.abs(series.max))
                close = np.isclose(got, want, rtol=1e-9, atol=0, equal_nan=True)
                tiny = np.abs(got - want) <= np.nan_to_num(scale) * 1e-12
                assert (close | tiny).all(), (name, got, want)
            else:
                np.testing.assert_array_equal(got, want, err_msg=f"{name} {each.name}")


def assert_same_page(found: PointPage, expected: PointPage) -> None:
    """Compare two pages of points."""
    assert (found.cursor, found.more) == (expected.cursor, expected.more)
    assert list(found.points) == list(expected.points)
    for name, points in expected.points.items():
        for column in ("step", "time", "value", "ordinal", "offset"):
            np.testing.assert_array_equal(
                getattr(found.points[name], column), getattr(points, column), err_msg=f"{name} {column}"
            )


def assert_same_metrics(found: list[MetricSummary], expected: list[MetricSummary]) -> None:
    """Compare summaries; NaN is equal to NaN, and bounds need not keep the sign of zero."""
    assert [_comparable(each) for each in found] == [_comparable(each) for each in expected]


def _comparable(summary: MetricSummary) -> str:
    least, most = (None if bound is None else bound + 0.0 for bound in (summary.min, summary.max))
    return repr(replace(summary, min=least, max=most))
