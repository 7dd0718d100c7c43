"""The files of runs: which path had which content last. The bytes themselves are blobs (blobs.py)."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from . import schema
from .engine import AnyRow, Database
from .errors import NotFound
from .text import clean_text

_FILES = schema.run_files.c


@dataclass(frozen=True)
class Source:
    """Who sends a run's files: each source has its own versions of a path, so that none is lost."""

    run_id: int
    machine: str
    uid: int
    host: str


@dataclass(frozen=True)
class RunFile:
    """A file of a run, in its newest version. Times are ns."""

    path: str
    sha256: str
    size: int
    mtime: int
    policy: str
    revision: int
    updated: int
    machine: str
    host: str
    uid: int


@dataclass(frozen=True)
class RunFilePage:
    """Files by path. cursor is None on the last page; files and bytes count all of them."""

    files: list[RunFile]
    cursor: str | None
    total: int
    bytes: int


class RunFileRows:
    """The statements that set files, within one transaction. They decide nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def count(self, run_id: int) -> int:
        """Return how many files a run has."""
        query = select(func.count()).where(_FILES.run_id == run_id)
        return int(self._connection.execute(query).scalar_one())

    def find(self, source: Source, path: str) -> RunFile | None:
        """Return what a source has set for a path."""
        row = self._connection.execute(select(schema.run_files).where(_same(source, path))).one_or_none()
        return None if row is None else _run_file(row)

    def set(self, source: Source, file: RunFile) -> None:
        """Set a path, whatever stood there."""
        values = {
            "host": clean_text(source.host),
            "sha256": bytes.fromhex(file.sha256),
            "size": file.size,
            "mtime": file.mtime,
            "policy": file.policy,
            "revision": file.revision,
            "updated": file.updated,
        }
        changed = self._connection.execute(
            update(schema.run_files).where(_same(source, file.path)).values(values)
        )
        if not changed.rowcount:
            key = {"run_id": source.run_id, "machine": source.machine, "uid": source.uid, "path": file.path}
            self._connection.execute(insert(schema.run_files).values(key | values))


class RunFileStore:
    """Questions about the files of a run. Reads only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, run_id: int, limit: int = 1000, cursor: str | None = None) -> RunFilePage:
        """Return a page of a run's files. Raise ValueError on a cursor that is none."""
        query = select(schema.run_files).where(_FILES.run_id == run_id)
        if cursor is not None:
            path, last_id = _read_cursor(cursor)
            query = query.where(or_(_FILES.path > path, and_(_FILES.path == path, _FILES.id > last_id)))
        totals = select(func.count(), func.coalesce(func.sum(_FILES.size), 0)).where(_FILES.run_id == run_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_FILES.path, _FILES.id).limit(limit + 1)).all()
            total, size = connection.execute(totals).one()
        following = None
        if len(rows) > limit:
            rows = rows[:limit]
            following = _write_cursor(rows[-1].path, rows[-1].id)
        return RunFilePage([_run_file(row) for row in rows], following, int(total), int(size))

    def find(self, run_id: int, path: str, machine: str | None = None) -> RunFile:
        """Return a file of a run; of several machines' the one set last. Raise NotFound."""
        query = select(schema.run_files).where(_FILES.run_id == run_id, _FILES.path == path)
        if machine is not None:
            query = query.where(_FILES.machine == machine)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(_FILES.updated.desc(), _FILES.id.desc()).limit(1)).first()
        if row is None:
            raise NotFound("the run has no such file")
        return _run_file(row)


def _same(source: Source, path: str):  # type: ignore[no-untyped-def] # SQLAlchemy's own type says nothing more
    return and_(
        _FILES.run_id == source.run_id,
        _FILES.machine == source.machine,
        _FILES.uid == source.uid,
        _FILES.path == path,
    )


def _run_file(row: AnyRow) -> RunFile:
    return RunFile(
        row.path, row.sha256.hex(), row.size, row.mtime, row.policy, row.revision, row.updated,
        row.machine, row.host, row.uid,
    )  # fmt: skip


def _write_cursor(path: str, row_id: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([path, row_id]).encode()).decode()


def _read_cursor(cursor: str) -> tuple[str, int]:
    try:
        path, row_id = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, TypeError) as error:
        raise ValueError("not a cursor of this server") from error
    if type(path) is not str or type(row_id) is not int or not 0 <= row_id < 2**63:
        raise ValueError("not a cursor of this server")
    return path, row_id
