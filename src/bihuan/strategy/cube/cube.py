"""The strategy cube (策略魔方): customers by behaviour, need, preference, value, business, scene,
life cycle and channel; in each cell how many, how many get something, and why the others do not.
"""  # noqa: D205 - one sentence too long for a line

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.audience import Node, all_of
from bihuan.kernel import DefectError
from bihuan.strategy.cube.axis import BUSINESS, CHANNEL, Axis, CubeError, code_of, require_codes
from bihuan.strategy.cube.counts import Contacts, Groups, Ints, Reason
from bihuan.strategy.cube.definition import CubeDefinition

Where: TypeAlias = str | bool | Sequence[str | bool]

ELSEWHERE = "planned_elsewhere"
"""Why a customer has nothing in a cell although something is planned for him: in another one."""
_ELSEWHERE_TITLE = {"zh": "已安排其他业务或渠道", "en": "Planned in another business or channel"}


@dataclass(frozen=True)
class Cube:
    """A counted cube; every question is answered exactly from counts.

    Parameters
    ----------
    definition
        Axes over customers, and strategies by cell.
    as_of
        Date of the tags.
    businesses
        Titles of the businesses by code.
    channels
        Channel kinds.
    reasons
        Why customers get nothing, in the order of the funnel.
    groups, contacts
        The counts.
    left_out
        What was read without some tags because these have no values: which, by band or offer.
    versions
        Snapshot ids of what it was counted from.
    where
        What it has been cut down to: codes by axis.
    """

    definition: CubeDefinition
    as_of: date
    businesses: Mapping[str, Mapping[str, str]]
    channels: tuple[str, ...]
    reasons: tuple[Reason, ...]
    groups: Groups = field(repr=False)
    contacts: Contacts = field(repr=False)
    left_out: Mapping[str, tuple[str, ...]]
    versions: Mapping[str, str]
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of all axes, business and channel last."""
        return (*(axis.name for axis in self.definition.axes), BUSINESS, CHANNEL)

    @property
    def size(self) -> int:
        """Number of customers."""
        return int(self.groups.size.sum())

    def codes(self, axis: str) -> tuple[str, ...]:
        """Return the codes of an axis."""
        if axis == BUSINESS:
            return tuple(self.businesses)
        if axis == CHANNEL:
            return self.channels
        return self.definition.axis(axis).codes

    def shown(self, axis: str) -> tuple[str, ...]:
        """Return the codes of an axis in the order in which they are shown."""
        if axis in (BUSINESS, CHANNEL):
            return self.codes(axis)
        return self.definition.axis(axis).shown

    def title_of(self, axis: str, code: str) -> Mapping[str, str]:
        """Return the title of one part of an axis by language."""
        if axis == BUSINESS:
            return self.businesses[code]
        if axis == CHANNEL:
            return {"zh": code, "en": code}
        return self.definition.axis(axis).title_of(code)

    def slice(self, **where: Where) -> Cube:
        """Cut the cube down to some parts of some axes (one: slice; several: dice).

        Parameters
        ----------
        **where
            Code or codes by axis, as ``value="high", business=["broadband", "data"]``. Cut to a
            business or channel, the cube counts customers to whom it may be offered there.

        Raises
        ------
        CubeError
            If there is no such axis or part.
        """
        cube = self
        for name, wanted in where.items():
            if name not in self.axes:
                raise self.definition.unknown(name)
            several = [wanted] if isinstance(wanted, (str, bool)) else list(wanted)
            codes = tuple(dict.fromkeys(code_of(code) for code in several))
            require_codes(codes, self.codes(name), name)
            groups, contacts = cube._cut(name, codes)
            merged = {**cube.where, name: codes}
            cube = replace(cube, groups=groups, contacts=contacts, where=merged)
        return cube

    def roll_up(self, *axes: str) -> pa.Table:
        """Add the cube up over all axes but these; fewer axes roll up, more drill down.

        Parameters
        ----------
        *axes
            Names, in the order of the columns; none = one row for all.

        Returns
        -------
        pyarrow.Table
            One row per cell with any customer: the codes, then ``size`` (customers; with business
            or channel among the axes, those to whom it may be offered there), ``covered``
            (something is planned for them there), ``contacted`` (and not held out),
            ``uncovered``, ``coverage`` (0..1), ``strategy`` (missing where no pattern fits),
            ``planned_contacts``, ``reached_contacts``, ``conversions`` (of the reached),
            ``expected_value`` (sum, workspace's currency), ``expected_conversions`` (of the
            reached) with their ``variance``, ``main_reason``, and per reason that occurs
            ``fell_<reason>``, which add up to ``uncovered``.
            A customer in several scenes, businesses or channels counts in each.
        """
        for name in axes:
            if name not in self.axes:
                raise self.definition.unknown(name)
        cells: list[dict[str, Any]] = []
        many = [name for name in axes if self._is_many(name)]
        choices = [range(len(self._parts(name))) for name in many]
        for chosen in product(*choices):
            cells += self._cells(axes, dict(zip(many, chosen, strict=True)))
        order = {name: {code: i for i, code in enumerate(self.shown(name))} for name in axes}
        cells.sort(key=lambda cell: tuple(order[name][cell[name]] for name in axes))
        return self._table(axes, cells)

    def top(self, n: int = 10, *axes: str, by: str = "expected_value") -> pa.Table:
        """Return the n cells with the most of a measure.

        Parameters
        ----------
        n
            Number of cells.
        *axes
            As in :meth:`roll_up`; none = every axis over customers in which a customer has one
            place.
        by
            Column of :meth:`roll_up`.
        """
        names = axes or tuple(a.name for a in self.definition.axes if not a.shared)
        rows = self.roll_up(*names)
        if by not in rows.column_names:
            raise CubeError(
                f"Cells have no measure '{by}'.",
                remedy=f"Choose from: {', '.join(rows.column_names[len(names):])}.",
                zh=f"单元没有指标 {by}，可选：{'、'.join(rows.column_names[len(names):])}。",
            )  # fmt: skip
        return rows.sort_by([(by, "descending")]).slice(0, n)

    def uncovered(self, *axes: str) -> pa.Table:
        """Return who gets nothing at all, by cell and reason, most customers first.

        Parameters
        ----------
        *axes
            Axes over customers.

        Returns
        -------
        pyarrow.Table
            The codes, ``reason``, ``reason_zh``, ``reason_en``, ``customers``.
        """
        if BUSINESS in axes or CHANNEL in axes:
            raise CubeError(
                "Who gets nothing at all is not in a business or channel.",
                remedy="Leave business and channel out, or look at roll_up().",
                zh="完全未覆盖的客户不属于任何业务或渠道，请去掉这两个维度，或使用 roll_up()。",
            )
        missed = replace(self, groups=self.groups.take(self.groups.fell >= 0))
        titles = {reason.code: reason.title for reason in self.reasons}
        rows = []
        for cell in missed.roll_up(*axes).to_pylist():
            for code, title in titles.items():
                if cell.get(f"fell_{code}"):
                    rows.append(
                        {name: cell[name] for name in axes}
                        | {"reason": code, "reason_zh": title["zh"], "reason_en": title["en"],
                           "customers": cell[f"fell_{code}"]}
                    )  # fmt: skip
        rows.sort(key=lambda row: -row["customers"])
        schema = [(name, pa.string()) for name in (*axes, "reason", "reason_zh", "reason_en")]
        return pa.Table.from_pylist(rows, schema=pa.schema([*schema, ("customers", pa.int64())]))

    def audience(self, **where: Where) -> Node:
        """Return the rule that selects the customers of a cell, to make a campaign for it.

        Parameters
        ----------
        **where
            Code or codes by axis over customers, beside those the cube is cut down to.
        """
        wanted: dict[str, tuple[str, ...]] = {
            name: codes for name, codes in self.where.items() if name not in (BUSINESS, CHANNEL)
        }
        for name, codes in where.items():
            several = [codes] if isinstance(codes, (str, bool)) else list(codes)
            wanted[name] = tuple(code_of(code) for code in several)
        rules = [self.definition.axis(name).audience(codes) for name, codes in wanted.items()]
        return all_of(rules)

    def reason_title(self, code: str) -> Mapping[str, str]:
        """Return the title of a reason by language."""
        if code == ELSEWHERE:
            return _ELSEWHERE_TITLE
        return next(reason.title for reason in self.reasons if reason.code == code)

    @cached_property
    def funnel(self) -> Mapping[str, int]:
        """Customers by why nothing is planned for them; they add up to those not covered."""
        counts = np.bincount(
            self.groups.fell + 1, weights=self.groups.size, minlength=len(self.reasons) + 1
        )
        named = zip(self.reasons, counts[1:], strict=True)
        return {reason.code: int(count) for reason, count in named if count}

    # cutting

    def _cut(self, name: str, codes: tuple[str, ...]) -> tuple[Groups, Contacts]:
        parts = list(self.codes(name))
        at = [parts.index(code) for code in codes]
        groups, contacts = self.groups, self.contacts
        if name == BUSINESS:
            keep = np.isin(np.arange(len(parts)), at)
            groups = self._masked(np.where(keep, np.int64(-1), np.int64(0))[None, :])
            return groups, contacts.take(np.isin(contacts.business, at))
        if name == CHANNEL:
            bits = sum(1 << i for i in at)
            groups = self._masked(np.full((1, groups.can.shape[1]), bits, dtype=np.int64))
            return groups, contacts.take(np.isin(contacts.channel, at))
        axis = self.definition.axis(name)
        return (
            groups.take(_inside(groups.axes[name], at, axis)),
            contacts.take(_inside(contacts.axes[name], at, axis)),
        )

    def _masked(self, bits: Ints) -> Groups:
        groups = replace(
            self.groups,
            can=self.groups.can & bits,
            planned=self.groups.planned & bits,
            sent=self.groups.sent & bits,
        )
        return groups.take(((groups.can | groups.planned) != 0).any(axis=1))

    # adding up

    def _is_many(self, name: str) -> bool:
        return name in (BUSINESS, CHANNEL) or self.definition.axis(name).shared

    def _parts(self, name: str) -> tuple[str, ...]:
        """Return the parts of an axis in which a customer may have several places."""
        codes = self.codes(name)
        return tuple(code for code in codes if code in self.where.get(name, codes))

    def _cells(self, axes: Sequence[str], chosen: Mapping[str, int]) -> Iterator[dict[str, Any]]:
        """Count the cells at one place of the axes with many places."""
        groups, contacts = self.groups, self.contacts
        cube, place = self, {}
        for name, number in chosen.items():
            code = self._parts(name)[number]
            place[name] = code
            groups, contacts = cube._cut(name, (code,))
            cube = replace(cube, groups=groups, contacts=contacts)
        single = [name for name in axes if name not in chosen]
        key, keys = _keys(
            [(groups.axes[name], contacts.axes[name]) for name in single],
            (len(groups.size), len(contacts.planned)),
        )
        n = len(key.names)
        here = self.where.keys() | chosen.keys()
        covered = (groups.planned != 0).any(axis=1)
        contacted = (groups.sent != 0).any(axis=1)
        size = _sums(key.of_first, groups.size, n)
        fell = np.where(covered, -1, np.where(groups.fell < 0, len(self.reasons), groups.fell))
        by_reason = np.zeros((n, len(self.reasons) + 1), dtype=np.int64)
        np.add.at(by_reason, (key.of_first[~covered], fell[~covered]), groups.size[~covered])
        measures = {
            "size": size,
            "covered": _sums(key.of_first, groups.size * covered, n),
            "contacted": _sums(key.of_first, groups.size * contacted, n),
            "planned_contacts": _sums(keys, contacts.planned, n),
            "expected_value": np.bincount(keys, contacts.value, n),
            "reached_contacts": _sums(keys, contacts.reached, n),
            "expected_conversions": np.bincount(keys, contacts.expected, n),
            "variance": np.bincount(keys, contacts.variance, n),
            "conversions": _sums(keys, contacts.converted, n),
        }
        if (measures["covered"] + by_reason.sum(axis=1) != size).any():
            raise DefectError(
                f"Covered and not covered do not add up to the cell ({sorted(here)})."
            )
        for row, position in enumerate(key.names):
            if not size[row] and axes:
                continue
            codes = {
                name: self.definition.axis(name).codes[at]
                for name, at in zip(single, position, strict=True)
            }
            yield (
                {name: (place | codes)[name] for name in axes}
                | {name: values[row].item() for name, values in measures.items()}
                | {"reasons": by_reason[row]}
            )

    def _table(self, axes: Sequence[str], cells: list[dict[str, Any]]) -> pa.Table:
        counts = (
            np.array([cell["reasons"] for cell in cells], dtype=np.int64)
            if cells
            else np.zeros((0, len(self.reasons) + 1), dtype=np.int64)
        )
        names = [*(reason.code for reason in self.reasons), ELSEWHERE]

        def column(name: str) -> list[Any]:
            return [cell[name] for cell in cells]

        size, covered = column("size"), column("covered")
        fixed = {name: codes[0] for name, codes in self.where.items() if len(codes) == 1}
        table = self.definition.table
        found = [table.find(fixed | {name: cell[name] for name in axes}) for cell in cells]
        columns: dict[str, pa.Array] = {name: pa.array(column(name), pa.string()) for name in axes}
        columns |= {
            "size": pa.array(size, pa.int64()),
            "covered": pa.array(covered, pa.int64()),
            "contacted": pa.array(column("contacted"), pa.int64()),
            "uncovered": pa.array(counts.sum(axis=1), pa.int64()),
            "coverage": pa.array(
                [c / s if s else None for s, c in zip(size, covered, strict=True)], pa.float64()
            ),
            "strategy": pa.array(found, pa.string()),
        }
        for name in ("planned_contacts", "reached_contacts", "conversions"):
            columns[name] = pa.array(column(name), pa.int64())
        for name in ("expected_value", "expected_conversions", "variance"):
            columns[name] = pa.array(column(name), pa.float64())
        columns["main_reason"] = pa.array(
            [names[row.argmax()] if row.any() else None for row in counts], pa.string()
        )
        for number, code in enumerate(names):
            if counts[:, number].any():
                columns[f"fell_{code}"] = pa.array(counts[:, number], pa.int64())
        return pa.table(columns)


@dataclass(frozen=True, slots=True, eq=False)
class _Keys:
    """Distinct places: positions on each axis, and the place of each row."""

    names: list[tuple[int, ...]]
    of_first: Ints


def _keys(pairs: Sequence[tuple[Ints, Ints]], rows: tuple[int, int]) -> tuple[_Keys, Ints]:
    """Give each place of customers and contacts a number.

    A contact's customer is among the customers, cut by the same conditions, so no contact stands
    at a place without customers.
    """
    n, m = rows
    if not pairs:
        return _Keys([()], np.zeros(n, dtype=np.int64)), np.zeros(m, dtype=np.int64)
    joined = np.column_stack([np.concatenate(pair) for pair in pairs])
    places, number = np.unique(joined, axis=0, return_inverse=True)
    number = number.reshape(-1)
    return _Keys([tuple(map(int, place)) for place in places], number[:n]), number[n:]


def _sums(keys: Ints, values: NDArray[Any], n: int) -> Ints:
    return np.bincount(keys, values, n).round().astype(np.int64)


def _inside(values: Ints, at: Sequence[int], axis: Axis) -> NDArray[np.bool_]:
    """Tell which rows are in some of an axis's parts; the last part is that of no band."""
    if not axis.shared:
        return np.isin(values, [-1 if i == len(axis.bands) else i for i in at])
    bits = sum(1 << i for i in at if i < len(axis.bands))
    found: NDArray[np.bool_] = (values & bits) != 0
    return found | (values == 0) if len(axis.bands) in at else found
