"""Pages by cursor: stable while rows come and go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.errors import RefusedError
from bihuan.server.control import UnitOfWork


def read_page(
    work: UnitOfWork,
    statement: sa.Select[Any],
    *,
    after: str | int | None,
    limit: int,
    ascending: bool = False,
) -> tuple[Sequence[Any], str | int | None]:
    """Return at most ``limit`` rows after the row with key ``after``, and the key to go on from.

    Parameters
    ----------
    work
        The unit of work; its scope narrows the rows.
    statement
        A select of one mapped class, with its conditions and no order.
    after
        Primary key of the last row seen; None: from the start.
    limit
        Rows wanted, 1 or more.
    ascending
        Smallest key first; by default the newest (greatest) first.

    Returns
    -------
    (rows, after)
        ``after`` is None when there are no more rows.

    Raises
    ------
    RefusedError
        If ``after`` is a number where keys are texts, or a text where they are numbers.
    """
    entity = statement.column_descriptions[0]["entity"]
    key = sa.inspect(entity).primary_key[0]
    attribute = sa.inspect(entity).get_property_by_column(key).class_attribute
    if after is not None:
        if not isinstance(after, key.type.python_type):
            raise RefusedError(
                "The cursor is that of another list.",
                remedy="Take `next_cursor` of a page of this list as it is.",
                zh="游标属于其他列表，请使用本列表上一页的 next_cursor。",
            )
        statement = statement.where(attribute > after if ascending else attribute < after)
    order = attribute.asc() if ascending else attribute.desc()
    rows = work.session.scalars(statement.order_by(order).limit(limit + 1)).all()
    more = len(rows) > limit
    rows = rows[:limit]
    return rows, getattr(rows[-1], attribute.key) if more else None
