"""Rich values of the libraries that people plot and train with, read back by other parts of them."""

from __future__ import annotations

import datetime
import io
import json
import wave
from pathlib import Path
from typing import Any

import bokeh.plotting
import imageio.v3
import matplotlib as mpl
import msgpack
import numpy as np
import pandas as pd
import PIL.Image
import plotly.graph_objects
import pytest
import torch

import tracker
from tracker import _rich, plot
from tracker._logged import sort_out
from tracker._values import UnsupportedError

mpl.use("agg")
import matplotlib.pyplot as plt


class Logged:
    """A run directory into which single values are encoded, as log() does it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, value: Any) -> dict[str, Any]:
        """Return what the record of one value holds, and its type."""
        values = sort_out({"name": value})
        assert not values.refused, values.refused
        encoded = _rich.encode(values.others["name"], _rich.Media(str(self.directory), "name", 1))
        assert encoded is not None
        return encoded.in_a_map()

    def path(self, data: dict[str, Any]) -> Path:
        return self.directory / data["path"]

    def picture(self, value: Any, form: str = "png") -> PIL.Image.Image:
        """Return a logged picture as PIL reads it."""
        data = self(value)
        picture = PIL.Image.open(self.path(data))
        picture.load()
        assert (data["_type"], data["format"]) == ("image", form)
        assert (data["width"], data["height"]) == picture.size
        return picture


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    return Logged(tmp_path)


PIXELS = (np.random.default_rng(1).random((20, 30, 3)) * 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pil_reads_pictures_of_arrays(logged: Logged, channels: int) -> None:
    picture = np.dstack([PIXELS, PIXELS])[:, :, :channels].squeeze()

    found = logged.picture(tracker.Image(picture))

    assert found.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    np.testing.assert_array_equal(np.asarray(found), picture)


def test_a_mask_of_many_classes_is_a_picture_of_16_bits(logged: Logged) -> None:
    labels = np.arange(600).reshape(20, 30)

    data = logged(tracker.Image(PIXELS, masks={"m": {"mask_data": torch.tensor(labels)}}))

    np.testing.assert_array_equal(np.asarray(PIL.Image.open(logged.path(data["masks"]["m"]))), labels)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_pictures_of_pil_in_any_mode(logged: Logged, mode: str, wrapped: bool) -> None:
    picture = PIL.Image.fromarray(PIXELS).convert("L" if mode in ("I;16", "F", "I") else "RGB").convert(mode)

    found = logged.picture(tracker.Image(picture) if wrapped else picture)

    if found.mode == mode:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(picture))
    else:
        assert found.mode == "RGB"


def test_a_file_type_or_mode_is_made_by_pil(logged: Logged) -> None:
    slope = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)

    jpg = logged.picture(tracker.Image(PIL.Image.fromarray(slope).convert("RGBA"), file_type="jpeg"), "jpg")
    webp = logged.picture(tracker.Image(slope, file_type="webp"), "webp")
    grey = logged.picture(tracker.Image(PIXELS, mode="L"))
    from_hsv = logged.picture(tracker.Image(PIXELS, mode="HSV"))

    assert np.abs(np.asarray(jpg.convert("L")).astype(int) - slope).max() < 16
    assert webp.size == (64, 64)
    np.testing.assert_array_equal(np.asarray(grey), np.asarray(PIL.Image.fromarray(PIXELS).convert("L")))
    expected = PIL.Image.frombytes("HSV", (30, 20), PIXELS.tobytes()).convert("RGB")
    np.testing.assert_array_equal(np.asarray(from_hsv), np.asarray(expected))


@pytest.mark.parametrize("form", ["png", "jpg", "gif", "bmp", "webp", "tiff"])
def test_files_in_formats_of_pil_are_known_by_their_bytes(logged: Logged, tmp_path: Path, form: str) -> None:
    source = tmp_path / "picture"
    PIL.Image.fromarray(PIXELS).save(source, {"jpg": "jpeg"}.get(form, form))

    data = logged(tracker.Image(source))

    assert data["format"] == form
    assert ("width" in data) == (form != "tiff")
    if form != "tiff":
        assert (data["width"], data["height"]) == (30, 20)
    assert logged.path(data).read_bytes() == source.read_bytes()


def test_progressive_and_lossless_files_tell_their_size(logged: Logged) -> None:
    for options in (
        {"format": "jpeg", "progressive": True},
        {"format": "webp", "lossless": True},
        {"format": "webp"},
    ):
        file = io.BytesIO()
        PIL.Image.fromarray(PIXELS).save(file, **options)
        data = logged(tracker.Image(file.getvalue()))
        assert (data["width"], data["height"]) == (30, 20)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_have_their_channels_first(logged: Logged, dtype: torch.dtype) -> None:
    tensor = torch.tensor(PIXELS).permute(2, 0, 1)
    if dtype.is_floating_point:
        tensor = (tensor / 255).to(dtype).requires_grad_()

    found = np.asarray(logged.picture(tracker.Image(tensor)))

    expected = tensor.detach().float().permute(1, 2, 0).numpy() * (255 if dtype.is_floating_point else 1)
    assert np.abs(found - expected).max() <= 1


def test_tensors_of_other_kinds_are_pictures_too(logged: Logged) -> None:
    flag = torch.eye(4, dtype=torch.bool)
    for tensor in (
        flag,
        flag[None],
        flag.float().to_sparse(),
        flag.float().T,
        torch.nn.Parameter(flag.float()),
    ):
        np.testing.assert_array_equal(np.asarray(logged.picture(tracker.Image(tensor))), np.eye(4) * 255)


def test_a_batch_is_a_grid(logged: Logged) -> None:
    batch = torch.arange(10).reshape(10, 1, 1, 1).expand(10, 3, 4, 5).to(torch.uint8) * 20

    found = np.asarray(logged.picture(tracker.Image(batch)))

    assert found.shape == (2 * 6 + 2, 8 * 7 + 2, 3)
    assert [found[2, 2 + 7 * x, 0] for x in range(8)] == [20 * n for n in range(8)]
    assert [found[8, 2 + 7 * x, 0] for x in range(3)] == [160, 180, 0]
    assert not found[0].any()


def test_figures_are_pictures_as_they_are(logged: Logged) -> None:
    figure, axes = plt.subplots(figsize=(2, 1), dpi=50)
    (line,) = axes.plot([1, 2])
    try:
        for value in (figure, axes, line, plt, tracker.Image(figure), tracker.Image(plt, caption="c")):
            assert logged.picture(value).size == (100, 50)
        assert figure.axes
    finally:
        plt.close(figure)
    refused = sort_out({"closed": plt}).others["closed"]
    with pytest.raises(UnsupportedError, match="no open figure"):
        refused.to_record(_rich.Media(str(logged.directory), "name", 1))


def test_figures_of_plotly_keep_their_data(logged: Logged) -> None:
    figure = plotly.graph_objects.Figure(plotly.graph_objects.Scatter(y=np.array([1.0, np.nan, 3.0])))
    large = plotly.graph_objects.Figure(plotly.graph_objects.Scatter(y=list(range(20000))))

    small = logged(figure)

    assert small["_type"] == "plotly"
    assert json.loads(small["json"]) == json.loads(figure.to_json())
    assert json.loads(logged.path(logged(tracker.Plotly(large))).read_text()) == json.loads(large.to_json())
    assert json.loads(logged(tracker.Plotly({"data": [{"y": np.arange(3)}]}))["json"]) == {
        "data": [{"y": [0, 1, 2]}]
    }


def test_a_plot_of_bokeh_is_a_page(logged: Logged) -> None:
    figure = bokeh.plotting.figure()
    figure.line([1, 2], [3, 4])

    data = logged(figure)

    assert data["_type"] == "html"
    assert "<html" in (data.get("html") or logged.path(data).read_text())


def test_data_frames_are_tables(logged: Logged) -> None:
    frame = pd.DataFrame(
        {
            "number": [1, 2, 3],
            "maybe": pd.array([1, None, 3], dtype="Int64"),
            "text": ["a", None, "c"],
            "string": pd.array(["a", None, "c"], dtype="string"),
            "kind": pd.Categorical(["x", "y", "x"]),
            "time": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
            "zone": pd.to_datetime(["2026-01-01"] * 3, utc=True),
            "flag": [True, False, True],
            5: [0.5, np.nan, 1.5],
        },
        index=[7, 8, 9],
    )

    data = logged(frame)

    assert data["_type"] == "table"
    assert data["columns"] == ["number", "maybe", "text", "string", "kind", "time", "zone", "flag", "5"]
    assert data["types"] == ["number", "number", "text", "text", "text", "time", "time", "bool", "number"]
    number, maybe, text, string, kind, time, zone, flag, five = data["data"]
    assert (number, maybe, text, string) == ([1, 2, 3], [1, None, 3], ["a", None, "c"], ["a", None, "c"])
    assert (kind, flag) == (["x", "y", "x"], [True, False, True])
    assert (time[0], time[1]) == ("2026-01-01T00:00:00", None)
    assert zone[0] == "2026-01-01T00:00:00+00:00"
    assert five[0] == 0.5
    assert np.isnan(five[1])
    assert logged(tracker.Table(data=frame))["data"][:5] == data["data"][:5]


def test_a_table_made_of_a_frame_goes_back_into_one(logged: Logged) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    table = tracker.Table(dataframe=frame)
    frame.loc[0, "a"] = 100

    table.add_data(3, "z")
    table.add_column("c", pd.Series([0.5, 1.5, 2.5]))

    pd.testing.assert_frame_equal(
        table.get_dataframe(), pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [0.5, 1.5, 2.5]})
    )
    assert logged(table)["data"] == [[1, 2, 3], ["x", "y", "z"], [0.5, 1.5, 2.5]]


def test_a_million_rows_of_a_frame_are_all_there(logged: Logged) -> None:
    frame = pd.DataFrame({"n": np.arange(1_000_000), "text": np.arange(1_000_000) % 100})
    frame["text"] = frame["text"].astype(str)

    data = logged(frame)

    with logged.path(data).open("rb") as file:
        head, *chunks, foot = msgpack.Unpacker(file, max_buffer_size=0)
    assert (head["columns"], foot) == (["n", "text"], {"rows": 1_000_000, "types": ["number", "text"]})
    assert [cell for chunk in chunks for cell in chunk[0]] == list(range(1_000_000))
    assert chunks[-1][1][-1] == "99"


def test_cells_are_whatever_a_library_has(logged: Logged) -> None:
    figure = plt.figure(figsize=(1, 1), dpi=20)
    cells = [PIL.Image.fromarray(PIXELS), figure, torch.tensor(2.5), torch.tensor([1, 2]), np.int8(3)]
    cells += [
        datetime.datetime(2026, 1, 2),
        pd.NA,
        pd.NaT,
        pd.Timestamp("2026-01-02"),
        np.datetime64("2026-01-02"),
    ]
    plt.close(figure)

    data = logged(tracker.Table(columns=["cell"], data=[[cell] for cell in cells]))

    first, second, *others = data["data"][0]
    assert (first["_type"], first["width"]) == ("image", 30)
    assert (second["_type"], second["width"]) == ("image", 20)
    midnight = "2026-01-02T00:00:00"
    assert others == [2.5, [1, 2], 3, midnight, None, None, midnight, midnight]


def test_large_arrays_of_any_library_are_histograms(logged: Logged) -> None:
    for array in (
        torch.arange(100.0, requires_grad=True),
        pd.Series(range(100)),
        torch.arange(100).to(torch.bfloat16),
    ):
        data = logged(array)
        assert (data["_type"], sum(data["counts"]), len(data["counts"])) == ("histogram", 100, 32)
    assert sort_out({"few": torch.arange(3)}).refused == ["few (not a single number: it has the shape (3,))"]


def test_histograms_of_tensors(logged: Logged) -> None:
    tensor = torch.randn(1000, dtype=torch.float64)

    data = logged(tracker.Histogram(tensor, num_bins=10))

    counts, edges = np.histogram(tensor.numpy(), 10)
    assert data["counts"] == counts.tolist()
    np.testing.assert_allclose(data["edges"], edges)


def test_sound_of_a_tensor_has_its_channels_first(logged: Logged) -> None:
    wave_form = torch.stack([torch.zeros(50), torch.ones(50)])

    data = logged(tracker.Audio(wave_form, sample_rate=16000))

    with wave.open(str(logged.path(data))) as file:
        assert (file.getnchannels(), file.getnframes()) == (2, 50)
        assert np.frombuffer(file.readframes(1), "<i2").tolist() == [0, 32767]


FRAMES = np.zeros((6, 3, 16, 17), np.uint8)
FRAMES[np.arange(6), :, 4, :] = (np.arange(6) * 40 + 20)[:, None, None]


def test_frames_become_a_gif(logged: Logged) -> None:
    data = logged(tracker.Video(FRAMES, fps=10, caption="c"))

    names = ("_type", "format", "frames", "width", "height", "fps", "caption")
    assert {name: data[name] for name in names} == {
        "_type": "video", "format": "gif", "frames": 6, "width": 17, "height": 16, "fps": 10, "caption": "c",
    }  # fmt: skip
    with PIL.Image.open(logged.path(data)) as movie:
        assert (movie.n_frames, movie.info["duration"]) == (6, 100)
        for number in range(6):
            movie.seek(number)
            assert movie.convert("RGB").getpixel((3, 4)) == (number * 40 + 20,) * 3


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_frames_become_a_movie(logged: Logged, form: str) -> None:
    data = logged(tracker.Video(torch.tensor(FRAMES), fps=5, format=form))

    read = imageio.v3.imread(logged.path(data), plugin="FFMPEG")
    assert read.shape == (6, 16, 18, 3)  # an even width
    assert (data["frames"], data["fps"]) == (6, 5)
    for number in range(6):
        assert abs(int(read[number, 4, 8, 0]) - (number * 40 + 20)) < 40


def test_frames_become_no_other_movie(logged: Logged) -> None:
    assert "not ogg" in str(tracker.Video(FRAMES, format="ogg").problem)
    assert "fps is more than 0" in str(tracker.Video(FRAMES, fps=-1).problem)


def test_a_batch_of_grey_videos_is_a_grid(logged: Logged) -> None:
    data = logged(tracker.Video(np.random.default_rng(2).random((2, 4, 1, 8, 8)), format="gif"))

    assert (data["frames"], data["width"], data["height"]) == (4, 2 * 10 + 2, 12)


def test_curves_take_tensors(logged: Logged) -> None:
    chart = plot.roc_curve(torch.tensor([0, 1, 1]), torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    matrix = plot.confusion_matrix(y_true=torch.tensor([0, 1]), preds=torch.tensor([1, 1]))
    lines = plot.line_series(torch.arange(2), [torch.tensor([1.0, 2.0])])

    assert logged(chart)["table"]["rows"] > 2
    assert logged(matrix)["table"]["data"][2] == [0, 1, 0, 1]
    assert logged(lines)["table"]["data"] == [[0, 1], ["key_0", "key_0"], [1.0, 2.0]]
