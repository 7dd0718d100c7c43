"""Databases of every age open, and those that cannot are refused with a reason."""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from tests.golden.database.generate import DUMP, observe
from tests.support.stores import open_in
from tracker_server.store import migrations, schema
from tracker_server.store.engine import Database
from tracker_server.store.errors import SchemaTooNew, StoreDamaged, StoreError, StoreUnavailable

ROOT = Path(__file__).resolve().parents[3]


def restore_first(directory: Path) -> None:
    """Make the database of the first schema, with the data it came with."""
    with sqlite3.connect(directory / "tracker.db") as connection:
        connection.executescript(gzip.decompress(DUMP.read_bytes()).decode())
    connection.close()


def test_a_database_of_the_first_schema_reads_the_same_after_the_upgrade(tmp_path: Path) -> None:
    restore_first(tmp_path)

    store = open_in(tmp_path)

    expected = json.loads(DUMP.with_name("first.json").read_text())
    assert json.loads(json.dumps(observe(store))) == expected
    store.close()


def test_an_upgraded_database_can_do_what_the_new_schema_brought(tmp_path: Path) -> None:
    restore_first(tmp_path)
    store = open_in(tmp_path)
    run = store.runs.find(1, "golden")

    store.runs.grant(run, 1, None, 1, 5)

    with store.read() as connection:
        assert len(connection.execute(schema.run_grants.select()).all()) == 1
    store.close()


def test_the_first_schema_is_the_first(tmp_path: Path) -> None:
    restore_first(tmp_path)

    with sqlite3.connect(tmp_path / "tracker.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'run_grants'").fetchall()
    connection.close()


def tables_of(connection: sqlite3.Connection) -> dict[str, Any]:
    found = {}
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if name != "alembic_version":
            found[name] = (
                connection.execute(f"PRAGMA table_info({name})").fetchall(),
                sorted(row[2:] for row in connection.execute(f"PRAGMA foreign_key_list({name})")),
                sorted(
                    (row[2], row[3], tuple(c[2] for c in connection.execute(f"PRAGMA index_info({row[1]})")))
                    for row in connection.execute(f"PRAGMA index_list({name})")
                ),
            )
    return found


def test_migrations_lead_to_the_schema_in_the_code(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'migrated.db'}")
    with database.write() as transaction:
        migrations.upgrade(transaction)
        context = MigrationContext.configure(transaction, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    database.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    schema.metadata.create_all(engine)
    engine.dispose()

    migrated = sqlite3.connect(tmp_path / "migrated.db")
    created = sqlite3.connect(tmp_path / "created.db")

    assert tables_of(migrated) == tables_of(created)
    migrated.close()
    created.close()


def test_the_head_that_a_start_compares_with_is_the_newest_step(tmp_path: Path) -> None:
    versions = Path(migrations.__file__).parent / "versions"
    newest = max(path.name.partition("_")[0] for path in versions.glob("[0-9]*.py"))
    open_in(tmp_path).close()

    with sqlite3.connect(tmp_path / "tracker.db") as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    connection.close()

    assert found == [(migrations.HEAD,)]
    assert newest == migrations.HEAD


def test_a_start_on_a_current_database_does_without_alembic(tmp_path: Path) -> None:
    open_in(tmp_path).close()
    script = (
        "import sys; from pathlib import Path; from tests.support.stores import open_in;"
        " open_in(Path(sys.argv[1])).close(); print('alembic' in sys.modules)"
    )

    printed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert printed == "False\n"


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_in(tmp_path).close()
    with sqlite3.connect(tmp_path / "tracker.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    with pytest.raises(SchemaTooNew, match=r"9999.*at least as new"):
        open_in(tmp_path)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "tracker.db") as connection:
        connection.execute("CREATE TABLE cakes (name)")
    connection.close()

    with pytest.raises(StoreError, match="other tables"):
        open_in(tmp_path)


@pytest.mark.parametrize("content", [b"not a database at all, but quite long " * 100])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tracker.db").write_bytes(content)

    with pytest.raises(StoreDamaged, match="backup"):
        open_in(tmp_path)


def test_a_torn_database_is_a_clear_error(tmp_path: Path) -> None:
    open_in(tmp_path).close()
    path = tmp_path / "tracker.db"
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 40_000)

    with pytest.raises(StoreDamaged):
        open_in(tmp_path)


def test_a_database_someone_else_holds_is_a_clear_error(tmp_path: Path) -> None:
    open_in(tmp_path).close()
    other = sqlite3.connect(tmp_path / "tracker.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked"):
        open_in(tmp_path, busy_timeout_s=0.1)

    other.close()


def test_a_directory_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not exist"):
        open_in(tmp_path / "nowhere")


def test_the_epoch_stays_until_the_database_is_another_one(tmp_path: Path) -> None:
    store = open_in(tmp_path)
    epoch = store.epoch
    store.close()
    again = open_in(tmp_path)
    (tmp_path / "other").mkdir()
    other = open_in(tmp_path / "other")

    assert again.epoch == epoch
    assert other.epoch != epoch
    again.close()
    other.close()


def test_two_processes_may_make_the_database_at_once(tmp_path: Path) -> None:
    stores: list[Any] = []

    def open_one() -> None:
        stores.append(open_in(tmp_path))

    threads = [threading.Thread(target=open_one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({store.epoch for store in stores}) == 1
    for store in stores:
        store.close()


def test_the_settings_that_make_a_commit_durable_are_on(tmp_path: Path) -> None:
    store = open_in(tmp_path)

    with store.write() as transaction:
        found = {
            name: transaction.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum")
        }

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "auto_vacuum": 2}
    store.close()
