"""A unit of work: one transaction, one actor, one scope, and what is to be remembered of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from bihuan.kernel import Clock
from bihuan.kernel.crash import crash_point
from bihuan.server.control.audit import AuditEntry, append_entries
from bihuan.server.control.base import new_id
from bihuan.server.control.engine import WRITING
from bihuan.server.control.scope import BEYOND, UNSCOPED, Scope, ScopedSession


@dataclass(slots=True)
class UnitOfWork:
    """What a use case works with.

    Attributes
    ----------
    session
        The open transaction; its queries see only ``scope``.
    account_id, home_unit_id
        Who acts; ``system`` and None for the system itself.
    scope
        Org subtrees that may be seen and changed.
    clock
        Tells the time.
    request_id
        Id of the request or job, kept with audit entries.
    """

    session: Session
    account_id: str
    home_unit_id: str | None
    scope: Scope
    clock: Clock
    request_id: str = ""
    _entries: list[AuditEntry] = field(default_factory=list)
    _afterwards: list[Callable[[], None]] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        """The present moment, UTC."""
        return self.clock.now()

    def new_id(self, kind: str) -> str:
        """Return a fresh id that sorts by time."""
        return new_id(kind, self.now)

    def audit(self, action: str, kind: str, subject_id: str, **detail: Any) -> None:
        """Remember that ``action`` was done to a subject; sealed into the chain at the commit.

        Parameters
        ----------
        action
            A named action, ``plan.approve``.
        kind, subject_id
            What it was done to.
        **detail
            Plain JSON values that a later reader needs. Never a phone number or a password.
        """
        self._entries.append(
            AuditEntry(
                at=self.now,
                account_id=self.account_id,
                unit_id=self.home_unit_id,
                action=action,
                subject_kind=kind,
                subject_id=subject_id,
                detail=detail,
                request_id=self.request_id,
            )
        )

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run ``call`` once the transaction is durable; not at all if it is rolled back."""
        self._afterwards.append(call)

    def unscoped(self, statement: Any, why: str) -> sa.Result[Any]:
        """Run a statement about tables without units; ``why`` says what makes that right.

        Row security holds for it, where the database has it. What lies outside the scope is read
        by :meth:`beyond`.
        """
        return self.session.execute(statement, execution_options={UNSCOPED: why})

    @contextmanager
    def beyond(self, why: str) -> Iterator[None]:
        """Pass the scope by inside the block, in either database, row security included.

        Who sits above a unit, whether an id is taken, whether somebody has stopped a plan: the
        answer must be right, the caller need not see the rows. What comes out of the block must be
        an answer that the caller may have. Objects that are changed inside are held to the scope
        all the same; an update or delete by a statement is not. ``scope`` stays what it is.

        Parameters
        ----------
        why
            What makes that right.
        """
        session = self.session
        if BEYOND in session.info:
            yield
            return
        session.flush()  # what was written so far is held to the scope
        connection = session.connection()
        session.info[BEYOND] = why
        try:
            _tell_row_security(connection, Scope.everything())
            yield
            session.flush()
        except BaseException:
            with suppress(SQLAlchemyError):  # the transaction may be broken, and then ends anyhow
                _tell_row_security(connection, self.scope)
            raise
        else:
            _tell_row_security(connection, self.scope)
        finally:
            del session.info[BEYOND]


class Control:
    """The control database.

    Parameters
    ----------
    engine
        From :func:`open_engine`.
    clock
        Tells the time to every unit of work.
    """

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self._widths: dict[frozenset[str], tuple[bool, float]] = {}
        self._reading = sessionmaker(
            engine.execution_options(**{WRITING: False}),
            class_=ScopedSession,
            expire_on_commit=False,
        )
        self._writing = sessionmaker(
            engine.execution_options(**{WRITING: True}),
            class_=ScopedSession,
            expire_on_commit=False,
        )

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
        """Open a unit of work: committed at the end of the block, rolled back on any error.

        Parameters
        ----------
        scope
            What may be seen and changed.
        account_id, home_unit_id, request_id
            Who acts and in which request; written into audit entries.
        read_only
            True where nothing is written: readers do not queue behind a writer in SQLite.

        Yields
        ------
        UnitOfWork
        """
        sessions = self._reading if read_only else self._writing
        with sessions(info={"scope": scope, "widths": self._widths}) as session:
            work = UnitOfWork(session, account_id, home_unit_id, scope, self.clock, request_id)
            with session.begin():
                _tell_row_security(session.connection(), scope)
                yield work
                crash_point("work.before_flush")
                session.flush()
                append_entries(session, work._entries)
                crash_point("work.before_commit")
            crash_point("work.after_commit")
        for call in work._afterwards:
            call()


def _tell_row_security(connection: sa.Connection, scope: Scope) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT set_config('bihuan.scope', :scope, true)"), {"scope": scope.text()}
        )
