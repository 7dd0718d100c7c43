"""ConsoleStore: what runs print, in order of arrival, as compressed blocks of lines (docs/storage.md)."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import zstandard
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from . import schema
from .engine import AnyRow, Database
from .errors import ChunkError, StoreError

VERSION = 1
#: Blocks are merged until they hold this much text.
BLOCK_BYTES = 256 * 1024
#: A run with this many small blocks more gets them merged.
SMALL_BLOCKS_MAX = 32
_BLOCK_BYTES_LIMIT = 256 * 1024 * 1024
_PREFIX = b"c" + bytes([VERSION])


@dataclass(frozen=True)
class ConsoleLine:
    """One line of output. time is ns, stream "stdout" or "stderr", ordinal the writer's place in the run."""

    time: int
    stream: str
    text: str
    ordinal: int


@dataclass(frozen=True)
class ConsolePage:
    """Go on at `cursor` (a line number); `more` says whether there is something there now."""

    cursor: int
    lines: list[ConsoleLine]
    more: bool


class ConsoleStore:
    """Blocks of lines in the metadata database, committed with the offsets."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._small: dict[int, int] = {}

    def append(self, transaction: Connection, run_id: int, lines: Sequence[ConsoleLine]) -> None:
        """Add lines at the end of a run's console."""
        if not lines:
            return
        total = transaction.execute(_COUNT_LINES, {"b_id": run_id, "b_lines": len(lines)}).scalar_one()
        transaction.execute(insert(schema.console), _block(run_id, int(total) - len(lines), lines))
        with self._lock:
            self._small[run_id] = self._small.get(run_id, 0) + 1

    def read(self, run_id: int, *, after: int = 0, limit: int = 1000) -> ConsolePage:
        """Return up to `limit` lines from line number `after` on."""
        if limit < 1 or after < 0:
            raise ValueError("limit is at least 1, after at least 0")
        console = schema.console.c
        lines: list[ConsoleLine] = []
        with self._database.read() as connection:
            total = connection.execute(
                select(schema.runs.c.console_lines).where(schema.runs.c.id == run_id)
            ).scalar_one_or_none()
            firsts = connection.execute(
                select(console.id, console.first)
                .where(console.run_id == run_id, console.first + console.lines > after)
                .order_by(console.first)
            ).all()
            for row in firsts:
                if len(lines) >= limit:
                    break
                blob = connection.execute(select(console.blob).where(console.id == row.id)).scalar_one()
                found = decode_console(blob)
                lines.extend(found[max(0, after - row.first) :][: limit - len(lines)])
        cursor = min(after, total or 0) + len(lines)
        return ConsolePage(cursor, lines, cursor < (total or 0))

    def merge_due(self) -> int:
        """Merge the small blocks of runs that have many; return how many runs were merged."""
        with self._lock:
            due = [run_id for run_id, small in self._small.items() if small > SMALL_BLOCKS_MAX]
        for run_id in due:
            self.merge(run_id)
        return len(due)

    def merge(self, run_id: int) -> None:
        """Merge neighbouring blocks of a run into blocks of about BLOCK_BYTES."""
        console = schema.console.c
        with self._database.read() as connection:
            rows = connection.execute(
                select(console.id, console.first, console.lines, console.bytes)
                .where(console.run_id == run_id)
                .order_by(console.first)
            ).all()
        group: list[AnyRow] = []
        for row in rows:
            if group and sum(part.bytes for part in group) + row.bytes > BLOCK_BYTES:
                self._merge(run_id, group)
                group = []
            group.append(row)
        self._merge(run_id, group)
        with self._lock:
            self._small[run_id] = 0

    def _merge(self, run_id: int, group: list[AnyRow]) -> None:
        if len(group) < 2:
            return
        console = schema.console.c
        ids = [row.id for row in group]
        lines: list[ConsoleLine] = []
        with self._database.read() as connection:
            for row_id in ids:
                blob = connection.execute(select(console.blob).where(console.id == row_id)).scalar_one()
                lines.extend(decode_console(blob))
        merged = _block(run_id, group[0].first, lines)
        with self._database.write() as transaction:
            removed = sum(
                transaction.execute(delete(schema.console).where(console.id == row_id)).rowcount
                for row_id in ids
            )
            if removed != len(ids):
                raise StoreError(
                    "console blocks went away while they were merged: is another server running?"
                )
            transaction.execute(insert(schema.console), merged)

    def learn_debt(self) -> None:
        """Count the small blocks that an earlier process left."""
        console = schema.console.c
        query = select(console.run_id, func.count()).where(console.bytes < BLOCK_BYTES // 2)
        with self._database.read() as connection:
            for run_id, small in connection.execute(query.group_by(console.run_id)):
                if small > SMALL_BLOCKS_MAX:
                    self._small[run_id] = small


def encode_console(lines: Sequence[ConsoleLine]) -> bytes:
    """Return lines as one block."""
    columns = [
        [line.time for line in lines],
        [line.stream == "stderr" for line in lines],
        [line.ordinal for line in lines],
        [line.text for line in lines],
    ]
    packed = msgpack.packb(columns, use_bin_type=True)
    return _PREFIX + zstandard.ZstdCompressor(3, write_checksum=True).compress(packed)


def decode_console(data: bytes) -> list[ConsoleLine]:
    """Return the lines of a block. Raise ChunkError when it is not one."""
    if data[:2] != _PREFIX:
        raise ChunkError("not a console block of version %d" % VERSION)
    try:
        if not 0 <= zstandard.frame_content_size(data[2:]) <= _BLOCK_BYTES_LIMIT:
            raise ChunkError("a console block has no sensible size")
        raw = zstandard.ZstdDecompressor().decompress(data[2:], allow_extra_data=False)
        times, errors, ordinals, texts = msgpack.unpackb(raw, raw=False)
        return [
            ConsoleLine(time, "stderr" if error else "stdout", text, ordinal)
            for time, error, ordinal, text in zip(times, errors, ordinals, texts, strict=True)
        ]
    except (zstandard.ZstdError, ValueError, TypeError, msgpack.UnpackException) as error:
        raise ChunkError("a console block is not intact: %s" % error) from error


def _block(run_id: int, first: int, lines: Sequence[ConsoleLine]) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "first": first,
        "lines": len(lines),
        "bytes": sum(len(line.text) for line in lines),
        "blob": encode_console(lines),
    }


_COUNT_LINES = (
    update(schema.runs)
    .where(schema.runs.c.id == bindparam("b_id"))
    .values(console_lines=schema.runs.c.console_lines + bindparam("b_lines"))
    .returning(schema.runs.c.console_lines)
)
