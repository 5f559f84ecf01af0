"""What a row that is set aside may show: mapped plain cells, and nothing that tells who it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from bihuan.data.contract import TableContract
from bihuan.data.mapping import SourceMapping
from bihuan.data.personal.cipher import DataCipher, is_sealed_cell
from bihuan.data.personal.protect import Protector

HIDDEN = "***"
# a mobile number or an identity number, wherever it stands in a cell
_TELLING = re.compile(r"(?<!\d)(1\d{10}|\d{17}[\dXx])(?!\d)")


class SourceGuard:
    """Seals what quarantine must not show; a replay opens it again.

    A cell stays readable only if the mapping sends its column to columns that are not personal, and
    it does not look like a phone or identity number. Cells that the mapping does not use are
    sealed, because nobody has said what they are. A record that could not be cut into cells is
    sealed whole.

    Parameters
    ----------
    cipher
        Seals and opens.
    mapping, contracts
        Say what each source column is.
    """

    def __init__(
        self, cipher: DataCipher, mapping: SourceMapping, contracts: Mapping[str, TableContract]
    ) -> None:
        self._cipher = cipher
        self._plain = _plain_sources(mapping, contracts)

    def cells(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cells of a record as quarantine may hold them."""
        return {name: self._cell(name, value) for name, value in cells.items()}

    def raw(self, raw: bytes | None) -> bytes | None:
        """Return the bytes of a record as quarantine may hold them."""
        if raw is None:
            return None
        return self._cipher.seal_cell(raw.decode("latin-1")).encode()

    def shown(self, column: str | None, value: str) -> str:
        """Return what a reason may quote of a cell; ``column`` None: of a whole record."""
        return _TELLING.sub(HIDDEN, value) if column in self._plain else HIDDEN

    def _cell(self, name: str, value: Any) -> Any:
        if value is None or value == "":
            return value
        text = str(value)
        if name in self._plain and not _TELLING.search(text):
            return value
        if isinstance(value, str) and is_sealed_cell(value):  # replayed, and bad once more
            return value
        return self._cipher.seal_cell(json.dumps(value, ensure_ascii=False))


def guard_of(
    protector: Protector | None,
    mapping: SourceMapping,
    contracts: Mapping[str, TableContract],
) -> SourceGuard | None:
    """Return the guard of a run; None where the workspace has no keys."""
    return None if protector is None else SourceGuard(protector.cipher, mapping, contracts)


def open_cells(cells: Mapping[str, Any], cipher: DataCipher) -> dict[str, Any]:
    """Return the cells of a record as its source gave them."""
    return {
        name: json.loads(cipher.open_cell(value))
        if isinstance(value, str) and is_sealed_cell(value)
        else value
        for name, value in cells.items()
    }


def open_raw(raw: bytes | None, cipher: DataCipher) -> bytes | None:
    """Return the bytes of a record as its source gave them."""
    if raw is None or not is_sealed_cell(raw[:16].decode("latin-1")):
        return raw
    return cipher.open_cell(raw.decode()).encode("latin-1")


def _plain_sources(
    mapping: SourceMapping, contracts: Mapping[str, TableContract]
) -> frozenset[str]:
    plain: set[str] = set()
    personal: set[str] = set()
    for table, part in mapping.tables.items():
        contract = contracts[table]
        for target, column in part.columns.items():
            is_personal = target in contract and contract[target].personal
            (personal if is_personal else plain).update(column.sources)
        plain.update(part.when)
        if part.melt:
            melted = [name for name, column in part.columns.items() if column.melt is not None]
            told = any(name in contract and contract[name].personal for name in melted)
            (personal if told else plain).update(part.melt.columns)
    return frozenset(plain - personal)
