"""Bring a control database to the newest form, or say how it differs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from bihuan.kernel import UserError
from bihuan.server.control.base import Table

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 4242_1789  # any fixed number: PostgreSQL's lock for "somebody migrates"


class OldDatabaseError(UserError):
    """The control database has an older form than this program."""


class NewDatabaseError(UserError):
    """The control database has a newer form than this program knows."""


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Upgrade the control database to ``revision``; two processes at once take turns.

    Parameters
    ----------
    engine
        From :func:`open_engine`.
    revision
        ``head`` or a revision id.

    Raises
    ------
    NewDatabaseError
        If the database was written by a newer program.
    """
    with engine.begin() as connection:
        _take_turns(connection)
        _require_known(connection)
        command.upgrade(config_over(connection), revision)


def take_back(engine: sa.Engine, revision: str) -> None:
    """Downgrade the control database to ``revision``, ``base`` for nothing at all."""
    with engine.begin() as connection:
        _take_turns(connection)
        command.downgrade(config_over(connection), revision)


@cache
def newest_revision() -> str:
    """Return the id of the newest migration; its files are read once per process."""
    head = ScriptDirectory(str(_FOLDER)).get_current_head()
    return head or ""


def revisions() -> list[str]:
    """Return every revision id, oldest first."""
    scripts = ScriptDirectory(str(_FOLDER))
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


def current_revision(engine: sa.Engine) -> str:
    """Return the revision of the database, empty for an empty database."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def require_current(engine: sa.Engine) -> None:
    """Refuse to work on a database of another form.

    Raises
    ------
    OldDatabaseError, NewDatabaseError
        With what to do.
    """
    with engine.connect() as connection:
        _require_known(connection)
    if current_revision(engine) != newest_revision():
        raise OldDatabaseError(
            "The control database has an older form than this program.",
            remedy="Run `bihuan migrate` (make a backup first).",
            zh="控制库版本过旧，请先备份，再运行 bihuan migrate。",
        )


def differences(engine: sa.Engine) -> list[str]:
    """Return how the database differs from the tables in the code; empty if it does not."""
    import bihuan.server.control  # noqa: F401 - loads every table

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_object": is_ours, "compare_type": False},
        )
        return [str(found) for found in compare_metadata(context, Table.metadata)]


def is_ours(obj: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
    """Tell whether Alembic should look at an object: not at tables that others keep here."""
    return not (kind == "table" and reflected and name not in Table.metadata.tables)


def config_over(connection: sa.Connection) -> Config:
    """Return Alembic's configuration over an open connection."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config


def _take_turns(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def _require_known(connection: sa.Connection) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    if current and current not in revisions():
        raise NewDatabaseError(
            f"The control database has the form {current}, which this program does not know.",
            remedy="Start the newer Bihuan that wrote it, or restore a backup.",
            zh=f"控制库版本 {current} 比当前程序新，请使用更新的程序或恢复备份。",
        )
