"""The SQL reader: an audience as a sqlglot predicate, and the query that selects its members.

Only nodes that DuckDB and Spark read alike are made. Each condition is wrapped in
``coalesce(..., false)``, so no part of the tree is ever unknown and NOT is a true complement.
Joins by AND and OR are nested in pairs, which keeps a list of ten thousand parts fourteen levels
deep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import TypeAlias

from sqlglot import exp

from bihuan.audience.algebra import (
    And,
    Between,
    Compare,
    Everyone,
    Flag,
    In,
    Member,
    Missing,
    Nobody,
    Node,
    Not,
    Or,
    tags_of,
)
from bihuan.audience.literal import Value
from bihuan.data import ColumnType, Source
from bihuan.kernel import DefectError
from bihuan.tag import TagField, TagTable

Columns: TypeAlias = Callable[[str], exp.Expr]
"""Gives the SQL expression of a tag's value."""

_COMPARE: Mapping[str, type[exp.Binary]] = {
    "=": exp.EQ,
    "!=": exp.NEQ,
    "<": exp.LT,
    "<=": exp.LTE,
    ">": exp.GT,
    ">=": exp.GTE,
}


def predicate(node: Node, column: Columns | None = None) -> exp.Expr:
    r"""Return the audience as a boolean SQL expression that is never NULL.

    Parameters
    ----------
    node
        A bound tree: binding gives each literal its tag's type and resolves ``Member``.
    column
        How a tag is named in the query; by default as a quoted column of its own name. Use
        :func:`tag_columns` where number tags may hold NaN, which counts as missing.

    Returns
    -------
    sqlglot.exp.Expr
        Values are literals of the tree, never pasted text.

    Raises
    ------
    DefectError
        If the tree holds a ``Member``.

    Examples
    --------
    >>> predicate(Not(Compare("city", "=", "o'clock"))).sql("duckdb")
    'NOT COALESCE("city" = \'o\'\'clock\', FALSE)'
    """
    column = column or _plain_column
    match node:
        case And(parts=parts):
            return _paired(exp.And, [predicate(part, column) for part in parts])
        case Or(parts=parts):
            return _paired(exp.Or, [predicate(part, column) for part in parts])
        case Not(part=part):
            return exp.Not(this=predicate(part, column))
        case Everyone():
            return exp.true()
        case Nobody():
            return exp.false()
    return _atom(node, column)


def tag_columns(fields: Mapping[str, TagField]) -> Columns:
    """Name tags as quoted columns, reading a NaN of a number tag as missing."""

    def column(tag: str) -> exp.Expr:
        plain = _plain_column(tag)
        if fields[tag].type is not ColumnType.NUMBER:
            return plain
        # Parquet statistics leave NaN out, and DuckDB folds comparisons by them: on such a file
        # nullif(x, 'NaN') changes nothing and x > 100 may be true. isnan() is never folded.
        is_number = exp.Not(this=exp.IsNan(this=plain))
        return exp.Paren(this=exp.Case(ifs=[exp.If(this=is_number, true=plain.copy())]))

    return column


def select_flags(
    nodes: Mapping[str, Node], tags: TagTable, *, where: Node | None = None
) -> tuple[exp.Select, dict[str, Source]]:
    """Build the query that says for each subject which of several audiences it belongs to.

    Parameters
    ----------
    nodes
        Column name to bound tree.
    tags
        The tag values at one date.
    where
        A bound tree; only its members are returned. None: the whole base.

    Returns
    -------
    (sqlglot.exp.Select, dict[str, Source])
        The query and its sources: the id column, then one boolean column per audience, ordered
        by id.
    """
    column = tag_columns(tags.fields)
    base, sources = _base(tags, [*nodes.values(), *([] if where is None else [where])])
    flags = [
        exp.alias_(predicate(node, column), name, quoted=True, copy=False)
        for name, node in nodes.items()
    ]
    identity = exp.column(tags.id_column, quoted=True)
    query = exp.select(identity, *flags).from_(base)
    if where is not None:
        query = query.where(predicate(where, column), copy=False)
    return query.order_by(identity.copy(), copy=False), sources


def select_members(node: Node, tags: TagTable) -> tuple[exp.Select, dict[str, Source]]:
    """Build the query that selects an audience's members.

    Parameters
    ----------
    node
        A bound tree.
    tags
        The tag values at one date; only the tags that the tree reads are joined.

    Returns
    -------
    (sqlglot.exp.Select, dict[str, Source])
        The query and its sources, for ``engine.query`` or ``engine.write``: one column, the
        subject's id, ordered, each once.
    """
    return select_flags({}, tags, where=node)


def select_count(node: Node, tags: TagTable) -> tuple[exp.Select, dict[str, Source]]:
    """Build the query that counts an audience's members, in a column ``members``."""
    base, sources = _base(tags, [node])
    members = exp.alias_(exp.Count(this=exp.Star()), "members")
    query = exp.select(members).from_(base)
    return query.where(predicate(node, tag_columns(tags.fields)), copy=False), sources


def _base(tags: TagTable, nodes: Iterable[Node]) -> tuple[exp.Subquery, dict[str, Source]]:
    used = sorted({tag for node in nodes for tag in tags_of(node)})
    relation, sources = tags.relation(used)
    return relation.subquery("base"), sources


def _plain_column(tag: str) -> exp.Expr:
    return exp.Column(this=exp.Identifier(this=tag, quoted=True))


def _atom(node: Node, column: Columns) -> exp.Expr:
    match node:
        case Compare(tag=tag, op=op, value=value):
            return _known(_COMPARE[op](this=column(tag), expression=_literal(value)))
        case In(tag=tag, values=values):
            if not values:
                return exp.false()
            return _known(exp.In(this=column(tag), expressions=[_literal(v) for v in values]))
        case Between(tag=tag, low=low, high=high):
            return _known(exp.Between(this=column(tag), low=_literal(low), high=_literal(high)))
        case Flag(tag=tag):
            return _known(column(tag))
        case Missing(tag=tag):
            return exp.Is(this=column(tag), expression=exp.null())
        case Member(audience_id=audience_id):
            raise DefectError(f"Audience '{audience_id}' was not resolved before reading; bind it.")
    raise DefectError(f"No reading of a {type(node).__name__} in SQL.")


def _known(condition: exp.Expr) -> exp.Expr:
    return exp.Coalesce(this=condition, expressions=[exp.false()])


def _literal(value: Value) -> exp.Expr:
    if isinstance(value, bool):
        return exp.true() if value else exp.false()
    if isinstance(value, str):
        return exp.Literal.string(value)
    if isinstance(value, date):
        return _cast(value.isoformat(), exp.DType.DATE)
    if isinstance(value, float):
        return _cast(repr(value), exp.DType.DOUBLE)
    return _exact(value)


def _cast(text: str, kind: exp.DType) -> exp.Cast:
    return exp.Cast(this=exp.Literal.string(text), to=exp.DataType(this=kind))


def _exact(value: int | Decimal) -> exp.Expr:
    number = exp.Literal.number(format(abs(value), "f" if isinstance(value, Decimal) else "d"))
    return exp.Neg(this=number) if value < 0 else number


def _paired(kind: type[exp.Connector], parts: list[exp.Expr]) -> exp.Expr:
    while len(parts) > 1:
        pairs = [
            exp.Paren(this=kind(this=parts[i], expression=parts[i + 1]))
            for i in range(0, len(parts) - 1, 2)
        ]
        parts = [*pairs, *parts[len(parts) - len(parts) % 2 :]]
    return parts[0]
