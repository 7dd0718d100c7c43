"""What SQLite does to a transaction by itself, and how the store tells of it."""

from pathlib import Path

import pytest

from tracker_server.store.engine import Database
from tracker_server.store.errors import StoreUnavailable


def test_a_transaction_undone_together_with_its_savepoints_is_one_to_try_again(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/tracker.db")
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO numbers VALUES (1)")
    forgotten: list[str] = []
    database.on_rollback(lambda: forgotten.append("once more"))

    # OR ROLLBACK has SQLite do what it does of itself where a file cannot be read or written.
    with (
        pytest.raises(StoreUnavailable, match="no such savepoint"),
        database.write() as connection,
        connection.begin_nested(),
    ):
        connection.exec_driver_sql("INSERT OR ROLLBACK INTO numbers VALUES (1)")

    assert forgotten
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO numbers VALUES (2)")
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT number FROM numbers").scalars().all()
    assert found == [1, 2]
    database.close()
