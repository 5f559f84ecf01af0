"""The audit trail: append-only, each entry sealed with the one before it.

Three locks, because each has a hole of its own. *The database refuses* changes (triggers), which
an owner of the database can take off. *The chain* gives each entry the SHA-256 of its content and
its predecessor's seal, which anybody can check, and whoever rewrites the whole table can make
anew. *The mark* is an HMAC of each seal under a key that is not in the database, so whoever has
only the database can neither change nor add an entry unseen. What remains is to cut off the tail:
only a head that was exported and kept elsewhere shows that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import String, event
from sqlalchemy.orm import Mapped, Session, mapped_column

from bihuan.kernel import DefectError, canonical_json
from bihuan.server.control.base import Homed, Table
from bihuan.server.control.scope import UNSCOPED

GENESIS = "0" * 64
"""What the first entry is sealed with."""
SEALER = "bihuan_audit_sealer"
"""Engine option that holds the :class:`Sealer` of a database."""
_NUMBER = re.compile(r"(?<![0-9A-Za-z])(1\d{10}|\d{17}[\dXx])(?![0-9A-Za-z])")


@dataclass(frozen=True, slots=True, repr=False)
class Sealer:
    """Marks seals with a key that the database does not hold.

    Parameters
    ----------
    keys
        By id, oldest first; the last one marks new entries.
    """

    keys: Mapping[str, bytes]

    def mark(self, seal: str) -> str:
        """Return ``key id:HMAC-SHA256`` of a seal."""
        name = list(self.keys)[-1]
        return f"{name}:{hmac.digest(self.keys[name], seal.encode(), 'sha256').hex()}"

    def holds(self, seal: str, mark: str) -> bool:
        """Tell whether ``mark`` was made of ``seal`` by one of the keys."""
        name, _, made = mark.partition(":")
        key = self.keys.get(name)
        if key is None:
            return False
        return hmac.compare_digest(hmac.digest(key, seal.encode(), "sha256").hex(), made)


def with_sealer(engine: sa.Engine, sealer: Sealer | None) -> sa.Engine:
    """Return ``engine`` so that every entry written through it is marked."""
    return engine if sealer is None else engine.execution_options(**{SEALER: sealer})


class AuditEntry(Homed, Table):
    """Who did what to what, when, from where."""

    __tablename__ = "audit_entry"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    account_id: Mapped[str] = mapped_column(String(64), index=True)
    action: Mapped[str] = mapped_column(String(64), index=True)
    subject_kind: Mapped[str] = mapped_column(String(32))
    subject_id: Mapped[str] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]]
    request_id: Mapped[str] = mapped_column(String(64), default="")
    previous: Mapped[str] = mapped_column(String(64))
    seal: Mapped[str] = mapped_column(String(64))
    mark: Mapped[str] = mapped_column(String(80), default="")

    __table_args__ = (sa.Index("ix_audit_entry_subject", "subject_kind", "subject_id"),)

    def content(self) -> dict[str, Any]:
        """Return what the seal is taken of."""
        return {
            "sequence": self.sequence,
            "at": self.at,
            "account_id": self.account_id,
            "unit_id": self.unit_id,
            "action": self.action,
            "subject_kind": self.subject_kind,
            "subject_id": self.subject_id,
            "detail": self.detail,
            "request_id": self.request_id,
        }

    def computed_seal(self) -> str:
        """Return the seal that this entry's content and its predecessor's seal give."""
        return seal_of(self.previous, self.content())


class AuditHead(Table):
    """The newest entry's number and seal; its row is the lock that orders the chain."""

    __tablename__ = "audit_head"

    head_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int]
    seal: Mapped[str] = mapped_column(String(64))


def seal_of(previous: str, content: Mapping[str, Any]) -> str:
    """Return SHA-256 over the predecessor's seal and the canonical JSON of ``content``."""
    return hashlib.sha256(f"{previous}{canonical_json(dict(content))}".encode()).hexdigest()


def append_entries(session: Session, entries: list[AuditEntry]) -> None:
    """Chain and add ``entries``; the chain's head stays locked until the commit.

    Called last in a unit of work, so that writers wait for each other's commits only.

    Raises
    ------
    DefectError
        If the head is gone although there are entries: somebody took it away.
    """
    if not entries:
        return
    head = _locked_head(session)
    options = session.connection().get_execution_options()
    sealer: Sealer | None = options.get(SEALER)
    for entry in entries:
        entry.detail = settled(entry.detail)
        entry.sequence = head.sequence + 1
        entry.previous = head.seal
        entry.seal = entry.computed_seal()
        entry.mark = "" if sealer is None else sealer.mark(entry.seal)
        head.sequence, head.seal = entry.sequence, entry.seal
        session.add(entry)


def _locked_head(session: Session) -> AuditHead:
    why = {UNSCOPED: "the chain is one for all units"}
    head = session.scalars(
        sa.select(AuditHead).where(AuditHead.head_id == 1).with_for_update(),
        execution_options={**why, "populate_existing": True},
    ).one_or_none()
    if head is not None:
        return head
    if session.scalar(sa.select(sa.func.max(AuditEntry.sequence)), execution_options=why):
        raise DefectError("The head of the audit chain is gone although there are entries.")
    head = AuditHead(head_id=1, sequence=0, seal=GENESIS)
    session.add(head)
    return head


def settled(value: Any) -> Any:
    """Return a detail as either database gives it back, and without phone or identity numbers.

    PostgreSQL's JSON knows no infinity, no NUL and no difference between 1 and 1.0.
    """
    if isinstance(value, Mapping):
        return {str(name): settled(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [settled(inner) for inner in (sorted(value) if isinstance(value, (set, frozenset))
                                             else value)]  # fmt: skip
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() else value
    if value is None or isinstance(value, (bool, int)):
        return value
    text = value if isinstance(value, str) else json.loads(canonical_json(value))
    text = str(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return _NUMBER.sub("***", text)


# what the database itself refuses

_REFUSED = "audit entries are added and never changed"
_RAISE = f"SELECT RAISE(ABORT, '{_REFUSED}'); END"
_SQLITE_GUARDS = (
    f"CREATE TRIGGER IF NOT EXISTS audit_entry_keep_update BEFORE UPDATE ON audit_entry"
    f" BEGIN {_RAISE}",
    f"CREATE TRIGGER IF NOT EXISTS audit_entry_keep_delete BEFORE DELETE ON audit_entry"
    f" BEGIN {_RAISE}",
    # INSERT OR REPLACE removes a row without asking the trigger above
    "CREATE TRIGGER IF NOT EXISTS audit_entry_keep_replace BEFORE INSERT ON audit_entry"  # noqa: S608
    " WHEN EXISTS (SELECT 1 FROM audit_entry WHERE sequence = NEW.sequence)"
    f" BEGIN {_RAISE}",
    f"CREATE TRIGGER IF NOT EXISTS audit_head_keep_delete BEFORE DELETE ON audit_head"
    f" BEGIN {_RAISE}",
    f"CREATE TRIGGER IF NOT EXISTS audit_head_keep_back BEFORE UPDATE ON audit_head"
    f" WHEN NEW.sequence < OLD.sequence OR NEW.head_id <> OLD.head_id"
    f" BEGIN {_RAISE}",
    "CREATE TRIGGER IF NOT EXISTS audit_head_keep_replace BEFORE INSERT ON audit_head"  # noqa: S608
    " WHEN EXISTS (SELECT 1 FROM audit_head WHERE head_id = NEW.head_id)"
    f" BEGIN {_RAISE}",
)
_POSTGRES_GUARDS = (
    f"CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS"
    f" $$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$",
    "CREATE OR REPLACE TRIGGER audit_entry_keep BEFORE UPDATE OR DELETE ON audit_entry"
    " FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE OR REPLACE TRIGGER audit_entry_keep_whole BEFORE TRUNCATE ON audit_entry"
    " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
    "CREATE OR REPLACE TRIGGER audit_head_keep BEFORE DELETE ON audit_head"
    " FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE OR REPLACE TRIGGER audit_head_keep_whole BEFORE TRUNCATE ON audit_head"
    " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
    "CREATE OR REPLACE TRIGGER audit_head_keep_back BEFORE UPDATE ON audit_head FOR EACH ROW"
    " WHEN (NEW.sequence < OLD.sequence OR NEW.head_id <> OLD.head_id)"
    " EXECUTE FUNCTION audit_refuse()",
    # a session in replica mode would pass ordinary triggers by
    *(
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
        for table, trigger in (
            ("audit_entry", "audit_entry_keep"),
            ("audit_entry", "audit_entry_keep_whole"),
            ("audit_head", "audit_head_keep"),
            ("audit_head", "audit_head_keep_whole"),
            ("audit_head", "audit_head_keep_back"),
        )
    ),
)
_SEED = (
    f"INSERT INTO audit_head (head_id, sequence, seal) SELECT 1, 0, '{GENESIS}'"  # noqa: S608
    f" WHERE NOT EXISTS (SELECT 1 FROM audit_head)"
)


def audit_guards(dialect: str) -> list[str]:
    """Return the statements that seed the head and make the trail append-only.

    Parameters
    ----------
    dialect
        ``sqlite`` or ``postgresql``.

    Returns
    -------
    list[str]
        To be run after both tables exist; running them again changes nothing.

    Raises
    ------
    KeyError
        If the dialect is neither.
    """
    return [_SEED, *{"sqlite": _SQLITE_GUARDS, "postgresql": _POSTGRES_GUARDS}[dialect]]


def audit_guards_off(dialect: str) -> list[str]:
    """Return the statements that take the guards off: for a migration downwards."""
    if dialect == "sqlite":
        names = re.findall(r"EXISTS (audit_\w+) BEFORE", " ".join(_SQLITE_GUARDS))
        return [f"DROP TRIGGER IF EXISTS {name}" for name in names]
    found = re.findall(r"TRIGGER (audit_\w+) BEFORE .*? ON (\w+)", "\n".join(_POSTGRES_GUARDS))
    drops = [f"DROP TRIGGER IF EXISTS {name} ON {table}" for name, table in found]
    return [*drops, "DROP FUNCTION IF EXISTS audit_refuse()"]


def unguarded(connection: sa.Connection) -> list[str]:
    """Return the names of guards that this database lacks; empty if the trail is append-only."""
    dialect = connection.dialect.name
    pattern = r"TRIGGER (?:IF NOT EXISTS )?(audit_\w+) BEFORE"
    wanted = set(re.findall(pattern, "\n".join(audit_guards(dialect))))
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if dialect == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE tgenabled = 'A'"
    )
    return sorted(wanted - set(connection.scalars(sa.text(query))))


@event.listens_for(Table.metadata, "after_create")
def _guard_tables(target: object, connection: sa.Connection, **options: Any) -> None:
    """Guard tables that are made without a migration, as tests make them."""
    if AuditHead.__table__ in options.get("tables", ()):
        for statement in audit_guards(connection.dialect.name):
            connection.exec_driver_sql(statement)
