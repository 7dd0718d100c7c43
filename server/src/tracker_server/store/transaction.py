"""Transaction: what one commit() may do to the store, all of it or nothing."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection

from .chunk_points import ChunkPointStore
from .console import ConsoleLine, ConsoleStore
from .host_events import HostEventRows
from .host_rows import HostRows
from .observed_rows import ObservedRows
from .points import PointBatch
from .run_files import RunFileRows
from .run_rows import RunRows
from .stops import StopRows
from .stream_rows import StreamRows
from .writer_samples import WriterSampleRows


class Transaction:
    """The rows that ingest writes, by what they are about; they decide nothing."""

    def __init__(self, connection: Connection, points: ChunkPointStore, console: ConsoleStore) -> None:
        self._connection = connection
        self._points = points
        self._console = console
        self.streams = StreamRows(connection)
        self.runs = RunRows(connection, points)
        self.hosts = HostRows(connection, points)
        self.host_events = HostEventRows(connection)
        self.writer_samples = WriterSampleRows(connection, points)
        self.stops = StopRows(connection)
        self.observed = ObservedRows(connection)
        self.files = RunFileRows(connection)

    def savepoint(self) -> AbstractContextManager[Any]:
        """Return a block that is undone alone when it raises."""
        return self._connection.begin_nested()

    def append_points(self, points_id: int, batch: PointBatch) -> None:
        """Add points to a set: of a run, a host or a writer's process."""
        self._points.append(self._connection, points_id, batch)

    def append_console(self, run_id: int, lines: Sequence[ConsoleLine]) -> None:
        """Add console lines to a run."""
        self._console.append(self._connection, run_id, lines)
