"""The algebra: an audience is a small frozen tree that says which customers belong to it.

Every reader (SQL, one profile in memory, later the bit planes) gives each node exactly this
meaning. Truth has two values: a customer is in or out, never "unknown".

=====================  ===========================================  ==============  ==============
node                   who is in                                    tag is missing  tag types
=====================  ===========================================  ==============  ==============
``Compare(t, =, v)``   whose ``t`` equals ``v``                     out             all but
                                                                                    timestamp
``Compare(t, !=, v)``  whose ``t`` is known and differs from ``v``  out             all but
                                                                                    timestamp
``Compare(t, <, v)``   whose ``t`` is below ``v``; ``<=`` takes     out             number, money,
also ``<= > >=``       ``v`` itself in, ``<`` does not                              integer, date,
                                                                                    open string
``In(t, values)``      whose ``t`` equals one of ``values``;        out             all but
                       no values: nobody                                            timestamp
``Between(t, a, b)``   whose ``t`` is from ``a`` to ``b``, both     out             as ``<``
                       ends in; ``a`` above ``b``: nobody
``Flag(t)``            whose ``t`` is true                          out             boolean
``Missing(t)``         whose ``t`` has no value                     in              all
``Member(id)``         who is in the saved audience ``id``          as saved        --
``And(parts)``         who is in every part                         --              --
``Or(parts)``          who is in at least one part                  --              --
``Not(part)``          everybody else, so also those whose tag is   in, if the      --
                       missing                                      part says out
``Everyone()``         everybody                                    in              --
``Nobody()``           nobody                                       out             --
=====================  ===========================================  ==============  ==============

Two things follow. ``Compare(city, !=, x)`` leaves out customers without a city,
``Not(Compare(city, =, x))`` takes them in. And ``Not`` is the complement of a set, so all laws of
sets hold (De Morgan, double negation, the excluded middle).

Values:

- *missing* is an absent value; a NaN in a number tag counts as missing;
- *strings* are compared by code point, so case, width and accents matter;
- *integer* and *money* tags are compared exactly: 58.37 is 58.37, and an integer is never equal
  to 58.5;
- *number* tags are IEEE doubles: the literal is rounded to the nearest double first;
- a literal is what was written: 80, 80.0 and 80.00 are one literal, ``true`` and 1 are two.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from bihuan.audience.literal import (
    AudienceError,
    LiteralError,
    Value,
    literal,
    literal_key,
    require_clean,
    require_one_kind,
)

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
OPERATORS: tuple[Operator, ...] = ("=", "!=", "<", "<=", ">", ">=")

MAX_DEPTH = 64  # levels of AND, OR, NOT; keeps every reader far from the interpreter's stack limit
MAX_SIZE = 50_000  # nodes and listed values; a longer list belongs in a table, not in an expression


class AudienceTooLargeError(AudienceError):
    """An audience is nested too deeply or lists too many terms."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where in a text an atom was written.

    Parameters
    ----------
    text
        The whole text.
    start, end
        Characters of the atom's name or id, ``end`` excluded.
    values
        The same for each literal of the atom, in order.
    """

    text: str
    start: int
    end: int
    values: tuple[tuple[int, int], ...] = ()


class Node:
    """A set of customers; see the table of meanings at the top of this module.

    Nodes are equal if they are of the same kind and have equal contents; where they were written
    (:class:`Span`) does not count.
    """

    __slots__ = ()

    @property
    def depth(self) -> int:
        """Levels of the tree; an atom has one."""
        return 1

    @property
    def size(self) -> int:
        """Nodes of the tree, with every listed value counted as one."""
        return 1

    def _key(self) -> Hashable:
        return ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))


@dataclass(frozen=True, slots=True, eq=False)
class Compare(Node):
    """Customers whose tag is known and compares with ``value`` as said.

    Parameters
    ----------
    tag
        Name of the tag (before binding also its title).
    op
        One of ``= != < <= > >=``; true and false know only ``=`` and ``!=``.
    value
        What it is compared with.
    span
        Where it was written, if it came from a text.
    """

    tag: str
    op: Operator
    value: Value
    span: Span | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        _require_text(self.tag, "a tag name")
        if self.op not in OPERATORS:
            raise AudienceError(
                f"'{self.op}' is not a comparison.",
                remedy=f"Use one of {' '.join(OPERATORS)}.",
                zh=f"“{self.op}”不是比较符，请使用 {' '.join(OPERATORS)} 之一。",
            )
        object.__setattr__(self, "value", literal(self.value))
        if isinstance(self.value, bool) and self.op not in ("=", "!="):
            raise LiteralError(
                f"True and false have no order, so '{self.op}' cannot compare them.",
                remedy="Use = or !=.",
                zh=f"是/否没有大小之分，不能用“{self.op}”比较，请使用 = 或 !=。",
            )

    def _key(self) -> Hashable:
        return self.tag, self.op, literal_key(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class In(Node):
    """Customers whose tag equals one of ``values``; no values select nobody.

    Parameters
    ----------
    tag
        Name of the tag.
    values
        All of one kind (numbers, strings, dates or booleans), in any order.
    span
        Where it was written, if it came from a text.
    """

    tag: str
    values: tuple[Value, ...]
    span: Span | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        _require_text(self.tag, "a tag name")
        values = tuple(literal(value) for value in self.values)
        _require_size(1 + len(values))
        require_one_kind(values)
        object.__setattr__(self, "values", values)

    @property
    def size(self) -> int:
        """One for the node and one for each value."""
        return 1 + len(self.values)

    def _key(self) -> Hashable:
        return self.tag, tuple(literal_key(value) for value in self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Between(Node):
    """Customers whose tag is from ``low`` to ``high``, both included.

    Parameters
    ----------
    tag
        Name of the tag.
    low, high
        Both of one kind, not boolean; ``low`` above ``high`` selects nobody.
    span
        Where it was written, if it came from a text.
    """

    tag: str
    low: Value
    high: Value
    span: Span | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        _require_text(self.tag, "a tag name")
        low, high = literal(self.low), literal(self.high)
        require_one_kind((low, high))
        if isinstance(low, bool):
            raise LiteralError(
                "True and false have no order, so nothing lies between them.",
                remedy="Use = or !=.",
                zh="是/否没有大小之分，不能使用区间，请使用 = 或 !=。",
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def _key(self) -> Hashable:
        return self.tag, literal_key(self.low), literal_key(self.high)


@dataclass(frozen=True, slots=True, eq=False)
class Flag(Node):
    """Customers whose boolean tag is true."""

    tag: str
    span: Span | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        _require_text(self.tag, "a tag name")

    def _key(self) -> Hashable:
        return self.tag


@dataclass(frozen=True, slots=True, eq=False)
class Missing(Node):
    """Customers whose tag has no value."""

    tag: str
    span: Span | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        _require_text(self.tag, "a tag name")

    def _key(self) -> Hashable:
        return self.tag


@dataclass(frozen=True, slots=True, eq=False)
class Member(Node):
    """Customers of a saved audience; binding puts the saved tree in its place."""

    audience_id: str
    span: Span | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        _require_text(self.audience_id, "an audience id")

    def _key(self) -> Hashable:
        return self.audience_id


@dataclass(frozen=True, slots=True, eq=False)
class _Connective(Node):
    """Two or more parts; :func:`all_of` and :func:`any_of` take any number."""

    parts: tuple[Node, ...]
    _depth: int = field(init=False, repr=False, default=1)
    _size: int = field(init=False, repr=False, default=1)
    word: ClassVar[str] = ""

    def __post_init__(self) -> None:
        parts = tuple(self.parts)
        if len(parts) < 2:
            raise AudienceError(
                f"'{self.word}' joins at least two parts, not {len(parts)}.",
                remedy="Use all_of(parts) or any_of(parts), which take any number.",
                zh=f"“{self.word}”至少连接两个条件，请使用 all_of 或 any_of。",
            )
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "_depth", require_depth(1 + max(p.depth for p in parts)))
        object.__setattr__(self, "_size", _require_size(1 + sum(p.size for p in parts)))

    @property
    def depth(self) -> int:
        """Levels of the tree."""
        return self._depth

    @property
    def size(self) -> int:
        """Nodes and listed values of the tree."""
        return self._size

    def _key(self) -> Hashable:
        return self.parts


@dataclass(frozen=True, slots=True, eq=False)
class And(_Connective):
    """Customers who are in every one of two or more parts."""

    word: ClassVar[str] = "and"


@dataclass(frozen=True, slots=True, eq=False)
class Or(_Connective):
    """Customers who are in at least one of two or more parts."""

    word: ClassVar[str] = "or"


@dataclass(frozen=True, slots=True, eq=False)
class Not(Node):
    """Everybody who is not in ``part``."""

    part: Node
    _depth: int = field(init=False, repr=False, default=1)
    _size: int = field(init=False, repr=False, default=1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_depth", require_depth(1 + self.part.depth))
        object.__setattr__(self, "_size", _require_size(1 + self.part.size))

    @property
    def depth(self) -> int:
        """Levels of the tree."""
        return self._depth

    @property
    def size(self) -> int:
        """Nodes and listed values of the tree."""
        return self._size

    def _key(self) -> Hashable:
        return self.part


@dataclass(frozen=True, slots=True, eq=False)
class Everyone(Node):
    """Every customer of the base."""


@dataclass(frozen=True, slots=True, eq=False)
class Nobody(Node):
    """No customer."""


def all_of(parts: Iterable[Node]) -> Node:
    """Join any number of parts by AND; no part gives everyone."""
    found = tuple(parts)
    if len(found) > 1:
        return And(found)
    return found[0] if found else Everyone()


def any_of(parts: Iterable[Node]) -> Node:
    """Join any number of parts by OR; no part gives nobody."""
    found = tuple(parts)
    if len(found) > 1:
        return Or(found)
    return found[0] if found else Nobody()


def children(node: Node) -> tuple[Node, ...]:
    """Return the parts of a node; an atom has none."""
    match node:
        case And(parts=parts) | Or(parts=parts):
            return parts
        case Not(part=part):
            return (part,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """Yield every node of a tree, parents first, left to right."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(reversed(children(current)))


def tags_of(node: Node) -> tuple[str, ...]:
    """Return the tags that a tree reads, sorted, each once.

    Examples
    --------
    >>> tags_of(And((Flag("has_contract"), Compare("arpu", ">=", 80))))
    ('arpu', 'has_contract')
    """
    return tuple(
        sorted(
            {
                part.tag
                for part in walk(node)
                if isinstance(part, (Compare, In, Between, Flag, Missing))
            }
        )
    )


def require_depth(depth: int) -> int:
    """Return ``depth``, or refuse a tree that is deeper than every reader can take."""
    if depth > MAX_DEPTH:
        raise AudienceTooLargeError(
            f"The audience is nested more than {MAX_DEPTH} levels deep.",
            remedy="Save a part of it as an audience of its own and name it with audience('id').",
            zh=f"客户群条件嵌套超过 {MAX_DEPTH} 层，请将其中一部分另存为客户群后引用。",
        )
    return depth


def _require_text(value: object, what: str) -> None:
    if not isinstance(value, str) or not value:
        raise AudienceError(
            f"An audience needs {what}, not {value!r}.",
            remedy="Give its name as text.",
            zh=f"此处需要名称，而不是 {value!r}。",
        )
    require_clean(value)


def _require_size(size: int) -> int:
    if size > MAX_SIZE:
        raise AudienceTooLargeError(
            f"The audience has more than {MAX_SIZE:,} terms.",
            remedy="Load a long list of values as a table and make a tag of it.",
            zh=f"客户群条件超过 {MAX_SIZE:,} 项，请将长名单导入为数据表并制成标签。",
        )
    return size
