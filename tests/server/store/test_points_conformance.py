"""What every PointStore does, tried on the chunks in SQLite and on the in-memory model."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.model.point_store_model import PointStoreModel
from tests.support.point_batches import (
    Record,
    assert_same_metrics,
    assert_same_page,
    assert_same_series,
    make_batch,
)
from tests.support.stores import open_in
from tracker_server.store.points import PointBatch, PointStore
from tracker_server.store.store import Store

NAN, INF = math.nan, math.inf


@dataclass
class Subject:
    """A store under test: one set, and whatever it does in the background."""

    points: PointStore
    set: int
    append: Callable[[PointBatch], int]
    fold: Callable[[], object]

    def add(self, *records: Record, ordinal: int = 0, offset: int = 0) -> int:
        return self.append(make_batch(records, ordinal, offset))


def in_sqlite(store: Store) -> Subject:
    with store.write() as transaction:
        made = store.points.create(transaction)

    def append(batch: PointBatch) -> int:
        with store.write() as transaction:
            return store.points.append(transaction, made, batch)

    return Subject(store.points, made, append, lambda: store.fold_all(made))


def in_memory() -> Subject:
    model = PointStoreModel()
    made = model.create(None)
    return Subject(model, made, lambda batch: model.append(None, made, batch), lambda: None)


@pytest.fixture(params=["model", "sqlite tails", "sqlite folded"])
def subject(request: Any, store: Store) -> Iterator[Subject]:
    if request.param == "model":
        return in_memory()
    subject = in_sqlite(store)
    if request.param == "sqlite folded":
        plain = subject.append

        def append_and_fold(batch: PointBatch) -> int:
            cursor = plain(batch)
            subject.fold()
            return cursor

        subject.append = append_and_fold
    return subject


def values(subject: Subject, name: str, **window: Any) -> list[float]:
    _, found = subject.points.series(subject.set, [name], **window)
    return list(found[name].last)


def test_a_point_comes_back_as_it_was_logged(subject: Subject) -> None:
    subject.add((7, 1234, {"loss": 0.1}))

    cursor, found = subject.points.series(subject.set, ["loss"])

    assert cursor == 1
    assert list(found["loss"].step) == [7]
    assert list(found["loss"].time) == [1234]
    assert list(found["loss"].last) == [0.1]


def test_steps_out_of_order_are_read_in_order(subject: Subject) -> None:
    subject.add((5, 1, {"a": 5.0}), (1, 2, {"a": 1.0}), (3, 3, {"a": 3.0}))
    subject.add((2, 4, {"a": 2.0}), offset=1000)

    assert values(subject, "a") == [1.0, 2.0, 3.0, 5.0]
    assert subject.points.metrics(subject.set)[0].last == 5.0


def test_all_points_of_one_step_are_kept_and_the_last_one_counts(subject: Subject) -> None:
    subject.add((1, 1, {"a": 1.0}), (1, 2, {"a": 2.0}))
    subject.add((1, 3, {"a": 3.0}), offset=1000)

    assert values(subject, "a") == [1.0, 2.0, 3.0]
    (summary,) = subject.points.metrics(subject.set)
    assert (summary.last, summary.count) == (3.0, 3)


def test_of_two_streams_at_one_step_the_later_stream_counts_whatever_arrives_last(subject: Subject) -> None:
    subject.add((1, 1, {"a": 1.0}), ordinal=1)
    subject.add((1, 2, {"a": 2.0}), ordinal=0, offset=5000)

    assert values(subject, "a") == [2.0, 1.0]
    assert subject.points.metrics(subject.set)[0].last == 1.0


def test_keys_that_are_logged_now_and_then_stay_at_their_steps(subject: Subject) -> None:
    subject.add(*[(i, i, {"loss": float(i)} | ({"val": i / 2} if i % 3 == 0 else {})) for i in range(10)])

    _, found = subject.points.series(subject.set, ["val"])

    assert list(found["val"].step) == [0, 3, 6, 9]
    assert list(found["val"].last) == [0.0, 1.5, 3.0, 4.5]


def test_ten_thousand_metrics_in_one_record(subject: Subject) -> None:
    names = [f"layer{i}/norm" for i in range(10_000)]
    for step in range(3):
        subject.add((step, step, {name: step + i / 7 for i, name in enumerate(names)}), offset=step * 1000)

    found = subject.points.metrics(subject.set)

    assert [metric.name for metric in found] == sorted(names)
    assert {metric.count for metric in found} == {3}
    assert values(subject, "layer9999/norm") == [9999 / 7, 1 + 9999 / 7, 2 + 9999 / 7]


def test_nan_and_infinities_survive_and_are_counted(subject: Subject) -> None:
    logged = [1.0, NAN, INF, -INF, -0.0, 2.0, NAN]
    subject.add(*[(i, i, {"a": value}) for i, value in enumerate(logged)])

    np.testing.assert_array_equal(values(subject, "a"), logged)
    assert math.copysign(1, values(subject, "a")[4]) == -1
    (summary,) = subject.points.metrics(subject.set)
    assert (summary.special, summary.min, summary.max) == (4, -0.0, 2.0)
    assert math.isnan(summary.last)


def test_a_metric_that_was_never_finite_has_no_bounds(subject: Subject) -> None:
    subject.add((0, 0, {"a": NAN}))

    (summary,) = subject.points.metrics(subject.set)

    assert (summary.min, summary.max, summary.count, summary.special) == (None, None, 1, 1)


def test_numbers_float32_cannot_hold_come_back_exactly(subject: Subject) -> None:
    logged = [0.1, 1e300, 5e-324, 2.0**53, 1 / 3, 123456789.125]
    subject.add(*[(i, i, {"a": value}) for i, value in enumerate(logged)])

    assert values(subject, "a") == logged


def test_the_ends_of_the_range_of_steps_and_times(subject: Subject) -> None:
    low, high = -(2**63), 2**63 - 1
    subject.add((high, low, {"a": 1.0}), (low, high, {"a": 2.0}), (0, 0, {"a": 3.0}))

    _, by_step = subject.points.series(subject.set, ["a"], buckets=2)
    _, by_time = subject.points.series(subject.set, ["a"], x="time")

    assert list(by_step["a"].last) == [2.0, 1.0]
    assert list(by_time["a"].x) == [low, 0, high]


def test_a_window_holds_its_ends_and_nothing_else(subject: Subject) -> None:
    for start in range(0, 100, 10):
        subject.add(*[(i, 1000 - i, {"a": float(i)}) for i in range(start, start + 10)], offset=start * 1000)

    assert values(subject, "a", start=19, end=31) == [float(i) for i in range(19, 32)]
    assert values(subject, "a", start=200) == []
    assert values(subject, "a", x="time", end=903) == [99.0, 98.0, 97.0]


def test_buckets_keep_outliers_and_the_last_value(subject: Subject) -> None:
    logged = [float(i % 10) for i in range(1000)]
    logged[503] = 1e6
    logged[507] = NAN
    subject.add(*[(i, i, {"a": value}) for i, value in enumerate(logged)])

    _, found = subject.points.series(subject.set, ["a"], buckets=10)

    assert list(found["a"].count) == [100] * 10
    assert found["a"].max[5] == 1e6
    assert list(found["a"].special) == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert list(found["a"].x) == list(range(99, 1000, 100))
    assert list(found["a"].last) == [9.0] * 10


def test_names_nobody_logged_are_left_out(subject: Subject) -> None:
    subject.add((0, 0, {"a": 1.0}))

    assert list(subject.points.series(subject.set, ["b", "a"])[1]) == ["a"]
    assert list(subject.points.points(subject.set, ["b"]).points) == []


def test_a_record_without_values_moves_the_cursor(subject: Subject) -> None:
    assert subject.add((0, 0, {})) == 1
    assert subject.add((1, 1, {"a": 1.0}), offset=100) == 2

    assert subject.points.cursor(subject.set) == 2


def test_following_the_cursor_gives_every_point_once_in_order_of_arrival(subject: Subject) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    cursor, seen = 0, []
    for batch in range(20):
        records = [
            (
                rng.randrange(50),
                i,
                {"a": float(batch * 10 + i), "b": 0.0} if rng.random() < 0.7 else {"b": 1.0},
            )
            for i in range(rng.randrange(10))
        ]
        subject.add(*records, offset=batch * 1000)
        more = True
        while more:
            page = subject.points.points(subject.set, ["a"], after=cursor, limit=rng.randrange(1, 5))
            assert page.cursor > cursor or not page.more
            cursor, more = page.cursor, page.more
            if "a" in page.points:
                seen += list(page.points["a"].value)
    everything = subject.points.points(subject.set, ["a"], limit=10**6)

    assert seen == list(everything.points["a"].value)
    assert cursor == everything.cursor == subject.points.cursor(subject.set)


def test_a_cursor_from_the_future_gives_nothing_and_the_true_one(subject: Subject) -> None:
    subject.add((0, 0, {"a": 1.0}))

    page = subject.points.points(subject.set, ["a"], after=99)

    assert (page.cursor, page.more, list(page.points["a"].value)) == (1, False, [])


def test_sets_do_not_see_each_others_points(store: Store) -> None:
    one, other = in_sqlite(store), in_sqlite(store)

    one.add((0, 0, {"a": 1.0}))
    other.add((0, 0, {"a": 2.0}))

    assert values(one, "a") == [1.0]
    assert values(other, "a") == [2.0]


def test_a_name_from_an_undone_transaction_does_not_point_at_another_metric(store: Store) -> None:
    subject = in_sqlite(store)
    with pytest.raises(ZeroDivisionError), store.write() as transaction:
        store.points.append(transaction, subject.set, make_batch([(0, 0, {"undone": 1.0})]))
        raise ZeroDivisionError
    subject.add((0, 0, {"a": 1.0}))

    subject.add((1, 1, {"undone": 2.0}), offset=100)

    assert values(subject, "a") == [1.0]
    assert values(subject, "undone") == [2.0]


def test_a_name_from_an_undone_savepoint_does_not_point_at_another_metric(store: Store) -> None:
    subject = in_sqlite(store)
    with store.write() as transaction:
        with pytest.raises(ZeroDivisionError), transaction.begin_nested():
            store.points.append(transaction, subject.set, make_batch([(0, 0, {"undone": 1.0})]))
            raise ZeroDivisionError
        store.points.append(transaction, subject.set, make_batch([(0, 0, {"a": 1.0})]))

    subject.add((1, 1, {"undone": 2.0}), offset=100)

    assert values(subject, "a") == [1.0]
    assert values(subject, "undone") == [2.0]


_floats = st.one_of(
    st.floats(width=32),
    st.floats(),
    st.integers(-(2**60), 2**60).map(float),
    st.sampled_from([NAN, INF, -INF]),
)
_records = st.lists(
    st.tuples(
        st.integers(0, 30) | st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 1000) | st.integers(-(2**63), 2**63 - 1),
        st.dictionaries(st.sampled_from("abcde"), _floats, max_size=5),
    ),
    max_size=30,
)


class PointStoreMachine(RuleBasedStateMachine):
    """Whatever is appended, folded and merged in whatever order: SQLite answers what the model does."""

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.store = open_in(Path(self.directory.name))
        self.subject, self.model = in_sqlite(self.store), in_memory()
        self.offset = 0

    @rule(records=_records, ordinal=st.integers(0, 2))
    def append(self, records: list[Record], ordinal: int) -> None:
        batch = make_batch(records, ordinal, self.offset)
        self.offset += 100 * len(records)
        assert self.subject.append(batch) == self.model.append(batch)

    @rule()
    def append_and_roll_back(self) -> None:
        with pytest.raises(ZeroDivisionError), self.store.write() as transaction:
            self.store.points.append(
                transaction, self.subject.set, make_batch([(1, 1, {"undone": 1.0, "z": 2.0})])
            )
            raise ZeroDivisionError

    @rule()
    def fold(self) -> None:
        self.subject.fold()

    @rule()
    def merge(self) -> None:
        self.store._folder.fold(self.subject.set, _report())

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_in(Path(self.directory.name))
        self.subject.points = self.store.points
        store, made = self.store, self.subject.set

        def append(batch: PointBatch) -> int:
            with store.write() as transaction:
                return store.points.append(transaction, made, batch)

        self.subject.append = append
        self.subject.fold = lambda: store.fold_all(made)

    @rule(
        x=st.sampled_from(["step", "time"]),
        start=st.none() | st.integers(-5, 40),
        length=st.none() | st.integers(0, 40),
        buckets=st.integers(1, 20),
    )
    def read_series(self, x: Any, start: int | None, length: int | None, buckets: int) -> None:
        end = None if length is None else (start or 0) + length
        window = {"x": x, "start": start, "end": end, "buckets": buckets}
        cursor, found = self.subject.points.series(self.subject.set, list("abcdez"), **window)
        expected_cursor, expected = self.model.points.series(self.model.set, list("abcdez"), **window)
        assert cursor == expected_cursor
        assert_same_series(found, expected)

    @rule(
        after=st.integers(0, 100), limit=st.integers(1, 50), names=st.sampled_from(["a", "ab", "edcba", "z"])
    )
    def read_points(self, after: int, limit: int, names: str) -> None:
        assert_same_page(
            self.subject.points.points(self.subject.set, list(names), after=after, limit=limit),
            self.model.points.points(self.model.set, list(names), after=after, limit=limit),
        )

    @invariant()
    def summaries_agree(self) -> None:
        if hasattr(self, "store"):
            assert_same_metrics(
                self.subject.points.metrics(self.subject.set), self.model.points.metrics(self.model.set)
            )

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.directory.cleanup()


def _report() -> Any:
    from tracker_server.store.folding import FoldReport

    return FoldReport()


PointStoreMachine.TestCase.settings = hypothesis.settings(
    max_examples=25,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    print_blob=True,
)
TestPointStoreMachine = PointStoreMachine.TestCase
