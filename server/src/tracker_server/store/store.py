"""Store: everything the server keeps, behind one object. open_store() is the way to get one.

All methods are synchronous and may be called from any thread. One thread at a time writes; readers use
connections of their own and never wait for it. SQL stays inside this package.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, and_, exists, insert, make_url, or_, select

from ..principal import Principal
from . import migrations, schema
from .blobs import BlobDirectory
from .chunk_points import ChunkPointStore
from .console import ConsoleStore
from .engine import BUSY_TIMEOUT_S, Database
from .errors import StoreUnavailable
from .folding import Folder, FoldReport
from .host_events import HostEventStore
from .hosts import HostStore
from .runs import RunStore
from .stops import StopStore
from .tail_debt import TailDebt
from .transaction import Transaction
from .writer_samples import WriterSamples


@dataclass(frozen=True)
class Offset:
    """Where a stream is to go on. crc and last describe the last committed line, None right after a gap."""

    uid: int
    stream: bytes
    next: int
    crc: int | None
    last: int | None


class Store:
    """The stores of one database and one blob directory.

    runs, points, console, hosts, host_events, writer_samples, stops and blobs answer queries;
    transaction() is for commit().
    """

    def __init__(self, database: Database, blobs: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.database = database
        self._clock = clock
        self._debt = TailDebt()
        self.points = ChunkPointStore(database, self._debt)
        self.runs = RunStore(database, self.points)
        self.console = ConsoleStore(database)
        self.hosts = HostStore(database, self.points)
        self.host_events = HostEventStore(database)
        self.writer_samples = WriterSamples(database, self.points)
        self.stops = StopStore(database)
        self.blobs = BlobDirectory(blobs)
        self._folder = Folder(database, self._debt)
        self._folder.learn_debt()
        self.console.learn_debt()

    @property
    def epoch(self) -> str:
        """Return the random name of this database; another one after a restore."""
        query = select(schema.meta.c.value).where(schema.meta.c.name == "epoch")
        with self.database.read() as connection:
            return str(connection.execute(query).scalar_one())

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yield what commit() writes with: committed at the end of the block, undone by an exception."""
        with self.database.write() as connection:
            yield Transaction(connection, self.points, self.console)

    def write(self) -> AbstractContextManager[Connection]:
        """Return the writer's transaction: committed at the end of the block, undone by an exception."""
        return self.database.write()

    def read(self) -> AbstractContextManager[Connection]:
        """Return a reader's connection, which sees one committed state."""
        return self.database.read()

    def offsets(self, principal: Principal, streams: Sequence[tuple[int, bytes]]) -> list[Offset]:
        """Return the position of each (uid, stream id) that the principal may write to; 0 for all others.

        How far somebody else's stream is, or that there is one, is none of his business: ingest() refuses
        what he sends to it without saying so, too.
        """
        found: dict[tuple[int, bytes], Offset] = {}
        table, runs, grants = schema.streams.c, schema.runs.c, schema.run_grants.c
        granted = exists().where(
            grants.run_id == table.run_id,
            grants.principal_id == principal.id,
            or_(grants.uid.is_(None), grants.uid == table.uid),
        )
        his = or_(
            and_(table.run_id.is_(None), table.principal_id == principal.id),
            and_(runs.principal_id == principal.id, runs.uid == table.uid),
            granted,
        )
        known = select(table.uid, table.stream, table.next, table.crc, table.last).select_from(
            schema.streams.outerjoin(schema.runs, runs.id == table.run_id)
        )
        with self.database.read() as connection:
            for at in range(0, len(streams), 500):
                ids = [stream for _, stream in streams[at : at + 500]]
                for row in connection.execute(
                    known.where(table.entity_id == principal.entity_id, table.stream.in_(ids), his)
                ):
                    found[row.uid, row.stream] = Offset(*row)
        return [found.get(key) or Offset(*key, 0, None, None) for key in streams]

    def fold_due(self) -> FoldReport:
        """Do a round of background work. Call it every second or so, in one thread."""
        report = self._folder.fold_due(self._clock())
        report.merged += self.console.merge_due()
        return report

    def fold_all(self, points_id: int) -> FoldReport:
        """Fold a set whatever its size (tests and maintenance)."""
        report = FoldReport()
        self._folder.fold(points_id, report, self._clock(), everything=True)
        return report

    def close(self) -> None:
        """Close the database. Safe to call twice."""
        self.database.close()


def open_store(
    url: str,
    blobs: Path,
    *,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
) -> Store:
    """Open the database at url (sqlite:////path/tracker.db), making or migrating it where needed.

    Raise SchemaTooNew, StoreUnavailable (locked, unreadable) or StoreDamaged (not a database, torn).
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        directory = Path(parsed.database).parent
        if not directory.is_dir():
            raise StoreUnavailable("the directory %s of the database does not exist" % directory)
    database = Database(url, busy_timeout_s)
    try:
        with database.write() as transaction:
            migrations.upgrade(transaction)
            _ensure_epoch(transaction)
        return Store(database, blobs, clock)
    except BaseException:
        database.close()
        raise


def _ensure_epoch(transaction: Connection) -> None:
    query = select(schema.meta.c.value).where(schema.meta.c.name == "epoch")
    if transaction.execute(query).scalar_one_or_none() is None:
        transaction.execute(insert(schema.meta).values(name="epoch", value=os.urandom(16).hex()))
