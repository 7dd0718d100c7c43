"""PointStore: the narrow interface to metric points, and what goes through it.

Points live in sets: one per run, one per host. A record is one METRICS line (or one SAMPLE window);
its place in the order of arrival is the cursor that live readers follow. A series is ordered by
(step, ordinal, offset): ordinal is the stream's place among the streams of its run. Points of equal
steps are all kept; charts and summary take the last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Axis = Literal["step", "time"]

#: The greatest number of buckets one series query may ask for.
BUCKETS_MAX = 20_000


@dataclass
class PointBatch:
    """Records of one stream in the order they were written, points in the order of records.

    Point i belongs to record `record[i]` and metric `names[column[i]]`. Records may be empty.
    """

    names: list[str]
    ordinal: int
    step: Ints
    time: Ints
    offset: Ints
    column: npt.NDArray[np.uint32]
    record: npt.NDArray[np.uint32]
    value: Floats

    @property
    def records(self) -> int:
        return len(self.step)

    @property
    def points(self) -> int:
        return len(self.value)


@dataclass(frozen=True)
class MetricSummary:
    """One metric of a set. min and max are over finite values, None when there are none."""

    name: str
    count: int
    special: int  #: how many values were NaN or infinite
    last: float  #: may be NaN or infinite
    last_step: int
    min: float | None
    max: float | None


@dataclass
class Series:
    """One entry per non-empty bucket (per point where there are no more points than buckets).

    x, step, time and last are of the bucket's last point in the order of x; min, max and mean are
    over finite values (NaN where there are none); special counts NaN and infinite values.
    """

    x: Ints
    step: Ints
    time: Ints
    last: Floats
    min: Floats
    max: Floats
    mean: Floats
    count: Ints
    special: Ints


@dataclass
class Points:
    """Points in order of arrival. ordinal and offset identify the record each came from."""

    step: Ints
    time: Ints
    value: Floats
    ordinal: Ints
    offset: Ints


@dataclass
class PointPage:
    """Answer to `points`: go on at `cursor`; `more` says whether there is something there now."""

    cursor: int
    more: bool
    points: dict[str, Points] = field(default_factory=dict)


class PointStore(Protocol):
    """Where points live. Writes happen inside the caller's transaction, reads see committed ones.

    `transaction` is what `Store.write()` yields; the in-memory model ignores it.
    """

    def create(self, transaction: Any) -> int:
        """Make an empty set and return its id."""

    def append(self, transaction: Any, points_id: int, batch: PointBatch) -> int:
        """Add the records of a batch and return the set's new cursor."""

    def cursor(self, points_id: int) -> int:
        """Return the number of records in a set."""

    def metrics(self, points_id: int) -> list[MetricSummary]:
        """Return the summary of every metric, by name."""

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
        """Return the cursor and, for each name that exists, its points with start <= x <= end.

        The window is cut into `buckets` buckets of equal width (see buckets.py), a missing start or
        end standing for the least or greatest x the metric has.
        """

    def points(
        self, points_id: int, names: Sequence[str], *, after: int = 0, limit: int = 10_000
    ) -> PointPage:
        """Return points of records `after` and later, in order of arrival.

        Stops at the end of the record that reaches `limit` points.
        """
