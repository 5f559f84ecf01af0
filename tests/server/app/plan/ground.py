"""A control database in memory that is put back after every sequence of operations."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import StaticPool

from bihuan.kernel import FixedClock
from bihuan.server.control import (
    Control,
    OrgClosure,
    OrgUnit,
    Scope,
    Table,
    UnitOfWork,
    append_entries,
)
from bihuan.server.control.scope import ScopedSession


class OneConnectionControl(Control):
    """Every unit of work is a savepoint on one connection; otherwise as in a running service."""

    def __init__(self, tree: dict[str, str | None], clock: FixedClock) -> None:
        engine = sa.create_engine(
            "sqlite://",
            module=sqlite3,
            poolclass=StaticPool,
            connect_args={"check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def set_up(connection: Any, record: object) -> None:
            connection.isolation_level = None
            connection.execute("PRAGMA foreign_keys=ON")

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        super().__init__(engine, clock)
        Table.metadata.create_all(engine)
        self._connection = engine.connect()
        self._whole = self._connection.begin()
        with self.work(Scope.everything()) as work:
            plant(work, tree)
        self.keep()

    def keep(self) -> None:
        """Make what was done so far the state that every sequence begins with."""
        self._whole.commit()
        self._whole = self._connection.begin()

    def forget(self) -> None:
        """Undo everything since :meth:`keep`."""
        self._whole.rollback()
        self._whole = self._connection.begin()

    @contextmanager
    def work(
        self,
        scope: Scope,
        *,
        account_id: str = "system",
        home_unit_id: str | None = None,
        request_id: str = "",
        read_only: bool = False,
    ) -> Iterator[UnitOfWork]:
        with ScopedSession(
            bind=self._connection,
            join_transaction_mode="create_savepoint",
            expire_on_commit=False,
            info={"scope": scope, "widths": self._widths},
        ) as session:
            work = UnitOfWork(session, account_id, home_unit_id, scope, self.clock, request_id)
            with session.begin():
                yield work
                session.flush()
                append_entries(session, work._entries)


def plant(work: UnitOfWork, tree: dict[str, str | None]) -> None:
    """Write an org tree."""
    for unit, parent in tree.items():
        tier = unit.split("-")[0]
        work.session.add(OrgUnit(unit_id=unit, parent_id=parent, tier=tier, name_zh=unit))
        work.session.flush()
    for unit in tree:
        above: str | None = unit
        depth = 0
        while above is not None:
            work.session.add(OrgClosure(ancestor_id=above, descendant_id=unit, depth=depth))
            above, depth = tree[above], depth + 1
