"""What define_metric() said decides how the server sums up a run's metrics."""

import pytest

from tests.support.stores import Committer, add_principal
from tests.support.streams import StreamBytes
from tracker.protocol import bodies, kinds
from tracker_server.store.definitions import Definitions, Extremes
from tracker_server.store.store import Store

NAN = float("nan")


@pytest.fixture
def alice(store: Store) -> Committer:
    return Committer(store, add_principal(store))


def define(stream: StreamBytes, *metrics: object) -> None:
    stream.add(kinds.RUN, bodies.Run(1, {"metrics": list(metrics)}).encode())


def defined(*metrics: object) -> StreamBytes:
    """Return a stream that defines metrics and logs 3, 1, NaN and 2 under each of some names."""
    stream = StreamBytes()
    define(stream, *metrics)
    for step, value in enumerate((3.0, 1.0, NAN, 2.0)):
        stream.log({"loss": value, "val/a": value, "val/b": value, "free": value}, step)
    return stream


def test_the_summary_has_what_each_definition_asks_for(alice: Committer) -> None:
    alice.send(
        defined(
            {"name": "loss", "summary": ["min", "max", "mean", "first", "last"]},
            {"name": "val/*", "summary": ["best"], "goal": "maximize", "step_metric": "epoch"},
            {"name": "val/b", "summary": ["none"]},
        )
    )

    summary = alice.detail().summary

    assert summary == {
        "loss": {"min": 1.0, "max": 3.0, "mean": 2.0, "first": 3.0, "last": 2.0},
        "val/a": {"best": 3.0},
        "free": 2.0,
    }
    listed = alice.store.runs.list(alice.principal.entity_id).runs[0].summary
    assert listed is not None
    assert set(listed) == {"loss", "val/a", "free"}


def test_a_value_set_by_hand_stands_before_every_definition(alice: Committer) -> None:
    stream = defined({"name": "*", "summary": ["max"]})
    stream.summary({"loss": 7, "val/b": None}, ("free",))

    alice.send(stream)

    assert alice.detail().summary == {"loss": 7, "val/a": {"max": 3.0}, "val/b": None}


def test_the_last_definitions_written_count_for_the_whole_run(alice: Committer) -> None:
    stream = defined({"name": "*", "summary": ["none"]})
    define(stream)

    alice.send(stream)

    assert alice.detail().summary == dict.fromkeys(("loss", "val/a", "val/b", "free"), 2.0)


def test_definitions_that_make_no_sense_are_left_out(alice: Committer) -> None:
    nonsense: list[object] = [
        1,
        {"name": 3},
        {"summary": ["min"]},
        {"name": "loss", "summary": "min"},
        {"name": "val/a", "summary": [["min"], 3]},
        {"name": "val/b", "summary": ["median", "min", "min"], "goal": 3, "step_metric": 4, "hidden": "yes"},
    ]

    alice.send(defined(*nonsense))

    assert alice.detail().summary == {"loss": 2.0, "val/a": 2.0, "val/b": {"min": 1.0}, "free": 2.0}
    for written in (None, "x", {"name": "loss"}, nonsense * 1000):
        Definitions(written).of("loss")


def test_the_longest_name_that_fits_counts() -> None:
    definitions = Definitions(
        [
            {"name": "*", "summary": ["none"]},
            {"name": "val/*", "summary": ["min"]},
            {"name": "val/a*", "summary": ["max"]},
            {"name": "val/abc", "summary": ["last"]},
        ]
    )
    names = ("val/abc", "val/ab", "val/x", "other")

    found = definitions.summary([(name, Extremes(2.0, 1.0, 3.0)) for name in names], _none, _none)

    assert found == {"val/abc": 2.0, "val/ab": {"max": 3.0}, "val/x": {"min": 1.0}}


def _none(_: str) -> None:
    return None
