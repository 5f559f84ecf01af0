"""Verification of the audit chain, and the head that is kept elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bihuan.data.personal import keyed_hash
from bihuan.kernel import UserError, canonical_json
from bihuan.server.control.audit import GENESIS, AuditEntry, AuditHead, Sealer, seal_of
from bihuan.server.control.work import UnitOfWork

CHUNK = 5_000
_WHY = "the chain is one for all units"
_CONTENT = (
    "sequence", "at", "account_id", "unit_id", "action", "subject_kind", "subject_id", "detail",
    "request_id",
)  # fmt: skip


class HeadFileError(UserError):
    """A file of an exported head is not whole, or was not signed with our keys."""


@dataclass(frozen=True, slots=True)
class ExportedHead:
    """The newest entry's number and seal at one moment, signed.

    Parameters
    ----------
    sequence, seal
        Of the newest entry; 0 and :data:`GENESIS` where there was none.
    exported_at
        ISO moment, UTC.
    public_key, signature
        Ed25519 over the rest, hexadecimal; empty where there are no keys. Who has the public key
        can check the file without any secret.
    """

    sequence: int
    seal: str
    exported_at: str
    public_key: str = ""
    signature: str = ""

    def signed_content(self) -> bytes:
        """Return what the signature is made of."""
        return canonical_json([self.sequence, self.seal, self.exported_at]).encode()

    def as_json(self) -> dict[str, Any]:
        """Return the head as its file holds it."""
        return {"kind": "bihuan-audit-head", **asdict(self)}


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """The first place at which the chain does not hold.

    Parameters
    ----------
    sequence
        Number of the entry.
    kind
        ``changed`` (its content is not what was sealed), ``missing`` (it is not there),
        ``swapped`` (it stands in another's place), ``forged`` (sealed without the key),
        ``added`` (nobody's place), ``unlinked`` (sealed onto another predecessor), ``truncated``
        (it and all after it are gone) or ``rewritten`` (not what was exported).
    """

    sequence: int
    kind: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a verification found.

    Parameters
    ----------
    entries
        Entries that were read and hold.
    sequence, seal
        Of the last one that holds.
    broken
        The first break; None if the chain is whole.
    marked
        Whether the marks were checked with the keys.
    heads
        Exported heads that were compared.
    """

    entries: int
    sequence: int
    seal: str
    broken: ChainBreak | None
    marked: bool
    heads: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing was changed, as far as can be told."""
        return self.broken is None


def verify_chain(
    work: UnitOfWork, sealer: Sealer | None = None, heads: Iterable[ExportedHead] = ()
) -> ChainReport:
    """Read the chain from its first entry and stop at the first that does not hold.

    Parameters
    ----------
    work
        Any unit of work; the chain is read whole, and nothing of its content is given back.
    sealer
        The keys. Without them only the chain is checked, which whoever owns the database can make
        anew.
    heads
        Exported before and kept elsewhere: without one, a tail that was cut off together with its
        head cannot be seen.

    Returns
    -------
    ChainReport
        In memory: one chunk of entries at a time.
    """
    wanted = {head.sequence: head.seal for head in heads}
    last, seal, entries = 0, GENESIS, 0
    found: ChainBreak | None = None
    if wanted.get(0, GENESIS) != GENESIS:
        found = ChainBreak(0, "rewritten")
    for row in _rows(work, 0) if found is None else ():
        found = _judge(work, row, last + 1, seal, sealer)
        if found is None and wanted.get(row["sequence"], row["seal"]) != row["seal"]:
            found = ChainBreak(row["sequence"], "rewritten")
        if found is not None:
            break
        last, seal, entries = row["sequence"], row["seal"], entries + 1
    if found is None:
        found = _judge_end(work, last, seal, max(wanted, default=0))
    return ChainReport(entries, last, seal, found, sealer is not None, len(wanted))


def verify_tail(work: UnitOfWork, sealer: Sealer | None, most: int) -> ChainReport:
    """Verify the newest entries only, onto the one before them; the rest is not looked at.

    Parameters
    ----------
    work, sealer
        As for :func:`verify_chain`.
    most
        How many entries, 1 or more.
    """
    table, (newest, _) = AuditEntry.__table__, current_head(work)
    last, seal = max(newest - most, 0), GENESIS
    if last:
        query = sa.select(table.c.seal).where(table.c.sequence == last)
        before = work.unscoped(query, _WHY).scalar_one_or_none()
        if before is None:
            return ChainReport(0, 0, GENESIS, ChainBreak(last, "missing"), sealer is not None, 0)
        seal = before
    entries, found = 0, None
    for row in _rows(work, last):
        found = _judge(work, row, last + 1, seal, sealer)
        if found is not None:
            break
        last, seal, entries = row["sequence"], row["seal"], entries + 1
    if found is None:
        found = _judge_end(work, last, seal, 0)
    return ChainReport(entries, last, seal, found, sealer is not None, 0)


def _judge(
    work: UnitOfWork, row: dict[str, Any], expected: int, previous: str, sealer: Sealer | None
) -> ChainBreak | None:
    """Say how an entry breaks the chain; None if it holds."""
    number = row["sequence"]
    if number != expected:  # numbers rise, so an entry that nobody counted on comes too early
        return ChainBreak(*((expected, "missing") if number > expected else (number, "added")))
    kind = None
    if "unreadable" in row:
        kind = "changed"
    elif not _is_sealed(row):
        kind = "swapped" if _is_elsewhere(work, row) else "changed"
    elif row["previous"] != previous:
        kind = "unlinked"
    elif sealer is not None and not sealer.holds(row["seal"], row["mark"]):
        kind = "forged"
    return None if kind is None else ChainBreak(number, kind)


def _is_sealed(row: dict[str, Any]) -> bool:
    return bool(_seal_at(row, row["sequence"]) == row["seal"])


def _seal_at(row: dict[str, Any], place: int) -> str:
    content = {name: row[name] for name in _CONTENT}
    return seal_of(row["previous"], {**content, "sequence": place})


def _judge_end(work: UnitOfWork, last: int, seal: str, newest: int) -> ChainBreak | None:
    """Compare the last entry with the head row and the exported heads."""
    head = _scalar_head(work)
    if max(newest, head.sequence if head else 0) > last:
        return ChainBreak(last + 1, "truncated")
    if head is None:
        return ChainBreak(last, "missing") if last else None
    if head.sequence != last or head.seal != seal:
        return ChainBreak(last, "changed")
    return None


def _is_elsewhere(work: UnitOfWork, row: dict[str, Any]) -> bool:
    """Tell whether the entry is whole and only stands in another's place."""
    after = work.unscoped(
        sa.select(AuditEntry.__table__.c.sequence).where(
            AuditEntry.__table__.c.previous == row["seal"]
        ),
        _WHY,
    ).scalars()
    places = [number - 1 for number in after]
    head = _scalar_head(work)
    if head is not None and head.seal == row["seal"]:
        places.append(head.sequence)
    return any(_seal_at(row, place) == row["seal"] for place in places)


def _rows(work: UnitOfWork, start: int) -> Iterator[dict[str, Any]]:
    """Read entries after ``start`` in order, all where it is 0; one chunk in memory.

    One that cannot be read says so.
    """
    table, after = AuditEntry.__table__, start or None
    while True:
        query = sa.select(table).order_by(table.c.sequence).limit(CHUNK)
        query = query if after is None else query.where(table.c.sequence > after)
        try:
            rows: Sequence[dict[str, Any]] = [
                dict(row) for row in work.unscoped(query, _WHY).mappings()
            ]
        except (ValueError, TypeError):  # a cell that is no moment or no JSON
            rows = _one_by_one(work, query)
        if not rows:
            return
        yield from rows
        after = rows[-1]["sequence"]


def _one_by_one(work: UnitOfWork, query: sa.Select[Any]) -> list[dict[str, Any]]:
    table = AuditEntry.__table__
    numbers = work.unscoped(query.with_only_columns(table.c.sequence), _WHY).scalars().all()
    rows = []
    for number in numbers:
        try:
            one = work.unscoped(sa.select(table).where(table.c.sequence == number), _WHY)
            rows.append(dict(one.mappings().one()))
        except (ValueError, TypeError):
            rows.append({"sequence": number, "unreadable": True})
    return rows


def current_head(work: UnitOfWork) -> tuple[int, str]:
    """Return number and seal of the newest entry; 0 and :data:`GENESIS` where there is none."""
    head = _scalar_head(work)
    return (head.sequence, head.seal) if head is not None else (0, GENESIS)


def export_head(work: UnitOfWork, sealer: Sealer | None) -> ExportedHead:
    """Return the head as it stands, signed, to be kept where the database's owner cannot reach."""
    sequence, seal = current_head(work)
    head = ExportedHead(sequence, seal, work.now.isoformat())
    if sealer is None:
        return head
    signer = _signer(list(sealer.keys.values())[-1])
    return ExportedHead(
        head.sequence,
        head.seal,
        head.exported_at,
        _public(signer),
        signer.sign(head.signed_content()).hex(),
    )


def read_head(content: dict[str, Any], sealer: Sealer | None) -> ExportedHead:
    """Return an exported head after its signature was checked.

    Parameters
    ----------
    content
        Of the file.
    sealer
        The keys; None checks only that the file agrees with the public key that it names.

    Raises
    ------
    HeadFileError
        If the file is not whole, was changed, or was signed with other keys.
    """
    try:
        head = ExportedHead(
            sequence=int(content["sequence"]),
            seal=str(content["seal"]),
            exported_at=datetime.fromisoformat(content["exported_at"]).isoformat(),
            public_key=str(content["public_key"]),
            signature=str(content["signature"]),
        )
        if head.public_key or sealer is not None:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(head.public_key))
            key.verify(bytes.fromhex(head.signature), head.signed_content())
            ours = None if sealer is None else {_public(_signer(k)) for k in sealer.keys.values()}
            if ours is not None and head.public_key not in ours:
                raise ValueError("another key")
    except (KeyError, TypeError, ValueError, InvalidSignature) as error:
        raise HeadFileError(
            f"The exported head cannot be trusted ({type(error).__name__}).",
            remedy="Use the file as it was exported, with the key file of the same workspace.",
            zh="导出的链头文件不可信：已被改动，或由其他密钥签署。请使用原始文件和本工作区的密钥。",
        ) from None
    return head


def _signer(key: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(keyed_hash(key, b"head signature", "sha256"))


def _public(signer: Ed25519PrivateKey) -> str:
    return signer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def _scalar_head(work: UnitOfWork) -> Any:
    table = AuditHead.__table__
    query = sa.select(table.c.sequence, table.c.seal).where(table.c.head_id == 1)
    return work.unscoped(query, _WHY).one_or_none()
