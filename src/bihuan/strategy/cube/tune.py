"""Tuning as things change (根據變化實時調優): what moved, which cells fall short, what to change.

A cell's conversions are held against what its propensities promised. Under the promise they are a
sum of independent Bernoulli variables, whose mean and variance the cube keeps, so the shortfall in
standard deviations is known; among the many cells looked at, the share of false alarms is held by
Benjamini and Hochberg (1995).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.strategy.cube.axis import BUSINESS, CHANNEL, CubeError
from bihuan.strategy.cube.cube import Cube

MEASURES = ("size", "covered", "contacted", "uncovered", "expected_value", "conversions")
PRIOR_CONVERSIONS = 5.0
"""Expected conversions that the promise itself is worth when a factor is estimated."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change proposed for one cell.

    Parameters
    ----------
    cell
        Code by axis.
    strategy
        That serves the cell now; None if none does.
    kind
        ``change_channel``, ``change_business``, ``lower_expectation`` (the cell converts less than
        promised), or ``extend`` (more, and customers there get nothing yet).
    to
        The channel or business to change to; None otherwise.
    reached, conversions, expected
        Contacts that arrived, sales, and the sales promised.
    p_value
        Chance of being as far off or further if the promise were right, one-sided.
    factor
        By which to multiply the cell's propensities from now on, > 0: conversions by expectation,
        drawn towards 1 where there is little to go by.
    text
        For readers, by language.
    """

    cell: Mapping[str, str]
    strategy: str | None
    kind: str
    to: str | None
    reached: int
    conversions: int
    expected: float
    p_value: float
    factor: float
    text: Mapping[str, str]


def propose_changes(
    cube: Cube, *axes: str, false_alarms: float = 0.1, minimum: int = 30
) -> tuple[Proposal, ...]:
    """Find cells whose conversion is off its expectation and say what to change.

    Parameters
    ----------
    cube
        Counted with decisions and responses.
    *axes
        That make the cells, as for :meth:`Cube.roll_up`.
    false_alarms
        Share of the proposals that may be false, 0..1.
    minimum
        Contacts that must have arrived in a cell for it to be judged, >= 1.

    Returns
    -------
    tuple[Proposal, ...]
        The surest first; none where nothing is off, or nothing has come back yet.
    """
    cells = [row for row in cube.roll_up(*axes).to_pylist() if row["reached_contacts"] >= minimum]
    if not cells:
        return ()
    scores = [_score(cell) for cell in cells]
    p_low, p_high = (np.array([NormalDist().cdf(s * z) for z in scores]) for s in (1, -1))
    found = []
    for values, is_low in ((p_low, True), (p_high, False)):
        for number in np.flatnonzero(_significant(values, false_alarms)):
            cell = cells[number]
            if not is_low and not cell["uncovered"]:
                continue
            found.append(_proposal(cube, axes, cell, float(values[number]), is_low))
    return tuple(sorted(found, key=lambda proposal: proposal.p_value))


def compare_cubes(before: Cube, after: Cube, *axes: str) -> pa.Table:
    """Hold two cubes of the same definition against each other, cell by cell.

    Parameters
    ----------
    before, after
        For example of two months, or before and after a decision.
    *axes
        As for :meth:`Cube.roll_up`.

    Returns
    -------
    pyarrow.Table
        One row per cell of either: the codes; ``<measure>_before``, ``<measure>_after`` and
        ``<measure>_change`` for size, covered, contacted, uncovered, expected_value and
        conversions (0 where a cell is absent); ``strategy_before`` and ``strategy_after``. The
        greatest change of size and coverage first.

    Raises
    ------
    CubeError
        If the cubes have different axes.
    """
    if [a.name for a in before.definition.axes] != [a.name for a in after.definition.axes]:
        raise CubeError(
            "The two cubes have different axes.",
            remedy="Count both by the same file of cubes/.",
            zh="两个魔方的维度不同，请使用同一定义文件。",
        )
    first, second = (
        {tuple(row[a] for a in axes): row for row in cube.roll_up(*axes).to_pylist()}
        for cube in (before, after)
    )
    rows: list[dict[str, Any]] = []
    for key in dict.fromkeys([*first, *second]):
        one, other = first.get(key, {}), second.get(key, {})
        row: dict[str, Any] = dict(zip(axes, key, strict=True))
        for name in MEASURES:
            old, new = one.get(name, 0), other.get(name, 0)
            row |= {f"{name}_before": old, f"{name}_after": new, f"{name}_change": new - old}
        row |= {"strategy_before": one.get("strategy"), "strategy_after": other.get("strategy")}
        rows.append(row)
    rows.sort(key=lambda row: -abs(row["size_change"]) - abs(row["covered_change"]))
    fields = [(name, pa.string()) for name in axes]
    for name in MEASURES:
        kind = pa.float64() if name == "expected_value" else pa.int64()
        fields += [(f"{name}_{part}", kind) for part in ("before", "after", "change")]
    fields += [(f"strategy_{part}", pa.string()) for part in ("before", "after")]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def _score(cell: Mapping[str, Any]) -> float:
    """Return the distance from the promise in standard deviations, with half a sale's leeway."""
    difference = float(cell["conversions"] - cell["expected_conversions"])
    leeway = math.copysign(min(0.5, abs(difference)), difference)
    return (difference - leeway) / max(math.sqrt(cell["variance"]), 1e-9)


def _significant(p_values: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    """Mark the p-values that Benjamini and Hochberg's step-up rule takes at a rate."""
    order = np.argsort(p_values)
    n = len(p_values)
    below = p_values[order] <= rate * np.arange(1, n + 1) / n
    taken = np.zeros(n, dtype=np.bool_)
    if below.any():
        taken[order[: int(np.flatnonzero(below)[-1]) + 1]] = True
    return taken


def _proposal(
    cube: Cube, axes: Sequence[str], cell: Mapping[str, Any], p_value: float, is_low: bool
) -> Proposal:
    place = {name: cell[name] for name in axes}
    kind, to = ("extend", None) if not is_low else _way_out(cube, place, cell)
    factor = (cell["conversions"] + PRIOR_CONVERSIONS) / (
        cell["expected_conversions"] + PRIOR_CONVERSIONS
    )
    return Proposal(
        cell=place,
        strategy=cell["strategy"],
        kind=kind,
        to=to,
        reached=cell["reached_contacts"],
        conversions=cell["conversions"],
        expected=cell["expected_conversions"],
        p_value=p_value,
        factor=factor,
        text=_text(cell, place, kind, to),
    )


def _way_out(
    cube: Cube, place: Mapping[str, str], cell: Mapping[str, Any]
) -> tuple[str, str | None]:
    """Find the channel, else the business, that converts best in the rest of the cell."""
    rate = cell["conversions"] / cell["reached_contacts"]
    for axis, kind in ((CHANNEL, "change_channel"), (BUSINESS, "change_business")):
        rest = {name: code for name, code in place.items() if name != axis}
        others = [
            row
            for row in cube.slice(**rest).roll_up(axis).to_pylist()
            if row[axis] != place.get(axis) and row["reached_contacts"] > 0
        ]
        if len(others) + (axis in place) < 2:
            continue
        best = max(others, key=_cautious_rate)
        if _cautious_rate(best) > rate:
            return kind, best[axis]
    return "lower_expectation", None


def _cautious_rate(cell: Mapping[str, Any]) -> float:
    """Return the lower end of Wilson's 80 % interval of a cell's conversion, 0..1."""
    n, k, z = cell["reached_contacts"], cell["conversions"], 1.2816
    centre = (k + z * z / 2) / (n + z * z)
    spread = z / (n + z * z) * (k * (n - k) / n + z * z / 4) ** 0.5
    return float(centre - spread)


def _text(
    cell: Mapping[str, Any], place: Mapping[str, str], kind: str, to: str | None
) -> Mapping[str, str]:
    where = ", ".join(f"{axis} = {code}" for axis, code in place.items()) or "all"
    seen = f"{cell['conversions']} / {cell['reached_contacts']}"
    due = f"{cell['expected_conversions']:.1f}"
    what = {
        "change_channel": (f"建议改用渠道 {to}", f"Use channel '{to}' there instead"),
        "change_business": (f"建议改推业务 {to}", f"Offer business '{to}' there instead"),
        "lower_expectation": ("建议下调该单元的响应预期", "Lower the expectation of the cell"),
        "extend": (
            f"建议扩大覆盖，另有 {cell['uncovered']} 户未安排",
            f"Extend it: {cell['uncovered']} more customers there get nothing",
        ),
    }[kind]
    return {
        "zh": f"{where}：实际成交 {seen}，预期 {due}。{what[0]}。",
        "en": f"{where}: {seen} converted, {due} were expected. {what[1]}.",
    }
