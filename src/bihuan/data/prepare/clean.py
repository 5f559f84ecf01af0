"""Cleaning: blanks, duplicates, missing values, outliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from bihuan.data.prepare.draft import Draft, ascending, column, named, read_order
from bihuan.data.prepare.recipe import Options

BLANKS = " \t\r\n\u00a0\u3000\ufeff"  # what source systems leave around a text


def trim(draft: Draft, options: Options) -> None:
    """Remove blanks at both ends, full-width too; what is empty then is missing: ``[name]``."""
    changed: dict[str, exp.Expr] = {}
    for name in options.names("", options.raw):
        bare = exp.Trim(this=column(name), expression=exp.Literal.string(BLANKS))
        changed[name] = exp.Nullif(this=bare, expression=exp.Literal.string(""))
    draft.replace(changed, {})


def drop_duplicates(draft: Draft, options: Options) -> None:
    """Keep one row per key: ``{key: [customer_id], order: [-as_of]}``.

    The first in ``order`` stays; ties are broken by all columns, so the same row always stays.
    """
    raw = options.mapping(("key", "order"))
    key = options.names("key", raw.get("key"))
    first = read_order(options, "order", raw["order"]) if raw.get("order") else []
    rest = [ascending(name) for name in draft.units]  # so that the row kept is always the same
    place = exp.Window(
        this=exp.RowNumber(),
        partition_by=[column(name) for name in key],
        order=exp.Order(expressions=[*first, *rest]),
    )
    numbered = draft.over({}).select(place.as_("place.in.key", quoted=True))
    query = exp.select(*named({name: column(name) for name in draft.units}))
    units = draft.units
    draft.then(
        query.from_(numbered.subquery("numbered")).where(column("place.in.key").eq(1)), units
    )


def fill_missing(draft: Draft, options: Options) -> None:
    """Fill missing values: ``{columns, with, value, by, key}``.

    ``with`` is ``constant`` (needs ``value``), ``median`` (of all rows, or of the rows that agree
    in ``by``) or ``previous_month`` (of the same ``key``, from the calendar month just before; it
    needs a select over several months).
    """
    raw = options.mapping(("columns", "with", "value", "by", "key"))
    names = options.names("columns", raw.get("columns"))
    means = options.choice("with", raw.get("with"), ("constant", "median", "previous_month"))
    if means == "constant":
        value = raw.get("value")
        if value is None:
            raise options.wrong("value", "a constant is needed.", zh="需要填充常量。")
        draft.replace(
            {
                name: exp.Coalesce(this=column(name), expressions=[exp.convert(value)])
                for name in names
            },
            {},
        )
    elif means == "median":
        by = options.names("by", raw["by"]) if raw.get("by") else []
        medians = {f"median.{name}": exp.Median(this=column(name)) for name in names}
        filled = {
            name: exp.Coalesce(this=column(name, "a"), expressions=[column(f"median.{name}", "b")])
            for name in names
        }
        _beside(draft, by, medians, filled)
    else:
        if "months_ago" not in draft.units:
            raise options.wrong(
                "with",
                "the month before is not at hand.",
                remedy="Write 'months: 2' or more in the select step.",
                zh="没有上个月的数据，请在 select 步骤写 months: 2 或更多。",
            )
        key = options.names("key", raw.get("key"))
        draft.replace({name: _previous(name, key) for name in names}, {})


def cap(draft: Draft, options: Options) -> None:
    """Cap outliers at quantiles: ``{columns, low, high, by}``.

    Values below the ``low`` (above the ``high``) quantile, 0..1, of all rows or of the rows that
    agree in ``by``, become that quantile, which is a value that occurs. Missing stays missing.
    """
    raw = options.mapping(("columns", "low", "high", "by"))
    names = options.names("columns", raw.get("columns"))
    by = options.names("by", raw["by"]) if raw.get("by") else []
    low, high = (
        options.number(side, raw[side], 0, 1) if side in raw else None for side in ("low", "high")
    )
    if low is None and high is None:
        raise options.wrong("", "low or high is needed.", zh="需要 low 或 high 分位数。")
    bounds: dict[str, exp.Expr] = {}
    capped: dict[str, exp.Expr] = {}
    for name in names:
        case = exp.case()
        for side, share, test in (("low", low, exp.LT), ("high", high, exp.GT)):
            if share is not None:
                bound = column(f"{side}.{name}", "b")
                bounds[f"{side}.{name}"] = exp.PercentileDisc(
                    this=column(name), expression=exp.convert(share)
                )
                case = case.when(test(this=column(name, "a"), expression=bound), bound.copy())
        capped[name] = case.else_(column(name, "a"))
    _beside(draft, by, bounds, capped)


def _beside(
    draft: Draft,
    by: Sequence[str],
    measures: Mapping[str, exp.Expr],
    changed: Mapping[str, exp.Expr],
) -> None:
    """Put measures of the whole, or of each group, beside every row and change columns by them."""
    keys = [column(name).as_(f"by.{name}", quoted=True) for name in by]
    totals = exp.select(*keys, *named(measures)).from_(draft.name)
    if by:
        totals = totals.group_by(*(column(name) for name in by))
    trees = {name: column(name, "a") for name in draft.units} | dict(changed)
    query = exp.select(*named(trees)).from_(exp.to_table(draft.name).as_("a"))
    same = [
        exp.NullSafeEQ(this=column(name, "a"), expression=column(f"by.{name}", "b")) for name in by
    ]
    on = exp.and_(*same) if same else exp.true()
    draft.then(query.join(totals.subquery("b"), on=on, join_type="inner"), draft.units)


def _previous(name: str, key: Sequence[str]) -> exp.Expr:
    """Return the value, or that of the month before where it is missing."""

    def lag(of: str) -> exp.Expr:
        return exp.Window(
            this=exp.Lag(this=column(of)),
            partition_by=[column(part) for part in key],
            order=exp.Order(expressions=[ascending("as_of")]),
        )

    next_month = exp.Add(this=column("months_ago"), expression=exp.convert(1))
    before = exp.case().when(lag("months_ago").eq(next_month), lag(name))
    return exp.Coalesce(this=column(name), expressions=[before])
