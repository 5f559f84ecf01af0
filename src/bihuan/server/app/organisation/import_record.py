"""Past imports and the rows that they refused."""

from __future__ import annotations

import sqlalchemy as sa

from bihuan.server.app.errors import missing
from bihuan.server.control import OrgImport, OrgImportRow, UnitOfWork


def find_imports() -> sa.Select[OrgImport]:
    """Return the select of past imports."""
    return sa.select(OrgImport)


def get_import(work: UnitOfWork, import_id: str) -> OrgImport:
    """Return a past import.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found = work.session.scalars(
        sa.select(OrgImport).where(OrgImport.import_id == import_id)
    ).one_or_none()
    if found is None:
        raise missing("import", "导入记录", import_id)
    return found


def find_refused(import_id: str) -> sa.Select[OrgImportRow]:
    """Return the select of the rows that an import refused; ask :func:`get_import` first."""
    return sa.select(OrgImportRow).where(OrgImportRow.import_id == import_id)
