"""The road from any earlier schema to the one in schema.py: numbered steps, run by Alembic.

Alembic takes longer to load than all the rest of a start, so only a database that is not at HEAD loads it.
"""

from sqlalchemy import Connection, inspect, text

#: The newest step in versions/.
HEAD = "0005"


def upgrade(connection: Connection, target: str = "head") -> None:
    """Bring the database to `target` inside the caller's transaction. Nothing to do is fine.

    Raise SchemaTooNew when it was written by a newer server, StoreError when it is not ours.
    """
    if _is_at_head(connection) and target in ("head", HEAD):
        return
    from .steps import run_steps

    run_steps(connection, target)


def _is_at_head(connection: Connection) -> bool:
    if not inspect(connection).has_table("alembic_version"):
        return False
    return list(connection.execute(text("SELECT version_num FROM alembic_version")).scalars()) == [HEAD]
