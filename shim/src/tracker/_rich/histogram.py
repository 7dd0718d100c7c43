"""Histogram: how often values fall between edges. With NumPy or without."""

import sys
from typing import Any, Dict, List, Tuple

from .._values import UnsupportedError, to_number_or_text
from .arrays import to_array
from .libraries import needed
from .media import Media
from .value import RichValue, warn

BINS = 64
BINS_MAX = 512
#: Numbers looked at at a time, so that a large array is not copied whole.
_BLOCK = 2**20
#: Bins of a range below this could not be told apart.
_TINY = 1e-300


class Histogram(RichValue):
    """Counts between edges: of a sequence, or as numpy.histogram() returns them."""

    _type = "histogram"
    MAX_LENGTH = BINS_MAX

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = BINS) -> None:
        """sequence: numbers, of any shape. np_histogram: (counts, edges). num_bins: at most 512.

        NaN and infinities are counted apart.
        """
        self.histogram: List[float] = []
        self.bins: List[float] = []
        self._not_finite = 0
        with self._noting_problems():
            if np_histogram is not None:
                self._take_counts(np_histogram)
            elif sequence is not None:
                self._take_values(sequence, _bins(num_bins))
            else:
                raise UnsupportedError("a histogram is made of a sequence or of np_histogram=(counts, edges)")

    def _take_counts(self, np_histogram: Any) -> None:
        counts, edges = np_histogram
        self.histogram = _plain_numbers(counts)
        self.bins = _plain_numbers(edges)
        if len(self.bins) != len(self.histogram) + 1:
            raise UnsupportedError(
                "a histogram has one edge more than counts, not %d and %d"
                % (len(self.bins), len(self.histogram))
            )
        if not 0 < len(self.histogram) <= BINS_MAX:
            raise UnsupportedError("a histogram has 1 to %d bins, not %d" % (BINS_MAX, len(self.histogram)))

    def _take_values(self, sequence: Any, bins: int) -> None:
        count = _count if _has_numpy(sequence) else _count_without_numpy
        self.histogram, self.bins, self._not_finite = count(sequence, bins)

    def _encode(self, media: Media) -> Dict[str, Any]:  # noqa: ARG002 - small enough for the record
        data: Dict[str, Any] = {"edges": self.bins, "counts": self.histogram}
        if self._not_finite:
            data["not_finite"] = self._not_finite
        return data


Counted = Tuple[List[float], List[float], int]


def _has_numpy(sequence: Any) -> bool:
    """Return whether NumPy is there to count; it is not imported for the sake of a list."""
    if sys.modules.get("numpy") is None and isinstance(sequence, (list, tuple, range)):
        return False
    try:
        needed("numpy", "a histogram")
    except UnsupportedError:
        return False
    return True


def _bins(num_bins: Any) -> int:
    bins = int(num_bins)
    if bins < 1:
        raise UnsupportedError("a histogram has 1 to %d bins, not %d" % (BINS_MAX, bins))
    if bins > BINS_MAX:
        warn("histogram", "a histogram has at most %d bins; these are used instead of %d" % (BINS_MAX, bins))
    return min(bins, BINS_MAX)


def _plain_numbers(values: Any) -> List[float]:
    if callable(getattr(values, "tolist", None)):
        values = values.tolist()
    numbers = [to_number_or_text(value) for value in list(values)]
    if any(isinstance(number, str) for number in numbers):
        raise UnsupportedError("counts and edges of a histogram are numbers")
    return numbers  # type: ignore[return-value]


def _count(sequence: Any, bins: int) -> Counted:
    numpy = needed("numpy", "a histogram")
    array = to_array(sequence, "a histogram").reshape(-1)
    blocks = [array[start : start + _BLOCK] for start in range(0, array.size, _BLOCK)]
    least, greatest, finite = float("inf"), float("-inf"), 0
    for block in blocks:
        some = block[numpy.isfinite(block)]
        finite += some.size
        if some.size:
            least, greatest = min(least, float(some.min())), max(greatest, float(some.max()))
    least, greatest = _widened(least, greatest)
    counts = numpy.zeros(bins, numpy.int64)
    for block in blocks:
        some = block[numpy.isfinite(block)].astype(numpy.float64)
        counts += numpy.histogram(some, bins=bins, range=(least, greatest))[0]
    return counts.tolist(), numpy.linspace(least, greatest, bins + 1).tolist(), int(array.size - finite)


def _count_without_numpy(sequence: Any, bins: int) -> Counted:
    values = _plain_numbers(_flat(sequence))
    finite = [float(value) for value in values if value - value == 0]
    least, greatest = _widened(min(finite or [float("inf")]), max(finite or [float("-inf")]))
    width = (greatest - least) / bins
    edges = [least + width * number for number in range(bins)] + [greatest]
    counts = [0] * bins
    for value in finite:
        at = min(int((value - least) / width), bins - 1)
        # Rounding may have put it beside the edge that it belongs to.
        if value < edges[at]:
            at -= 1
        elif at < bins - 1 and value >= edges[at + 1]:
            at += 1
        counts[at] += 1
    return list(counts), edges, len(values) - len(finite)


def _widened(least: float, greatest: float) -> Tuple[float, float]:
    """Return a range that can be divided into bins: as numpy.histogram has it, and wide enough for floats."""
    if least > greatest:  # nothing finite at all
        return 0.0, 1.0
    magnitude = max(abs(least), abs(greatest))
    if least == greatest:
        padding = max(0.5, magnitude * 1e-9)
    else:
        near = greatest - least < max(magnitude * 1e-12, _TINY)
        padding = max(magnitude * 1e-9, _TINY) if near else 0.0
    least, greatest = least - padding, greatest + padding
    if greatest - least == float("inf"):
        raise UnsupportedError("the values of a histogram lie too far apart: %g to %g" % (least, greatest))
    return least, greatest


def _flat(values: Any, depth: int = 0) -> List[Any]:
    """Return the elements of nested lists in one list."""
    if callable(getattr(values, "tolist", None)):
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        values = list(values)
    flat: List[Any] = []
    for value in values:
        if isinstance(value, (list, tuple)) and depth < 16:
            flat += _flat(value, depth + 1)
        else:
            flat.append(value)
    return flat
