"""Bodies of ingest requests: what is read, and that hostile ones cost a bounded amount."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tracker_server.ingest.commit import AgentInfo, GapEntry, Lines
from tracker_server.ingest.decode import (
    ENTRIES_MAX,
    TooLargeError,
    UndecodableError,
    decode_request,
    decompress,
)

STREAM = bytes(range(16))
WHO = {"uid": 1000, "user": "ada"}


def body(entries: Any, **more: Any) -> bytes:
    packed = msgpack.packb(
        {"agent": "0.1.0", "machine": "m", "host": "h", "time": 1, "entries": entries, **more}
    )
    assert isinstance(packed, bytes)
    return packed


def test_lines_and_gaps_are_read_in_order() -> None:
    info, entries = decode_request(
        body([[STREAM, 0, b"abc", WHO], [STREAM, 3, {"gap": 7, "reason": "damage"}, WHO]])
    )

    assert info == AgentInfo("0.1.0", "m", "h")
    assert entries == [
        Lines(1000, "ada", STREAM, 0, b"abc"),
        GapEntry(1000, "ada", STREAM, 3, 7, "damage"),
    ]


def test_what_a_newer_agent_adds_is_ignored() -> None:
    _, entries = decode_request(body([[STREAM, 0, b"abc", {**WHO, "gid": 5}, "more"]], compression="none"))

    assert entries == [Lines(1000, "ada", STREAM, 0, b"abc")]


@pytest.mark.parametrize(
    "entry",
    [
        [STREAM[:15], 0, b"", WHO],
        [STREAM, -1, b"", WHO],
        [STREAM, 2**63, b"", WHO],
        [STREAM, 0, "text", WHO],
        [STREAM, 0, {"gap": 0}, WHO],
        [STREAM, 0, {"gap": 2**64 - 1}, WHO],
        [STREAM, 0, b"", {"uid": -1}],
        [STREAM, 0, b"", {"uid": 2**32}],
        [STREAM, 0, b"", {"uid": 1, "user": "x" * 300}],
        [STREAM, 0, b""],
        "entry",
    ],
)
def test_an_entry_of_the_wrong_shape_is_refused(entry: Any) -> None:
    with pytest.raises(UndecodableError):
        decode_request(body([entry]))


def test_too_many_entries_are_refused() -> None:
    with pytest.raises(UndecodableError):
        decode_request(body([[STREAM, 0, b"", WHO]] * (ENTRIES_MAX + 1)))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (decode_request, lambda body: decompress(body, 100)):
        try:
            read(data)
        except (UndecodableError, TooLargeError):
            pass


def test_a_frame_is_decompressed_up_to_the_limit_exactly() -> None:
    assert decompress(zstandard.compress(b"x" * 1000), 1000) == b"x" * 1000
    with pytest.raises(TooLargeError):
        decompress(zstandard.compress(b"x" * 1001), 1000)


@pytest.mark.parametrize("says_its_size", [True, False])
def test_a_decompression_bomb_is_refused_before_it_unfolds(says_its_size: bool) -> None:
    limit = 1 << 20
    compressor = zstandard.ZstdCompressor(write_content_size=says_its_size).compressobj(
        size=512 * limit if says_its_size else -1
    )
    bomb = b"".join(compressor.compress(bytes(limit)) for _ in range(512)) + compressor.flush()

    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            decompress(bomb, limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(bomb) < limit
    assert peak < 8 * limit


@pytest.mark.parametrize("says_its_size", [True, False])
def test_a_frame_without_its_size_reads_the_same(says_its_size: bool) -> None:
    content = bytes(range(256)) * 100
    whole = zstandard.ZstdCompressor(write_content_size=says_its_size).compress(content)

    assert decompress(whole, len(content)) == content
    for cut in (whole[: len(whole) // 2], whole[:-1], whole + b"more", whole + whole):
        with pytest.raises(UndecodableError):
            decompress(cut, 1 << 20)


def test_a_frame_that_understates_its_size_is_refused_before_it_unfolds() -> None:
    bomb = bytearray(zstandard.compress(bytes(300 << 20)))
    size_field = bomb.index((300 << 20).to_bytes(4, "little"))
    bomb[size_field : size_field + 4] = (1 << 20).to_bytes(4, "little")

    tracemalloc.start()
    try:
        with pytest.raises(UndecodableError):
            decompress(bytes(bomb), 1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 8 << 20
