"""The chunk format: exact, versioned, pinned by golden files, and safe on any bytes."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.chunks.generate import CHUNKS, GOLDEN
from tracker_server.store.chunk import (
    AxisBlock,
    TailBlock,
    ValueBlock,
    decode_axis,
    decode_tail,
    decode_values,
    encode_axis,
    encode_tail,
    encode_values,
    merge_tails,
    tail_from_points,
)
from tracker_server.store.console import ConsoleLine, decode_console, encode_console
from tracker_server.store.errors import ChunkError

DECODERS = (decode_axis, decode_values, decode_tail, decode_console)
_int64 = st.integers(-(2**63), 2**63 - 1)


def axis_of(rows: list[tuple[int, int, int, int]]) -> AxisBlock:
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return AxisBlock(*columns)


_axes = st.lists(
    st.tuples(_int64, _int64, st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1)), max_size=40
).map(axis_of)


def assert_same_axis(found: AxisBlock, expected: AxisBlock) -> None:
    for name in ("step", "time", "ordinal", "offset"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def bits(values: np.ndarray) -> list[int]:
    """Return floats so that NaN equals itself and -0.0 differs from 0.0."""
    return list(values.view(np.int64))


@given(_axes)
def test_any_axis_comes_back(axis: AxisBlock) -> None:
    assert_same_axis(decode_axis(encode_axis(axis)), axis)


@given(st.lists(st.none() | st.floats() | st.floats(width=32), min_size=1, max_size=60))
def test_any_values_come_back_bit_for_bit(slots: list[float | None]) -> None:
    record = np.flatnonzero([slot is not None for slot in slots])
    value = np.array([slot for slot in slots if slot is not None], np.float64)

    found = decode_values(encode_values(ValueBlock(record, value), len(slots)))

    assert bits(found.value) == bits(value)
    assert list(range(len(slots)) if found.record is None else found.record) == list(record)


_points = st.lists(
    st.dictionaries(st.integers(0, 6), st.floats() | st.floats(width=32), max_size=6), max_size=20
)


def tail_of(records: list[dict[int, float]]) -> TailBlock:
    count = len(records)
    axis = axis_of([(i, i * 10, 0, i * 100) for i in range(count)])
    column = np.array([c for values in records for c in values], np.uint32)
    record = np.array([i for i, values in enumerate(records) for _ in values], np.uint32)
    value = np.array([v for values in records for v in values.values()], np.float64)
    return tail_from_points(axis, np.arange(1000, 1007, dtype=np.int64), column, record, value)


@given(_points)
def test_any_tail_comes_back_bit_for_bit(records: list[dict[int, float]]) -> None:
    tail = tail_of(records)

    found = decode_tail(encode_tail(tail))

    assert_same_axis(found.axis, tail.axis)
    for name in ("metric", "count", "record"):
        np.testing.assert_array_equal(getattr(found, name), getattr(tail, name))
    assert bits(found.value) == bits(tail.value)


@given(_points, _points)
def test_merged_tails_hold_the_points_of_both(
    one: list[dict[int, float]], other: list[dict[int, float]]
) -> None:
    merged = merge_tails([tail_of(one), tail_of(other)])

    for metric in range(7):
        column = merged.column(1000 + metric)
        expected = [(i, v[metric]) for i, v in enumerate(one + other) if metric in v]
        found = [] if column is None else list(zip(column.record, column.value, strict=True))
        assert repr([(int(i), float(v)) for i, v in found]) == repr(expected)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_raise_our_error_or_decode(data: bytes) -> None:
    for prefix in (b"", b"a\x01", b"v\x01", b"t\x01", b"c\x01"):
        for decode in DECODERS:
            try:
                decode(prefix + data)
            except ChunkError:
                pass


@settings(max_examples=300)
@given(st.sampled_from(["a", "v", "t"]), st.binary(min_size=22, max_size=22), st.binary(max_size=300))
def test_an_intact_frame_under_any_header_raises_our_error_or_decodes(
    kind: str, numbers: bytes, content: bytes
) -> None:
    """The header says what the content is; here zstd's checksum does not protect it."""
    frame = zstandard.ZstdCompressor(1, write_checksum=True).compress(content)
    small = bytes(byte % 5 if index % 4 == 0 else 0 for index, byte in enumerate(numbers))
    length = {"a": 4, "v": 10, "t": 16}[kind]
    for head in (numbers[:length], small[:length], b"\x08\x00" + small[: length - 2]):
        for decode in DECODERS:
            try:
                decode(kind.encode() + b"\x01" + head + frame)
            except ChunkError:
                pass


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", sorted(CHUNKS))
def test_every_changed_byte_is_noticed(name: str, fresh: bool) -> None:
    data = CHUNKS[name].make() if fresh else (GOLDEN / f"{name}.bin").read_bytes()
    decode = {"a": decode_axis, "v": decode_values, "t": decode_tail, "c": decode_console}[name[0]]
    whole = repr(decode(data))
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        try:
            # A bit zstd does not look at may change nothing; what is read must then be the same.
            assert repr(decode(changed)) == whole, at
        except ChunkError:
            pass
    for end in range(len(data)):
        with pytest.raises(ChunkError):
            decode(data[:end])


def test_a_chunk_that_claims_to_be_huge_allocates_nothing() -> None:
    frame = zstandard.ZstdCompressor().compress(b"")
    for claimed in (b"a\x01" + b"\xff" * 4, b"v\x01\x08\x01" + b"\xff" * 8, b"t\x01" + b"\xff" * 16):
        with pytest.raises(ChunkError):
            DECODERS["avt".index(chr(claimed[0]))](claimed + frame)


@pytest.mark.parametrize(
    ("count", "record"), [([2], [0, 99]), ([2], [1, 0]), ([2], [1, 1]), ([0, 2], [0, 1]), ([1], [0, 1])]
)
def test_a_tail_that_contradicts_itself_is_refused(count: list[int], record: list[int]) -> None:
    """Such bytes are intact as far as zstd can tell; read on, they would give points of other records."""
    tail = TailBlock(
        axis_of([(0, 0, 0, 0), (1, 1, 0, 1)]),
        np.arange(len(count), dtype=np.int64),
        np.array(count, np.int64),
        np.array(record, np.int64),
        np.array([0.5, 0.25]),
    )
    with pytest.raises(ChunkError):
        decode_tail(_encode_anyway(tail))


def _encode_anyway(tail: TailBlock) -> bytes:
    """Return a tail as bytes without the encoder's own view of what its columns need."""
    parts = (
        encode_axis(tail.axis)[6:],
        _plane(np.diff(tail.metric, prepend=0)),
        _plane(tail.count.astype("<u4")),
        bytes(len(tail.count)),
        _plane(np.diff(tail.record, prepend=0).astype("<u4")),
        _plane(tail.value.astype("<f4")),
    )
    axis = zstandard.ZstdDecompressor().decompress(parts[0])
    head = struct.pack(
        "<cBIIII", b"t", 1, tail.axis.records, len(tail.count), len(tail.value), len(tail.value)
    )
    return head + zstandard.ZstdCompressor(1, write_checksum=True).compress(axis + b"".join(parts[1:]))


def _plane(numbers: np.ndarray) -> bytes:
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(len(numbers), -1).T.tobytes()


def test_a_newer_version_is_refused_by_its_number() -> None:
    with pytest.raises(ChunkError, match="version 2"):
        decode_axis(b"a\x02" + encode_axis(axis_of([(0, 0, 0, 0)]))[2:])


@pytest.mark.parametrize("name", sorted(CHUNKS))
def test_golden_chunks_read_as_their_description_says(name: str) -> None:
    data = (GOLDEN / f"{name}.bin").read_bytes()
    described = json.loads((GOLDEN / f"{name}.json").read_text())

    assert json.loads(json.dumps(CHUNKS[name].describe(data))) == described


def test_console_blocks_come_back() -> None:
    lines = [ConsoleLine(5, "stdout", "a\x00é", 0), ConsoleLine(2**63 - 1, "stderr", "", 3)]

    assert decode_console(encode_console(lines)) == lines


def test_a_values_chunk_has_the_layout_the_documentation_says() -> None:
    data = encode_values(ValueBlock(np.array([1, 3]), np.array([1.5, math.inf])), 4)

    kind, version, width, dense, records, count = struct.unpack_from("<cBBBII", data)
    raw = zstandard.ZstdDecompressor().decompress(data[12:])

    assert (kind, version, width, dense, records, count) == (b"v", 1, 4, 0, 4, 2)
    assert raw[0] == 0b1010
    shuffled = np.frombuffer(raw[1:], np.uint8).reshape(4, 2).T
    assert list(np.ascontiguousarray(shuffled).view("<f4").ravel()) == [1.5, math.inf]
