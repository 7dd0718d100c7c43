"""Whatever the bytes: an answer or an error of ours, never another one, never silent corruption."""

import contextlib
import os
import random

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.protocol.portable.sealed_reading import read_sealed
from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, declared_end, encode_line, find_line, scan_lines, start_pattern
from tracker.protocol.errors import BodyError, HeaderError, ProtocolError
from tracker.protocol.header import Header, encode_header, read_header
from tracker.protocol.layout import parse_live_name, parse_segment_name, parse_user_directory, segment_name
from tracker.protocol.reader import WINDOW_BYTES_MAX, Gap, Lines, Wait, next_piece
from tracker.protocol.stream import StreamReader
from tracker.protocol.verify import main, verify_directory

STREAM = bytes(range(100, 116))
SEEDS = Seeds(STREAM, 0)
HEADER = Header(STREAM, "run", 0, 0, "m", "b", 1, 2, 3, "test/1")
DECODERS = [getattr(bodies, name) for name in dir(bodies) if name.startswith("decode_")]

kind = st.one_of(st.integers(1, 13), st.sampled_from([127, 128, 255, 256, 65535]))
body = st.one_of(st.binary(max_size=40), st.binary(min_size=250, max_size=300))
line = st.builds(lambda kind, body: encode_line(kind, body, SEEDS[kind]), kind, body)
#: Bytes that look like lines more often than chance would have it.
near_line = st.one_of(
    st.binary(max_size=30),
    line,
    line.map(lambda data: data[: len(data) // 2]),
    st.tuples(line, st.integers(0, 12), st.integers(1, 255)).map(lambda x: flip(*x)),
    st.builds(lambda kind, body: encode_line(kind, body, 12345), kind, body),
    st.sampled_from(
        [encode_header(HEADER), b"\x93\x01\xce1234\xc6\x00\xff\xff\xff", b"\x93\xcc\xce", bytes(40)]
    ),
)
any_bytes = st.lists(near_line, max_size=8).map(b"".join)


def flip(data: bytes, at: int, value: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]


@given(any_bytes, st.booleans(), st.booleans(), st.booleans())
def test_any_bytes_give_a_piece_that_makes_sense(data: bytes, more: bool, live: bool, waited: bool) -> None:
    piece = next_piece(data, SEEDS, more, live, waited)

    if isinstance(piece, Lines):
        again = b"".join(encode_line(kind, body, SEEDS[kind]) for kind, _, body in piece.lines)
        assert again == data[: piece.size]
        assert piece.lines[-1][2] == scan_lines(data[piece.last : piece.size], SEEDS).lines[0][2]
    elif isinstance(piece, Gap):
        assert 0 < piece.size <= len(data)
        assert scan_lines(data, SEEDS).end == 0
        # A gap of a segment that may grow ends at a line, and only after waiting.
        assert not live or (waited and scan_lines(data[piece.size :], SEEDS).end > 0)
    else:
        assert isinstance(piece, Wait)
        assert more or live or (piece.wants == 0 and not data)
        assert not more or piece.wants > len(data) or live
        assert piece.wants <= WINDOW_BYTES_MAX


@given(any_bytes, st.booleans(), st.booleans(), st.booleans())
def test_lines_that_are_not_kept_are_checked_all_the_same(
    data: bytes, more: bool, live: bool, waited: bool
) -> None:
    scanned = scan_lines(data, SEEDS, keep=False)
    piece = next_piece(data, SEEDS, more, live, waited, keep=False)

    assert scanned == scan_lines(data, SEEDS)._replace(lines=[])
    kept = next_piece(data, SEEDS, more, live, waited)
    assert piece == (kept._replace(lines=[]) if isinstance(kept, Lines) else kept)


@given(any_bytes)
def test_a_sealed_segment_of_any_bytes_is_read_to_its_end(data: bytes) -> None:
    records, gaps = read_sealed(data, STREAM)

    covered = sum(size for _, size, _ in gaps)
    for offset, kind, body in records:
        seed = SEEDS[kind] if kind else 0
        whole = encode_line(kind, body, seed)
        assert data[offset : offset + len(whole)] == whole
        covered += len(whole)
    assert covered == len(data)


@given(st.lists(line, max_size=12), st.integers(0, 10**6))
def test_any_prefix_of_a_valid_stream_reads_back_exactly_its_whole_records(
    lines: list[bytes], cut: int
) -> None:
    data = b"".join([encode_header(HEADER), *lines])
    cut %= len(data) + 1
    every, _ = read_sealed(data, STREAM)

    records, gaps = read_sealed(data[:cut], STREAM)

    ends = [offset for offset, _, _ in every[1:]] + [len(data)]
    whole = sum(end <= cut for end in ends)
    assert records == every[:whole]
    assert all(reason == "torn_tail" for _, _, reason in gaps)


@given(st.lists(line, min_size=1, max_size=12), st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_byte_is_noticed_and_the_records_around_it_survive(
    lines: list[bytes], at: int, value: int
) -> None:
    data = b"".join([encode_header(HEADER), *lines])
    every, _ = read_sealed(data, STREAM)
    at %= len(data)

    records, gaps = read_sealed(flip(data, at, value), STREAM)

    hit = max(offset for offset, _, _ in every if offset <= at)
    assert records == [record for record in every if record[0] != hit]
    assert [offset for offset, _, _ in gaps] == [hit]


@given(any_bytes.filter(bool), st.binary(min_size=16, max_size=16).filter(lambda x: x != STREAM))
def test_a_stream_that_holds_another_as_data_never_yields_its_records(inside: bytes, outer: bytes) -> None:
    seeds = Seeds(outer, 0)
    holder = encode_line(2, inside, seeds[2])
    header = encode_header(HEADER._replace(stream=outer))

    for at in range(len(holder)):
        records, _ = read_sealed(header + flip(holder, at, 0x11), outer)
        torn, _ = read_sealed(header + holder[:at], outer)
        assert len(records) == len(torn) == 1


@given(
    st.one_of(
        any_bytes,
        line,
        st.just(encode_header(HEADER)).flatmap(
            lambda x: st.tuples(st.just(x), st.integers(0, 999), st.integers(1, 255)).map(lambda y: flip(*y))
        ),
    )
)
def test_any_bytes_are_a_header_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(HeaderError):
        header, size = read_header(data)
        assert encode_header(header) and size <= len(data)


tree = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=5),
        st.binary(max_size=33),
    ),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=60),
        tree.map(lambda x: msgpack.packb(x)),
        st.lists(tree, max_size=6).map(lambda x: msgpack.packb([1, *x])),
    )
)
def test_any_body_is_decoded_or_a_body_error(data: bytes) -> None:
    for decode in DECODERS:
        with contextlib.suppress(BodyError):
            decode(data).encode()


@given(tree)
def test_a_header_of_any_map_is_read_or_refused(value: object) -> None:
    fields = {name: field for name, field in HEADER._asdict().items() if field is not None}
    for name in fields:
        body = msgpack.packb({**fields, name: value})
        with contextlib.suppress(HeaderError):
            read_header(encode_line(kinds.HEADER, body, 0))


@given(st.text(max_size=50))
def test_any_file_name_is_parsed_or_not_ours(name: str) -> None:
    for parse in (parse_segment_name, parse_live_name, parse_user_directory):
        parse(name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), any_bytes), max_size=4))
def test_any_files_are_verified_without_an_exception(
    tmp_path_factory: pytest.TempPathFactory, segments: list[tuple[bool, bytes]]
) -> None:
    directory = tmp_path_factory.mktemp("any")
    base = 0
    for number, (with_header, data) in enumerate(segments):
        head = encode_header(HEADER._replace(segment=number, base=base)) if with_header else b""
        (directory / segment_name(STREAM, number)).write_bytes(head + data)
        base += len(head + data)

    report = verify_directory(str(directory))

    with open(os.devnull, "w") as output:
        assert main([str(directory)], output) == main(["--json", str(directory)], output)
    for stream in report.streams:
        records = sum(stream.records.values())
        assert stream.problems or stream.bytes == base
        assert records or stream.gaps or not base


def test_random_bytes_never_read_as_lines() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    data = random.Random(seed).randbytes(1 << 20)

    assert scan_lines(data, SEEDS).end == 0
    assert find_line(data, 0, SEEDS) is None
    assert declared_end(b"") == 1 and start_pattern().match(b"") is None


@settings(max_examples=40)
@given(any_bytes, st.integers(20, 400))
def test_a_live_reader_that_sees_the_file_grow_reads_what_a_late_one_reads(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, step: int
) -> None:
    directory = tmp_path_factory.mktemp("grow")
    path = directory / segment_name(STREAM, 0)
    data = encode_header(HEADER) + data
    alive = True
    reader = StreamReader(str(directory), STREAM, live=lambda: alive, clock=lambda: 0.0)
    seen = list(reader.read())

    for end in range(0, len(data), step):
        path.write_bytes(data[:end])
        seen += reader.read()
        assert not reader.finished
    path.write_bytes(data)
    alive = False
    seen += reader.read()

    late = StreamReader(str(directory), STREAM)
    assert seen == list(late.read())
    assert reader.finished and late.finished


def test_every_error_of_the_package_is_a_protocol_error() -> None:
    assert issubclass(HeaderError, ProtocolError) and issubclass(BodyError, ProtocolError)
