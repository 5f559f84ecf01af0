"""The sealed table of a load, written row for row beside the table itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.data.contract import TableContract
from bihuan.data.lake import Snapshot
from bihuan.data.part_file import PartFile, link_file, rewrite_without
from bihuan.data.personal.protect import Protector, sealed_schema


class SealedFile:
    """Protects the rows of one load before they touch the disk.

    Parameters
    ----------
    contract
        Of the table that is filled.
    protector
        Makes tokens and ciphertexts.
    folder
        Where the sealed rows go.
    previous
        Sealed rows that stay, or None.
    """

    def __init__(
        self,
        contract: TableContract,
        protector: Protector,
        folder: Path,
        previous: Snapshot | None,
    ) -> None:
        protector.check(previous)
        self._contract, self._protector = contract, protector
        carried = previous.files if previous is not None else ()
        for number, path in enumerate(carried):
            link_file(path, folder / f"part-{number:05d}.parquet")
        self._has_others = bool(carried)
        self._path = folder / f"part-{len(carried):05d}.parquet"
        self._writer = PartFile(self._path, sealed_schema(contract))

    def take(self, rows: pa.Table) -> pa.Table:
        """Seal the personal columns of rows and return the rows with tokens."""
        safe, sealed = self._protector.protect(rows, self._contract)
        self._writer.write(sealed)
        return safe

    def close(self) -> None:
        """Close the file, before duplicates are taken out."""
        self._writer.close()

    def drop(self, gone: NDArray[np.bool_]) -> None:
        """Take the rows out that the table loses, shape ``(n,)``."""
        rewrite_without(self._path, gone)

    def leave_out(self) -> None:
        """Remove the file: no row was stored, and others carry the table."""
        if self._has_others:
            self._path.unlink()

    def abandon(self) -> None:
        """Stop; what was written is of no use."""
        self._writer.abandon()
