"""A table or view of a foreign database as a source, through an SQLAlchemy URL.

The rows are fetched once, in one statement, in portions, and kept in a temporary Arrow file: so
they are one consistent picture, can be read twice, and have a hash by which the same content is
known again.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from bihuan.data.block import SourceFacts
from bihuan.data.encoding import UnreadableSourceError
from bihuan.data.mapping import near
from bihuan.data.source_table import (
    Chunk,
    SqlTable,
    TableSource,
    itself,
    simple_column,
    typed_array,
)
from bihuan.kernel import UserError

__all__ = ["SqlSource", "SqlTable"]

FETCH_ROWS = 50_000


class SqlSource(TableSource):
    """A fetched table; see :class:`~bihuan.data.block.RowSource`.

    Parameters
    ----------
    wanted
        Which table.
    advance
        Told the rows fetched.

    Raises
    ------
    UnreadableSourceError
        If the database cannot be reached, or has no such table.
    """

    def __init__(
        self, wanted: SqlTable, advance: Callable[[int], None] = lambda amount: None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bihuan-sql-")
        try:
            spool, columns, digest, rows = _spool(wanted, Path(self._folder.name), advance)
        except BaseException:
            self._folder.cleanup()
            raise
        name = f"{_url(wanted).render_as_string(hide_password=True)}#{_dotted(wanted)}"
        facts = SourceFacts(name, "sql", digest, tuple(columns), float(rows))
        super().__init__(facts, partial(_chunks, spool))

    def close(self) -> None:
        """Remove the fetched rows."""
        self._folder.cleanup()


def _chunks(spool: Sequence[Path], names: Sequence[str]) -> Iterator[Chunk]:
    for path in spool:
        with pa.memory_map(str(path)) as file:
            whole = pa.ipc.open_file(file).read_all()
        yield Chunk(whole.select(list(names)), None, partial(itself, whole))


def _spool(
    wanted: SqlTable, folder: Path, advance: Callable[[int], None]
) -> tuple[list[Path], list[str], str, int]:
    """Fetch the rows into files of Arrow rows; return them, the columns, the hash, the number."""
    files: list[Path] = []
    digest = hashlib.sha256()
    rows = 0
    try:
        engine = sa.create_engine(_url(wanted), poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            columns, query = _select(connection, wanted)
            options = {"stream_results": True, "yield_per": FETCH_ROWS}
            result = connection.execute(query, execution_options=options)
            for portion in result.partitions():
                table = _table(columns, portion)
                path = folder / f"{len(files):06d}.arrow"
                with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
                    out.write_table(table)
                digest.update(path.read_bytes())
                files.append(path)
                rows += table.num_rows
                advance(table.num_rows)
    except SQLAlchemyError as error:
        raise UnreadableSourceError(
            f"Reading {_dotted(wanted)} failed: {_first_line(error)}.",
            remedy="Check the address, the account's rights and the table name.",
            zh=f"读取 {_dotted(wanted)} 失败,请检查地址、账号权限和表名。",
        ) from error
    return files, columns, digest.hexdigest(), rows


def _select(connection: sa.Connection, wanted: SqlTable) -> tuple[list[str], sa.Select[Any]]:
    """Build the query from what the database says about the table, ordered by its key."""
    inspector = sa.inspect(connection)
    have = [
        *inspector.get_table_names(schema=wanted.schema),
        *inspector.get_view_names(schema=wanted.schema),
    ]
    if wanted.table not in have:
        raise UnreadableSourceError(
            f"The database has no table or view {_dotted(wanted)}.",
            remedy=near(wanted.table, have) if have else "Check the schema and the account.",
            zh=f"数据库中没有表或视图 {_dotted(wanted)}。",
        )
    names = [column["name"] for column in inspector.get_columns(wanted.table, wanted.schema)]
    table = sa.table(wanted.table, *[sa.column(name) for name in names], schema=wanted.schema)
    key = inspector.get_pk_constraint(wanted.table, wanted.schema).get("constrained_columns") or []
    return names, sa.select(*table.c).order_by(*[table.c[name] for name in key])


def _table(columns: Sequence[str], portion: Sequence[sa.Row[Any]]) -> pa.Table:
    cells = zip(*portion, strict=True)
    return pa.table(
        {
            name: simple_column(pa.chunked_array([typed_array(column)]))
            for name, column in zip(columns, cells, strict=True)
        }
    )


def _url(wanted: SqlTable) -> URL:
    try:
        return sa.make_url(wanted.url)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise UserError(
            "The database address is not an SQLAlchemy URL.",
            remedy="Write it as dialect://user:password@host/database.",
            zh="数据库地址不是 SQLAlchemy 的 URL,应为 dialect://user:password@host/database。",
        ) from error


def _dotted(wanted: SqlTable) -> str:
    return f"{wanted.schema}.{wanted.table}" if wanted.schema else wanted.table


def _first_line(error: SQLAlchemyError) -> str:
    # the driver's own words; SQLAlchemy's text would add the statement and its parameters
    reason = getattr(error, "orig", None) or error
    return str(reason).strip().split("\n")[0][:200]
