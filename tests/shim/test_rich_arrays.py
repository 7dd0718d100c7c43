"""Rich values of NumPy arrays, compared with what independent readers make of their records and files."""

import hashlib
import struct
import tracemalloc
import wave
import zlib
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import pytest

import tracker
from tracker import _rich
from tracker._rich import histogram, object3d
from tracker._values import UnsupportedError

SEED = 20261121


class Logged:
    """A run directory into which single values are encoded."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, value: Any) -> dict[str, Any]:
        """Return the data of a value's record."""
        encoded = _rich.encode(value, _rich.Media(str(self.directory), "name", 1))
        assert encoded is not None
        return encoded.data

    def file(self, data: dict[str, Any]) -> bytes:
        """Return the file that data refers to, having checked what data says of it."""
        content = (self.directory / data["path"]).read_bytes()
        assert (data["size"], data["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        return content

    def pixels(self, value: Any) -> npt.NDArray[Any]:
        """Return the pixels of a picture's file."""
        data = self(value)
        found = read_png(self.file(data))
        assert found.shape[:2] == (data["height"], data["width"])
        return found

    def table(self, data: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a table, read from its file."""
        with (self.directory / data["path"]).open("rb") as file:
            head, *chunks, foot = msgpack.Unpacker(file, max_buffer_size=0)
        assert head == {"format": "tracker table", "version": 1, "columns": data["columns"]}
        assert foot == {"rows": data["rows"], "types": data["types"]}
        return [row for chunk in chunks for row in zip(*chunk, strict=True)]


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    return Logged(tmp_path)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(SEED)


def read_png(content: bytes) -> npt.NDArray[Any]:
    """Return the pixels of a PNG, by the book; all five kinds of filters, 8 and 16 bits, no palette."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, []
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", content, at + 8 + size)[0] == zlib.crc32(kind + body)
        chunks.append((kind, body))
        at += 12 + size
    assert chunks[0][0] == b"IHDR"
    assert chunks[-1] == (b"IEND", b"")
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert rest == [0, 0, 0]
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[colour]
    step = channels * depth // 8
    raw = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    size = width * step
    assert len(raw) == height * (size + 1)
    rows, above = [], bytes(size)
    for y in range(height):
        kind_of_filter, *row = raw[y * (size + 1) : (y + 1) * (size + 1)]
        for x in range(size):
            left = row[x - step] if x >= step else 0
            row[x] = (row[x] + {0: 0, 1: left, 2: above[x]}[kind_of_filter]) & 0xFF
        above = bytes(row)
        rows.append(above)
    flat = np.frombuffer(b"".join(rows), ">u2" if depth == 16 else "u1")
    return flat.reshape((height, width) if channels == 1 else (height, width, channels))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (40, 30)])
def test_pixels_come_back_as_they_were(
    logged: Logged, random: np.random.Generator, size: tuple[int, int], channels: int
) -> None:
    noise = random.integers(0, 256, (*size, channels), np.uint8)
    slope = np.cumsum(np.ones((*size, channels), np.uint8), axis=0, dtype=np.uint8) + np.uint8(3)
    flat = np.full((*size, channels), 200, np.uint8)

    for picture in (noise, slope, flat):
        picture[0, 0, 0] = 77  # more than 1: numbers up to 1 mean something else
        expected = picture[:, :, 0] if channels == 1 else picture
        np.testing.assert_array_equal(logged.pixels(tracker.Image(picture)), expected)


def test_a_picture_of_several_bands_is_whole_and_small(logged: Logged) -> None:
    y, x = np.mgrid[0:1200, 0:1500]
    picture = np.stack([y % 251, x % 241, (x + y) % 239], axis=2).astype(np.uint8)

    data = logged(tracker.Image(picture))

    assert data["size"] < picture.size / 10
    content = logged.file(data)
    raw = b"".join(
        content[at + 8 : at + 8 + size]
        for at, size in _chunks(content)
        if content[at + 4 : at + 8] == b"IDAT"
    )
    rows = np.frombuffer(zlib.decompress(raw), np.uint8).reshape(1200, 4501)
    assert set(rows[:, 0]) <= {0, 2}
    whole = np.zeros((1200, 4500), np.uint8)
    for number, row in enumerate(rows):
        whole[number] = row[1:] + (whole[number - 1] if row[0] == 2 else 0)
    np.testing.assert_array_equal(whole.reshape(picture.shape), picture)


def _chunks(content: bytes) -> list[tuple[int, int]]:
    at, found = 8, []
    while at < len(content):
        size = struct.unpack_from(">I", content, at)[0]
        found.append((at, size))
        at += 12 + size
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]]), [[0, 127, 255]]),
        (np.array([[0.0, 0.5, 1.0]], np.float16), [[0, 127, 255]]),
        (np.array([[0.0, 100.7, 300.0]]), [[0, 100, 255]]),
        (np.array([[-1.0, 0.0, 1.0]]), [[0, 127, 255]]),
        (np.array([[-3.0, -3.0]]), [[0, 0]]),
        (np.array([[np.nan, np.inf, -np.inf, 0.5]]), [[0, 127, 127, 127]]),
        (np.array([[np.nan, np.inf, -np.inf]]), [[0, 255, 0]]),
        (np.array([[True, False]]), [[255, 0]]),
        (np.array([[0, 1]], np.uint8), [[0, 255]]),
        (np.array([[0, 1, 2]], np.uint8), [[0, 1, 2]]),
        (np.array([[0, 1]], np.int8), [[0, 255]]),
        (np.array([[-128, 127]], np.int8), [[0, 255]]),
        (np.array([[0, 70000]], np.int64), [[0, 255]]),
        (np.array([[7, 2**64 - 1]], np.uint64), [[7, 255]]),
    ],
)
def test_numbers_become_bytes_by_one_rule(logged: Logged, given: Any, expected: Any) -> None:
    assert logged.pixels(tracker.Image(given)).tolist() == expected


def test_without_normalizing_numbers_are_only_cut(logged: Logged) -> None:
    given = np.array([[-5.0, 0.9, 1.0, 300.0, np.nan]])

    assert logged.pixels(tracker.Image(given, normalize=False)).tolist() == [[0, 0, 1, 255, 0]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 6, 1), (5, 6)),
        ((1, 5, 6), (5, 6)),
        ((1, 1, 5, 6, 3), (5, 6, 3)),
        ((3, 5, 6), (5, 6, 3)),
        ((5, 6, 2), (5, 6, 2)),
        ((4, 1, 3), (4, 1, 3)),
        ((1, 1, 3), (1, 1, 3)),
        ((1, 6), (1, 6)),
    ],
)
def test_axes_find_their_place(logged: Logged, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    given = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)

    assert logged.pixels(tracker.Image(given)).shape == expected


@pytest.mark.parametrize(
    "given",
    [
        np.zeros(5),
        np.zeros((0, 5)),
        np.zeros((5, 6, 7)),
        np.zeros((2, 5, 6, 3)),
        np.zeros((2, 2), complex),
        np.array([["a"]]),
        np.array([[object()]]),
        np.broadcast_to(np.uint8(1), (10**6, 10**6, 3)),
    ],
)
def test_what_is_no_picture_is_refused(logged: Logged, given: Any) -> None:
    picture = tracker.Image(given)

    with pytest.raises(UnsupportedError):
        logged(picture)


def test_values_are_those_of_the_time_when_they_were_made(logged: Logged) -> None:
    array = np.full((2, 2), 100, np.uint8)
    samples, points = np.full(4, 100, np.int16), np.ones((2, 3), np.float32)
    values = [tracker.Image(array), tracker.Image(array, normalize=False), tracker.Audio(samples, 8000)]
    values += [tracker.Object3D(points), tracker.Histogram(array), tracker.Table(data=array)]
    masks = tracker.Image(array, masks={"m": {"mask_data": array}})
    column = tracker.Table(columns=["a"], data=[[1], [2]])
    column.add_column("b", array[0])

    before = [logged(value) for value in [*values, masks, column]]
    for each in (array, samples, points):
        each[...] = 0

    assert [logged(value) for value in [*values, masks, column]] == before


def test_boxes_masks_and_classes_lie_beside_the_picture(logged: Logged) -> None:
    labels = np.array([[0, 300], [65535, 2]])
    boxes = {
        "truth": {
            "box_data": [
                {
                    "position": {"minX": np.float32(0.5), "maxX": 1},
                    "class_id": np.int64(1),
                    "scores": {"iou": 0.5},
                }
            ],
            "class_labels": {1: "cat"},
        },
        "many": {"box_data": [{"class_id": 1}] * 10001},
    }
    masks = {
        "wide": {"mask_data": labels, "class_labels": {2: "dog"}},
        "narrow": {"mask_data": np.array([[[1], [0]]], bool)},
    }

    data = logged(
        tracker.Image(labels, boxes=boxes, masks=masks, classes=[{"id": 1, "name": "cat"}], caption=7)
    )

    assert data["classes"] == [{"id": 1, "name": "cat"}]
    assert data["caption"] == "7"
    assert data["boxes"]["truth"] == {
        "boxes": [{"position": {"minX": 0.5, "maxX": 1}, "class_id": 1, "scores": {"iou": 0.5}}],
        "classes": {"1": "cat"},
    }
    assert (len(data["boxes"]["many"]["boxes"]), data["boxes"]["many"]["dropped"]) == (10000, 1)
    wide = data["masks"]["wide"]
    assert read_png(logged.file(wide)).tolist() == labels.tolist()
    assert (wide["classes"], wide["path"].split("/")[1]) == ({"2": "dog"}, "masks")
    assert read_png(logged.file(data["masks"]["narrow"])).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"boxes": [1]},
        {"boxes": {"a": {"box_data": [1]}}},
        {"masks": {"a": {}}},
        {"masks": {"a": {"mask_data": [[-1]]}}},
        {"masks": {"a": {"mask_data": [[65536]]}}},
        {"masks": {"a": {"mask_data": [1, 2]}}},
    ],
)
def test_wrong_annotations_refuse_the_picture(logged: Logged, wrong: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError):
        logged(tracker.Image(np.ones((2, 2)), **wrong))


@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i4", "u1", "i1", "i8", "?"])
@pytest.mark.parametrize("shape", [(501,), (501, 1), (501, 2)])
def test_sound_is_read_by_the_standard_library(
    logged: Logged, random: np.random.Generator, kind: str, shape: tuple[int, ...]
) -> None:
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        samples = random.uniform(-1, 1, shape).astype(dtype)
        expected = np.round(samples.astype(np.float32) * np.float32(32767)).astype("<i2")
    elif dtype.kind == "b":
        samples = random.integers(0, 2, shape).astype(dtype)
        expected = samples.astype("<i4")
    else:
        samples = random.integers(-100 if dtype.kind == "i" else 0, 100, shape).astype(dtype)
        expected = (
            (samples.astype("i2") + 128).astype("u1")
            if kind == "i1"
            else samples.astype({"i8": "<i4"}.get(kind, kind))
        )

    data = logged(tracker.Audio(samples, sample_rate=8000, caption="c"))

    assert (data["duration"], data["sample_rate"], data["format"]) == (501 / 8000, 8000, "wav")
    content = logged.file(data)
    assert struct.unpack_from("<I", content, 4)[0] == len(content) - 8
    assert len(content) % 2 == 0
    with wave.open(str(logged.directory / data["path"])) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (shape[1:] or (1,))[0:1] + (
            8000,
            501,
        )
        assert file.getsampwidth() == expected.dtype.itemsize
        assert file.readframes(501) == expected.tobytes()


def test_loud_sound_is_cut_and_holes_in_it_are_silent(logged: Logged) -> None:
    data = logged(tracker.Audio([2.0, -2.0, np.nan, np.inf], 8000))

    assert logged.file(data)[44:] == struct.pack("<4h", 32767, -32767, 0, 32767)


def test_a_long_sound_is_written_in_blocks(logged: Logged) -> None:
    samples = np.arange(2**20, dtype=np.int32).astype(np.int16)

    assert logged.file(logged(tracker.Audio(samples, 44100)))[44:] == samples.tobytes()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(SEED).normal(size=10000),
        np.random.default_rng(SEED).normal(size=(10, 10, 10)).astype(np.float32),
        np.random.default_rng(SEED).integers(-5, 50, 1000),
        np.random.default_rng(SEED).integers(0, 255, 1000, np.uint8),
        np.array([True, False, True]),
        np.array([0.1, 0.2, 0.3, 0.7, 0.7, 1.0]),
        np.array([5.0]),
        np.linspace(0, 1, 65),
        np.array([1e-300, 2e-300, 5e-300]),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("bins", [1, 10, 64, 512])
def test_histograms_are_numpys_with_and_without_numpy(values: Any, bins: int) -> None:
    counts, edges = np.histogram(values.astype(np.float64), bins)

    made = tracker.Histogram(values, num_bins=bins)
    alone = histogram._count_without_numpy(values.tolist(), bins)

    assert made.histogram == counts.tolist()
    np.testing.assert_allclose(made.bins, edges, rtol=1e-12, atol=0)
    assert sum(alone[0]) == values.size
    np.testing.assert_allclose(alone[1], edges, rtol=1e-9, atol=1e-12 * np.abs(edges).max())
    # Where an edge differs by a rounding, so does the bin of what lies on it.
    assert np.abs(np.cumsum(alone[0]) - np.cumsum(counts)).max() <= values.size * 0.02 + 1


@pytest.mark.parametrize("bins", [3, 10, 64, 500])
def test_without_numpy_a_value_on_an_edge_counts_to_the_bin_above(bins: int) -> None:
    for least, width in np.random.default_rng(SEED).normal(size=(50, 2)):
        edges = histogram._count_without_numpy([least, least + abs(width)], bins)[1]

        counts, same_edges, _ = histogram._count_without_numpy(edges, bins)

        assert same_edges == edges
        assert counts == [1] * (bins - 1) + [2]


def test_nothing_finite_and_nearly_equal_numbers_have_histograms(logged: Logged) -> None:
    nearly = np.array([1.0, np.nextafter(np.float32(1), 2)], np.float32)

    assert logged(tracker.Histogram([np.nan, np.inf])) == {
        "edges": np.linspace(0, 1, 65).tolist(),
        "counts": [0] * 64,
        "not_finite": 2,
    }
    for values in (
        nearly,
        nearly.astype(float),
        np.array([1.0, np.nextafter(1.0, 2)]),
        np.array([5e-324, 0]),
    ):
        assert sum(logged(tracker.Histogram(values))["counts"]) == 2


def test_a_histogram_of_several_blocks_counts_everything() -> None:
    values = np.arange(2**20 + 1000) % 7

    made = tracker.Histogram(values, num_bins=7)

    assert made.histogram == np.bincount(values).tolist()


def test_an_array_is_logged_as_its_histogram_unless_it_is_small(logged: Logged) -> None:
    data = logged(np.arange(33))

    assert (len(data["counts"]), sum(data["counts"])) == (32, 33)
    assert _rich.find(np.arange(32)) is None
    assert _rich.find([np.arange(33)]) is None


def test_tables_of_arrays_keep_every_type_of_cell(logged: Logged) -> None:
    rows = 10000
    table = tracker.Table(columns=["n"], data=np.arange(rows)[:, None])
    columns: dict[str, tuple[Any, str]] = {
        "float": (np.linspace(0, 1, rows), "number"),
        "half": (np.ones(rows, np.float16), "number"),
        "unsigned": (np.full(rows, 2**64 - 1, np.uint64), "number"),
        "bool": (np.arange(rows) % 2 == 0, "bool"),
        "text": (np.array([str(n) for n in range(rows)]), "text"),
        "bytes": (np.full(rows, b"ab"), "bytes"),
        "time": (np.datetime64("2026-01-01", "ns") + np.arange(rows), "time"),
        "object": (np.array([None, 1, "x", np.float32(2)] * (rows // 4), object), "any"),
        "complex": (np.full(rows, 1j), "text"),
    }
    for name, (column, _) in columns.items():
        table.add_column(name, column)
    table.add_data(*([None] * 10))

    data = logged(table)

    assert data["types"] == ["number"] + [kind for _, kind in columns.values()]
    found = dict(zip(data["columns"], zip(*logged.table(data), strict=True), strict=True))
    assert found["n"] == (*range(rows), None)
    assert found["float"][:rows] == tuple(np.linspace(0, 1, rows).tolist())
    assert found["unsigned"][0] == 2.0**64
    assert found["text"][9999] == "9999"
    assert found["time"][:2] == ("2026-01-01T00:00:00", "2026-01-01T00:00:00")
    assert found["object"][:5] == (None, 1, "x", 2.0, None)
    assert found["complex"][0] == "1j"
    assert table.get_column("n", convert_to="numpy").tolist() == [*range(rows), None]


def test_names_of_columns_may_come_as_an_array(logged: Logged) -> None:
    table = tracker.Table(columns=np.array(["a", "b"]), data=np.ones((1, 2)))

    assert logged(table)["columns"] == ["a", "b"]


def test_nothing_lasts_in_a_column_of_times(logged: Logged) -> None:
    times = np.array(["NaT", "2026-01-01T00:00:00.5"], "datetime64[ns]")

    data = logged(tracker.Table(columns=["t"], data=times[:, None]))

    assert data["data"] == [[None, "2026-01-01T00:00:00.500000"]]


@pytest.mark.parametrize("large_cells", [False, True])
def test_encoding_a_table_takes_little_memory_beyond_it(logged: Logged, large_cells: bool) -> None:
    if large_cells:
        table = tracker.Table(columns=["a"], data=[["x" * 100_000] for _ in range(400)])
    else:
        table = tracker.Table(columns=["a", "b"], data=np.random.default_rng(SEED).normal(size=(200_000, 2)))

    tracemalloc.start()
    data = logged(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert data["size"] > 3_000_000
    assert peak < 16_000_000
    assert len(logged.table(data)) == data["rows"]


def test_a_large_file_is_copied_block_by_block(logged: Logged, tmp_path: Path) -> None:
    source = tmp_path / "large.png"
    source.write_bytes(b"\x89PNG\r\n\x1a\n")
    with source.open("r+b") as file:
        file.truncate(50_000_000)

    tracemalloc.start()
    data = logged(tracker.Image(str(source)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4_000_000
    assert logged.file(data) == source.read_bytes()
    assert [each.name for each in (tmp_path / "media" / "images").iterdir()] == [data["path"].split("/")[-1]]


def test_points_are_float32_and_boxes_lie_where_they_should(logged: Logged) -> None:
    points = np.arange(12, dtype=np.float64).reshape(2, 6)
    box = tracker.box3d((1, 2, 3), (2, 4, 6), orientation=(0.5**0.5, 0, 0, 0.5**0.5), label="b", score=0.5)

    data = logged(tracker.Object3D({"points": points, "boxes": [box], "vectors": np.array([{"start": 1}])}))

    assert np.frombuffer(logged.file(data), "<f4").reshape(2, 6).tolist() == points.tolist()
    assert (data["format"], data["points"], data["columns"]) == ("points", 2, ["x", "y", "z", "r", "g", "b"])
    assert data["vectors"] == [{"start": 1}]
    # A quarter turn about z: x and y change places.
    corners = np.array(data["boxes"][0]["corners"])
    np.testing.assert_allclose(corners.min(0), [-1, 1, 0], atol=1e-12)
    np.testing.assert_allclose(corners.max(0), [3, 3, 6], atol=1e-12)
    assert (data["boxes"][0]["label"], data["boxes"][0]["score"]) == ("b", 0.5)
    assert logged(tracker.Object3D.from_point_cloud(points[:, :4]))["columns"][3] == "class"
    many = logged(tracker.Object3D({"points": points, "boxes": [box] * (object3d.BOXES_MAX + 2)}))
    assert (len(many["boxes"]), many["dropped_boxes"]) == (object3d.BOXES_MAX, 2)


def test_boxes_turn_as_their_quaternion_says(random: np.random.Generator) -> None:
    axis, angle, size = random.normal(size=3), 0.7, np.array([1.0, 2.0, 3.0])
    axis /= np.linalg.norm(axis)
    cross = np.cross(axis, np.eye(3)).T
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    quaternion = 5 * np.array([np.cos(angle / 2), *(np.sin(angle / 2) * axis)])
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])

    box = tracker.box3d((7, 8, 9), size, orientation=quaternion, color=(1, 2, 3))

    np.testing.assert_allclose(turn @ axis, axis)
    np.testing.assert_allclose(box["corners"], signs * size / 2 @ turn.T + [7, 8, 9])
    assert box["color"] == [1, 2, 3]


def test_a_cloud_of_another_shape_is_refused(logged: Logged) -> None:
    for wrong in (np.zeros((2, 5)), np.zeros(6), {"points": [[1, 2]]}, {"nothing": 1}):
        with pytest.raises(UnsupportedError):
            logged(tracker.Object3D(wrong))
