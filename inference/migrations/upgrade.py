"""Bring a database to the newest schema, from inside the program; no alembic.ini, no command."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from registry.errors import ConfigError


def upgrade(connection: Connection, to: str = "head") -> None:
    """Apply the missing steps on `connection`, inside the transaction it is in.

    The caller holds the write lock, so two processes that start together cannot both migrate.
    Raises `ConfigError` for a database that a newer program made.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise ConfigError(
            f"this database has a schema this program does not know: {error}",
            hint="it was made by a newer version; install that one",
        ) from error
