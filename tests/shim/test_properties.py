"""Whatever is logged, in whatever order of steps: what is read back is what a tiny model says."""

import math
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import tracker
from tests.shim.portable.recording import Stream
from tests.shim.scripts import reading
from tracker.protocol import kinds

NAMES = st.text(max_size=8)
NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.booleans())
VALUES = st.one_of(NUMBERS, st.text(max_size=5), st.dictionaries(NAMES, NUMBERS, max_size=3), st.none())
CALLS = st.lists(
    st.tuples(
        st.dictionaries(NAMES, VALUES, max_size=6),
        st.one_of(st.none(), st.integers(-100, 10**6)),
        st.sampled_from([None, True, False]),
    ),
    max_size=12,
)


def stored(value: Any) -> Any:
    """Return what a record holds of a number; NaN as something equal to itself."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63 and not isinstance(value, bool):
        value = float(value)
    return "nan" if isinstance(value, float) and math.isnan(value) else (type(value), value)


class Model:
    """What log() is meant to record."""

    def __init__(self) -> None:
        self.open = 0
        self.points: list[tuple[int, str, Any]] = []
        self.summary: dict[str, Any] = {}

    def log(self, data: dict[str, Any], step: int | None, commit: bool | None) -> None:
        at = self.open if step is None else step
        if at >= self.open:
            self.open = at + 1 if commit or (step is None and commit is None) else at
        flat = {}
        for name, value in data.items():
            inner = value if isinstance(value, dict) else {None: value}
            flat.update({name if key is None else f"{name}/{key}": v for key, v in inner.items()})
        for name, value in flat.items():
            if value is not None:
                self.points.append((at, name, stored(value)))
                self.summary[name] = stored(value)


@settings(max_examples=150, deadline=None, print_blob=True)
@given(CALLS)
def test_records_and_summary_are_what_was_logged(
    calls: list[tuple[dict[str, Any], int | None, bool | None]],
) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as directory:
        run = tracker.init(dir=directory)
        run._terminal.silent = True
        for data, step, commit in calls:
            for _ in range(2):  # the second time takes the short way
                run.log(data, step, commit)
                model.log(data, step, commit)
        summary = {name: stored(value) for name, value in run.summary.items()}
        run.finish()
        (stream,) = reading(Path(directory))

    assert sorted(points_of(stream), key=repr) == sorted(model.points, key=repr)
    assert summary == model.summary
    assert run.step == model.open


def points_of(stream: Stream) -> list[tuple[int, str, Any]]:
    points = []
    for kind, record in stream.records:
        if kind == kinds.METRICS:
            points += [(record.step, name, stored(value)) for name, value in record.values.items()]
        elif kind == kinds.VALUE:
            points.append((record.step, record.name, stored(record.data)))
    return points
