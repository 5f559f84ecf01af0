"""Reads a mapping file. Every error names the file and the field, and says what to write."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

from bihuan.data.mapping import (
    Cell,
    ColumnMapping,
    MappingError,
    Melt,
    SourceFormat,
    SourceMapping,
    TableMapping,
    near,
    template_parts,
)

FORMATS = ("csv", "parquet", "excel", "spss", "sql")
_UNKNOWN_CODES = ("quarantine", "missing", "keep")
_KINDS = ("column", "constant", "template", "melt")
_TOP = (
    "mapping",
    "meaning",
    "source",
    "missing",
    "unknown_codes",
    "trim",
    "timezone",
    "may_be_empty",
    "tables",
)
_COLUMN = (
    *_KINDS,
    "codes",
    "unknown_codes",
    "date_format",
    "factor",
    "trim",
    "missing",
    "default",
    "thousands",
    "decimal",
)


def load_mapping(path: Path) -> SourceMapping:
    """Read a mapping from a YAML file.

    Parameters
    ----------
    path
        The file; see :mod:`bihuan.data.mapping` for its form.

    Returns
    -------
    SourceMapping
        Checked by itself; against contracts and source it is checked by ``ingest``.

    Raises
    ------
    MappingError
        If the file is absent, is no YAML, or a field is wrong.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_OnceLoader)  # a SafeLoader
    except FileNotFoundError as error:
        raise MappingError(
            f"There is no mapping file {path}.",
            remedy="Check the path.",
            zh=f"找不到映射文件 {path}。",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MappingError(
            f"{path.name} is not YAML: {' '.join(str(error).split())}.",
            remedy="Mend the line named; write the file in UTF-8.",
            zh=f"{path.name} 不是合法的 YAML 文件:{' '.join(str(error).split())}",
        ) from error
    return _mapping(_Field(path.name, "", raw), path.stem)


class _OnceLoader(yaml.SafeLoader):
    """Reads YAML and refuses a key that stands twice, where YAML would keep the last silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                problem = f"the key '{key}' stands twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True, slots=True)
class _Field:
    """A part of the file that knows its place in it."""

    file: str
    place: str
    value: Any

    def wrong(self, problem: str, zh: str, remedy: str = "") -> MappingError:
        where = self.place or "the top"
        return MappingError(
            f"{self.file}, field {where}: {problem}.",
            remedy=remedy,
            zh=f"{self.file} 的字段 {self.place or '(顶层)'} 有误:{zh}。",
        )

    def part(self, key: str) -> _Field:
        place = f"{self.place}.{key}" if self.place else key
        return _Field(self.file, place, self.table().get(key))

    def table(self) -> dict[str, Any]:
        """Return the value as a table with text keys; an absent one is empty."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.wrong("must be a table of 'key: value' lines", "必须是“键: 值”形式的表")
        for key in self.value:
            if isinstance(key, bool) or key is None:
                raise self.wrong(
                    f"YAML read an unquoted key as {key!r}",
                    f"YAML 把没有加引号的键读成了 {key!r}",
                    'Put the key in quotes, as in "Yes".',
                )
        return {str(key): value for key, value in self.value.items()}

    def parts(self) -> Iterator[tuple[str, _Field]]:
        for key in self.table():
            yield key, self.part(key)

    def only(self, *keys: str) -> None:
        for key in self.table():
            if key not in keys:
                raise self.part(key).wrong("no such field", "没有这个字段", near(key, keys))

    def text(self, default: str | None = None) -> str:
        if self.value is None and default is not None:
            return default
        if isinstance(self.value, (bool, dict, list)) or self.value is None:
            raise self.wrong(
                f"must be text, but YAML read {self.value!r}",
                f"必须是文本,YAML 读到的是 {self.value!r}",
                "Put it in quotes.",
            )
        return str(self.value)

    def texts(self, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the value as a list of texts; one text counts as a list of one."""
        if self.value is None:
            return default
        items = self.value if isinstance(self.value, list) else [self.value]
        return tuple(
            _Field(self.file, f"{self.place}[{index}]", item).text()
            for index, item in enumerate(items)
        )

    def flag(self, default: bool) -> bool:
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self.wrong("must be true or false", "必须是 true 或 false")
        return self.value

    def number(self) -> float | None:
        if self.value is None:
            return None
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.wrong("must be a number", "必须是数字")
        return float(self.value)

    def choice(self, default: str, *choices: str) -> str:
        word = self.text(default)
        if word not in choices:
            raise self.wrong(f"'{word}' is not allowed", f"不允许“{word}”", near(word, choices))
        return word

    def cell(self) -> Cell | None:
        value = self.value
        if value is None or isinstance(value, (str, int, float, bool, date, datetime)):
            return value
        raise self.wrong("must be one value", "必须是单个值")


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What the top of the file says for every column."""

    missing: tuple[str, ...]
    unknown_codes: str
    trim: bool


def _mapping(top: _Field, stem: str) -> SourceMapping:
    top.only(*_TOP)
    defaults = _Defaults(
        missing=top.part("missing").texts(("",)),
        unknown_codes=top.part("unknown_codes").choice("quarantine", *_UNKNOWN_CODES),
        trim=top.part("trim").flag(default=True),
    )
    tables = {name: _table(name, part, defaults) for name, part in top.part("tables").parts()}
    if not tables:
        raise top.part("tables").wrong("no table is filled", "没有要填充的表", "Name one.")
    return SourceMapping(
        name=top.part("mapping").text(stem),
        tables=tables,
        source=_source(top.part("source")),
        timezone=_timezone(top.part("timezone")),
        may_be_empty=top.part("may_be_empty").flag(default=False),
    )


def _source(part: _Field) -> SourceFormat:
    part.only(*SourceFormat.__slots__)
    skip = part.part("skip_lines").number() or 0
    if skip < 0 or skip != int(skip):
        raise part.part("skip_lines").wrong("must be a whole number >= 0", "必须是不小于 0 的整数")
    return SourceFormat(
        format=None
        if part.part("format").value is None
        else part.part("format").choice("", *FORMATS),
        encoding=_optional(part.part("encoding"), _check_encoding),
        delimiter=_optional(part.part("delimiter"), _check_character),
        quote=_quote(part.part("quote")),
        skip_lines=int(skip),
        columns=part.part("columns").texts(),
        sheet=_optional(part.part("sheet"), lambda field: None),
        labels=part.part("labels").flag(default=False),
    )


def _optional(part: _Field, check: Callable[[_Field], None]) -> str | None:
    if part.value is None:
        return None
    check(part)
    return part.text()


def _check_encoding(part: _Field) -> None:
    try:
        "".encode(part.text())
    except LookupError as error:
        raise part.wrong(
            f"'{part.text()}' is not a text encoding",
            f"不认识编码“{part.text()}”",
            "Write utf-8, gb18030, utf-16, big5, ... or take the line away.",
        ) from error


def _check_character(part: _Field) -> None:
    text = part.text()
    if len(text) != 1 or not text.isascii() or text in '\r\n"':
        raise part.wrong("must be one ASCII character", "必须是单个 ASCII 字符", 'For example "|".')


def _quote(part: _Field) -> str:
    text = part.text('"')
    if text in ("", "none"):
        return ""
    if len(text) != 1 or not text.isascii() or text in "\r\n":
        raise part.wrong("must be one ASCII character or none", "必须是单个 ASCII 字符或 none")
    return text


def _timezone(part: _Field) -> str:
    name = part.text("UTC")
    if name == "UTC":
        return name
    # asked of DuckDB, which will convert with it, and not of the machine's own zone files
    with duckdb.connect(":memory:") as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_timezone_names() WHERE name = $1", [name]
        ).fetchone()
    if not found or not found[0]:
        raise part.wrong(
            f"'{name}' is not a time zone", f"不认识时区“{name}”", "Write Asia/Shanghai, UTC, ..."
        )
    return name


def _table(name: str, part: _Field, defaults: _Defaults) -> TableMapping:
    part.only("columns", "when", "melt", "distinct")
    melt = _melt(part.part("melt")) if part.part("melt").value is not None else None
    columns = {target: _column(column, defaults) for target, column in part.part("columns").parts()}
    if not columns:
        raise part.part("columns").wrong("no column is mapped", "没有映射任何列")
    for target, column in columns.items():
        if column.melt is not None and melt is None:
            raise (
                part.part("columns")
                .part(target)
                .wrong(
                    "melt is used, but the table has no melt block",
                    "用到了 melt,但该表没有 melt 段",
                    "Add 'melt: {columns: ...}' to the table.",
                )
            )
    return TableMapping(
        table=name,
        columns=columns,
        when={source: cells.texts() for source, cells in part.part("when").parts()},
        melt=melt,
        distinct=part.part("distinct").flag(default=False),
        missing=defaults.missing,
    )


def _melt(part: _Field) -> Melt:
    part.only("columns", "keep")
    columns: dict[str, str | Mapping[str, str]] = {}
    for source, name in part.part("columns").parts():
        if isinstance(name.value, dict):
            columns[source] = {cell: inner.text() for cell, inner in name.parts()}
        else:
            columns[source] = name.text()
    if not columns:
        raise part.part("columns").wrong("no column is melted", "没有要展开的列")
    keep = part.part("keep")
    return Melt(columns=columns, keep=None if keep.value is None else keep.texts())


def _column(part: _Field, defaults: _Defaults) -> ColumnMapping:
    if not isinstance(part.value, dict):  # the short form: the source column alone
        part = _Field(part.file, part.place, {"column": part.text()})
    part.only(*_COLUMN)
    kinds = [kind for kind in _KINDS if part.part(kind).value is not None]
    if len(kinds) != 1:
        raise part.wrong(
            f"needs exactly one of {', '.join(_KINDS)}",
            f"必须且只能有 {'、'.join(_KINDS)} 之一",
        )
    codes = part.part("codes")
    return ColumnMapping(
        column=part.part("column").text() if kinds == ["column"] else None,
        constant=part.part("constant").cell(),
        template=_template(part.part("template")) if kinds == ["template"] else None,
        melt=part.part("melt").choice("", "name", "value") if kinds == ["melt"] else None,
        codes=None if codes.value is None else dict(_codes(codes)),
        unknown_codes=part.part("unknown_codes").choice(defaults.unknown_codes, *_UNKNOWN_CODES),
        date_formats=_date_formats(part.part("date_format")),
        factor=part.part("factor").number(),
        trim=part.part("trim").flag(default=defaults.trim),
        missing=part.part("missing").texts(defaults.missing),
        default=part.part("default").cell(),
        thousands=part.part("thousands").text(""),
        decimal=part.part("decimal").text("."),
    )


def _codes(part: _Field) -> Iterator[tuple[str, Cell]]:
    for code, value in part.parts():
        cell = value.cell()
        if cell is None:
            raise value.wrong(
                "a code needs a value",
                "代码必须有对应的值",
                "List cells without value under missing.",
            )
        yield code, cell


def _template(part: _Field) -> str:
    text = part.text()
    names = [name for _, name in template_parts(text) if name]
    if not names:
        raise part.wrong(
            "has no {column}", "没有 {列名}", 'Write "A-{customerID}", or use constant.'
        )
    return text


def _date_formats(part: _Field) -> tuple[str, ...]:
    formats = part.texts()
    words = [text for text in formats if text in ("unix", "unix_ms")]
    if words and len(formats) > 1:
        raise part.wrong(f"{words[0]} stands alone", f"{words[0]} 只能单独使用")
    if len({"%z" in text for text in formats}) > 1:
        raise part.wrong("forms with and without %z cannot mix", "带 %z 与不带 %z 的格式不能混用")
    if words or not formats:
        return formats
    with duckdb.connect(":memory:") as connection:
        for text in formats:
            try:
                connection.execute("SELECT try_strptime('', $1)", [text]).fetchall()
            except duckdb.Error as error:
                raise part.wrong(
                    f"'{text}' is not a date form",
                    f"“{text}”不是日期格式",
                    'For example "%Y-%m-%d".',
                ) from error
    return formats
