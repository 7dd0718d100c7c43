"""The chunk format: axes, values and tails as bytes (prose: docs/storage.md, pinned by tests/golden/chunks).

Decoders raise ChunkError and nothing else, whatever the bytes, and allocate no more than the
limits below allow.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from .errors import ChunkError
from .points import Floats, Ints

VERSION = 1
RECORDS_MAX = 1 << 24
POINTS_MAX = 1 << 26
COLUMNS_MAX = 1 << 24
#: Tails are written on the request path and soon rewritten; folded chunks stay.
TAIL_LEVEL = 1
FOLDED_LEVEL = 3

_AXIS = struct.Struct("<cBI")
_VALUES = struct.Struct("<cBBBII")
_TAIL = struct.Struct("<cBIIII")
_AXIS_RECORD_BYTES = 8 + 8 + 8 + 4
_DENSE = 1

Bytes = npt.NDArray[np.uint8]


@dataclass
class AxisBlock:
    """Where and when records happened. ordinal and offset say which line of which stream each was."""

    step: Ints
    time: Ints
    ordinal: Ints
    offset: Ints

    @property
    def records(self) -> int:
        return len(self.step)

    def cut(self, start: int, end: int) -> "AxisBlock":
        """Return records start to end."""
        part = slice(start, end)
        return AxisBlock(self.step[part], self.time[part], self.ordinal[part], self.offset[part])


@dataclass
class ValueBlock:
    """One metric's points on an axis, by record. record is None where every record has one."""

    record: Ints | None
    value: Floats


@dataclass
class TailBlock:
    """Records of several metrics: points ordered by (column, record), column i being metric[i].

    count[i] points belong to column i. A record has at most one point of a metric.
    """

    axis: AxisBlock
    metric: Ints
    count: Ints
    record: Ints
    value: Floats

    def column(self, metric: int) -> ValueBlock | None:
        """Return the points of one metric, or None when there are none."""
        found = np.flatnonzero(self.metric == metric)
        if not len(found):
            return None
        end = int(np.cumsum(self.count)[found[0]])
        part = slice(end - int(self.count[found[0]]), end)
        return ValueBlock(self.record[part], self.value[part])


def tail_from_points(
    axis: AxisBlock,
    metric: Ints,
    column: npt.NDArray[np.uint32],
    record: npt.NDArray[np.uint32],
    value: Floats,
) -> TailBlock:
    """Return the tail of points given by record: point i is of metric[column[i]]. Unused columns go."""
    columns = len(metric)
    # numpy sorts 16-bit keys by radix, about ten times faster than wider ones.
    key: npt.NDArray[Any] = column.astype(np.uint16) if columns <= 0x10000 else column
    order = np.argsort(key, kind="stable")
    count = np.bincount(column, minlength=columns).astype(np.int64)
    used = count > 0
    if not used.all():
        metric, count = metric[used], count[used]
    return TailBlock(axis, metric, count, record[order].astype(np.int64), value[order])


def merge_tails(tails: list[TailBlock]) -> TailBlock:
    """Return one tail with the records of several, in that order."""
    if len(tails) == 1:
        return tails[0]
    axis = AxisBlock(
        np.concatenate([tail.axis.step for tail in tails]),
        np.concatenate([tail.axis.time for tail in tails]),
        np.concatenate([tail.axis.ordinal for tail in tails]),
        np.concatenate([tail.axis.offset for tail in tails]),
    )
    first = np.cumsum([0] + [tail.axis.records for tail in tails])
    metric, column = np.unique(
        np.concatenate([np.repeat(tail.metric, tail.count) for tail in tails]), return_inverse=True
    )
    record = np.concatenate([tail.record + start for tail, start in zip(tails, first, strict=False)])
    value = np.concatenate([tail.value for tail in tails])
    return tail_from_points(axis, metric, column.astype(np.uint32), record.astype(np.uint32), value)


def encode_axis(axis: AxisBlock, level: int = FOLDED_LEVEL) -> bytes:
    """Return an axis as bytes."""
    return _AXIS.pack(b"a", VERSION, axis.records) + _compress(_pack_axis(axis), level)


def decode_axis(data: bytes) -> AxisBlock:
    """Return the axis in data."""
    (records,) = _header(_AXIS, b"a", data)
    _limit(records, RECORDS_MAX)
    return _unpack_axis(_decompress(data, _AXIS.size, records * _AXIS_RECORD_BYTES), records)


def encode_values(values: ValueBlock, records: int, level: int = FOLDED_LEVEL) -> bytes:
    """Return one metric's values on an axis of that many records as bytes."""
    narrow = _narrow(values.value)
    width = 8 if narrow is None else 4
    present = b""
    if values.record is not None and len(values.record) != records:
        bits = np.zeros(records, np.uint8)
        bits[values.record] = 1
        present = np.packbits(bits, bitorder="little").tobytes()
    head = _VALUES.pack(b"v", VERSION, width, 0 if present else _DENSE, records, len(values.value))
    return head + _compress(present + _shuffle(values.value if narrow is None else narrow), level)


def decode_values(data: bytes) -> ValueBlock:
    """Return the values in data."""
    width, flags, records, count = _header(_VALUES, b"v", data)
    _limit(records, RECORDS_MAX)
    if width not in (4, 8) or flags not in (0, _DENSE) or count > records or (flags and count != records):
        raise ChunkError("a values chunk has an impossible header")
    bitmap = 0 if flags else (records + 7) // 8
    raw = _decompress(data, _VALUES.size, bitmap + count * width)
    record = None
    if not flags:
        bits = np.unpackbits(raw[:bitmap], bitorder="little")
        record = np.flatnonzero(bits)
        if len(record) != count or (count and record[-1] >= records):
            raise ChunkError("a values chunk marks other records than it has values")
    return ValueBlock(record, _unshuffle_floats(raw[bitmap:], width))


def encode_tail(tail: TailBlock, level: int = TAIL_LEVEL) -> bytes:
    """Return a tail as bytes."""
    points = len(tail.value)
    columns = len(tail.metric)
    wide = np.zeros(columns, bool)
    if points:
        starts = np.cumsum(tail.count) - tail.count
        wide = np.logical_or.reduceat(~_fits_narrow(tail.value), starts)
    wide_points = np.repeat(wide, tail.count)
    with np.errstate(all="ignore"):
        narrow = tail.value[~wide_points].astype(np.float32)
    body = b"".join(
        (
            _pack_axis(tail.axis),
            _shuffle(_delta(tail.metric)),
            _shuffle(tail.count.astype("<u4")),
            wide.astype(np.uint8).tobytes(),
            _shuffle(_delta(tail.record).astype("<u4")),
            _shuffle(narrow),
            _shuffle(tail.value[wide_points]),
        )
    )
    return _TAIL.pack(b"t", VERSION, tail.axis.records, columns, points, len(narrow)) + _compress(body, level)


def decode_tail(data: bytes) -> TailBlock:
    """Return the tail in data."""
    records, columns, points, narrow = _header(_TAIL, b"t", data)
    _limit(records, RECORDS_MAX)
    _limit(points, POINTS_MAX)
    _limit(columns, COLUMNS_MAX)
    if narrow > points or columns > points:
        raise ChunkError("a tail has an impossible header")
    sizes = (
        records * _AXIS_RECORD_BYTES,
        columns * 8,
        columns * 4,
        columns,
        points * 4,
        narrow * 4,
        (points - narrow) * 8,
    )
    raw = _decompress(data, _TAIL.size, sum(sizes))
    parts = np.split(raw, np.cumsum(sizes)[:-1])
    axis = _unpack_axis(parts[0], records)
    metric = np.cumsum(_unshuffle(parts[1], "<i8"), dtype=np.int64)
    count = _unshuffle(parts[2], "<u4").astype(np.int64)
    wide = parts[3] != 0
    record = np.cumsum(_unshuffle(parts[4], "<u4"), dtype=np.uint32).astype(np.int64)
    # A count of zero would make two columns start at one point; no writer does that.
    if int(count.sum()) != points or int(count[~wide].sum()) != narrow or (count == 0).any():
        raise ChunkError("a tail's columns do not add up")
    if points and int(record.max()) >= records:
        raise ChunkError("a tail has a point of a record it does not have")
    inside = np.ones(points, bool)
    inside[np.cumsum(count)[:-1] if columns else []] = False
    if points and (np.diff(record)[inside[1:]] <= 0).any():
        raise ChunkError("a tail's points are out of order")
    wide_points = np.repeat(wide, count)
    value = np.empty(points, np.float64)
    value[~wide_points] = _unshuffle_floats(parts[5], 4)
    value[wide_points] = _unshuffle_floats(parts[6], 8)
    return TailBlock(axis, metric, count, record, value)


def _pack_axis(axis: AxisBlock) -> bytes:
    return b"".join(
        (
            _shuffle(_delta(axis.step)),
            _shuffle(_delta(axis.time)),
            _shuffle(_delta(axis.offset)),
            _shuffle(_delta(axis.ordinal).astype("<u4")),
        )
    )


def _unpack_axis(raw: Bytes, records: int) -> AxisBlock:
    wide = raw[: records * 24].reshape(3, -1)
    step, time, offset = (np.cumsum(_unshuffle(part, "<i8"), dtype=np.int64) for part in wide)
    ordinal = np.cumsum(_unshuffle(raw[records * 24 :], "<u4"), dtype=np.uint32).astype(np.int64)
    return AxisBlock(step, time, ordinal, offset)


def _delta(values: Ints) -> Ints:
    """Return differences to the value before, the first to 0; wraps around, as cumsum does."""
    return np.diff(values, prepend=np.int64(0))


def _shuffle(values: npt.NDArray[Any]) -> bytes:
    """Return the first bytes of all values, then the second ones, …: equal bytes come to lie together."""
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return values.view(np.uint8).reshape(len(values), values.itemsize).T.tobytes()


def _unshuffle(raw: Bytes, dtype: str) -> npt.NDArray[Any]:
    width = np.dtype(dtype).itemsize
    return np.ascontiguousarray(raw.reshape(width, -1).T).view(dtype).reshape(-1)


def _unshuffle_floats(raw: Bytes, width: int) -> Floats:
    with np.errstate(all="ignore"):
        return _unshuffle(raw, "<f%d" % width).astype(np.float64)


def _fits_narrow(values: Floats) -> npt.NDArray[np.bool_]:
    """Return which values come back bit for bit from float32 (so NaN, infinities and -0.0 do)."""
    with np.errstate(all="ignore"):
        back = values.astype(np.float32).astype(np.float64)
    same: npt.NDArray[np.bool_] = back.view(np.int64) == values.view(np.int64)
    return same


def _narrow(values: Floats) -> npt.NDArray[np.float32] | None:
    if not _fits_narrow(values).all():
        return None
    with np.errstate(all="ignore"):
        return values.astype(np.float32)


def _compress(raw: bytes, level: int) -> bytes:
    # Compressors may not be shared between threads, and making one costs a microsecond.
    return zstandard.ZstdCompressor(level, write_checksum=True).compress(raw)


def _decompress(data: bytes, start: int, size: int) -> Bytes:
    frame = data[start:]
    try:
        # Asked first, because the frame's own word for its size is what gets allocated.
        if zstandard.frame_content_size(frame) != size:
            raise ChunkError("a chunk's content has another size than its header says")
        raw = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ChunkError("a chunk is not intact: %s" % error) from error
    if len(raw) != size:
        raise ChunkError("a chunk is cut short")
    return np.frombuffer(raw, np.uint8)


def _header(layout: struct.Struct, kind: bytes, data: bytes) -> tuple[Any, ...]:
    if len(data) < layout.size or data[:1] != kind:
        raise ChunkError("not a chunk of kind %r" % kind.decode())
    _, version, *fields = layout.unpack_from(data)
    if version != VERSION:
        raise ChunkError("a chunk has version %d, this server reads %d" % (version, VERSION))
    return tuple(fields)


def _limit(count: int, most: int) -> None:
    if count > most:
        raise ChunkError("a chunk claims %d entries, at most %d are possible" % (count, most))
