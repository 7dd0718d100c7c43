"""Folding may die at any moment: readers always find every point once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.support.point_batches import assert_same_metrics, assert_same_page, assert_same_series, make_batch
from tests.support.stores import failing_at, open_in
from tracker_server.store import schema, tail_debt
from tracker_server.store.errors import StoreDamaged
from tracker_server.store.folding import FoldReport
from tracker_server.store.store import Store

NAMES = ["a", "b", "sparse"]


def fill(store: Store, batches: int = 70, records: int = 70) -> int:
    """Make a set with more records than a fold wants and more tail rows than a merge wants."""
    with store.write() as transaction:
        points_id = store.points.create(transaction)
    for number in range(batches):
        rows = [
            (
                (number * records + i) ^ 3,
                i,
                {"a": i / 3, "b": float(i)} | ({"sparse": float("nan")} if i % 50 == 0 else {}),
            )
            for i in range(records)
        ]
        with store.write() as transaction:
            store.points.append(transaction, points_id, make_batch(rows, offset=number * 100 * records))
    return points_id


def answers(store: Store, points_id: int) -> tuple[Any, ...]:
    return (
        store.points.metrics(points_id),
        store.points.series(points_id, NAMES, buckets=100)[1],
        store.points.points(points_id, NAMES, limit=10**6),
    )


def assert_same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    assert_same_metrics(found[0], expected[0])
    assert_same_series(found[1], expected[1])
    assert_same_page(found[2], expected[2])


def count(store: Store, table: Any) -> int:
    with store.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_folding_and_merging_change_rows_and_no_answer(store: Store) -> None:
    points_id = fill(store)
    before = answers(store, points_id)
    assert count(store, schema.tails) == 70

    report = store.fold_due()

    assert (report.folded, report.failed) == (1, {})
    assert (count(store, schema.axes), count(store, schema.chunks)) == (1, 3)
    assert count(store, schema.tails) <= 1 + tail_debt.TAIL_ROWS_MAX
    assert_same(answers(store, points_id), before)


def test_chunks_say_what_is_in_them(store: Store) -> None:
    points_id = fill(store)

    store.fold_all(points_id)

    with store.read() as connection:
        sums = connection.execute(
            select(
                schema.metrics.c.name,
                func.sum(schema.chunks.c.count),
                func.sum(schema.chunks.c.special),
                func.min(schema.chunks.c.min),
                func.max(schema.chunks.c.max),
            )
            .join(schema.chunks, schema.chunks.c.metric_id == schema.metrics.c.id)
            .group_by(schema.metrics.c.name)
        ).all()
    expected = [(m.name, m.count, m.special, m.min, m.max) for m in store.points.metrics(points_id)]
    assert sorted(tuple(row) for row in sums) == expected


def test_many_small_batches_leave_few_tail_rows(store: Store) -> None:
    with store.write() as transaction:
        points_id = store.points.create(transaction)
    for number in range(600):
        with store.write() as transaction:
            store.points.append(transaction, points_id, make_batch([(number, 0, {"a": 1.0})], offset=number))
        store.fold_due()

    assert count(store, schema.tails) <= tail_debt.TAIL_ROWS_MAX + 1
    assert store.points.series(points_id, ["a"], buckets=1)[1]["a"].count[0] == 600


def test_an_exception_at_any_statement_leaves_all_points(store: Store) -> None:
    points_id = fill(store)
    before = answers(store, points_id)
    fail_at = 0
    failed = True
    while failed:
        fail_at += 1
        try:
            with failing_at(fail_at, store.database._writer, store.database._readers):
                store._folder.fold(points_id, FoldReport(), everything=True)
            failed = False
        except ZeroDivisionError:
            pass
        assert_same(answers(store, points_id), before)
    assert fail_at > 5


# Forks a child per moment, so that Python starts only once. A child kills itself at its moment.
FOLDER = """
import os, shutil, signal, sys
from pathlib import Path
from sqlalchemy import event
from tests.support.stores import open_in

root, points_id = Path(sys.argv[1]), int(sys.argv[2])

def fold_and_die(directory, at):
    store, count = open_in(directory), 0
    def die(*_):
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(store.database._writer, name, die)
    store.fold_all(points_id)

at = status = 1
while status:
    directory = root / str(at)
    shutil.copytree(root / "original", directory)
    child = os.fork()
    if not child:
        fold_and_die(directory, at)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    at += 1
"""


def test_sigkill_at_any_moment_of_a_fold_leaves_all_points(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    store = open_in(original)
    points_id = fill(store)
    before = answers(store, points_id)
    store.close()

    subprocess.run(
        [sys.executable, "-c", FOLDER, str(tmp_path), str(points_id)],
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=True,
    )

    folds = [int(directory.name) for directory in tmp_path.iterdir() if directory != original]
    for at in sorted(folds):
        store = open_in(tmp_path / str(at))
        assert_same(answers(store, points_id), before)
        store.fold_all(points_id)
        assert_same(answers(store, points_id), before)
        store.close()
    assert len(folds) > 8


WRITER = """
import sys
from pathlib import Path
from tests.support.point_batches import make_batch
from tests.support.stores import open_in
store = open_in(Path(sys.argv[1]))
step = 0
while step < 20_000:
    rows = [(step + i, step + i, {"a": float(step + i)}) for i in range(100)]
    with store.write() as transaction:
        store.points.append(transaction, int(sys.argv[2]), make_batch(rows, offset=step * 100))
    step += 100
    store.fold_due()
"""


def test_another_process_reads_whole_batches_while_this_one_writes_and_folds(
    store: Store, tmp_path: Path
) -> None:
    with store.write() as transaction:
        points_id = store.points.create(transaction)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(points_id)])

    cursor, seen, polls = 0, 0, 0
    deadline = time.monotonic() + 120
    while cursor < 20_000:
        assert time.monotonic() < deadline
        page = store.points.points(points_id, ["a"], after=cursor, limit=2500)
        if "a" in page.points:
            values = page.points["a"].value
            assert list(values) == list(range(seen, seen + len(values)))
            seen += len(values)
        assert page.cursor == seen
        total, series = store.points.series(points_id, ["a"], buckets=7)
        if series:
            assert total % 100 == 0
            assert series["a"].count.sum() == total
            assert series["a"].last[-1] == total - 1
        cursor = page.cursor
        polls += 1
    assert writer.wait(60) == 0
    assert polls > 8


@pytest.mark.parametrize("table", ["tails", "chunks"])
def test_a_damaged_blob_is_a_clear_error_and_stops_no_other_set(store: Store, table: str) -> None:
    bad, good = fill(store), fill(store)
    if table == "chunks":
        store.fold_all(bad)
    with store.write() as transaction:
        blobs = schema.metadata.tables[table]
        transaction.execute(blobs.update().where(blobs.c.id == 1).values(blob=b"rubbish"))

    report = store.fold_due()

    with pytest.raises(StoreDamaged, match="chunk"):
        store.points.series(bad, NAMES)
    assert store.points.series(good, NAMES)[1]["a"].count.sum() == 4900
    assert list(report.failed) == ([bad] if table == "tails" else [])
