"""Expressions that a person types, read into checked trees.

Text is parsed, never pasted: what comes out holds only the columns that there are and functions of
a fixed list, so it can neither read a file nor run a query of its own. Errors name the position.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from bihuan.kernel import UserError

MOST_CHARACTERS = 4_000  # longer is a programme, not an expression


class ExpressionError(UserError):
    """An expression cannot be read or asks for something that is not there.

    Parameters
    ----------
    message, remedy, zh
        As in :class:`~bihuan.kernel.UserError`.
    position
        Where in the text, counted from 0; None if it is the expression as a whole.
    """

    def __init__(
        self, message: str, *, remedy: str = "", zh: str = "", position: int | None = None
    ) -> None:
        super().__init__(message, remedy=remedy, zh=zh)
        self.position = position


_AGGREGATES: tuple[type[exp.Expr], ...] = (
    exp.AnyValue,
    exp.ApproxDistinct,
    exp.Avg,
    exp.Corr,
    exp.Count,
    exp.CountIf,
    exp.LogicalAnd,
    exp.LogicalOr,
    exp.Max,
    exp.Median,
    exp.Min,
    exp.Mode,
    exp.PercentileCont,
    exp.PercentileDisc,
    exp.Stddev,
    exp.StddevPop,
    exp.Sum,
    exp.Variance,
    exp.VariancePop,
)
_OPERATORS: tuple[type[exp.Expr], ...] = (
    exp.Add,
    exp.And,
    exp.Between,
    exp.Case,
    exp.Cast,
    exp.DPipe,
    exp.Div,
    exp.EQ,
    exp.GT,
    exp.GTE,
    exp.If,
    exp.ILike,
    exp.In,
    exp.IntDiv,
    exp.Interval,
    exp.Is,
    exp.LT,
    exp.LTE,
    exp.Like,
    exp.Mod,
    exp.Mul,
    exp.NEQ,
    exp.Neg,
    exp.Not,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.Or,
    exp.Paren,
    exp.Pow,
    exp.Sub,
    exp.TryCast,
)
_FUNCTIONS: tuple[type[exp.Expr], ...] = (
    exp.Abs,
    exp.Ceil,
    exp.Coalesce,
    exp.Concat,
    exp.Contains,
    exp.DateDiff,
    exp.Day,
    exp.Exp,
    exp.Extract,
    exp.Floor,
    exp.Greatest,
    exp.IsNan,
    exp.LastDay,
    exp.Least,
    exp.Left,
    exp.Length,
    exp.Ln,
    exp.Log,
    exp.Lower,
    exp.Month,
    exp.Nullif,
    exp.Pad,
    exp.RegexpLike,
    exp.Replace,
    exp.Right,
    exp.Round,
    exp.Sign,
    exp.SplitPart,
    exp.Sqrt,
    exp.StartsWith,
    exp.Substring,
    exp.TimeToStr,
    exp.TimestampTrunc,
    exp.Trim,
    exp.Upper,
    exp.Year,
)
_PARTS: tuple[type[exp.Expr], ...] = (
    exp.Boolean,
    exp.Column,
    exp.DataType,
    exp.Distinct,
    exp.Filter,
    exp.Identifier,
    exp.IgnoreNulls,
    exp.Literal,
    exp.Null,
    exp.Star,
    exp.Var,
    exp.Where,
)
_ALLOWED = frozenset((*_AGGREGATES, *_OPERATORS, *_FUNCTIONS, *_PARTS))


def parse_expression(
    text: str, columns: Collection[str], grouping: Collection[str] | None = None
) -> exp.Expr:
    """Read one expression and check it.

    Parameters
    ----------
    text
        SQL in DuckDB's dialect: operators, CASE, IN, BETWEEN, casts and common scalar functions.
    columns
        Names that may be used; upper and lower case matter.
    grouping
        None for an expression over single rows, in which no aggregate may stand. Otherwise the
        names by which rows are grouped: the expression must aggregate, and only these names may
        stand outside of an aggregate.

    Returns
    -------
    sqlglot.exp.Expr
        The tree, with every column name quoted.

    Raises
    ------
    ExpressionError
        With the position in the text, and the text with a caret below it.

    Examples
    --------
    >>> parse_expression("amount - discount_amount", ["amount", "discount_amount"]).sql("duckdb")
    '"amount" - "discount_amount"'
    >>> try:
    ...     parse_expression("amount - discont", ["amount", "discount_amount"])
    ... except ExpressionError as error:
    ...     print(error)
    There is no column 'discont' (position 9). Did you mean discount_amount?
      amount - discont
               ^
    """
    tree = _parse(text)
    for node in tree.walk():
        _check_node(text, node, columns)
    _check_aggregates(text, tree, grouping)
    for name in tree.find_all(exp.Column):
        name.this.set("quoted", True)
    return tree


def _parse(text: str) -> exp.Expr:
    if len(text) > MOST_CHARACTERS:
        raise _wrong(
            text[:60],
            None,
            f"The expression is longer than {MOST_CHARACTERS} characters",
            f"表达式超过 {MOST_CHARACTERS} 个字符",
            "Split it into several columns.",
        )
    if not text.strip():
        raise ExpressionError(
            "The expression is empty.", remedy="Write one, or leave it out.", zh="表达式为空。"
        )
    try:
        trees = sqlglot.parse(text, read="duckdb")
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        position = _offset(text, first.get("line"), first.get("col"), first.get("highlight"))
        told = str(first.get("description") or "it is not an expression").rstrip(".")
        told = "a part is missing" if "<class" in told else told[:1].lower() + told[1:]
        raise _wrong(
            text, position, f"The expression cannot be read: {told}", "表达式无法解析"
        ) from error
    except RecursionError as error:
        raise _wrong(
            text[:60], None, "The expression is nested too deep", "表达式嵌套过深"
        ) from error
    except TokenError as error:
        told = "a quote or a comment is not closed"
        raise _wrong(
            text, None, f"The expression cannot be read: {told}", "引号或注释没有结束"
        ) from error
    tree = trees[0]
    if len(trees) != 1 or tree is None:
        raise _wrong(text, text.find(";"), "There is more than one expression", "只能写一个表达式")
    return tree


def _check_node(text: str, node: exp.Expr, columns: Collection[str]) -> None:
    if type(node) not in _ALLOWED:
        what = text[node.meta["start"] : node.meta["end"] + 1] if node.meta else node.key
        raise _wrong(
            text,
            _position(node),
            f"'{what.lower()}' may not be used here",
            f"此处不能使用 {what.lower()}",
        )
    if isinstance(node, exp.Column):
        if node.table or isinstance(node.this, exp.Star):
            raise _wrong(text, _position(node), "A plain column name is needed", "请只写字段名")
        if node.name not in columns:
            near = difflib.get_close_matches(node.name, columns, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Columns: {_list(columns)}."
            raise _wrong(
                text,
                _position(node),
                f"There is no column '{node.name}'",
                f"没有 {node.name} 这一列",
                hint,
            )
    elif isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
        raise _wrong(text, _position(node), "'*' may only stand in count(*)", "* 只能用在 count(*)")


def _check_aggregates(text: str, tree: exp.Expr, grouping: Collection[str] | None) -> None:
    aggregates = list(_outer_aggregates(tree))
    if grouping is None:
        for node in aggregates:
            raise _wrong(
                text,
                _position(node),
                f"The aggregate '{node.key}' cannot stand in an expression over single rows",
                f"逐行表达式中不能使用聚合函数 {node.key}",
                "Use a group step.",
            )
        return
    if not aggregates:
        raise _wrong(
            text,
            0,
            "The expression does not aggregate",
            "表达式没有聚合",
            "Use sum, avg, count ...",
        )
    for node in aggregates:
        filtered = node.this if isinstance(node, exp.Filter) else node
        for inner in _outer_aggregates(*filtered.args.values(), node.args.get("expression")):
            raise _wrong(
                text, _position(inner), "An aggregate stands in an aggregate", "聚合函数不能嵌套"
            )
    inside = {id(part) for node in aggregates for part in node.walk()}
    for column in tree.find_all(exp.Column):
        if id(column) not in inside and column.name not in grouping:
            raise _wrong(
                text,
                _position(column),
                f"Column '{column.name}' stands outside of an aggregate and is not grouped by",
                f"{column.name} 不在聚合函数内，也不是分组字段",
                f"Aggregate it, or group by it (grouped by: {_list(grouping) or 'nothing'}).",
            )


def _outer_aggregates(*parts: object) -> Iterator[exp.Expr]:
    """Yield the outermost aggregates; a FILTER belongs to its aggregate."""
    for part in parts:
        if isinstance(part, list):
            yield from _outer_aggregates(*part)
        elif isinstance(part, exp.Expr):
            if type(part) is exp.Filter or type(part) in _AGGREGATES:
                yield part
            else:
                yield from _outer_aggregates(*part.args.values())


def _position(node: exp.Expr) -> int | None:
    """Return where the node begins: its own mark, or the first mark inside."""
    starts = [part.meta["start"] for part in node.walk() if "start" in part.meta]
    if "start" in node.meta:
        return int(node.meta["start"])
    return int(min(starts)) if starts else None


def _offset(text: str, line: object, column: object, token: object) -> int | None:
    """Turn the parser's line and column (of the token's last character) into a position."""
    if not isinstance(line, int) or not isinstance(column, int):
        return None
    before = sum(len(part) for part in text.splitlines(keepends=True)[: line - 1])
    return min(before + max(column - len(str(token or "")), 0), max(len(text) - 1, 0))


def _wrong(
    text: str, position: int | None, message: str, zh: str, remedy: str = ""
) -> ExpressionError:
    if position is None or position < 0:
        shown, where, wo = f"\n  {text}", "", ""
    else:
        start = text.rfind("\n", 0, position) + 1
        line = text[start:].splitlines()[0] if text[start:] else ""
        # a Chinese character is two columns wide on a screen
        blanks = sum(2 if ord(c) > 0x2E7F else 1 for c in text[start:position])
        shown = f"\n  {line}\n  {' ' * blanks}^"
        where, wo = f" (position {position})", f"（第 {position + 1} 个字符）"
    return ExpressionError(
        f"{message}{where}.",
        remedy=f"{remedy}{shown}",
        zh=f"{zh}{wo}。{shown}",
        position=position,
    )


def _list(names: Collection[str]) -> str:
    return ", ".join(list(names)[:12]) + (", ..." if len(names) > 12 else "")
