"""The epoch: which life of the database this is, so that agents notice when it was restored.

At every start a random token is written into the database and then into a file beside it, and the
number of each commit after it. A database that was put back from a backup holds another token than
the file, or fewer commits, and gets a new epoch. So does one whose file is lost or was not written
before a crash: agents then ask for their offsets once more, no harm.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from .engine import Database
from .schema import meta


class Mark(NamedTuple):
    """A moment of a database: the start of a server on it, and how many commits servers made in all."""

    token: str
    commits: int

    def __str__(self) -> str:
        # Of one length, so that a later one overwrites an earlier one in place.
        return f"{self.token} {self.commits:020}\n"

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """Return what str() wrote, None for anything else."""
        token, _, commits = text.strip().partition(" ")
        return cls(token, int(commits)) if token and commits.isdecimal() else None


class Life(NamedTuple):
    """One start of a server on a database. mark belongs into the file beside it."""

    epoch: str
    mark: Mark


def begin_life(database: Database, in_file: Mark | None) -> Life:
    """Note a start, with a new epoch unless the database is where the last server left it."""
    with database.write() as connection:
        token = _read(connection, "life")
        epoch = _read(connection, "epoch")
        commits = int(_read(connection, "commits") or 0)
        left = in_file is not None and in_file.token == token and in_file.commits <= commits
        if epoch is None or (token is not None and not left):
            epoch = secrets.token_hex(16)
            _write(connection, "epoch", epoch)
        mark = Mark(secrets.token_hex(16), commits)
        _write(connection, "life", mark.token)
        _write(connection, "commits", str(commits))
        return Life(epoch, mark)


def _read(connection: Connection, name: str) -> str | None:
    value = connection.scalar(select(meta.c.value).where(meta.c.name == name))
    return None if value is None else str(value)


def _write(connection: Connection, name: str, value: str) -> None:
    connection.execute(delete(meta).where(meta.c.name == name))
    connection.execute(insert(meta).values(name=name, value=value))
