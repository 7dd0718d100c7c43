"""Windows of samples as series over time: one SAMPLE metric is stored as five, and read as one."""

from collections.abc import Sequence

import numpy as np

from .chunk_points import ChunkPointStore
from .points import Ints, MetricSummary, Series

#: A window's last value stands under the plain name, its other parts behind this.
PART_SEPARATOR = "\x1f"
#: What a window is stored as beside its last value.
PARTS = ("mean", "min", "max", "count")


def window_metrics(points: ChunkPointStore, points_id: int) -> list[MetricSummary]:
    """Return what is sampled, by name."""
    return [metric for metric in points.metrics(points_id) if PART_SEPARATOR not in metric.name]


def window_series(
    points: ChunkPointStore,
    points_id: int,
    names: Sequence[str],
    *,
    start: int | None = None,
    end: int | None = None,
    buckets: int = 500,
) -> tuple[int, dict[str, Series]]:
    """Return the cursor, and windows over time (ns) by name. count is of samples, not of windows."""
    wanted = [name + part for name in names for part in ("", *(PART_SEPARATOR + each for each in PARTS))]
    cursor, found = points.series(points_id, wanted, x="time", start=start, end=end, buckets=buckets)
    series = {
        name: _window(found[name], {part: found.get(name + PART_SEPARATOR + part) for part in PARTS})
        for name in names
        if name in found
    }
    return cursor, series


def _window(last: Series, parts: dict[str, Series | None]) -> Series:
    """Return one series from the buckets of a window's five metrics, which all have the same x."""
    mean, least, most, count = (parts[part] for part in PARTS)
    if mean is None or least is None or most is None or count is None:
        return last
    # Windows have equal lengths but for the first, so their means weigh alike.
    samples: Ints = np.nan_to_num(count.mean * count.count, nan=0.0).round().astype(np.int64)
    return Series(
        last.x, last.step, last.time, last.last, least.min, most.max, mean.mean, samples, last.special
    )
