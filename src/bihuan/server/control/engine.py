"""Open the control database: SQLite embedded, PostgreSQL in production."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine, make_url

from bihuan.kernel import UserError

try:
    import pysqlite3 as sqlite
except ImportError:  # no wheel for this system: the interpreter's own, without WAL if it is old
    import sqlite3 as sqlite

WRITING = "bihuan_writing"
"""Connection option: the transaction takes SQLite's write lock at its start, not at its first
write, so that two writers queue instead of one failing half-way."""


class UnknownDatabaseError(UserError):
    """The control database's URL names a database that Bihuan does not run on."""


def has_wal_reset_defect(version: tuple[int, int, int]) -> bool:
    """Tell whether SQLite ``version`` may lose commits in WAL mode with several connections.

    The WAL-reset race came with 3.7.0 and was mended in 3.51.3, with back-ports 3.44.6 and
    3.50.7.

    Examples
    --------
    >>> has_wal_reset_defect((3, 40, 1)), has_wal_reset_defect((3, 44, 6))
    (True, False)
    >>> has_wal_reset_defect((3, 51, 2)), has_wal_reset_defect((3, 53, 4))
    (True, False)
    """
    if version >= (3, 51, 3):
        return False
    back_ports = {(3, 44): 6, (3, 50): 7}
    mended = back_ports.get(version[:2])
    return mended is None or version[2] < mended


def journal_mode(driver: ModuleType) -> str:
    """Return the journal mode that is safe with ``driver``'s SQLite: ``wal`` or ``truncate``."""
    return "truncate" if has_wal_reset_defect(driver.sqlite_version_info) else "wal"


def open_engine(url: str | URL, *, pool_size: int = 20) -> Engine:
    """Return an engine for the control database.

    Parameters
    ----------
    url
        ``sqlite:///path/control.db`` or ``postgresql://user@host/name``.
    pool_size
        Connections kept open, 1 or more.

    Returns
    -------
    sqlalchemy.Engine
        SQLite: ``synchronous=FULL``, foreign keys on, WAL only where SQLite's WAL is sound
        (:func:`has_wal_reset_defect`), a patient lock (10 s). PostgreSQL: driver psycopg 3.

    Raises
    ------
    UnknownDatabaseError
        If the URL names another database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed, pool_size)
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
        )
    raise UnknownDatabaseError(
        f"Bihuan cannot keep its control database in {parsed.get_backend_name()!r}.",
        remedy="Give sqlite:///path/control.db or postgresql://user@host/name.",
        zh="控制库只支持 sqlite:///路径 或 postgresql://用户@主机/库名。",
    )


def _open_sqlite(url: URL, pool_size: int) -> Engine:
    engine = sa.create_engine(
        url.set(drivername="sqlite+pysqlite"),
        module=sqlite,
        pool_size=pool_size,
        max_overflow=0,
        poolclass=sa.pool.QueuePool,
        connect_args={"check_same_thread": False, "timeout": 10},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, by name
        connection.execute(f"PRAGMA journal_mode={journal_mode(sqlite)}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA busy_timeout=10000")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get(WRITING, True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


@dataclass(frozen=True, slots=True)
class SqliteState:
    """How SQLite keeps its promises in this database."""

    version: str
    journal: str
    synchronous: str
    has_wal_defect: bool


def sqlite_state(engine: Engine) -> SqliteState | None:
    """Return how safely SQLite writes, None for another database."""
    if engine.dialect.name != "sqlite":
        return None
    with engine.connect() as connection:
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    names = {0: "off", 1: "normal", 2: "full", 3: "extra"}
    return SqliteState(
        sqlite.sqlite_version, str(journal), names[level],
        has_wal_reset_defect(sqlite.sqlite_version_info),
    )  # fmt: skip
