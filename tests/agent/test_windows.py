"""Windows against a naive model."""

from __future__ import annotations

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from tracker.protocol.bodies import Sample, decode_sample
from tracker_agent.streams import StreamKey
from tracker_agent.windows import RunWindow, RunWindows, WindowBuilder

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=30))
def test_window_is_what_a_naive_model_says(samples: list[dict[str, float]]) -> None:
    builder = WindowBuilder()
    for sample in samples:
        builder.add(sample)

    windows = builder.take()

    model: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.items():
            if math.isfinite(value):
                model.setdefault(name, []).append(value)
    assert set(windows) == set(model)
    for name, values in model.items():
        mean, low, high, last, count = windows[name]
        assert (low, high, last, count) == (min(values), max(values), values[-1], len(values))
        assert low <= mean <= high
        assert math.isclose(
            mean, statistics.fmean(values), rel_tol=1e-9, abs_tol=1e-9 * max(map(abs, values))
        )


def test_next_window_starts_empty() -> None:
    builder = WindowBuilder()
    builder.add({"a": 1.0})
    builder.take()

    assert builder.take() == {}


def test_window_survives_the_record_format() -> None:
    builder = WindowBuilder()
    builder.add({"a": 1.0})
    builder.add({"a": 2.5})

    sample = decode_sample(Sample(5, 30, builder.take()).encode())

    assert sample.values == {"a": (1.75, 1.0, 2.5, 2.5, 2)}


ONE: StreamKey = (1, bytes(16))
TWO: StreamKey = (2, bytes(16))


def test_writers_have_windows_of_their_own_and_the_first_is_ready_at_once() -> None:
    windows = RunWindows()
    windows.add(ONE, {"a": 1.0}, 8.0)

    assert windows.take_first(10.0) == [RunWindow(ONE, 8.0, {"a": (1.0, 1.0, 1.0, 1.0, 1)})]

    windows.add(ONE, {"a": 2.0}, 10.0)
    windows.add(TWO, {"a": 7.0}, 10.0)
    assert windows.take_first(12.0) == [RunWindow(TWO, 10.0, {"a": (7.0, 7.0, 7.0, 7.0, 1)})]
    windows.add(ONE, {"a": 4.0}, 12.0)
    assert windows.take_first(14.0) == []
    assert windows.take(16.0) == [RunWindow(ONE, 10.0, {"a": (3.0, 2.0, 4.0, 4.0, 2)})]


def test_writer_that_is_gone_is_forgotten_and_comes_back_as_a_new_one() -> None:
    windows = RunWindows()
    windows.add(ONE, {"a": 1.0}, 0.0)
    windows.take(10.0)

    assert windows.take(20.0) == []

    windows.add(ONE, {"a": 2.0}, 28.0)
    assert windows.take_first(30.0) == [RunWindow(ONE, 28.0, {"a": (2.0, 2.0, 2.0, 2.0, 1)})]


def test_window_of_a_writer_without_a_sample_begins_when_the_machine_wakes_up() -> None:
    windows = RunWindows()
    windows.add(ONE, {"a": 1.0}, 0.0)
    windows.take(10.0)

    windows.begin(15.0)
    windows.add(ONE, {"a": 2.0}, 13.0)

    assert windows.take(20.0)[0].began == 15.0
