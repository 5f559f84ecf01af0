"""Offers and tags that the tests of this room share."""

from __future__ import annotations

import pytest

from bihuan.data import ColumnType
from bihuan.tag import TagField


@pytest.fixture
def fields() -> dict[str, TagField]:
    """Return the tags that the rules of these tests read."""
    types = {
        "arpu": ColumnType.MONEY,
        "dou": ColumnType.NUMBER,
        "is_heavy": ColumnType.BOOLEAN,
        "channel": ColumnType.STRING,
        "risk": ColumnType.BOOLEAN,
        "bill": ColumnType.MONEY,
    }
    return {
        name: TagField(name, kind, None, {"zh": name, "en": name}) for name, kind in types.items()
    }
