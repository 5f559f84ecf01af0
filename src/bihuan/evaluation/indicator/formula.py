"""Trees of formulas: their aggregates, whether these add up, and one normal form."""

from __future__ import annotations

from collections.abc import Collection

from sqlglot import exp

from bihuan.tag import AGGREGATE_TYPES

MERGED_BY: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.Sum: exp.Sum,
    exp.Count: exp.Sum,
    exp.CountIf: exp.Sum,
    exp.Min: exp.Min,
    exp.Max: exp.Max,
    exp.LogicalAnd: exp.LogicalAnd,
    exp.LogicalOr: exp.LogicalOr,
}
"""How the values of members become that of all of them; other aggregates need all rows at once."""
_ADDING = (exp.Sum, exp.Count, exp.CountIf)


def aggregate_of(part: exp.Expr) -> exp.Expr:
    """Return the aggregate inside a part, without its filter."""
    return part.this if isinstance(part, exp.Filter) else part


def part_nodes(tree: exp.Expr) -> tuple[exp.Expr, ...]:
    """Return the outermost aggregates with their filters, each once."""
    found: dict[str, exp.Expr] = {}

    def look(node: exp.Expr) -> None:
        if isinstance(node, (exp.Filter, *AGGREGATE_TYPES)):
            found.setdefault(node.sql("duckdb"), node)
            return
        for child in node.iter_expressions():
            look(child)

    look(tree)
    return tuple(found.values())


def replace_parts(tree: exp.Expr, names: dict[str, exp.Expr]) -> exp.Expr:
    """Return a copy in which each aggregate, by its SQL, is replaced."""

    def swap(node: exp.Expr) -> exp.Expr:
        if isinstance(node, (exp.Filter, *AGGREGATE_TYPES)):
            return names[node.sql("duckdb")].copy()
        for key, value in list(node.args.items()):
            if isinstance(value, exp.Expr):
                node.set(key, swap(value))
            elif isinstance(value, list):
                node.set(key, [swap(v) if isinstance(v, exp.Expr) else v for v in value])
        return node

    return swap(tree.copy())


def merge_of(part: exp.Expr) -> type[exp.Expr] | None:
    """Return the aggregate that merges members' values; None if only all rows at once will do."""
    inner = aggregate_of(part)
    if inner.find(exp.Distinct):
        return None
    return MERGED_BY.get(type(inner))


def adds(part: exp.Expr) -> bool:
    """Tell whether a part of no rows is nought and the parts of members add up."""
    return isinstance(aggregate_of(part), _ADDING) and merge_of(part) is not None


def with_means_split(tree: exp.Expr) -> exp.Expr:
    """Return the tree with ``avg(x)`` as ``sum(x) / count(x)``, so that members merge."""

    def split(node: exp.Expr) -> exp.Expr:
        inner = aggregate_of(node)
        if not isinstance(inner, exp.Avg) or isinstance(node.parent, exp.Filter):
            return node
        if inner.find(exp.Distinct):
            return node

        def as_part(kind: type[exp.Expr]) -> exp.Expr:
            made = kind(this=inner.this.copy())
            if isinstance(node, exp.Filter):
                return exp.Filter(this=made, expression=node.expression.copy())
            return made

        count = exp.Nullif(this=as_part(exp.Count), expression=exp.Literal.number(0))
        return exp.Paren(this=exp.Div(this=as_part(exp.Sum), expression=count))

    return tree.copy().transform(split)


def is_additive(tree: exp.Expr, additive_names: Collection[str] | None) -> bool:
    """Tell whether the value of all is the sum of the values of members.

    Parameters
    ----------
    tree
        A formula.
    additive_names
        For a formula over indicators: which of its names are additive. None: over rows.
    """
    node = tree
    if isinstance(node, (exp.Paren, exp.Neg)):
        return is_additive(node.this, additive_names)
    if isinstance(node, (exp.Add, exp.Sub)):
        return is_additive(node.this, additive_names) and is_additive(
            node.expression, additive_names
        )
    if isinstance(node, (exp.Mul, exp.Div)):
        sides = (node.this, node.expression)
        if isinstance(sides[1], exp.Literal):
            return is_additive(sides[0], additive_names)
        is_factor = isinstance(node, exp.Mul) and isinstance(sides[0], exp.Literal)
        return is_factor and is_additive(sides[1], additive_names)
    if isinstance(node, exp.Column):
        return additive_names is not None and node.name in additive_names
    return isinstance(node, (exp.Filter, *AGGREGATE_TYPES)) and adds(node)


def canonical(tree: exp.Expr) -> str:
    """Return one text for formulas that say the same in another order.

    Sums, products, ``and`` and ``or`` are sorted, brackets that change nothing go, and
    ``count_if(x)`` is ``count(*) filter (where x)``.

    Examples
    --------
    >>> from bihuan.tag import parse_expression
    >>> one, two = parse_expression("sum(a) + COUNT(*)"), parse_expression("(count(*)+SUM(A ))")
    >>> canonical(one.tree) == canonical(two.tree)
    True
    """
    return _normal(tree)


def _normal(node: exp.Expr) -> str:
    if isinstance(node, exp.Paren):
        return _normal(node.this)
    if isinstance(node, exp.CountIf):
        return f"Filter(Count(*),{_normal(node.this)})"
    if isinstance(node, exp.Filter):
        where = node.expression
        inner = where.this if isinstance(where, exp.Where) else where
        return f"Filter({_normal(node.this)},{_normal(inner)})"
    if isinstance(node, (exp.Add, exp.Mul, exp.And, exp.Or)):
        kind = type(node)
        terms = sorted(_normal(term) for term in _flat(node, kind))
        return f"{kind.__name__}({','.join(terms)})"
    return _leaf(node)


def _leaf(node: exp.Expr) -> str:
    if isinstance(node, exp.Star):
        return "*"
    if isinstance(node, exp.Column):
        return node.name.lower()
    if isinstance(node, exp.Literal):
        return repr(node.this) if node.is_string else repr(float(node.this))
    inside = [_normal(child) for child in node.iter_expressions()]
    return f"{type(node).__name__}({','.join(inside) or node.sql('duckdb').lower()})"


def _flat(node: exp.Expr, kind: type[exp.Expr]) -> list[exp.Expr]:
    if isinstance(node, exp.Paren):
        return _flat(node.this, kind)
    if isinstance(node, kind):
        return _flat(node.this, kind) + _flat(node.expression, kind)
    return [node]


def with_columns_renamed(tree: exp.Expr, names: dict[str, str]) -> exp.Expr:
    """Return a copy in which columns have other names."""
    return with_columns_replaced(tree, {old: exp.column(new) for old, new in names.items()})


def with_columns_replaced(tree: exp.Expr, trees: dict[str, exp.Expr]) -> exp.Expr:
    """Return a copy in which columns, by name, are replaced by (bracketed) trees."""

    def swap(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Column) or node.name not in trees:
            return node
        new = trees[node.name].copy()
        return new if isinstance(new, exp.Column) else exp.Paren(this=new)

    return tree.copy().transform(swap)
