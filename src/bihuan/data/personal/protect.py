"""Personal columns at rest: a token in the column, mask and ciphertext in a sealed table beside it.

The contracted column keeps its name and type and holds the token, so whoever joins or counts by it
goes on as before, and a snapshot's schema is still its contract. Mask and ciphertext lie in the
table ``<table>__sealed`` of the same date, one row per row, published together with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from bihuan.data.contract import Column, TableContract
from bihuan.data.engine import Engine
from bihuan.data.lake import Lake, LakeView, Snapshot
from bihuan.data.part_file import PartFile
from bihuan.data.personal.cipher import DataCipher, is_token
from bihuan.data.personal.keys import KeysError
from bihuan.data.personal.mask import MASKS, mask
from bihuan.kernel import Clock, file_lock

SUFFIX = "__sealed"


def sealed_name(table: str) -> str:
    """Return the name of the sealed table that belongs to ``table``."""
    return f"{table}{SUFFIX}"


def sealed_table_of(name: str) -> str | None:
    """Return the table that a sealed table belongs to; None if ``name`` is no sealed table."""
    return name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else None


def personal_columns(contract: TableContract) -> tuple[Column, ...]:
    """Return the columns of a contract that tell who somebody is."""
    return tuple(column for column in contract.columns if column.personal)


def sealed_schema(contract: TableContract) -> pa.Schema:
    """Return the columns of the sealed table: the key, and three per personal column."""
    fields = [contract.schema.field(name) for name in contract.key]
    for column in personal_columns(contract):
        names = (column.name, f"{column.name}_mask", f"{column.name}_cipher")
        fields += [pa.field(name, pa.string()) for name in names]
    return pa.schema(fields)


@dataclass(frozen=True)
class Protector:
    """Protects personal columns with the cipher of a workspace.

    Parameters
    ----------
    cipher
        Makes tokens and ciphertexts.
    """

    cipher: DataCipher

    @property
    def fingerprint(self) -> str:
        """Name of the keys, kept in the lineage of what they sealed."""
        return self.cipher.keys.fingerprint

    def applies_to(self, contract: TableContract) -> bool:
        """Tell whether a table has personal columns."""
        return bool(personal_columns(contract))

    def check(self, snapshot: Snapshot | None) -> None:
        """Refuse to go on with what other keys sealed.

        Raises
        ------
        KeysError
            If the sealed table was made with other keys.
        """
        made = None if snapshot is None else snapshot.lineage.get("keys")
        if made is not None and made != self.fingerprint:
            raise KeysError(
                f"'{snapshot.table if snapshot else ''}' was sealed with other keys ({made}) than "
                f"those at hand ({self.fingerprint}).",
                remedy="Bring back the key file of this workspace.",
                zh=f"该表由其他密钥（{made}）加密，与当前密钥（{self.fingerprint}）不符，"
                "请恢复本工作区的密钥文件。",
            )

    def protect(self, rows: pa.Table, contract: TableContract) -> tuple[pa.Table, pa.Table]:
        """Replace the personal columns of rows; see :func:`protect`."""
        sealed = {name: rows.column(name) for name in contract.key}
        for column in personal_columns(contract):
            at = rows.column_names.index(column.name)
            parts = self._cells(rows.column(column.name), column.personal)
            rows = rows.set_column(at, rows.schema.field(at), parts[0])
            for suffix, part in zip(("", "_mask", "_cipher"), parts, strict=True):
                sealed[f"{column.name}{suffix}"] = part
        return rows, pa.table(sealed, schema=sealed_schema(contract))

    def _cells(self, texts: pa.ChunkedArray, kind: str) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Return tokens, masks and ciphertexts; each distinct text is worked on once."""
        coded = texts.combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.combine_chunks()
        known, cipher = coded.dictionary.to_pylist(), self.cipher
        clear = [None if is_token(text) else text for text in known]
        tokens = [
            text if given is None else cipher.blind(given, kind)
            for text, given in zip(known, clear, strict=True)
        ]
        sealed = [None if text is None else cipher.encrypt(text, kind) for text in clear]
        masks = MASKS[kind](pa.array(clear, pa.string()))
        parts = (pa.array(tokens, pa.string()), masks, pa.array(sealed, pa.string()))
        return tuple(part.take(coded.indices) for part in parts)


def protect(
    rows: pa.Table, contract: TableContract, cipher: DataCipher
) -> tuple[pa.Table, pa.Table]:
    """Take the personal columns out of rows.

    Parameters
    ----------
    rows
        Rows of the contract.
    contract
        Says which columns are personal.
    cipher
        Makes tokens and ciphertexts.

    Returns
    -------
    tuple
        The rows with tokens in place, and the sealed rows in the same order: the key, and per
        personal column its token, mask and ciphertext. Missing stays missing.
    """
    return Protector(cipher).protect(rows, contract)


def is_sealed(view: LakeView, table: str, as_of: date) -> bool:
    """Tell whether a snapshot was protected."""
    return view.find(sealed_name(table), as_of) is not None


def find_unsealed(view: LakeView, contracts: Mapping[str, TableContract]) -> list[tuple[str, date]]:
    """Return table and date of the snapshots whose personal columns lie in clear."""
    return [
        (name, day)
        for name, contract in sorted(contracts.items())
        if personal_columns(contract)
        for day in view.dates(name)
        if not is_sealed(view, name, day)
    ]


def mask_clear(value: str | None, kind: str) -> str | None:
    """Mask a cell of a personal column that may hold a token; a token shows as stars only."""
    if value is None:
        return None
    return "***" if is_token(value) else mask(value, kind)


def protect_lake(
    lake: Lake, contracts: Mapping[str, TableContract], protector: Protector, clock: Clock
) -> list[tuple[str, date]]:
    """Protect what lay in the lake before there were keys; what is protected stays as it is.

    Parameters
    ----------
    lake
        Rewritten table by table; killed half-way it is simply run again.
    contracts
        By table.
    protector
        With the keys of the workspace.
    clock
        Stamps the publications.

    Returns
    -------
    list
        Table and date of each snapshot that was rewritten. The clear files are removed, so call
        it when nobody reads.
    """
    done = []
    for name, contract in sorted(contracts.items()):
        if not protector.applies_to(contract):
            continue
        with file_lock(lake.root / ".locks" / f"{name}.lock"):
            for day in lake.view().dates(name):
                if not is_sealed(lake.view(), name, day):
                    _protect_snapshot(lake, lake.view().get(name, day), contract, protector, clock)
                    done.append((name, day))
    if done:
        lake.sweep()
    return done


def _protect_snapshot(
    lake: Lake, snapshot: Snapshot, contract: TableContract, protector: Protector, clock: Clock
) -> None:
    keys = {"keys": protector.fingerprint}
    with (
        lake.publication(clock) as publication,
        publication.folder(
            snapshot.table, snapshot.as_of, lineage={**snapshot.lineage, **keys}
        ) as folder,
        publication.folder(
            sealed_name(snapshot.table), snapshot.as_of, lineage={"kind": "sealed", **keys}
        ) as sealed_folder,
    ):
        for number, path in enumerate(snapshot.files):
            _protect_file(path, number, (folder, sealed_folder), contract, protector)


def _protect_file(
    path: Path,
    number: int,
    folders: tuple[Path, Path],
    contract: TableContract,
    protector: Protector,
) -> None:
    part = f"part-{number:05d}.parquet"
    with pq.ParquetFile(path) as file:
        schemas = (file.schema_arrow, sealed_schema(contract))
        writers = [PartFile(f / part, s) for f, s in zip(folders, schemas, strict=True)]
        for group in range(file.num_row_groups):
            done = protector.protect(file.read_row_group(group), contract)
            for writer, rows in zip(writers, done, strict=True):
                writer.write(rows)
        for writer in writers:
            writer.close()


def reveal_values(  # noqa: PLR0913 - one look-up, all of it named
    view: LakeView,
    contract: TableContract,
    column: str,
    *,
    where: tuple[str, Iterable[str]],
    cipher: DataCipher | None,
    engine: Engine,
    as_of: date | None = None,
) -> dict[str, str]:
    """Return personal values in clear.

    Parameters
    ----------
    view
        The lake.
    contract, column
        Table and personal column.
    where
        Name of a key column and its values.
    cipher
        Opens ciphertexts; None where the lake is not protected.
    engine
        Runs the look-up.
    as_of
        Snapshot date; None: the newest.

    Returns
    -------
    dict[str, str]
        Key to value; keys without one are left out.

    Raises
    ------
    KeysError
        If the lake is protected and there are no keys, or other ones.
    """
    snapshot = view.get(contract.name, as_of)
    sealed = view.find(sealed_name(contract.name), snapshot.as_of)
    key, wanted = where[0], [exp.Literal.string(text) for text in where[1]]
    if not wanted:
        return {}
    shown = column if sealed is None else f"{column}_cipher"
    query = (
        exp.select(exp.column(key, quoted=True), exp.column(shown, quoted=True).as_("found"))
        .from_("asked")
        .where(exp.In(this=exp.column(key, quoted=True), expressions=wanted))
        .order_by(exp.column(key, quoted=True))
    )
    rows = engine.query(query, {"asked": sealed or snapshot}).to_pylist()
    found = {row[key]: row["found"] for row in rows if row["found"] is not None}
    if sealed is None:
        return found
    if cipher is None:
        raise KeysError(
            f"'{contract.name}' is protected, and no keys are at hand.",
            remedy="Bring back the key file of this workspace.",
            zh=f"表 {contract.name} 已加密，但没有可用的密钥，请恢复密钥文件。",
        )
    Protector(cipher).check(sealed)
    kind = contract[column].personal
    return {name: cipher.decrypt(text, kind) for name, text in found.items()}


def show_masks(
    view: LakeView, contract: TableContract, rows: list[dict[str, Any]], engine: Engine
) -> list[dict[str, Any]]:
    """Put masks where rows hold tokens, as people are to see them.

    Parameters
    ----------
    view
        The lake that the rows were read from.
    contract
        Of their table.
    rows
        Rows with the key and ``as_of``; those of a table that is not sealed stay as they are.
    engine
        Looks the masks up.
    """
    columns = personal_columns(contract)
    if not columns or not rows:
        return rows
    shown = list(rows)
    key = contract.key[0]
    for day in {row["as_of"] for row in rows}:
        sealed = view.find(sealed_name(contract.name), day)
        if sealed is None:
            continue
        wanted = [exp.Literal.string(row[key]) for row in rows if row["as_of"] == day]
        query = (
            exp.select("*")
            .from_("asked")
            .where(exp.In(this=exp.column(key, quoted=True), expressions=wanted))
        )
        masks = {
            tuple(found[name] for name in contract.key): found
            for found in engine.query(query, {"asked": sealed}).to_pylist()
        }
        for at, row in enumerate(shown):
            found = masks.get(tuple(row[name] for name in contract.key))
            if row["as_of"] == day and found is not None:
                own = {c.name: found[f"{c.name}_mask"] for c in columns if c.name in row}
                shown[at] = row | own
    return shown
