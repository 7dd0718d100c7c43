"""Opening the database: one engine for the single writer, one for readers.

What is special about SQLite stands here and nowhere else.

SQLite runs in WAL mode with synchronous=FULL: a commit that returned survives power loss, and
readers, also in other processes, never block the writer or wait for it.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from sqlalchemy import Connection, CursorResult, Engine, Row, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .errors import StoreDamaged, StoreError, StoreFull, StoreUnavailable

READERS_MAX = 8
BUSY_TIMEOUT_S = 10
#: Kept small on purpose: a large page cache was measured to buy no ingest speed (docs/storage.md).
_CACHE_KIB = 16 * 1024
#: Each reader's own: what they read again comes from the kernel's cache.
_READER_CACHE_KIB = 2 * 1024
_WAL_BYTES_KEPT = 64 * 1024 * 1024

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
}


_COUNT_COMMIT = (
    "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE name = 'commits' RETURNING value"
)

#: A row of whatever columns.
AnyRow: TypeAlias = Row[*tuple[Any, ...]]


class Database:
    """The writer's connection and a bounded pool of readers' connections to one database."""

    def __init__(self, url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._note_commit: Callable[[int], None] | None = None
        self._on_rollback: list[Callable[[], None]] = []
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise StoreError("the SQLite store needs a file: sqlite:////path/to/tracker.db")
            arguments: dict[str, Any] = {"timeout": busy_timeout_s, "isolation_level": None}
            self._writer = create_engine(parsed, connect_args=arguments, pool_size=1, max_overflow=0)
            self._readers = create_engine(
                parsed,
                connect_args=arguments,
                pool_size=READERS_MAX,
                max_overflow=0,
                pool_timeout=30,
                # Those that are not needed at the same time stay empty.
                pool_use_lifo=True,
            )
            _prepare_sqlite(self._writer, begin="BEGIN IMMEDIATE", read_only=False)
            _prepare_sqlite(self._readers, begin="BEGIN", read_only=True)
        else:
            self._writer = create_engine(parsed, pool_size=1, max_overflow=0)
            self._readers = create_engine(
                parsed, pool_size=READERS_MAX, max_overflow=0, isolation_level="REPEATABLE READ"
            )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield the writer's connection in a transaction: committed at the end, undone by an exception."""
        with self._lock:
            commits = None
            try:
                with self._translated(), self._writer.begin() as connection:
                    yield connection
                    if self._note_commit is not None:
                        commits = int(connection.exec_driver_sql(_COUNT_COMMIT).scalar_one())
            except BaseException:
                # Also where COMMIT itself failed, of which SQLAlchemy tells no listener.
                for forget in self._on_rollback:
                    forget()
                raise
            if self._note_commit is not None and commits is not None:
                self._note_commit(commits)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees one committed state of the database."""
        with self._translated(), self._readers.connect() as connection:
            yield connection

    def on_commit(self, note: Callable[[int], None]) -> None:
        """Count commits from now on, in the database, and call `note` with the number of each."""
        self._note_commit = note

    def on_rollback(self, forget: Callable[[], None]) -> None:
        """Call `forget` whenever something the writer did is undone, in whole or to a savepoint."""
        self._on_rollback.append(forget)
        event.listen(self._writer, "rollback_savepoint", lambda connection, name, context: forget())

    def close(self) -> None:
        """Close every connection that is not in use."""
        with self._lock:
            self._readers.dispose()
            self._writer.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _translate(error, self.url) from error
        except PoolTimeout as error:
            raise StoreUnavailable("all %d readers are busy; try again" % READERS_MAX) from error


def _prepare_sqlite(engine: Engine, begin: str, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _: Any) -> None:
        cursor = connection.cursor()
        if not read_only:
            # Pages freed by folding are used again; deleted runs' pages can be given back later.
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA journal_size_limit=%d" % _WAL_BYTES_KEPT)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA cache_size=-%d" % (_READER_CACHE_KIB if read_only else _CACHE_KIB))
        cursor.execute("PRAGMA mmap_size=0")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA query_only=%d" % read_only)
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _translate(error: DBAPIError, url: str) -> StoreError:
    where = make_url(url).render_as_string(hide_password=True)
    code = getattr(error.orig, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary in _DAMAGED:
        return StoreDamaged("the database %s is damaged (%s): restore it from a backup" % (where, error.orig))
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull("the disk of the database %s is full (%s)" % (where, error.orig))
    # SQLite undoes the whole transaction, savepoints too, where it cannot read or write a file.
    undone = "no such savepoint" in str(error.orig)
    if primary in _UNAVAILABLE or undone or error.connection_invalidated:
        return StoreUnavailable("the database %s cannot be used now (%s)" % (where, error.orig))
    return StoreError("the database %s refused a statement (%s)" % (where, error))


def inserted_id(result: CursorResult[*tuple[Any, ...]]) -> int:
    """Return the key that an INSERT of one row made."""
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])
