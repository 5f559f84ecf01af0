"""What an indicator is: one name, one definition (口径) for every professional line.

The formula is a small piece of SQL of aggregates over one source, or of other indicators; it is
read into a tree by the same reader as the expressions of tags, so nothing but values of rows can
come into it. An indicator is never made of its members' own values: a parent is computed from the
rows of all its members, so no average of averages can arise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from sqlglot import exp

from bihuan.data import TableContract
from bihuan.evaluation.indicator.errors import IndicatorError
from bihuan.evaluation.indicator.formula import (
    canonical,
    is_additive,
    part_nodes,
    with_means_split,
)
from bihuan.kernel import hash_id
from bihuan.tag import (
    AS_OF,
    ExpressionError,
    TagDictionary,
    TagExpression,
    check_aggregation,
    check_columns,
    parse_expression,
)

DIRECTIONS = ("higher", "lower", "neutral")
"""Which way is better; ``neutral`` for sizes that are neither good nor bad."""
TAGS = "tags:"
"""A source ``tags:customer`` stands for the derived tags of a kind of subject."""
UNIT_COLUMN = "org_unit_id"


@dataclass(frozen=True, slots=True)
class Input:
    """Another indicator that a formula takes.

    Parameters
    ----------
    indicator
        Its name.
    months_ago
        0 for the same month, 12 for the same month of the year before.
    """

    indicator: str
    months_ago: int = 0


@dataclass(frozen=True, slots=True)
class Indicator:
    """One version of one indicator's definition.

    Parameters
    ----------
    name
        Lower-case letters, digits and ``_``; the one name in every line and report.
    title, meaning
        By language; ``meaning`` is the definition in words (口径).
    formula
        Aggregates over the columns of ``source``, or an expression over the names of ``inputs``.
    unit
        ``customer``, ``currency``, ``ratio`` ...
    owner
        Who answers for the definition.
    version
        1, 2, ...
    effective_from
        First day of the first month that is computed by this version; earlier months keep the
        version of before.
    source
        A table of the lake or ``tags:<subject>``; empty for a formula over other indicators.
    inputs
        The other indicators, by the name that they have in the formula.
    unit_through
        Column that leads to the org unit where the source has none of its own, or another than
        its own: whose result a row is (of the customer's unit, of the staff's).
    members
        Tier whose rows are the members, for sources with rows of several tiers (a county's own
        figure and its grids'); empty: every row.
    months
        Months of rows up to the month computed, 1 or more.
    dimensions
        Columns of the source by which it may be split besides the org unit.
    direction
        One of :data:`DIRECTIONS`.
    grain
        Always ``month``: the indicator has a value per unit and month.
    """

    name: str
    title: Mapping[str, str]
    meaning: Mapping[str, str]
    formula: str
    unit: str
    owner: str
    version: int
    effective_from: date
    source: str = ""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    unit_through: str = ""
    members: str = ""
    months: int = 1
    dimensions: tuple[str, ...] = ()
    direction: str = "higher"
    grain: str = "month"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise IndicatorError(
                f"Indicator '{self.name}': {problem[0]}.",
                remedy="Mend the definition.",
                zh=f"指标 {self.name} 定义有误：{problem[1]}。",
            )
        self.parsed()

    def _problem(self) -> tuple[str, str] | None:
        is_name = self.name.isidentifier() and self.name.islower() and self.name.isascii()
        dated = self.version >= 1 and self.months >= 1 and self.effective_from.day == 1
        of_source = bool(self.unit_through or self.members or self.months > 1)
        rules = (
            (is_name, "its name is not made of lower-case letters, digits and _",
             "名称须为小写标识符"),
            (bool(self.source) != bool(self.inputs), "it needs either a source or inputs",
             "须指定来源表或引用的指标，二者择一"),
            (self.direction in DIRECTIONS, f"direction '{self.direction}' is unknown",
             "方向须为 higher、lower 或 neutral"),
            (dated, "version and months start at 1, effective_from is the first day of a month",
             "版本与月数从 1 起，生效日期须为某月 1 日"),
            (all(taken.months_ago >= 0 for taken in self.inputs.values()),
             "months_ago is negative", "months_ago 不能为负"),
            (not (self.inputs and of_source),
             "unit_through, members and months belong to a source",
             "unit_through、members、months 仅用于来源表"),
        )  # fmt: skip
        return next(((en, zh) for holds, en, zh in rules if not holds), None)

    def parsed(self) -> TagExpression:
        """Return the formula's tree.

        Raises
        ------
        IndicatorError
            If it cannot be read, or says what a formula may not say; with the position.
        """
        try:
            tree = parse_expression(self.formula)
            if self.source:
                what = f"source '{self.source}'"
                check_aggregation(tree, many_rows=True, what=what, what_zh=f"来源 {self.source}")
            else:
                check_columns(tree, self.inputs, "the list of inputs", "引用指标列表")
                unused = sorted(set(self.inputs) - set(tree.columns))
                if tree.aggregates or unused or _names_date(tree.written):
                    raise ExpressionError(
                        "A formula over indicators has no aggregate and no date and uses every "
                        "input.",
                        remedy="Aggregates belong to the indicators that it takes.",
                        zh="引用指标的公式不得含聚合函数或日期，且须用到全部引用的指标。",
                        span=(0, len(self.formula)),
                    )
        except ExpressionError as error:
            raise in_words(self.name, error) from error
        return tree

    @property
    def tree(self) -> exp.Expr:
        """The formula, made safe (x / 0 is missing) and with means split into sum and count."""
        return with_means_split(self.parsed().tree)

    @property
    def subject(self) -> str:
        """Kind of subject of a ``tags:`` source; empty for a table."""
        return self.source.removeprefix(TAGS) if self.source.startswith(TAGS) else ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns or tags that the formula uses, sorted."""
        return self.parsed().columns

    @property
    def parts(self) -> tuple[exp.Expr, ...]:
        """The aggregates of the formula, each once, in the order written."""
        return part_nodes(self.tree) if self.source else ()

    @property
    def content(self) -> dict[str, Any]:
        """What is computed, without words: two definitions with the same content are one."""
        return {
            "formula": canonical(self.parsed().tree),
            "source": self.source,
            "inputs": {k: [v.indicator, v.months_ago] for k, v in sorted(self.inputs.items())},
            "unit_through": self.unit_through,
            "members": self.members,
            "months": self.months,
        }

    @property
    def content_id(self) -> str:
        """Hash of :attr:`content`, of the words, and of unit and direction; not of the dates."""
        return hash_id(
            self.name, self.content, dict(self.title), dict(self.meaning), self.unit,
            self.direction, list(self.dimensions),
        )  # fmt: skip

    def next_version(self, effective_from: date, **changes: Any) -> Indicator:
        """Return the following version with some fields changed, in force from a date on."""
        return replace(self, version=self.version + 1, effective_from=effective_from, **changes)


def is_sum_of_children(indicator: Indicator, additive: frozenset[str]) -> bool:
    """Tell whether a parent's value is the sum of its children's.

    Parameters
    ----------
    indicator
        The definition.
    additive
        Names of the indicators known to be additive, for formulas over others.
    """
    if indicator.source:
        return is_additive(indicator.tree, None)
    names = {name for name, taken in indicator.inputs.items() if taken.indicator in additive}
    return is_additive(indicator.tree, names)


def check_binding(
    indicator: Indicator,
    contracts: Mapping[str, TableContract],
    dictionary: TagDictionary | None = None,
) -> None:
    """Hold a definition over a source against the tables (or tags) that there are.

    Raises
    ------
    IndicatorError
        If the source, a column or a dimension is not there, or no way leads to the org unit.
    """
    if indicator.inputs:
        return
    known = _known_columns(indicator, contracts, dictionary)
    try:
        check_columns(
            indicator.parsed(), known, f"source '{indicator.source}'", f"来源 {indicator.source}"
        )
    except ExpressionError as error:
        raise in_words(indicator.name, error) from error
    for dimension in indicator.dimensions:
        if dimension not in known:
            raise _wrong(indicator, f"there is no column '{dimension}'", f"没有列 {dimension}")
    way_to_unit(indicator, contracts)


def way_to_unit(
    indicator: Indicator, contracts: Mapping[str, TableContract]
) -> tuple[str, str, str] | None:
    """Return column, table and key by which a row's org unit is found; None: its own column.

    Raises
    ------
    IndicatorError
        If there is none, or there are several and the definition does not choose.
    """
    if indicator.subject:
        return f"{indicator.subject}_id", indicator.subject, f"{indicator.subject}_id"
    contract = contracts[indicator.source]
    if indicator.unit_through in ("", UNIT_COLUMN) and UNIT_COLUMN in contract:
        return None
    ways = {
        column.name: (column.name, *column.references.split("."))
        for column in contract.columns
        if column.references
        and UNIT_COLUMN in contracts.get(column.references.split(".")[0], _NOTHING)
    }
    wanted = indicator.unit_through or (next(iter(ways)) if len(ways) == 1 else "")
    if wanted not in ways:
        have = ", ".join(sorted(ways)) or "none"
        raise _wrong(
            indicator,
            f"unit_through must choose the way to the org unit (there are: {have})",
            f"unit_through 须指明归属组织的关联列（可选：{have}）",
        )
    column, table, key = ways[wanted]
    return column, table, key


def in_words(name: str, error: ExpressionError) -> IndicatorError:
    """Tell an expression's error as one of a formula."""
    first, last = error.span
    return IndicatorError(
        f"Indicator '{name}': {error.message.replace('a tag', 'a formula')} "
        f"(characters {first + 1} to {last})",
        remedy=(error.remedy or "").replace("a tag", "an indicator").replace("tag", "indicator"),
        zh=f"指标 {name} 的公式有误（第 {first + 1} 至 {last} 字符）："
        + (error.zh or "").replace("标签", "指标"),
    )


_NOTHING: tuple[str, ...] = ()


def _known_columns(
    indicator: Indicator,
    contracts: Mapping[str, TableContract],
    dictionary: TagDictionary | None,
) -> frozenset[str]:
    if indicator.subject:
        if dictionary is None:
            raise _wrong(indicator, "there is no tag dictionary", "没有标签字典")
        return frozenset(dictionary.schema(indicator.subject))
    if indicator.source not in contracts:
        raise _wrong(
            indicator, f"there is no table '{indicator.source}'", f"没有表 {indicator.source}"
        )
    return frozenset(contracts[indicator.source].names)


def _names_date(tree: exp.Expr) -> bool:
    return any(column.name == AS_OF for column in tree.find_all(exp.Column))


def _wrong(indicator: Indicator, en: str, zh: str) -> IndicatorError:
    return IndicatorError(
        f"Indicator '{indicator.name}': {en}.",
        remedy="Mend the definition.",
        zh=f"指标 {indicator.name} 定义有误：{zh}。",
    )
