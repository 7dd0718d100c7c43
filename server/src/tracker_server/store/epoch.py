"""The epoch: which life of the database this is, so that agents notice when it was restored.

At every start a random token is written into the database and then into a file beside it. A
database that was put back from a backup holds an older token than the file, and gets a new epoch.
A crash between the two writes does so, too: agents then ask for their offsets once more, no harm.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from .accounts import Database
from .schema import meta


class Life(NamedTuple):
    """One start of a server on a database. token belongs into the file beside it."""

    epoch: str
    token: str


def begin_life(database: Database, token_in_file: str | None) -> Life:
    """Note a start, with a new epoch unless the database is the one of the last start."""
    with database.write() as connection:
        token = _read(connection, "life")
        epoch = _read(connection, "epoch")
        if epoch is None or (token is not None and token != token_in_file):
            epoch = secrets.token_hex(16)
            _write(connection, "epoch", epoch)
        life = Life(epoch, secrets.token_hex(16))
        _write(connection, "life", life.token)
        return life


def _read(connection: Connection, name: str) -> str | None:
    value = connection.scalar(select(meta.c.value).where(meta.c.name == name))
    return None if value is None else str(value)


def _write(connection: Connection, name: str, value: str) -> None:
    connection.execute(delete(meta).where(meta.c.name == name))
    connection.execute(insert(meta).values(name=name, value=value))
