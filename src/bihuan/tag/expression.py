"""What an expression of a tag may say, and where exactly it says something else.

An expression is a piece of SQL that an analyst writes in YAML. It is read into a sqlglot tree and
every node must be on a list of what is allowed: no subquery, no window function, no function that
reads files, the clock or chance, and nothing whose result depends on the order of rows.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from bihuan.kernel import UserError

Threshold: TypeAlias = str | int | float | bool | date | tuple[str | int | float, ...]
"""The value of a ``$name`` in an expression; a tuple stands behind ``in``."""

AS_OF, MONTHS_AGO = "as_of", "months_ago"
MAX_CHARACTERS = 10_000

SCALARS: Mapping[str, type[exp.Expr]] = {
    "abs": exp.Abs, "ceil": exp.Ceil, "coalesce": exp.Coalesce, "contains": exp.Contains,
    "date_diff": exp.DateDiff, "date_trunc": exp.TimestampTrunc, "day": exp.Day, "exp": exp.Exp,
    "extract": exp.Extract, "floor": exp.Floor, "greatest": exp.Greatest, "if": exp.If,
    "least": exp.Least, "length": exp.Length, "ln": exp.Ln, "lower": exp.Lower,
    "month": exp.Month, "nullif": exp.Nullif, "power": exp.Pow, "round": exp.Round,
    "sign": exp.Sign, "sqrt": exp.Sqrt, "starts_with": exp.StartsWith,
    "substring": exp.Substring, "trim": exp.Trim, "upper": exp.Upper, "year": exp.Year,
}  # fmt: skip
AGGREGATES: Mapping[str, type[exp.Expr]] = {
    "arg_max": exp.ArgMax, "arg_min": exp.ArgMin, "avg": exp.Avg, "bool_and": exp.LogicalAnd,
    "bool_or": exp.LogicalOr, "corr": exp.Corr, "count": exp.Count, "count_if": exp.CountIf,
    "max": exp.Max, "median": exp.Median, "min": exp.Min, "quantile_cont": exp.PercentileCont,
    "regr_slope": exp.RegrSlope, "stddev_pop": exp.StddevPop, "stddev_samp": exp.StddevSamp,
    "sum": exp.Sum,
}  # fmt: skip
AGGREGATE_TYPES = tuple(AGGREGATES.values())
_GRAMMAR: tuple[type[exp.Expr], ...] = (
    *(exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Placeholder),
    *(exp.And, exp.Or, exp.Not, exp.Is, exp.In, exp.Between, exp.Like, exp.Case, exp.Neg),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ),
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.DPipe),
    *(exp.Cast, exp.TryCast, exp.DataType, exp.DataTypeParam, exp.Interval, exp.Var),
    *(exp.Filter, exp.Where, exp.Distinct, exp.Star),
)
_ALLOWED = frozenset((*SCALARS.values(), *AGGREGATES.values(), *_GRAMMAR))
_CAST_TYPES = frozenset(
    exp.DType[name]
    for name in (
        *("TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL"),
        *("VARCHAR", "TEXT", "BOOLEAN", "DATE", "TIMESTAMP", "TIMESTAMPTZ"),
    )
)
_MOMENT = (
    "a tag is derived for a date, not for the moment of the run",
    "Use as_of, the date for which the tag is derived.",
)
_ORDER = (
    "its result depends on the order of the rows",
    "Use min, max or arg_max, which give the same each time.",
)
_SUBQUERY = (
    "each tag reads one source, or other tags",
    "Make the subquery a tag of its own and use its name.",
)
_WHY_NOT: Mapping[type[exp.Expr], tuple[str, str]] = {
    exp.Window: (
        "a window function looks at other rows, and a tag has one value per subject",
        "Use an aggregate, with filter (where ...) if need be.",
    ),
    exp.Query: _SUBQUERY,
    exp.Exists: _SUBQUERY,
    exp.Alias: ("the tag has its name already", "Take the alias away, or add the operator."),
    exp.Rand: ("a tag must come out the same each time", "Take it away."),
    exp.CurrentDate: _MOMENT,
    exp.CurrentTimestamp: _MOMENT,
    exp.First: _ORDER,
    exp.Last: _ORDER,
    exp.AnyValue: _ORDER,
    exp.ArrayAgg: _ORDER,
    exp.GroupConcat: _ORDER,
}
_MOMENTS = ("now", "today", "get_current_timestamp", "transaction_timestamp")


class ExpressionError(UserError):
    """An expression says something that a tag may not say.

    Parameters
    ----------
    message, remedy, zh
        As in :class:`~bihuan.kernel.UserError`; ``zh`` is message and remedy in Chinese.
    span
        First character and the one after the last, counted from 0 in the expression's text.
    """

    def __init__(self, message: str, *, remedy: str, zh: str, span: tuple[int, int]) -> None:
        super().__init__(message, remedy=remedy, zh=zh)
        self.span = span


@dataclass(frozen=True)
class TagExpression:
    """An expression that was read and found to be allowed.

    Parameters
    ----------
    text, written
        What the analyst wrote, and its tree.
    tree
        The same with thresholds put in and made safe: a division by zero gives missing, and a
        tie in ``arg_max`` goes to the greater value, so that each run gives the same result.
    columns
        Names of the columns (or tags) it uses, sorted; without ``as_of`` and ``months_ago``.
    aggregates
        Whether it has an aggregate function.
    """

    text: str
    written: exp.Expr
    tree: exp.Expr
    columns: tuple[str, ...]
    aggregates: bool


def parse_expression(text: str, thresholds: Mapping[str, Threshold] | None = None) -> TagExpression:
    """Read an expression and check all that can be known without its source.

    Parameters
    ----------
    text
        SQL of one value, DuckDB dialect; ``$name`` stands for a threshold.
    thresholds
        Values by name; each must be used.

    Returns
    -------
    TagExpression
        Read, substituted and made safe.

    Raises
    ------
    ExpressionError
        If it does not parse, or uses what is not on the list of the allowed; with the position.

    Examples
    --------
    >>> parsed = parse_expression("sum(amount) / count(*)")
    >>> parsed.columns, parsed.aggregates
    (('amount',), True)
    >>> parse_expression("arpu >= $high", {"high": 80}).tree.sql("duckdb")
    'arpu >= 80'
    """
    values = tuple(sorted((thresholds or {}).items()))
    frozen = tuple((k, tuple(v) if isinstance(v, (list, tuple)) else v) for k, v in values)
    return _read(text, frozen, repr(frozen))


@lru_cache(maxsize=8192)
def _read(text: str, thresholds: tuple[tuple[str, Threshold], ...], kinds: str) -> TagExpression:
    """Read an expression once: a dictionary is made many times in a process, of the same tags.

    The trees are shared; whoever changes one works on a copy. ``kinds`` keeps 1 and 1.0 apart.
    """
    del kinds
    written = _parse(text)
    for node in written.walk():
        _check_node(node, text)
    tree = _made_safe(_put_in_thresholds(written, text, dict(thresholds)))
    columns = sorted({c.name for c in written.find_all(exp.Column)} - {AS_OF, MONTHS_AGO})
    return TagExpression(text, written, tree, tuple(columns), has_aggregate(tree))


@lru_cache(maxsize=4096)
def canonical_text(text: str) -> str:
    """Return an expression in one normal form; blanks, case of words and comments do not matter.

    Examples
    --------
    >>> canonical_text("SUM( amount )/2 -- half")
    'SUM(amount) / 2'
    """
    try:
        return _parse(text).sql("duckdb")
    except ExpressionError:
        return text


def check_columns(parsed: TagExpression, known: Iterable[str], what: str, what_zh: str) -> None:
    """Check that every column is one of ``known``.

    Parameters
    ----------
    parsed
        The expression.
    known
        Names of the columns that there are; the date and the month count always are.
    what, what_zh
        Names of the source, for the message.

    Raises
    ------
    ExpressionError
        At the first unknown column, with the nearest names.
    """
    names = set(known)
    used = parsed.written.find_all(exp.Column)
    wrong = [c for c in used if c.name not in {AS_OF, MONTHS_AGO, *names}]
    for column in sorted(wrong, key=lambda column: span_of(column, parsed.text)):
        near = nearest(column.name, names)
        raise ExpressionError(
            f"{what} has no {column.name!r}.",
            remedy=f"Did you mean {near}?" if near else f"It has: {', '.join(sorted(names))}.",
            zh=f"{what_zh} 中没有 {column.name!r}"
            + (f"，是否应为 {near}？" if near else f"，现有：{'、'.join(sorted(names))}。"),
            span=span_of(column, parsed.text),
        )


def check_aggregation(parsed: TagExpression, *, many_rows: bool, what: str, what_zh: str) -> None:
    """Check that aggregates stand where the rows of the source ask for them.

    Parameters
    ----------
    parsed
        The expression.
    many_rows
        Whether a subject can have several rows: then every column must be inside an aggregate;
        otherwise there is nothing to aggregate.
    what, what_zh
        The source, in words.

    Raises
    ------
    ExpressionError
        At the first aggregate or column that stands in the wrong place.
    """
    tree = parsed.written
    for node in tree.find_all(*AGGREGATE_TYPES):
        if not many_rows:
            raise ExpressionError(
                f"An aggregate in the wrong place: {what} has one row per subject.",
                remedy="Write the column without the aggregate.",
                zh=f"聚合函数位置有误：{what_zh} 中每个对象只有一行，请去掉聚合函数。",
                span=span_of(node, parsed.text),
            )
        if _enclosing_aggregate(node) is not None:
            raise ExpressionError(
                "An aggregate in the wrong place: it stands inside another aggregate.",
                remedy="Split it into two tags, or take the inner aggregate away.",
                zh="聚合函数位置有误：聚合函数不能嵌套。请拆成两个标签，或去掉内层聚合。",
                span=span_of(node, parsed.text),
            )
    if not many_rows:
        return
    for column in tree.find_all(exp.Column):
        if column.name != AS_OF and _enclosing_aggregate(column) is None:
            raise ExpressionError(
                f"{what} has several rows per subject, and {column.name!r} stands outside "
                "an aggregate.",
                remedy=f"Say how to sum it up, for example max({column.name}).",
                zh=f"{what_zh} 中每个对象有多行，而 {column.name!r} 不在聚合函数内，"
                f"请说明如何汇总，例如 max({column.name})。",
                span=span_of(column, parsed.text),
            )
    if not parsed.aggregates:
        raise ExpressionError(
            f"{what} has several rows per subject, and the expression has no aggregate.",
            remedy="Use an aggregate, for example count(*).",
            zh=f"{what_zh} 中每个对象有多行，而表达式没有聚合函数，请使用聚合函数，例如 count(*)。",
            span=(0, len(parsed.text)),
        )


def has_aggregate(tree: exp.Expr) -> bool:
    """Tell whether an aggregate function is anywhere in the tree."""
    return tree.find(*AGGREGATE_TYPES) is not None


def at_date(tree: exp.Expr, as_of: date) -> exp.Expr:
    """Return a copy in which ``as_of`` is that date."""

    def fill(node: exp.Expr) -> exp.Expr:
        is_as_of = isinstance(node, exp.Column) and node.name == AS_OF
        return exp.cast(exp.Literal.string(as_of.isoformat()), "DATE") if is_as_of else node

    return tree.transform(fill)  # works on a copy


def nearest(name: str, known: Iterable[str]) -> str:
    """Name up to three of ``known`` that look like ``name``; empty if none does.

    Examples
    --------
    >>> nearest("amout", ["amount", "account_id", "discount_amount"])
    "'amount'"
    """
    close = difflib.get_close_matches(name.lower(), sorted(known), n=3, cutoff=0.6)
    return " or ".join(repr(word) for word in close)


def excerpt(text: str, span: tuple[int, int]) -> tuple[int, int, str]:
    """Return line and column (both from 1) of ``span`` and its line with carets below."""
    start, end = span
    line = text.count("\n", 0, start) + 1
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    last = len(text) if last < 0 else last
    carets = " " * _width(text[first:start]) + "^" * max(1, _width(text[start : min(end, last)]))
    return line, start - first + 1, f"    {text[first:last]}\n    {carets}"


def _width(text: str) -> int:
    """Columns that a terminal gives the text: two to a Chinese character."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def span_of(node: exp.Expr, text: str) -> tuple[int, int]:
    """Return where ``node`` stands in ``text``; the whole text where sqlglot does not know."""
    if isinstance(node, exp.Placeholder):
        start = text.find(node.name)
        return max(start - 1, 0), start + len(node.name)
    marks = [part.meta for part in node.walk() if "start" in part.meta]
    if not marks:
        said = node.sql("duckdb").lower()
        start = text.lower().find(said)
        return (0, len(text)) if start < 0 else (start, start + len(said))
    start, end = min(m["start"] for m in marks), max(m["end"] for m in marks) + 1
    if isinstance(node, exp.Func):  # sqlglot marks the arguments, and not every function's name
        before = re.search(r"\w+\s*\(\s*(distinct\s+)?$", text[:start], re.IGNORECASE)
        after = re.match(r"\s*\(?\s*\)", text[end:])
        start = before.start() if before and "start" not in node.meta else start
        end += after.end() if after else 0
    return start, end


def _parse(text: str) -> exp.Expr:
    if len(text) > MAX_CHARACTERS:
        raise _unreadable(f"it is longer than {MAX_CHARACTERS} characters", (0, 1))
    try:
        trees = sqlglot.parse(text, read="duckdb")
    except SqlglotError as error:
        raise _syntax_error(error, text) from error
    except RecursionError as error:
        raise _unreadable("it is nested too deeply", (0, 1)) from error
    if len(trees) != 1 or trees[0] is None:
        raise _unreadable("it must be one expression", (0, len(text)))
    for node in trees[0].walk():
        node.pop_comments()
    return trees[0]


def _unreadable(why: str, span: tuple[int, int]) -> ExpressionError:
    return ExpressionError(
        f"The expression cannot be read: {why}.",
        remedy="Write one SQL expression, such as avg(amount) or arpu >= 80.",
        zh="表达式无法解析，请写一个 SQL 表达式，例如 avg(amount) 或 arpu >= 80。",
        span=span,
    )


def _syntax_error(error: SqlglotError, text: str) -> ExpressionError:
    for detail in getattr(error, "errors", []):
        lines = text.split("\n")
        end = sum(len(line) + 1 for line in lines[: detail["line"] - 1]) + detail["col"]
        start = max(end - len(detail["highlight"] or "x"), 0)
        said = str(detail["description"]).split(" for <class", maxsplit=1)[0].rstrip(".")
        if said.startswith("Required keyword"):
            said = "something is missing here"
        return _unreadable(said, (min(start, max(len(text) - 1, 0)), min(end, len(text))))
    return _unreadable("a quotation mark or a bracket is not closed", (0, len(text)))


def _check_node(node: exp.Expr, text: str) -> None:
    if type(node) not in _ALLOWED:
        raise _refused(node, text)
    if isinstance(node, exp.Column) and (node.table or isinstance(node.this, exp.Star)):
        raise ExpressionError(
            "A column is named with its table.",
            remedy="Write the column's name alone: a tag reads one source.",
            zh="列名前不要写表名：一个标签只读取一个来源，请只写列名。",
            span=span_of(node, text),
        )
    if isinstance(node, exp.Placeholder) and not node.name.isidentifier():
        raise _unreadable("a threshold has a name, as in $high", (0, len(text)))
    if isinstance(node, exp.Distinct) and len(node.expressions) != 1:
        raise _unreadable("distinct takes one value", span_of(node, text))
    if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
        raise _unreadable("'*' stands outside count(*)", span_of(node, text))
    if isinstance(node, exp.DataType) and node.this not in _CAST_TYPES:
        raise ExpressionError(
            f"A tag cannot be cast to {node.sql('duckdb')}.",
            remedy="Use bigint, double, decimal(18,2), varchar, boolean, date or timestamptz.",
            zh=f"不支持转换为类型 {node.sql('duckdb')}，请使用 bigint、double、decimal(18,2)、"
            "varchar、boolean、date 或 timestamptz。",
            span=span_of(node.parent or node, text),
        )


def _refused(node: exp.Expr, text: str) -> ExpressionError:
    span = span_of(node, text)
    said = node.name if isinstance(node, exp.Anonymous) else text[slice(*span)]
    why, remedy = next(
        (reason for kind, reason in _WHY_NOT.items() if isinstance(node, kind)),
        _MOMENT if said.lower() in _MOMENTS else ("", ""),
    )
    functions = (*AGGREGATES, *SCALARS)
    near = nearest(said, functions) if isinstance(node, exp.Func) else ""
    remedy = remedy or (f"Did you mean {near}?" if near else f"Allowed: {', '.join(functions)}.")
    return ExpressionError(
        f"{said!r} is not allowed in a tag" + (f": {why}." if why else "."),
        remedy=remedy,
        zh=f"标签表达式中不允许使用 {said!r}。可用函数：{'、'.join(functions)}。",
        span=span,
    )


def _enclosing_aggregate(node: exp.Expr) -> exp.Expr | None:
    parent = node.parent
    while parent is not None:
        # the condition of a FILTER belongs to its aggregate, the aggregate itself does not
        in_filter = isinstance(parent, exp.Where)
        if in_filter or isinstance(parent, AGGREGATE_TYPES):
            return parent
        parent = parent.parent
    return None


def _put_in_thresholds(tree: exp.Expr, text: str, thresholds: dict[str, Threshold]) -> exp.Expr:
    tree = tree.copy()
    used = set()
    for node in list(tree.find_all(exp.Placeholder)):
        if node.name not in thresholds:
            raise ExpressionError(
                f"No threshold ${node.name} is given.",
                remedy=f"Add it under thresholds (given: {', '.join(thresholds) or 'none'}).",
                zh=f"没有给出阈值 ${node.name}，请在 thresholds 中补充。",
                span=span_of(node, text),
            )
        used.add(node.name)
        _put_in(node, thresholds[node.name], text)
    if unused := sorted(set(thresholds) - used):
        raise ExpressionError(
            f"The threshold {unused[0]!r} is not used in the expression.",
            remedy=f"Write ${unused[0]} where it belongs, or take it away.",
            zh=f"阈值 {unused[0]!r} 未在表达式中使用，请写成 ${unused[0]} 或删除。",
            span=(0, len(text)),
        )
    return tree


def _put_in(node: exp.Placeholder, value: Threshold, text: str) -> None:
    parent = node.parent
    is_list = isinstance(parent, exp.In) and parent.args.get("field") is node
    if is_list != isinstance(value, tuple):
        raise ExpressionError(
            f"${node.name} is {'a list' if isinstance(value, tuple) else 'one value'}.",
            remedy="A list stands behind 'in', one value everywhere else.",
            zh=f"阈值 ${node.name} 类型不符：列表只能写在 in 之后，其他位置只能是单个值。",
            span=span_of(node, text),
        )
    if is_list and isinstance(parent, exp.In) and isinstance(value, tuple):
        parent.set("field", None)
        parent.set("expressions", [exp.convert(item) for item in value])
    else:
        node.replace(exp.convert(value))


def _made_safe(tree: exp.Expr) -> exp.Expr:
    """Return the tree so that engines agree: x / 0 is missing, ties have one winner."""

    def rewrite(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Div):
            divisor = node.expression
            if not isinstance(divisor, exp.Literal) or float(divisor.name) == 0:
                zero = exp.Literal.number(0)
                node.set("expression", exp.Nullif(this=divisor, expression=zero))
        elif isinstance(node, (exp.ArgMax, exp.ArgMin)):
            value, by = node.this, node.expression
            both = exp.and_(value.is_(exp.null()).not_(), by.is_(exp.null()).not_())
            node.set("this", exp.case().when(both, value.copy()))
            node.set("expression", exp.func("row", by.copy(), value.copy()))
        return node

    return tree.copy().transform(rewrite)
