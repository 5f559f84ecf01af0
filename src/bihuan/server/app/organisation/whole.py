"""Look past the scope where the whole must be known: ids that are one for all, foreign posts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from bihuan.server.control import UnitOfWork


@contextmanager
def whole_view(work: UnitOfWork) -> Iterator[None]:
    """Let PostgreSQL's row security show and take every row inside the block.

    The compiled scope stays: only statements through ``work.unscoped`` profit. What comes out of
    the block must be an answer that the caller may have (taken or not, allowed or not).
    """
    connection = work.session.connection()
    if connection.dialect.name != "postgresql":
        yield
        return
    work.session.flush()
    tell = sa.text("SELECT set_config('bihuan.scope', :scope, true)")
    connection.execute(tell, {"scope": "*"})
    try:
        yield
        work.session.flush()
    except BaseException:
        with suppress(DBAPIError):  # the transaction may be broken, and then ends anyhow
            connection.execute(tell, {"scope": work.scope.text()})
        raise
    connection.execute(tell, {"scope": work.scope.text()})


def is_taken(work: UnitOfWork, column: Any, value: str) -> bool:
    """Tell whether any row, within the scope or not, has ``value`` in ``column``."""
    with whole_view(work):
        found = work.unscoped(sa.select(column).where(column == value), "ids are one for all")
        return found.first() is not None
