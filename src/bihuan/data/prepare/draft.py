"""A recipe being compiled: one select after the other, and the columns that there are by now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlglot import exp

from bihuan.data.prepare.recipe import Options


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a lake table before it is read: columns with their units, and the key."""

    units: Mapping[str, str]
    key: tuple[str, ...] = ()


@dataclass
class Draft:
    """A recipe being compiled.

    Parameters
    ----------
    as_of
        The month that is prepared.
    shape
        Tells the columns of a lake table; None if there is no such table.
    parts
        Names and queries so far; each selects from the one before.
    units
        The columns that there are by now, with their units.
    needs
        Which lake table, and how many months of it, each source is.
    order
        In what order the result shall come.
    marks
        Parts that there were after each step.
    """

    as_of: date
    shape: Callable[[str], Shape | None]
    parts: list[tuple[str, exp.Query]] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)
    needs: dict[str, tuple[str, int]] = field(default_factory=dict)
    order: list[exp.Expr] = field(default_factory=list)
    marks: dict[int, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the newest part."""
        return self.parts[-1][0]

    def need(self, table: str, months: int) -> str:
        """Note that the last ``months`` of a table are read; return the source's name."""
        source = f"source_{len(self.needs) + 1}"
        self.needs[source] = (table, months)
        return source

    def then(self, query: exp.Query, units: Mapping[str, str]) -> None:
        """Add the result of a step."""
        self.parts.append((f"part_{len(self.parts) + 1}", query))
        self.units = dict(units)
        self.order = []

    def replace(self, changed: Mapping[str, exp.Expr], units: Mapping[str, str]) -> None:
        """Add a step that changes or adds single columns and passes on the others."""
        self.then(self.over(changed), {**self.units, **units})

    def over(self, changed: Mapping[str, exp.Expr]) -> exp.Select:
        """Select every column of the newest part, changed where named."""
        trees = {name: column(name) for name in self.units} | dict(changed)
        return exp.select(*named(trees)).from_(self.name)

    def mark(self, step: int) -> None:
        """Note that a step ends with the newest part."""
        self.marks[step] = len(self.parts)

    def query(self, upto: int | None = None) -> exp.Select:
        """Return the whole as one query, or only its first parts."""
        parts = self.parts[:upto]
        query = exp.select("*").from_(parts[-1][0])
        for name, part in parts:
            query = query.with_(name, as_=part)
        return query.order_by(*self.order) if upto is None and self.order else query


def column(name: str, table: str | None = None) -> exp.Column:
    """Return a column by its exact name."""
    return exp.column(name, table=table, quoted=True)


def named(trees: Mapping[str, exp.Expr]) -> list[exp.Expr]:
    """Give every tree its column name."""
    return [tree.as_(name, quoted=True) for name, tree in trees.items()]


def ascending(name: str) -> exp.Ordered:
    """Order by a column, missing values last."""
    return exp.Ordered(this=column(name), desc=False, nulls_first=False)


def read_order(options: Options, field: str, value: Any) -> list[exp.Expr]:
    """Read column names to order by; a minus in front turns the order round."""
    written = [value] if isinstance(value, str) else list(value or [])
    bare = options.names(field, [str(name).removeprefix("-") for name in written])
    return [
        exp.Ordered(this=column(name), desc=str(given).startswith("-"), nulls_first=False)
        for name, given in zip(bare, written, strict=True)
    ]
