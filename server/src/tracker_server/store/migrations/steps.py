"""Runs the numbered steps of versions/ with Alembic."""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect

from ..errors import SchemaTooNew, StoreError


def run_steps(connection: Connection, target: str) -> None:
    """Bring the database to `target` inside the caller's transaction. Nothing to do is fine.

    Raise SchemaTooNew when it was written by a newer server, StoreError when it is not ours.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None and inspect(connection).get_table_names():
        raise StoreError("this database holds other tables: give Tracker one of its own")
    try:
        if current is not None:
            script.get_revision(current)
    except CommandError as error:
        raise SchemaTooNew(
            "the database has schema %s, this server knows up to %s: start a server at least as new as"
            " the one that wrote it" % (current, script.get_current_head())
        ) from error
    if current == script.as_revision_number(target):
        return
    environment = EnvironmentContext(
        config,
        script,
        fn=lambda revision, _: script._upgrade_revs(target, revision),  # noqa: SLF001 - what Alembic's own command calls
    )
    with environment:
        environment.configure(connection=connection)
        environment.run_migrations()
