"""Tags held against what they read and against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa
from sqlglot import exp

from bihuan.data import ColumnType, TableContract
from bihuan.tag.check import (
    TypeGroup,
    bind_types,
    check_definition,
    check_expression,
    check_type,
    has_many_rows,
    located,
)
from bihuan.tag.definition import Layer, Means, State, TagDefinition, TagDefinitionError
from bihuan.tag.expression import ExpressionError, TagExpression, span_of

_LAYERS = tuple(Layer)


@dataclass(frozen=True, slots=True)
class BoundTag:
    """A tag whose expression was checked against what it reads.

    Parameters
    ----------
    definition
        The tag.
    expression
        Its expression, read and made safe.
    result
        The type that the engine gives the expression, before the cast to the tag's own.
    many_rows
        Whether a subject can have several rows of its source.
    money_mean
        Whether it is a mean of amounts of money, which is taken exactly.
    """

    definition: TagDefinition
    expression: TagExpression
    result: pa.DataType
    many_rows: bool
    money_mean: bool = False

    @property
    def upstream(self) -> tuple[str, ...]:
        """Tags it is made from, sorted; empty for a tag with a source or a model."""
        return () if self.definition.table else self.expression.columns


def bind_tags(
    tags: Mapping[str, TagDefinition], contracts: Mapping[str, TableContract]
) -> dict[str, BoundTag]:
    """Check every tag and put them in order, each after those it is made from.

    Raises
    ------
    TagDefinitionError
        Naming every problem of the first kind that has any: of single tags, then cycles, then
        layers and states.
    """
    expressions = _all(tags.values(), lambda tag: _read(tag, tags, contracts))
    bound = _with_types(tags, expressions, contracts)
    ordered = {name: bound[name] for name in _order(bound)}
    _all(tags.values(), lambda tag: _check_standing(bound[tag.name], tags))
    return ordered


def _all(
    tags: Iterable[TagDefinition], check: Callable[[TagDefinition], TagExpression | None]
) -> dict[str, TagExpression]:
    """Run ``check`` on every tag; raise all of what it raises as one."""
    results: dict[str, TagExpression | None] = {}
    problems: list[TagDefinitionError] = []
    for tag in tags:
        try:
            results[tag.name] = check(tag)
        except TagDefinitionError as error:
            problems.extend(error.problems)
    if problems:
        raise TagDefinitionError.of(problems)
    return {name: result for name, result in results.items() if result is not None}


def _read(
    tag: TagDefinition,
    tags: Mapping[str, TagDefinition],
    contracts: Mapping[str, TableContract],
) -> TagExpression:
    check_definition(tag, contracts)
    if tag.model:
        what = ("A score table", "评分表")
    elif tag.source:
        what = (f"Table '{tag.source}'", f"表 {tag.source}")
    else:
        what = (f"The dictionary of {tag.subject} tags", f"{tag.subject} 标签字典")
    return check_expression(
        tag,
        _readable(tag, tags, contracts),
        many_rows=has_many_rows(tag, contracts),
        what=what,
    )


def _readable(
    tag: TagDefinition,
    tags: Mapping[str, TagDefinition],
    contracts: Mapping[str, TableContract],
) -> pa.Schema:
    """Names and types that a tag's expression may use."""
    if tag.model:
        return pa.schema([("score", ColumnType.NUMBER.arrow)])
    if tag.source:
        return contracts[tag.source].schema
    return pa.schema([(t.name, t.type.arrow) for t in tags.values() if t.subject is tag.subject])


def _with_types(
    tags: Mapping[str, TagDefinition],
    expressions: Mapping[str, TagExpression],
    contracts: Mapping[str, TableContract],
) -> dict[str, BoundTag]:
    together: dict[tuple[str | None, str, bool], list[TagDefinition]] = {}
    for tag in tags.values():
        many = has_many_rows(tag, contracts)
        together.setdefault((tag.table, tag.subject, many), []).append(tag)
    types = bind_types(
        [
            TypeGroup(
                {tag.name: expressions[tag.name] for tag in members},
                _readable(members[0], tags, contracts),
                grouped=many,
            )
            for (_, _, many), members in together.items()
        ]
    )

    def settle(tag: TagDefinition) -> None:
        type_ = types[tag.name]
        if isinstance(type_, ExpressionError):
            raise located(tag, type_)
        check_type(tag, type_)

    _all(tags.values(), settle)
    return {
        name: BoundTag(
            tag, expressions[name], types[name], has_many_rows(tag, contracts),
            money_mean=_is_money_mean(tag, expressions[name], contracts),
        )
        for name, tag in tags.items()
    }  # fmt: skip


def _is_money_mean(
    tag: TagDefinition, expression: TagExpression, contracts: Mapping[str, TableContract]
) -> bool:
    """Tell whether a money tag is the mean of one money column, filtered or not."""
    tree = expression.tree.this if isinstance(expression.tree, exp.Filter) else expression.tree
    if tag.type is not ColumnType.MONEY or tag.source is None or not isinstance(tree, exp.Avg):
        return False
    column = tree.this
    return isinstance(column, exp.Column) and (
        contracts[tag.source][column.name].type is ColumnType.MONEY
    )


def _order(bound: Mapping[str, BoundTag]) -> list[str]:
    """Order tags so that each comes after those it is made from; refuse cycles by their path."""
    done: dict[str, None] = {}
    for root in bound:
        path: list[str] = []  # from root to where the walk stands, each made from the next
        stack = [root]
        while stack:
            name = stack[-1]
            if path and path[-1] == name:
                done[path.pop()] = None
                stack.pop()
            elif name in done:
                stack.pop()
            else:
                path.append(name)
                if again := [used for used in bound[name].upstream if used in path]:
                    raise _cycle(bound, [*path[path.index(again[0]) :], again[0]])
                stack.extend(used for used in bound[name].upstream if used not in done)
    return list(done)


def _cycle(bound: Mapping[str, BoundTag], path: list[str]) -> TagDefinitionError:
    last = bound[path[-2]]
    shown = " -> ".join(path)
    return located(
        last.definition,
        ExpressionError(
            f"Tags go round in a circle: {shown} (each is made from the next).",
            remedy="Take one of them out of the circle.",
            zh=f"标签循环依赖：{shown}（每个由后一个得出），请断开其中一处。",
            span=_where(last, path[-1]),
        ),
    )


def _where(tag: BoundTag, used: str) -> tuple[int, int]:
    """Where in the expression the tag ``used`` is named."""
    columns = tag.expression.tree.find_all(exp.Column)
    return next(span_of(c, tag.expression.text) for c in columns if c.name == used)


def _check_standing(tag: BoundTag, tags: Mapping[str, TagDefinition]) -> None:
    """Check that a tag does not depend on a later layer, nor a live one on one that is not."""
    for name in tag.upstream:
        mine, used = tag.definition, tags[name]
        if _LAYERS.index(used.layer) > _LAYERS.index(mine.layer):
            raise located(
                mine,
                ExpressionError(
                    f"A {mine.layer} tag cannot use the {used.layer} tag '{name}'.",
                    remedy="Layers build upwards: base, portrait, marketing.",
                    zh=f"{mine.layer} 层标签不能使用 {used.layer} 层标签 {name}，"
                    "层次须自下而上：base、portrait、marketing。",
                    span=_where(tag, name),
                ),
            )
        if mine.state is State.LIVE and used.state is not State.LIVE:
            raise located(
                mine,
                ExpressionError(
                    f"A live tag cannot use '{name}', which is in state {used.state}.",
                    remedy=f"Take '{name}' live first, or this one out of life.",
                    zh=f"在用标签不能使用处于 {used.state} 状态的标签 {name}，请先将其上线。",
                    span=_where(tag, name),
                ),
            )


def with_codes(tag: TagDefinition, contracts: Mapping[str, TableContract]) -> TagDefinition:
    """Give a tag that shows a column as it is the codes of that column's contract."""
    contract = contracts.get(tag.source or "")
    column = tag.expression
    if contract is None or column is None or column not in contract:
        return tag
    takes_over = tag.means is Means.DIRECT and tag.codes is None
    return replace(tag, codes=contract[column].codes) if takes_over else tag
