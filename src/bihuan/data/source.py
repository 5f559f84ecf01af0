"""Opens a source: a file of any kind that is read, or a table of a foreign database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from bihuan.data.block import RowSource
from bihuan.data.encoding import UnreadableSourceError
from bihuan.data.mapping import SourceMapping
from bihuan.data.source_csv import CsvSource
from bihuan.data.source_table import SqlTable, open_excel, open_parquet, open_spss
from bihuan.kernel import Progress

SourcePlace: TypeAlias = Path | SqlTable
"""Where a source lies: a file, or a table of a database."""

_ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xlsb": "excel",
    ".xls": "excel",
    ".ods": "excel",
    ".sav": "spss",
    ".zsav": "spss",
}


def open_source(place: SourcePlace, mapping: SourceMapping, progress: Progress) -> RowSource:
    """Open a source and look at it: its columns, its encoding, its hash.

    Parameters
    ----------
    place
        A file, or a table of a database.
    mapping
        Its ``source`` block says what the file cannot say itself.
    progress
        Shows the inspection, which reads a text file once.

    Returns
    -------
    RowSource
        To be closed by the caller.

    Raises
    ------
    UnreadableSourceError
        If it is absent, empty, cut off, or of an unknown kind.
    """
    if not isinstance(place, Path):
        return _open_sql(place, progress)
    if not place.is_file():
        raise UnreadableSourceError(
            f"There is no file {place}.", remedy="Check the path.", zh=f"找不到文件 {place}。"
        )
    kind = mapping.source.format or kind_of(place)
    if kind == "csv":
        size = float(place.stat().st_size)
        with progress.task(f"inspect {place.name}", total=size, unit="bytes") as task:
            return CsvSource(place, mapping.source, task.advance)
    opened: dict[str, Callable[[], RowSource]] = {
        "parquet": lambda: open_parquet(place),
        "excel": lambda: open_excel(place, mapping.source),
        "spss": lambda: open_spss(place, mapping.source),
    }
    if kind not in opened:
        raise UnreadableSourceError(
            f"{place.name} is a file, but the mapping says 'format: {kind}'.",
            remedy="Give a database table, or mend 'source.format'.",
            zh=f"{place.name} 是文件,而映射写的是 format: {kind}。",
        )
    if not place.stat().st_size:
        raise UnreadableSourceError(
            f"{place.name} is empty.",
            remedy="Check that it was written to the end.",
            zh=f"{place.name} 是空文件,请确认文件已写完。",
        )
    return opened[kind]()


def kind_of(path: Path) -> str:
    """Return the kind of a file by its ending, ``.gz`` aside.

    Examples
    --------
    >>> kind_of(Path("usage.csv.gz"))
    'csv'
    """
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    ending = name.suffix.lower()
    if ending not in _ENDINGS:
        raise UnreadableSourceError(
            f"{path.name} has an ending that says nothing about its kind.",
            remedy="State it in the mapping, as in 'source: {format: csv}'; endings read are "
            f"{', '.join(_ENDINGS)}.",
            zh=f"无法由扩展名判断 {path.name} 的类型,请在映射中写明,例如 source: {{format: csv}}。",
        )
    return _ENDINGS[ending]


def _open_sql(place: SqlTable, progress: Progress) -> RowSource:
    # imported here: SQLAlchemy is large, and most sources are files
    from bihuan.data.source_sql import SqlSource

    with progress.task(f"fetch {place.table}", unit="rows") as task:
        return SqlSource(place, task.advance)
