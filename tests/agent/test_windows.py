"""Windows against a naive model."""

from __future__ import annotations

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from tracker.protocol.bodies import Sample, decode_sample
from tracker_agent.windows import WindowBuilder

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
