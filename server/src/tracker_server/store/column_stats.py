"""What is kept beside each column of points: how many are special, and the bounds of the others."""

from dataclasses import dataclass

import numpy as np

from .chunk import TailBlock
from .points import Floats, Ints


@dataclass
class ColumnStats:
    """One entry per column. min and max are over finite values, meaningless where there are none."""

    special: Ints
    min: Floats
    max: Floats


def column_stats(tail: TailBlock) -> ColumnStats:
    """Return the statistics of each column of a tail. Columns are never empty."""
    starts = np.cumsum(tail.count) - tail.count
    finite = np.isfinite(tail.value)
    if finite.all():
        least = most = tail.value
        special = np.zeros(len(tail.metric), np.int64)
    else:
        least, most = np.where(finite, tail.value, np.inf), np.where(finite, tail.value, -np.inf)
        special = np.add.reduceat((~finite).astype(np.int64), starts)
    return ColumnStats(special, np.minimum.reduceat(least, starts), np.maximum.reduceat(most, starts))
