"""What every table of the control database is made of."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import JSON, DateTime, ForeignKey, MetaData, Numeric, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Moment(TypeDecorator[datetime]):
    """A moment: aware UTC in Python; ``timestamptz`` in PostgreSQL, naive UTC in SQLite.

    Raises
    ------
    ValueError
        If a naive time is written: its zone would be a guess.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return ``value`` in UTC, without its zone where the database keeps none."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"{value!r} has no zone"
            raise ValueError(msg)
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored moment, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Money(TypeDecorator[Decimal]):
    """An amount in the workspace's currency, exact to two decimals; text in SQLite."""

    impl = Numeric(18, 2)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Use text in SQLite, which has no decimals."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(24))
        return dialect.type_descriptor(Numeric(18, 2))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Return ``value`` with two decimals."""
        if value is None:
            return None
        exact = Decimal(value).quantize(Decimal("0.01"))
        return str(exact) if dialect.name == "sqlite" else exact

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Return the stored amount."""
        return None if value is None else Decimal(value)


Document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""A JSON document: nested dicts, lists, texts, numbers, booleans."""


class Table(DeclarativeBase):
    """Base of every table of the control database."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: Moment(),
        Decimal: Money(),
        dict[str, Any]: Document,
        list[Any]: Document,
        list[str]: Document,
    }


class Scoped:
    """A row that belongs to an org unit and is seen only from that unit and the units above.

    Every query on such a table is narrowed to the scope of the running unit of work, and every
    write is checked against it.
    """

    unit_id: Mapped[str] = mapped_column(ForeignKey("org_unit.unit_id"), index=True)


class Shared(Scoped):
    """A scoped row that its owner may show to others.

    ``sharing`` is ``own`` (the usual), ``down`` (also every unit below the owner: a frame) or
    ``all`` (everybody: a good case). Sharing lets read, never write.
    """

    sharing: Mapped[str] = mapped_column(String(8), default="own")


class Homed:
    """A row that names the home unit of who made it, none for the system's own.

    It is seen from that unit and the units above. Its writing is not checked: an account may act
    outside its home unit.
    """

    unit_id: Mapped[str | None] = mapped_column(String(64), index=True)


class Versioned:
    """A row whose every change raises ``version``; a stale change is refused.

    The version is the row's ETag. Combine as ``class Plan(Versioned, Table)``.
    """

    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[dict[str, Any]] = {"version_id_col": version}


def new_id(kind: str, now: datetime) -> str:
    """Return a fresh id that sorts by time: ``plan_0mh3k...``.

    Parameters
    ----------
    kind
        What it names: a short lower-case noun.
    now
        The present moment; ids of later milliseconds sort later.

    Returns
    -------
    str
        ``kind``, an underline, 9 base-32 digits of milliseconds and 13 of chance (65 bits).
    """
    moment = int(now.timestamp() * 1000)
    return f"{kind}_{_base32(moment, 9)}{_base32(secrets.randbits(65), 13)}"


def _base32(number: int, digits: int) -> str:
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    out = []
    for _ in range(digits):
        number, digit = divmod(number, 32)
        out.append(alphabet[digit])
    return "".join(reversed(out))
