"""What a cube is made of: its axes, and which strategy serves which of its cells."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from bihuan.kernel.document import Document
from bihuan.strategy.cube.axis import (
    BUSINESS,
    CHANNEL,
    GROUPS,
    Axis,
    Band,
    CubeError,
    code_of,
    parse_axis,
)
from bihuan.tag import TagDictionary


@dataclass(frozen=True, slots=True)
class CellRule:
    """A pattern of cells and the strategy that serves them.

    Parameters
    ----------
    cell
        Wanted codes by axis; an axis that is not named may be anything.
    strategy_id
        The strategy.
    """

    cell: Mapping[str, frozenset[str]]
    strategy_id: str

    def matches(self, place: Mapping[str, str]) -> bool:
        """Whether a cell, given as code by axis, is of this pattern."""
        return all(place.get(axis) in codes for axis, codes in self.cell.items())

    def meets(self, other: CellRule) -> bool:
        """Whether some cell could be of both patterns."""
        return all(codes & other.cell.get(axis, codes) for axis, codes in self.cell.items())

    def holds_both(self, one: CellRule, other: CellRule) -> bool:
        """Whether every cell of both patterns is of this one."""
        for axis, codes in self.cell.items():
            wanted = [rule.cell[axis] for rule in (one, other) if axis in rule.cell]
            if not wanted or not frozenset.intersection(*wanted) <= codes:
                return False
        return True

    def __str__(self) -> str:
        """Write the pattern as text."""
        parts = [f"{axis}: {'|'.join(sorted(codes))}" for axis, codes in self.cell.items()]
        return f"{{{', '.join(parts)}}} → {self.strategy_id}"


@dataclass(frozen=True, slots=True)
class StrategyTable:
    """Which strategy serves a cell: the pattern that names the most axes wins.

    Parameters
    ----------
    rules
        In any order.
    """

    rules: tuple[CellRule, ...] = ()

    def find(self, place: Mapping[str, str]) -> str | None:
        """Return the strategy of a cell, given as code by axis; None if no pattern matches."""
        found = [rule for rule in self.rules if rule.matches(place)]
        return max(found, key=lambda rule: len(rule.cell)).strategy_id if found else None

    @property
    def strategies(self) -> frozenset[str]:
        """Ids of the strategies."""
        return frozenset(rule.strategy_id for rule in self.rules)

    def clashes(self) -> tuple[tuple[CellRule, CellRule], ...]:
        """Return pairs of patterns of which neither wins over the other on some cell.

        Where a pattern that names more axes takes all cells of both, the two do not clash.
        """
        return tuple(
            (one, other)
            for one, other in combinations(self.rules, 2)
            if len(one.cell) == len(other.cell)
            and one.strategy_id != other.strategy_id
            and one.meets(other)
            and not any(
                len(rule.cell) > len(one.cell) and rule.holds_both(one, other)
                for rule in self.rules
            )
        )


@dataclass(frozen=True, slots=True)
class CubeDefinition:
    """A cube as its file says it.

    Parameters
    ----------
    name
        Of the file.
    title
        By language.
    axes
        Over customers.
    table
        Strategies by cell.
    """

    name: str
    title: Mapping[str, str]
    axes: tuple[Axis, ...]
    table: StrategyTable = StrategyTable()

    def axis(self, name: str) -> Axis:
        """Return an axis over customers; raise :class:`CubeError` if there is none."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        raise self.unknown(name)

    def unknown(self, name: str) -> CubeError:
        """Make the error that says which axes there are."""
        have = ", ".join([*(axis.name for axis in self.axes), BUSINESS, CHANNEL])
        return CubeError(
            f"The cube '{self.name}' has no axis '{name}'.",
            remedy=f"Choose from: {have}.",
            zh=f"魔方 {self.name} 没有维度 {name}，可选：{have}。",
        )

    def in_group(self, group: str) -> tuple[Axis, ...]:
        """Return the axes of a group."""
        return tuple(axis for axis in self.axes if axis.group == group)


def load_cube(
    path: Path,
    dictionary: TagDictionary,
    *,
    stages: Mapping[str, Sequence[Band]] | None = None,
    strategies: Collection[str] | None = None,
) -> CubeDefinition:
    """Read a cube file.

    Parameters
    ----------
    path
        YAML file.
    dictionary
        Gives codes and titles of tags.
    stages
        Life-cycle stages by file name, for axes that name one.
    strategies
        Ids that a cell may name; None: any.

    Raises
    ------
    DocumentError
        If a field is missing or of the wrong form, a group of axes is absent, or a cell names a
        part that there is not.
    CubeError
        If two patterns of equal precision give a cell two strategies.
    """
    top = Document.read(path).allow("cube", "title", "note", "dimensions", "strategies")
    axes = tuple(parse_axis(part, dictionary, stages or {}) for part in top.parts("dimensions"))
    names = [axis.name for axis in axes]
    if len(set(names)) != len(names):
        raise top.refuse("dimensions", "has a name twice", "Give each its own name.")
    absent = [group for group in GROUPS if group not in {axis.group for axis in axes}]
    if absent:
        raise top.refuse(
            "dimensions", f"has nothing of the group '{absent[0]}'", f"Groups: {', '.join(GROUPS)}."
        )
    by_name = {axis.name: axis for axis in axes}
    rules = tuple(_parse_rule(part, by_name, strategies) for part in top.parts("strategies"))
    table = StrategyTable(rules)
    for one, other in table.clashes():
        raise CubeError(
            f"{top.where}: two strategies claim the same cells and name as many axes: "
            f"{one} and {other}.",
            remedy="Name one more axis in one of them.",
            zh=f"{top.where}：两条策略对同一单元同样具体：{one} 与 {other}。请再细化其中一条。",
        )
    return CubeDefinition(top.text("cube", path.stem), top.titles("title"), axes, table)


def _parse_rule(
    part: Document, axes: Mapping[str, Axis], strategies: Collection[str] | None
) -> CellRule:
    part.allow("cell", "strategy")
    strategy = part.text("strategy")
    if strategies is not None and strategy not in strategies:
        have = ", ".join(sorted(strategies))
        raise part.refuse("strategy", f"'{strategy}' is not known", f"Choose one of: {have}.")
    cell = part.part("cell")
    wanted = {}
    for name in cell.fields():
        value = cell.raw(name)
        codes = frozenset(map(code_of, value if isinstance(value, list) else [value]))
        if name not in (*axes, BUSINESS, CHANNEL):
            known = ", ".join([*axes, BUSINESS, CHANNEL])
            raise cell.refuse(name, "is not an axis", f"Choose one of: {known}.")
        if name in axes and not codes <= set(axes[name].codes):
            have = ", ".join(axes[name].codes)
            wrong = sorted(codes - set(axes[name].codes))
            raise cell.refuse(name, f"names '{wrong[0]}'", f"Choose from: {have}.")
        wanted[name] = codes
    return CellRule(wanted, strategy)


def axis_titles(definition: CubeDefinition, names: Iterable[str]) -> list[Mapping[str, str]]:
    """Return titles of axes, business and channel included."""
    own = {BUSINESS: {"zh": "业务", "en": "Business"}, CHANNEL: {"zh": "渠道", "en": "Channel"}}
    return [own[name] if name in own else definition.axis(name).title for name in names]
