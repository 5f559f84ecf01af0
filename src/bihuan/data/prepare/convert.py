"""Conversion: types, units, codes, names, wide and long form, order."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from bihuan.data.contract import ColumnType
from bihuan.data.prepare.draft import Draft, column, named, read_order
from bihuan.data.prepare.recipe import Options

UNITS: Mapping[str, tuple[str, int]] = {
    "KB": ("data", 1),
    "MB": ("data", 1024),
    "GB": ("data", 1024**2),
    "TB": ("data", 1024**3),
    "second": ("time", 1),
    "minute": ("time", 60),
    "hour": ("time", 3600),
    "day": ("time", 86400),
    "fen": ("money", 1),
    "currency": ("money", 100),
}
"""Units that can be turned into each other: dimension and size. Operators bill 1 GB as 1024 MB."""

_AGGREGATES: Mapping[str, type[exp.Expr]] = {
    "sum": exp.Sum,
    "avg": exp.Avg,
    "min": exp.Min,
    "max": exp.Max,
    "count": exp.Count,
}


def change_types(draft: Draft, options: Options) -> None:
    """Change types: ``{birth_year: integer, note: {to: number, lenient: true}}``.

    A value that cannot be read as the new type stops the run; ``lenient`` makes it missing.
    """
    changed: dict[str, exp.Expr] = {}
    for name, wanted in options.mapping().items():
        options.names("", [name])
        lenient = False
        if isinstance(wanted, dict):
            inner = Options(wanted, f"{options.place}, {name}", ()).mapping(("to", "lenient"))
            wanted, lenient = inner.get("to"), bool(inner.get("lenient"))
        kind = ColumnType(options.choice(name, wanted, [str(kind) for kind in ColumnType]))
        cast = exp.TryCast if lenient else exp.Cast
        target = exp.DataType.build(kind.sql, dialect="duckdb")
        changed[name] = cast(this=column(name), to=target)
    draft.replace(changed, {})


def change_units(draft: Draft, options: Options) -> None:
    """Change units: ``{data_mb: {to: GB, as: data_gb}}``.

    The present unit is the contract's, or ``from``. Without ``as`` the column is replaced.
    """
    changed: dict[str, exp.Expr] = {}
    units: dict[str, str] = {}
    for name, wanted in options.mapping().items():
        options.names("", [name])
        written = wanted if isinstance(wanted, dict) else {"to": wanted}
        raw = Options(written, f"{options.place}, {name}", ()).mapping(("to", "from", "as"))
        given, to = raw.get("from", draft.units[name]), raw.get("to")
        for unit in (given, to):
            options.choice(name, unit, list(UNITS))
        (dimension, size), (other, target) = UNITS[given], UNITS[str(to)]
        if dimension != other:
            raise options.wrong(
                name, f"{given} cannot become {to}.", zh=f"{given} 不能换算为 {to}。"
            )
        new = options.new_name(name, raw.get("as", name))
        factor = exp.Div(this=exp.convert(float(size)), expression=exp.convert(float(target)))
        changed[new] = exp.Mul(this=exp.cast(column(name), "DOUBLE"), expression=exp.paren(factor))
        units[new] = str(to)
    draft.replace(changed, units)


def change_codes(draft: Draft, options: Options) -> None:
    """Replace codes: ``{status: {map: {active: 在用}, other: missing, as: status_zh}}``.

    ``other`` says what becomes of codes that the map does not name: ``keep`` (default),
    ``missing``, or a text. A missing value stays missing.
    """
    changed: dict[str, exp.Expr] = {}
    for name, wanted in options.mapping().items():
        options.names("", [name])
        raw = Options(wanted, f"{options.place}, {name}", ()).mapping(("map", "other", "as"))
        codes = Options(raw.get("map"), f"{options.place}, {name}.map", ()).mapping()
        text = exp.cast(column(name), "VARCHAR")
        case = exp.case()
        for code, title in codes.items():
            case = case.when(text.eq(exp.Literal.string(code)), exp.Literal.string(str(title)))
        other = raw.get("other", "keep")
        if other == "keep":
            case = case.else_(text.copy())
        elif other != "missing":
            unknown = exp.Is(this=text.copy(), expression=exp.null())
            case = case.when(exp.not_(unknown), exp.Literal.string(str(other)))
        changed[options.new_name(name, raw.get("as", name))] = case
    draft.replace(changed, dict.fromkeys(changed, ""))


def rename(draft: Draft, options: Options) -> None:
    """Rename columns: ``{amount: bill_amount}``."""
    new = {
        name: options.new_name(name, to)
        for name, to in options.mapping().items()
        if options.names("", [name])
    }
    titles = [new.get(name, name) for name in draft.units]
    if len(set(titles)) != len(titles):
        raise options.wrong("", "two columns would have one name.", zh="改名后字段重名。")
    trees = {new.get(name, name): column(name) for name in draft.units}
    units = {new.get(name, name): unit for name, unit in draft.units.items()}
    draft.then(exp.select(*named(trees)).from_(draft.name), units)


def pivot(draft: Draft, options: Options) -> None:
    """Turn rows into columns: ``{by, column, values, value, aggregate}``.

    One row per ``by``; per value of ``column`` that ``values`` names (a list, or a mapping from
    value to the new column's name) one column with the aggregate (``sum`` by default) of ``value``.
    """
    raw = options.mapping(("by", "column", "values", "value", "aggregate"))
    by = options.names("by", raw.get("by"))
    (key,) = options.names("column", [raw.get("column")])
    (value,) = options.names("value", [raw.get("value")])
    aggregate = options.choice("aggregate", raw.get("aggregate", "sum"), list(_AGGREGATES))
    values = raw.get("values")
    if isinstance(values, list | tuple):
        values = {str(code): f"{value}_{code}" for code in values}
    values = Options(values, f"{options.place}, values", ()).mapping()
    trees: dict[str, exp.Expr] = {name: column(name) for name in by}
    for code, title in values.items():
        matches = exp.cast(column(key), "VARCHAR").eq(exp.Literal.string(code))
        trees[options.new_name("values", title)] = exp.Filter(
            this=_AGGREGATES[aggregate](this=column(value)), expression=exp.Where(this=matches)
        )
    query = exp.select(*named(trees)).from_(draft.name)
    draft.then(
        query.group_by(*(column(name) for name in by)),
        {name: draft.units[name if name in by else value] for name in trees},
    )
    draft.order = [column(name) for name in by]


def unpivot(draft: Draft, options: Options) -> None:
    """Turn columns into rows: ``{by, columns, name, value}``.

    Per row and column of ``columns`` one row with the column's name and its value, missing too.
    """
    raw = options.mapping(("by", "columns", "name", "value"))
    by = options.names("by", raw.get("by"))
    wide = options.names("columns", raw.get("columns"))
    title = options.new_name("name", raw.get("name", "name"))
    value = options.new_name("value", raw.get("value", "value"))
    if len({*by, title, value}) != len(by) + 2:
        raise options.wrong("name", "two columns would have one name.", zh="字段重名。")
    union: exp.Query | None = None
    for name in wide:
        trees: dict[str, exp.Expr] = {key: column(key) for key in by}
        trees |= {title: exp.Literal.string(name), value: column(name)}
        part = exp.select(*named(trees)).from_(draft.name)
        union = part if union is None else exp.union(union, part, distinct=False)
    if union is not None:
        draft.then(union, {**{key: draft.units[key] for key in by}, title: "", value: ""})


def sort_rows(draft: Draft, options: Options) -> None:
    """Order the result, only as the last step: ``[city_code, -amount]``; missing values last."""
    draft.order = read_order(options, "", options.raw)
