"""What a reader does with segments that grow, are damaged, or are made to waste its time."""

import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.protocol.portable.sealed_reading import read_sealed
from tracker.protocol import codec
from tracker.protocol.codec import Seeds, encode_line, find_line, scan_lines
from tracker.protocol.header import Header, encode_header
from tracker.protocol.layout import segment_name
from tracker.protocol.reader import (
    DAMAGE_STEP_BYTES,
    DAMAGE_WAIT_S,
    WINDOW_BYTES_MAX,
    Gap,
    Lines,
    Wait,
    next_piece,
)
from tracker.protocol.stream import DivergedError, Hole, Record, Segment, StreamReader

STREAM = bytes(range(16))
SEEDS = Seeds(STREAM, 0)
HEADER = Header(STREAM, "run", 0, 0, "m", "b", 1, 2, 3, "test/1")
MIB = 1024 * 1024


def line(body: bytes, kind: int = 1, seeds: Seeds = SEEDS) -> bytes:
    return encode_line(kind, body, seeds[kind])


def claiming(size: int, length: int) -> bytes:
    """Return the first `length` bytes of a line of `size` bytes with the wrong checksum."""
    return (b"\x93\x01\xce\0\0\0\0\xc6" + (size - 12).to_bytes(4, "big") + bytes(length))[:length]


class Double:
    """A live stream in a directory, a clock and a reader."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 0.0
        self.alive = True
        self.reader = StreamReader(str(directory), STREAM, live=lambda: self.alive, clock=lambda: self.now)

    def put(self, data: bytes, segment: int = 0) -> None:
        (self.directory / segment_name(STREAM, segment)).write_bytes(data)

    def read(self) -> list[object]:
        """Return bodies of records, Holes, and numbers of segments."""
        found: list[object] = []
        for item in self.reader.read():
            if isinstance(item, Record):
                found += [item.body] if item.kind else []
            else:
                found.append(item.number if isinstance(item, Segment) else item)
        return found


@pytest.fixture
def stream(tmp_path: Path) -> Double:
    return Double(tmp_path)


HEAD = encode_header(HEADER)


def test_an_incomplete_line_of_a_live_writer_is_awaited(stream: Double) -> None:
    whole = line(b"second" * 100)
    stream.put(HEAD + line(b"first") + whole[:200])
    assert stream.read() == [0, b"first"]
    stream.now += 100 * DAMAGE_WAIT_S
    assert stream.read() == []

    stream.put(HEAD + line(b"first") + whole)

    assert stream.read() == [b"second" * 100]
    assert not stream.reader.finished


def test_an_incomplete_line_of_a_dead_writer_is_a_torn_tail(stream: Double) -> None:
    stream.put(HEAD + line(b"first") + line(b"second")[:-1])
    assert stream.read() == [0, b"first"]

    stream.alive = False

    assert stream.read() == [Hole(len(HEAD) + len(line(b"first")), len(line(b"second")) - 1, "torn_tail")]
    assert stream.reader.finished


def test_a_torn_line_that_its_writer_takes_back_is_forgotten(stream: Double) -> None:
    torn, other = line(b"torn" * 20), line(b"another and longer line" * 9)
    stream.put(HEAD + torn[:-5])
    assert stream.read() == [0]

    stream.put(HEAD)
    assert stream.read() == []
    stream.put(HEAD + other)

    assert stream.read() == [b"another and longer line" * 9]


def test_a_claimed_length_of_16_mib_does_not_hold_up_a_live_stream_for_ever(stream: Double) -> None:
    liar = claiming(16 * MIB, 40)
    stream.put(HEAD + liar + line(b"behind"))
    assert stream.read() == [0]
    stream.now += DAMAGE_WAIT_S - 0.1
    assert stream.read() == []

    stream.now += 0.2

    assert stream.read() == [Hole(len(HEAD), 40, "damaged"), b"behind"]


def test_bad_bytes_in_a_live_stream_wait_before_they_are_damage(stream: Double) -> None:
    stream.put(HEAD + b"garbage" + line(b"behind"))
    assert stream.read() == [0]
    stream.now += DAMAGE_WAIT_S

    assert stream.read() == [Hole(len(HEAD), 7, "damaged"), b"behind"]


def test_bad_bytes_at_the_end_of_a_live_stream_are_no_gap_until_a_line_follows(stream: Double) -> None:
    stream.put(HEAD + bytes(50))
    assert stream.read() == [0]
    stream.now += 100 * DAMAGE_WAIT_S
    assert stream.read() == []

    stream.put(HEAD + bytes(50) + line(b"behind"))

    assert stream.read() == [Hole(len(HEAD), 50, "damaged"), b"behind"]


def test_a_large_line_that_holds_lines_of_its_own_segment_is_awaited_page_by_page(stream: Double) -> None:
    first = line(b"first")
    large = line((HEAD + first) * 5000, kind=2)
    assert stream.read() == []
    for visible in range(4096, len(large), len(large) // 8):
        stream.put(HEAD + first + large[:visible])
        stream.now += DAMAGE_WAIT_S / 10
        assert stream.read() == ([0, b"first"] if visible == 4096 else [])
    stream.put(HEAD + first + large)

    assert stream.read() == [(HEAD + first) * 5000]


def test_the_next_segments_whole_header_ends_a_segment_and_a_part_of_it_does_not(stream: Double) -> None:
    first, torn = line(b"first"), line(b"torn")[:-1]
    stream.put(HEAD + first + torn)
    base = len(HEAD + first + torn)
    second = encode_header(HEADER._replace(segment=1, base=base))
    assert stream.read() == [0, b"first"]
    for cut in (0, 1, len(second) - 1):
        stream.put(second[:cut], segment=1)
        assert stream.read() == []

    stream.put(second + line(b"later", seeds=Seeds(STREAM, 1)), segment=1)

    assert stream.read() == [Hole(base - len(torn), len(torn), "torn_tail"), 1, b"later"]


def test_segments_that_claim_the_same_bytes_are_not_read(stream: Double) -> None:
    stream.put(HEAD + line(b"first"))
    stream.put(encode_header(HEADER._replace(segment=1, base=len(HEAD))), segment=1)

    with pytest.raises(DivergedError, match="segment 000001"):
        stream.read()


def test_a_damaged_header_costs_only_itself(stream: Double) -> None:
    damaged = HEAD[:-1] + b"?"
    stream.put(damaged + line(b"first"))
    assert stream.read() == []
    stream.now += DAMAGE_WAIT_S
    stream.read()
    stream.now += DAMAGE_WAIT_S
    stream.alive = False

    late = Double(stream.directory)
    late.alive = False
    assert late.read() == [0, Hole(0, len(HEAD), "damaged"), b"first"]


def test_a_line_of_16_mib_is_read_through_small_chunks() -> None:
    body = bytes(16 * MIB - 12)
    data = HEAD + line(b"first") + line(body) + line(b"last")

    records, gaps = read_sealed(data, STREAM, chunk=64 * 1024)

    assert [len(body) for _, _, body in records[1:]] == [5, len(body), 4]
    assert gaps == []


def test_damage_of_many_megabytes_is_crossed_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    data = HEAD + b"?" * (45 * MIB) + line(b"last")
    windows = []

    def next_piece_counted(data: bytes, *arguments: object, **options: object) -> object:
        windows.append(len(data))
        return next_piece(data, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("tests.protocol.portable.sealed_reading.next_piece", next_piece_counted)

    records, gaps = read_sealed(data, STREAM)

    assert [body for _, _, body in records[1:]] == [b"last"]
    assert sum(size for _, size, _ in gaps) == 45 * MIB
    assert max(windows) == WINDOW_BYTES_MAX
    assert len(windows) < 10 * len(gaps)
    assert sum(size >= DAMAGE_STEP_BYTES for _, size, _ in gaps) == len(gaps)


def test_a_large_line_behind_much_damage_is_found_though_no_window_holds_both() -> None:
    body = bytes(16 * MIB - 12)
    data = HEAD + b"?" * (10 * MIB) + line(body) + line(b"last")

    records, gaps = read_sealed(data, STREAM)

    assert [len(body) for _, _, body in records[1:]] == [len(body), 4]
    assert sum(size for _, size, _ in gaps) == 10 * MIB


def test_a_line_that_starts_within_a_false_start_is_found() -> None:
    # Its checksum's second byte is taken for the length field of the false start.
    true = next(line(b"%d" % n) for n in range(10**5) if line(b"%d" % n)[4] == 0xC4)
    data = b"\x93\x01\xce" + true
    assert codec.start_pattern().match(data)

    assert find_line(data, 0, SEEDS) == 3


class CountedCrc:
    """zlib.crc32 that counts the bytes it is given."""

    def __init__(self) -> None:
        self.bytes = self.calls = 0

    def __call__(self, data: bytes, seed: int = 0) -> int:
        self.bytes += len(data)
        self.calls += 1
        return zlib.crc32(data, seed)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> CountedCrc:
    crc = CountedCrc()
    monkeypatch.setattr(codec, "zlib", SimpleNamespace(crc32=crc))
    return crc


def test_a_million_false_starts_cost_bounded_work(counted: CountedCrc) -> None:
    short = b"\x93\x01\xce\0\0\0\0\xc4\xff"
    for start, count in (
        (short, 10**6),
        (b"\x93\x01\xce\0\0\0\0\xc5\xff\xff", 100_000),
        (claiming(MIB, 12), 100_000),
    ):
        data = start * count
        counted.bytes = counted.calls = 0

        assert find_line(data, 0, SEEDS) is None

        # Never more than the limit and one more line.
        assert counted.bytes <= (len(data) + 1024) * codec.RESYNC_FACTOR + 16 * MIB
        assert counted.calls <= count


def test_false_starts_do_not_hide_the_line_behind_them(counted: CountedCrc) -> None:
    inner = b"".join(line(b"%d" % n * 30, seeds=Seeds(bytes(16), 0)) for n in range(20_000))
    data = b"\x93" + inner + line(b"found")
    counted.bytes = 0

    assert find_line(data, 1, SEEDS) == 1 + len(inner)
    assert counted.bytes < 2 * len(data)


def test_reading_a_hostile_segment_costs_bounded_work_in_all(counted: CountedCrc) -> None:
    data = HEAD + claiming(16 * MIB, 48) * (MIB // 2)
    counted.bytes = 0

    records, gaps = read_sealed(data, STREAM)

    assert len(records) == 1
    assert sum(size for _, size, _ in gaps) == len(data) - len(HEAD)
    windows = len(data) // DAMAGE_STEP_BYTES + 1
    # Each step searches windows of doubling size: twice the largest at most.
    assert counted.bytes <= windows * 2 * WINDOW_BYTES_MAX * codec.RESYNC_FACTOR + windows * 16 * MIB


def test_wait_says_what_it_needs() -> None:
    large = line(bytes(100_000))
    damaged = b"?" + line(b"x")

    assert next_piece(b"", SEEDS, more=False, live=False) == Wait(0)
    assert next_piece(large[:50], SEEDS, more=True, live=False) == Wait(len(large))
    assert next_piece(large[:3], SEEDS, more=True, live=True) == Wait(4)
    assert next_piece(large[:50], SEEDS, more=False, live=True) == Wait(50)
    assert next_piece(damaged, SEEDS, more=False, live=True) == Wait(len(damaged))
    assert next_piece(damaged, SEEDS, more=False, live=True, waited=True) == Gap(1, "damaged")
    assert next_piece(damaged, SEEDS, more=False, live=False) == Gap(1, "damaged")
    piece = next_piece(line(b"a") + line(b"b") + b"?", SEEDS, more=False, live=True)
    assert isinstance(piece, Lines)
    assert (piece.size, piece.last, len(piece.lines)) == (20, 10, 2)


def test_scan_lines_says_where_the_last_line_starts() -> None:
    data = line(b"a") + line(bytes(300), kind=300) + line(b"b")

    assert scan_lines(data, SEEDS).last == len(data) - 10
    assert scan_lines(data[:-10], SEEDS).last == 10
