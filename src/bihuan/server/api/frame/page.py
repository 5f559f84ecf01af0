"""Pages of a list, by an opaque cursor."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from bihuan.server.api.frame.body import LARGEST, View, is_unstorable
from bihuan.server.app.errors import RefusedError

T = TypeVar("T")


class Page(View, Generic[T]):
    """A part of a list; ``next_cursor`` is null on the last page."""

    items: list[T]
    next_cursor: str | None = None


class _PageQuery(BaseModel):
    model_config = ConfigDict(frozen=True)  # other parameters stand beside it; see gate

    limit: int = Field(50, ge=1, le=200, description="Rows per page.")
    cursor: str | None = Field(
        None, max_length=400, description="`next_cursor` of the page before; none: the start."
    )

    @property
    def after(self) -> str | int | None:
        """Key of the last row seen, None at the start.

        Raises
        ------
        RefusedError
            If the cursor is not one of ours.
        """
        if self.cursor is None:
            return None
        try:
            key = json.loads(base64.urlsafe_b64decode(self.cursor.encode()))
        except (binascii.Error, ValueError) as error:
            raise _foreign_cursor() from error
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise _foreign_cursor()
        if is_unstorable(key) if isinstance(key, str) else abs(key) > LARGEST:
            raise _foreign_cursor()
        return key


PageQuery = Annotated[_PageQuery, Query()]
"""Query parameters ``limit`` and ``cursor`` of a list."""


def cursor_of(key: str | int | None) -> str | None:
    """Return the cursor that goes on after the row with ``key``; None stays None."""
    return None if key is None else base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _foreign_cursor() -> RefusedError:
    return RefusedError(
        "The cursor is not one that this list gave.",
        remedy="Take `next_cursor` of a page as it is, or leave it out to start again.",
        zh="游标无效，请原样使用上一页的 next_cursor，或不填从头开始。",
    )
