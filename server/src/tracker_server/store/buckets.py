"""Charts: points of a window, cut into buckets of equal width. Plain functions on arrays."""

import numpy as np

from .points import Axis, Floats, Ints, Series


def ordered(x: Axis, step: Ints, time: Ints, ordinal: Ints, offset: Ints) -> Ints | None:
    """Return the order by (x, ordinal, offset), or None when the points are in it already."""
    key = step if x == "step" else time
    if len(key) < 2:
        return None
    if (key[1:] > key[:-1]).all():
        return None
    tie = key[1:] == key[:-1]
    same = ordinal[1:] == ordinal[:-1]
    settled = (key[1:] > key[:-1]) | (
        tie & ((ordinal[1:] > ordinal[:-1]) | (same & (offset[1:] > offset[:-1])))
    )
    if settled.all():
        return None
    order: Ints = np.lexsort((offset, ordinal, key))
    return order


def bucket_numbers(x: Ints, low: int, high: int, buckets: int) -> Ints:
    """Return floor((x - low) * buckets / (high - low + 1)) of each x in low … high.

    Exact integers: where the product would not fit 63 bits, both are first shifted right alike.
    """
    span = high - low + 1
    shift = max(0, (span * buckets).bit_length() - 63)
    distance = (x.view(np.uint64) - np.uint64(low & 0xFFFFFFFFFFFFFFFF)) >> np.uint64(shift)
    # After a shift the quotient may come out one too high at the very end.
    number = distance * np.uint64(buckets) // np.uint64(max(1, span >> shift))
    found: Ints = np.minimum(number, np.uint64(buckets - 1)).astype(np.int64)
    return found


def bucket_series(
    x: Axis, step: Ints, time: Ints, value: Floats, *, start: int | None, end: int | None, buckets: int
) -> Series:
    """Return the series of points that are in order and inside the window."""
    key = step if x == "step" else time
    finite = np.isfinite(value)
    if len(key) <= buckets:
        special = (~finite).astype(np.int64)
        value_or_none = np.where(finite, value, np.nan)
        count = np.ones(len(key), np.int64)
        return Series(key, step, time, value, value_or_none, value_or_none, value_or_none, count, special)
    low = int(key[0]) if start is None else start
    high = int(key[-1]) if end is None else end
    number = bucket_numbers(key, low, high, buckets)
    first = np.flatnonzero(np.diff(number, prepend=-1))
    last = np.append(first[1:], len(key)) - 1
    count = last - first + 1
    good = np.add.reduceat(finite.astype(np.int64), first)
    none = good == 0
    least = np.minimum.reduceat(np.where(finite, value, np.inf), first)
    most = np.maximum.reduceat(np.where(finite, value, -np.inf), first)
    with np.errstate(all="ignore"):
        # Scaled by the bucket's greatest magnitude, so that the sum of huge values stays finite.
        scale = np.maximum(np.abs(least), np.abs(most))
        scale[none | (scale < 1e300)] = 1.0
        total = np.add.reduceat(np.where(finite, value, 0.0) / np.repeat(scale, count), first)
        mean = np.clip(total / good * scale, least, most)
    least[none] = most[none] = mean[none] = np.nan
    return Series(key[last], step[last], time[last], value[last], least, most, mean, count, count - good)
