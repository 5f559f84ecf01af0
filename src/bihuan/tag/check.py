"""What can be known of one tag before it meets the other tags and its rows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

import duckdb
import pyarrow as pa
from sqlglot import exp

from bihuan.data import ColumnType, DuckDBEngine, Source, TableContract
from bihuan.tag.definition import Layer, Means, Subject, TagDefinition, TagDefinitionError
from bihuan.tag.expression import (
    MONTHS_AGO,
    ExpressionError,
    TagExpression,
    at_date,
    check_aggregation,
    check_columns,
    excerpt,
    has_aggregate,
    nearest,
    parse_expression,
    span_of,
)

_LONGEST_WINDOW = 120  # months; ten years
_ANY_DATE = date(2000, 1, 31)  # types do not depend on the date

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# words with a meaning of their own in expressions, audience texts or tag tables
_RESERVED = frozenset(
    (
        *("and", "or", "not", "in", "is", "between", "like", "case", "when", "then", "else", "end"),
        *("if", "true", "false", "null", "missing", "member", "everyone", "nobody", "as_of"),
        *("months_ago", "score", "distinct", "filter", "where", "cast", "select", "from"),
    )
) | {subject.id_column for subject in Subject}


def check_definition(tag: TagDefinition, contracts: Mapping[str, TableContract]) -> None:
    """Check what can be known of one tag without the other tags and without its expression.

    Raises
    ------
    TagDefinitionError
        Naming the field and what to do.
    """
    _check_name(tag)
    _check_place(tag)
    _check_source(tag, contracts)
    _check_means(tag)
    _check_values(tag)


def _check_name(tag: TagDefinition) -> None:
    if not _NAME.fullmatch(tag.name) or tag.name in _RESERVED:
        raise tag.problem(
            "this cannot be a tag's name.",
            remedy="Use lower-case letters, digits and _; not a word such as 'and' or 'as_of'.",
            zh="名称不合法：请使用小写字母、数字和下划线，且不要用 and、as_of 等保留词。",
            at="name",
        )


def _check_place(tag: TagDefinition) -> None:
    if tag.library not in (None, tag.subject.library):
        raise tag.problem(
            f"a tag on {tag.subject} belongs to the {tag.subject.library} library.",
            remedy=f"Write library: {tag.subject.library}, or choose another subject.",
            zh=f"对象为 {tag.subject} 的标签应属于 {tag.subject.library} 库。",
            at="library",
        )
    if tag.source and tag.layer is not Layer.BASE:
        raise tag.problem(
            f"a {tag.layer} tag is made from other tags or a model, not from '{tag.source}'.",
            remedy="Put the indicator into a base tag and use that tag's name here.",
            zh=f"{tag.layer} 层标签只能由其他标签或模型得出，不能直接读取表 {tag.source}，"
            "请先定义基础标签。",
            at="source",
        )
    if not tag.category.strip("/").strip():
        raise tag.problem("empty.", zh="不能为空。", at="category")


def _check_source(tag: TagDefinition, contracts: Mapping[str, TableContract]) -> None:
    if tag.source is None:
        if tag.window_months != 1 or tag.subject_column is not None:
            at = "window_months" if tag.window_months != 1 else "subject_column"
            raise tag.problem(
                "only a tag with a source has it.",
                remedy="Take it away, or name the source.",
                zh="只有带 source 的标签才有此字段。",
                at=at,
            )
        return
    contract = contracts.get(tag.source)
    if contract is None:
        near = nearest(tag.source, contracts)
        raise tag.problem(
            f"there is no table '{tag.source}'.",
            remedy=f"Did you mean {near}?" if near else f"Tables: {', '.join(sorted(contracts))}.",
            zh=f"没有名为 {tag.source} 的表" + (f"，是否应为 {near}？" if near else "。"),
            at="source",
        )
    if tag.id_column not in contract:
        raise tag.problem(
            f"table '{tag.source}' has no column '{tag.id_column}'.",
            remedy="Name the column with the subject's id under subject_column.",
            zh=f"表 {tag.source} 没有列 {tag.id_column}，请在 subject_column 中写明对象编号列。",
            at="subject_column",
        )
    if tag.window_months > _LONGEST_WINDOW:
        raise tag.problem(
            f"{tag.window_months} months are more than a tag may look back.",
            remedy=f"Write at most {_LONGEST_WINDOW}.",
            zh=f"回看 {tag.window_months} 个月过长，最多 {_LONGEST_WINDOW} 个月。",
            at="window_months",
        )
    if contract.grain == "state" and tag.window_months != 1:
        raise tag.problem(
            f"'{tag.source}' shows the world at one date; a tag reads that of as_of only.",
            remedy="Write window_months: 1, or take a source of monthly facts.",
            zh=f"表 {tag.source} 是时点快照，只读取 as_of 当日，window_months 须为 1。",
            at="window_months",
        )


def _check_means(tag: TagDefinition) -> None:
    at, wrong, zh = "", "", ""
    if tag.model is not None and (tag.source or tag.means is not Means.MINING):
        at, wrong = "model", "a tag with a model has means: mining and no source."
        zh = "带 model 的标签须为 means: mining 且没有 source。"
    elif tag.model is not None and not _NAME.fullmatch(tag.model):
        at, wrong = "model", "use lower-case letters, digits and _."
        zh = "模型名称请使用小写字母、数字和下划线。"
    elif tag.expression is None and tag.model is None:
        at, wrong, zh = "expression", "missing.", "缺少表达式。"
    elif tag.layer is Layer.BASE and tag.means is Means.EXPERIENCE:
        at, wrong = "means", "a base tag is objective; what people judge is a portrait tag."
        zh = "基础标签必须客观，经验定义的规则应放在画像层。"
    elif tag.default is not None and tag.table is None:
        at, wrong = "default", "a tag of tags has no source row to lack; use coalesce."
        zh = "标签的标签没有来源行，请在表达式中使用 coalesce。"
    if wrong:
        raise tag.problem(wrong, zh=zh, at=at)


def _check_values(tag: TagDefinition) -> None:
    if tag.codes is not None and tag.type is not ColumnType.STRING:
        raise tag.problem(
            f"only a tag of type string has codes, not one of type {tag.type}.",
            remedy="Write type: string, or take the codes away.",
            zh=f"只有 string 类型的标签才有 codes，当前类型为 {tag.type}。",
            at="codes",
        )
    if tag.default is None:
        return
    if not fits(tag.default, tag.type):
        raise tag.problem(
            f"{tag.default!r} is not of type {tag.type}.",
            zh=f"{tag.default!r} 不是 {tag.type} 类型。",
            at="default",
        )
    if tag.codes is not None and tag.default not in tag.codes:
        raise tag.problem(
            f"{tag.default!r} is not one of the codes.",
            remedy=f"Codes: {', '.join(tag.codes)}.",
            zh=f"{tag.default!r} 不在编码中。",
            at="default",
        )


def fits(value: object, type_: ColumnType) -> bool:
    """Tell whether ``value`` is one that a tag of ``type_`` can have.

    Examples
    --------
    >>> fits(True, ColumnType.INTEGER), fits(3, ColumnType.MONEY), fits("x", ColumnType.DATE)
    (False, True, False)
    """
    if type_ is ColumnType.MONEY:
        try:
            return not isinstance(value, bool) and Decimal(str(value)).is_finite()
        except InvalidOperation:
            return False
    kinds: Mapping[ColumnType, tuple[type, ...]] = {
        ColumnType.STRING: (str,),
        ColumnType.INTEGER: (int,),
        ColumnType.NUMBER: (int, float),
        ColumnType.BOOLEAN: (bool,),
        ColumnType.DATE: (date,),
        ColumnType.TIMESTAMP: (),
    }
    if isinstance(value, bool):
        return type_ is ColumnType.BOOLEAN
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, kinds[type_])


def has_many_rows(tag: TagDefinition, contracts: Mapping[str, TableContract]) -> bool:
    """Tell whether a subject of ``tag`` can have several rows in what the tag reads."""
    if tag.source is None:
        return False
    contract = contracts[tag.source]
    return contract.grain != "state" or contract.key != (tag.id_column,)


def check_expression(
    tag: TagDefinition, columns: pa.Schema, *, many_rows: bool, what: tuple[str, str]
) -> TagExpression:
    """Read a tag's expression and check it against what it may read.

    Parameters
    ----------
    tag
        The tag.
    columns
        Names and types that the expression may use.
    many_rows
        Whether a subject can have several of those rows.
    what
        What it reads, in English and Chinese.

    Raises
    ------
    TagDefinitionError
        With the position in the expression and the line it stands in.
    """
    en, zh = what
    try:
        parsed = parse_expression(tag.expression or "score", tag.thresholds)
        check_columns(parsed, columns.names, en, zh)
        check_aggregation(parsed, many_rows=many_rows, what=en, what_zh=zh)
        _check_simple(tag, parsed)
    except ExpressionError as error:
        raise located(tag, error) from error
    return parsed


def located(tag: TagDefinition, error: ExpressionError) -> TagDefinitionError:
    """Say where in which tag's expression the error stands, with the line and carets."""
    line, column, shown = excerpt(tag.expression or "score", error.span)
    return tag.problem(
        f"{error.message}\n{shown}\n",
        remedy=error.remedy,
        zh=f"{error.zh}\n{shown}",
        at="expression",
        position=(line, column),
    )


_PICKS = (exp.Min, exp.Max, exp.ArgMin, exp.ArgMax, exp.LogicalOr, exp.LogicalAnd)


def _check_simple(tag: TagDefinition, parsed: TagExpression) -> None:
    tree = parsed.written
    shown = tree.this if isinstance(tree, _PICKS) else tree  # of several rows, one is picked
    if tag.means is Means.DIRECT and not isinstance(shown, exp.Column):
        raise ExpressionError(
            "A tag set by direct acquisition is a column as it is.",
            remedy="Write the column alone (of several rows: its min, max, arg_max, bool_or), or "
            "means: statistics.",
            zh="直接获取的标签应为来源列本身（多行时取 min、max、arg_max 或 bool_or），"
            "否则请改为 means: statistics。",
            span=(0, len(parsed.text)),
        )
    if not parsed.columns and not parsed.aggregates:
        raise ExpressionError(
            "The expression reads nothing: it is the same for every subject.",
            remedy="Use a column or a tag.",
            zh="表达式没有读取任何内容，对所有对象取值相同，请使用列或标签。",
            span=(0, len(parsed.text)),
        )


def bind_types(
    groups: Sequence[TypeGroup],
) -> dict[str, pa.DataType | ExpressionError]:
    """Ask the engine for the type of each expression, over tables without rows.

    Parameters
    ----------
    groups
        Expressions by what they read; no name is in two of them.

    Returns
    -------
    dict[str, pyarrow.DataType | ExpressionError]
        By name the type, or why the engine refuses the expression.
    """
    found: dict[str, pa.DataType | ExpressionError] = {}
    asked: list[TypeGroup] = []
    keys: dict[str, _TypeKey] = {}
    for group in groups:
        kinds = {field.name: str(field.type) for field in group.columns}
        unknown = {}
        for name, expression in group.expressions.items():
            used = tuple((column, kinds.get(column, "")) for column in expression.columns)
            keys[name] = (expression.tree.sql("duckdb"), group.grouped, used)
            if keys[name] in _TYPES:
                found[name] = _TYPES[keys[name]]
            else:
                unknown[name] = expression
        if unknown:
            asked.append(replace(group, expressions=unknown))
    answers = _ask(asked)
    for name, answer in answers.items():
        if not isinstance(answer, ExpressionError):
            _TYPES[keys[name]] = answer
    return found | answers


@dataclass(frozen=True)
class TypeGroup:
    """Expressions that read the same.

    Parameters
    ----------
    expressions
        By tag name.
    columns
        Names and types of what they read.
    grouped
        Whether they aggregate several rows per subject.
    """

    expressions: Mapping[str, TagExpression]
    columns: pa.Schema
    grouped: bool


_TypeKey: TypeAlias = tuple[str, bool, tuple[tuple[str, str], ...]]
_TYPES: dict[_TypeKey, pa.DataType] = {}  # the same expression over the same columns has one type


def _ask(groups: Sequence[TypeGroup]) -> dict[str, pa.DataType | ExpressionError]:
    """Ask for all at once; where the engine refuses, for each group and then each expression."""
    try:
        schema = _bind(groups)
    except duckdb.Error:
        if len(groups) > 1:
            return {name: type_ for group in groups for name, type_ in _ask([group]).items()}
        group = groups[0]
        return {
            name: _bind_one(expression, group.columns, grouped=group.grouped)
            for name, expression in group.expressions.items()
        }
    return {name: schema.field(name).type for group in groups for name in group.expressions}


def _bind(groups: Sequence[TypeGroup]) -> pa.Schema:
    if not groups:
        return pa.schema([])
    extra = [pa.field("__id", pa.string()), pa.field(MONTHS_AGO, pa.int32())]
    sources: dict[str, Source] = {}
    parts = []
    for i, group in enumerate(groups):
        used = {c for e in group.expressions.values() for c in e.columns}
        columns = [field for field in group.columns if field.name in used]
        sources[f"source_{i}"] = pa.schema([*columns, *extra]).empty_table()
        query = exp.select(
            *(
                at_date(expression.tree, _ANY_DATE).as_(name, quoted=True)
                for name, expression in group.expressions.items()
            ),
            copy=False,
        ).from_(f"source_{i}", copy=False)
        if group.grouped:
            query.group_by(exp.column("__id"), copy=False)
        parts.append(query.subquery(f"part_{i}", copy=False))
    whole = exp.select("*").from_(parts[0], copy=False)
    for part in parts[1:]:  # a copy each time would cost the square of their number
        whole.join(part, join_type="cross", copy=False)
    return DuckDBEngine(threads=1).query(whole, sources).schema


def _bind_tree(tree: exp.Expr, columns: pa.Schema, *, grouped: bool) -> pa.DataType:
    names = tuple(sorted({column.name for column in tree.find_all(exp.Column)}))
    expression = TagExpression("", tree, tree, names, aggregates=grouped)
    return _bind([TypeGroup({"x": expression}, columns, grouped)]).field("x").type


def _bind_one(
    expression: TagExpression, columns: pa.Schema, *, grouped: bool
) -> pa.DataType | ExpressionError:
    try:
        return _bind_tree(expression.tree, columns, grouped=grouped)
    except duckdb.Error as error:
        culprit = _culprit(expression.tree, columns)
        said = str(error).split("\n", maxsplit=1)[0].split("Error: ", maxsplit=1)[-1].rstrip(".")
        return ExpressionError(
            f"The engine refuses it: {said}.",
            remedy="Mend it so that types and arguments fit.",
            zh=f"执行引擎拒绝该表达式：{said}。请检查类型与参数。",
            span=span_of(culprit, expression.text),
        )


def _culprit(tree: exp.Expr, columns: pa.Schema) -> exp.Expr:
    """Return the innermost part that the engine refuses even on its own."""
    parts = [node for node in tree.dfs() if isinstance(node, exp.Condition)]
    for part in reversed(parts):  # children come after their parents
        if isinstance(part, (exp.Var, exp.DataType, exp.If, exp.Filter)):
            continue
        try:
            _bind_tree(part, columns, grouped=has_aggregate(part))
        except duckdb.Error:
            return part
    return tree


def check_type(tag: TagDefinition, inferred: pa.DataType) -> None:
    """Check that values of the expression's type can become values of the tag's type.

    Raises
    ------
    TagDefinitionError
        If something would be lost or mean something else.
    """
    if any(is_of(inferred) for is_of in _ACCEPTS[tag.type]):
        return
    whole = tag.type is ColumnType.INTEGER and _is_numeric(inferred)
    raise tag.problem(
        f"the expression gives {inferred}, and the tag's type is {tag.type}.",
        remedy="Write cast(round(...) as bigint), or type: number."
        if whole
        else "Change the type, or cast the expression.",
        zh=f"表达式结果为 {inferred}，与标签类型 {tag.type} 不符，请修改类型或转换表达式。",
        at="type",
    )


def _is_whole(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or (pa.types.is_decimal(type_) and type_.scale == 0))


def _is_numeric(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(type_) or pa.types.is_decimal(type_) or pa.types.is_floating(type_)
    )


def _is_moment(type_: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type_) and type_.tz is not None)


_ACCEPTS: Mapping[ColumnType, tuple[Callable[[pa.DataType], bool], ...]] = {
    ColumnType.STRING: (pa.types.is_string,),
    ColumnType.INTEGER: (_is_whole,),
    ColumnType.NUMBER: (_is_numeric,),
    ColumnType.MONEY: (_is_numeric,),
    ColumnType.BOOLEAN: (pa.types.is_boolean,),
    ColumnType.DATE: (pa.types.is_date,),
    ColumnType.TIMESTAMP: (_is_moment,),
}
