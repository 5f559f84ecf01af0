"""Turns a block of a source into rows of one table, good and bad in one query.

The query is a sqlglot tree over the block, whose columns have the names ``c0``, ``c1``, ..., so
nothing of a file ever stands in SQL. It has three levels: the cell with its missing codes taken
out (``t``), the stored value (``v``), and the first error of the row. A cell of a typed source is
converted as the text of the same meaning would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.data import cell_sql as sql
from bihuan.data.block import Block
from bihuan.data.contract import Column, ColumnType, TableContract
from bihuan.data.engine import Engine
from bihuan.data.mapping import (
    PSEUDO_COLUMNS,
    ColumnMapping,
    Melt,
    SourceMapping,
    template_parts,
)
from bihuan.data.reasons import Reason
from bihuan.data.source_table import trimmed

_REASONS = 100  # an error is the target column's place times this, plus the reason's number


@dataclass(frozen=True, slots=True)
class Converted:
    """One block turned into rows of one table.

    Parameters
    ----------
    rows
        Good rows in the contract's schema.
    index
        For each good row its index in the block, shape ``(n,)``.
    part
        For each good row the number of the melted column, shape ``(n,)``; zeros without melt.
    hash
        Of each good row's key, shape ``(n,)``; equal keys have equal hashes.
    bad
        For each bad row: index in the block, number of the melted column, error, shape ``(m, 3)``.
    """

    rows: pa.Table
    index: NDArray[np.int64]
    part: NDArray[np.int64]
    hash: NDArray[np.uint64]
    bad: NDArray[np.int64]


class Plan:
    """How blocks of one source become rows of one table.

    Parameters
    ----------
    mapping
        The whole mapping, checked against the contracts.
    contract
        Contract of the target table.
    as_of
        Snapshot date, for ``_as_of``.
    iso_dates
        Whether dates may come in ISO form although the mapping states another: true where the
        source itself had dates and not text.
    """

    def __init__(
        self, mapping: SourceMapping, contract: TableContract, as_of: date, *, iso_dates: bool
    ) -> None:
        self.mapping = mapping.tables[contract.name]
        self.contract = contract
        self.timezone = mapping.timezone
        self.as_of = as_of
        self.iso_dates = iso_dates
        self.targets = tuple(name for name in contract.names if name in self.mapping.columns)
        self._queries: dict[tuple[pa.DataType, ...], exp.Query] = {}

    @property
    def parts(self) -> tuple[str, ...]:
        """Source columns that are melted into rows, in order; empty without melt."""
        return tuple(self.mapping.melt.columns) if self.mapping.melt else ()

    @cached_property
    def slots(self) -> Mapping[tuple[str, bool], str]:
        """Source column and whether it is trimmed, to its name within the query."""
        needed = [
            (name, column.trim)
            for column in self.mapping.columns.values()
            for name in column.sources
        ]
        needed += [(name, True) for name in (*self.mapping.when, *self.parts)]
        wanted = [pair for pair in dict.fromkeys(needed) if pair[0] not in PSEUDO_COLUMNS]
        return {pair: f"c{place}" for place, pair in enumerate(wanted)}

    def convert(self, block: Block, engine: Engine) -> Converted:
        """Convert one block."""
        cells = self._cells(block)
        kinds = tuple(cells.schema.types)
        if kinds not in self._queries:
            self._queries[kinds] = _Query(self, cells.schema).build()
        result = _in_order(engine.query(self._queries[kinds], {"block": cells}))
        error = result.column("_error")
        good, bad = result, result.slice(0, 0)
        if error.null_count < result.num_rows:
            good, bad = result.filter(error.is_null()), result.filter(error.is_valid())
        return Converted(
            rows=self._stored(good),
            index=good.column("_index").to_numpy(),
            part=good.column("_part").to_numpy(),
            hash=good.column("_hash").to_numpy(),
            bad=np.stack([bad.column(n).to_numpy() for n in ("_index", "_part", "_error")], axis=1),
        )

    def read_error(self, error: int) -> tuple[str, Reason]:
        """Return the target column and the reason that the number of an error stands for."""
        place, reason = divmod(error, _REASONS)
        return self.targets[place], Reason.of(reason)

    def source_of(self, target: str, part: int) -> str:
        """Return the source column (or template) that a target column is made from."""
        column = self.mapping.columns[target]
        if column.melt is not None:
            return self.parts[part]
        return column.column or column.template or target

    def _cells(self, block: Block) -> pa.Table:
        columns = {
            slot: trimmed(block.rows.column(name))
            if trim and block.has_blanks
            else block.rows.column(name)
            for (name, trim), slot in self.slots.items()
        }
        columns["_index"] = pa.array(np.arange(block.rows.num_rows, dtype=np.int64))
        columns["_row"] = pa.array(block.records)
        return pa.table(columns)

    def _stored(self, good: pa.Table) -> pa.Table:
        places = {name: f"v{place}" for place, name in enumerate(self.targets)}
        columns = [
            good.column(places[column.name])
            if column.name in places
            else pa.nulls(good.num_rows, column.type.arrow)
            for column in self.contract.columns
        ]
        return pa.table(columns, names=list(self.contract.names)).cast(self.contract.schema)


def _in_order(result: pa.Table) -> pa.Table:
    """Return rows in the order of the source.

    An engine of several threads mixes them where it makes a join of a long ``IN`` list.
    """
    index = result.column("_index").to_numpy()
    part = result.column("_part").to_numpy()
    step = np.diff(index)
    if (step < 0).any() or ((step == 0) & (np.diff(part) < 0)).any():
        return result.take(pa.array(np.lexsort((part, index))))
    return result


class _Query:
    """Builds the query of one plan for one set of source column types."""

    def __init__(self, plan: Plan, schema: pa.Schema) -> None:
        self._plan = plan
        self._mapping = plan.mapping
        self._schema = schema

    def build(self) -> exp.Query:
        plan, melt = self._plan, self._mapping.melt
        columns = [(place, plan.contract[name]) for place, name in enumerate(plan.targets)]
        if melt is None:
            cells: exp.Query = self._cell_level(columns, None, 0)
        else:
            branches = [
                self._cell_level(columns, name, part) for part, name in enumerate(plan.parts)
            ]
            cells = branches[0]
            for branch in branches[1:]:
                cells = exp.union(cells, branch, distinct=False, copy=False)
        values = exp.select(
            "_index",
            "_part",
            *[f"t{place}" for place, _ in columns],
            *[self._value(*column).as_(f"v{column[0]}", copy=False) for column in columns],
            copy=False,
        )
        errors = [error for column in columns for error in self._errors(*column)]
        first = exp.Coalesce(this=exp.null(), expressions=errors)
        key = [exp.column(f"v{plan.targets.index(name)}") for name in plan.contract.key]
        rows = exp.select(
            "_index",
            "_part",
            *[f"v{place}" for place, _ in columns],
            exp.cast(first, "BIGINT", copy=False).as_("_error", copy=False),
            sql.call("hash", *key).as_("_hash"),
            copy=False,
        )
        values = values.from_(cells.subquery("cells", copy=False), copy=False)
        return rows.from_(values.subquery("valued", copy=False), copy=False)

    def _cell_level(
        self, columns: list[tuple[int, Column]], melted: str | None, part: int
    ) -> exp.Select:
        query = exp.select(
            "_index",
            exp.cast(sql.number(part), "BIGINT").as_("_part"),
            *[self._cell(column, melted).as_(f"t{place}", copy=False) for place, column in columns],
            copy=False,
        ).from_("block", copy=False)
        for name, allowed in self._mapping.when.items():
            query = query.where(sql.among(self._text(name), allowed), copy=False)
        if melted is not None and self._mapping.melt is not None:
            query = query.where(self._is_kept(self._mapping.melt, melted), copy=False)
        return query

    def _is_kept(self, melt: Melt, melted: str) -> exp.Expr:
        cell, names, allowed = self._text(melted), melt.columns[melted], melt.keep
        if not isinstance(names, str):
            allowed = tuple(code for code in names if allowed is None or code in allowed)
        if allowed is not None:
            return sql.among(cell, allowed)
        return exp.not_(sql.is_null(sql.null_among(cell, self._mapping.missing)))

    def _cell(self, column: Column, melted: str | None) -> exp.Expr:
        """Return the cell with missing codes as NULL; a constant has none."""
        mapping = self._mapping.columns[column.name]
        melt = self._mapping.melt
        if mapping.template is not None:
            return self._template(mapping, mapping.template)
        if melted is not None and melt is not None and mapping.melt == "name":
            names = melt.columns[melted]
            if isinstance(names, str):
                return sql.text(names)
            values = {code: sql.text(name) for code, name in names.items()}
            return sql.case_map(self._text(melted), values)
        name = melted if mapping.melt == "value" else mapping.column
        if name is None:
            return exp.null()
        kind, trim = self._cell_kind(column), mapping.trim or mapping.melt is not None
        if pa.types.is_string(kind):
            return sql.null_among(self._text(name, trim=trim), mapping.missing)
        cell = self._slot(name, trim=trim)
        return sql.without_missing_numbers(cell, kind, mapping.missing)

    def _template(self, mapping: ColumnMapping, template: str) -> exp.Expr:
        pieces: list[exp.Expr] = []
        for words, name in template_parts(template):
            if words:
                pieces.append(sql.text(words))
            if name:
                cell = self._text(name, trim=mapping.trim)
                pieces.append(sql.null_among(cell, mapping.missing))
        whole = pieces[0]
        for piece in pieces[1:]:  # || gives NULL if a part is NULL
            whole = exp.DPipe(this=whole, expression=piece, safe=False)
        return whole

    def _kind(self, name: str, *, trim: bool) -> pa.DataType:
        if name in PSEUDO_COLUMNS:
            return pa.int64() if name == "_row" else pa.date32()
        return self._schema.field(self._plan.slots[name, trim]).type

    def _slot(self, name: str, *, trim: bool) -> exp.Expr:
        if name == "_as_of":
            return exp.cast(sql.text(self._plan.as_of.isoformat()), "DATE")
        return exp.column("_row" if name == "_row" else self._plan.slots[name, trim])

    def _text(self, name: str, *, trim: bool = True) -> exp.Expr:
        cell, kind = self._slot(name, trim=trim), self._kind(name, trim=trim)
        return cell if pa.types.is_string(kind) else sql.text_of(cell, kind)

    def _cell_kind(self, column: Column) -> pa.DataType:
        """Return the type in which level 1 gives the cell: its own where that can be converted."""
        mapping = self._mapping.columns[column.name]
        names = [mapping.column] if mapping.column else []
        if mapping.melt == "value":
            names = list(self._plan.parts)
        kinds = {self._kind(name, trim=mapping.trim or mapping.melt is not None) for name in names}
        kind = kinds.pop() if len(kinds) == 1 else pa.string()
        return kind if sql.is_direct(column, mapping, kind) else pa.string()

    def _value(self, place: int, column: Column) -> exp.Expr:
        mapping, zone = self._mapping.columns[column.name], self._plan.timezone
        if mapping.constant is not None:
            return sql.literal(column, mapping.constant, zone)
        cell = exp.column(f"t{place}")
        if mapping.codes is not None:
            known = {
                code: sql.literal(column, value, zone) for code, value in mapping.codes.items()
            }
            value = sql.case_map(cell, known, cell if mapping.unknown_codes == "keep" else None)
        else:
            iso_dates = self._plan.iso_dates
            kind = self._cell_kind(column)
            value = sql.value_of(cell, column, mapping, kind, timezone=zone, iso_dates=iso_dates)
            if column.codes is not None and mapping.unknown_codes == "missing":
                value = sql.case((sql.among(value, column.codes), value))
        if mapping.default is None:
            return value
        default = sql.literal(column, mapping.default, zone)
        return sql.case((sql.is_null(cell), default), other=value)

    def _errors(self, place: int, column: Column) -> Iterator[exp.Expr]:
        """Yield the error of one column: its number where there is one, else NULL."""
        mapping = self._mapping.columns[column.name]
        if mapping.constant is not None:
            return
        cell, value = exp.column(f"t{place}"), exp.column(f"v{place}")

        def told(reason: Reason | exp.Expr) -> exp.Expr:
            if isinstance(reason, Reason):
                return sql.number(place * _REASONS + reason.number)
            return exp.Add(this=sql.number(place * _REASONS), expression=exp.paren(reason))

        required = not column.nullable or column.name in self._plan.contract.key
        why = None if self._lets_pass(column, mapping) else sql.why_no_value(cell, column, mapping)
        checks = list(sql.value_checks(cell, value, column, mapping, self._cell_kind(column)))
        if not (required or why is not None or checks):
            return
        # most cells are good: one cheap condition spares them the search for what is wrong
        held = [check.holds.copy() for check in checks if not check.implied]
        fine = exp.and_(exp.not_(sql.is_null(value)), *held, copy=False)
        if not required:
            fine = exp.or_(fine, sql.is_null(cell), copy=False)
        absent = told(Reason.MISSING_REQUIRED) if required else exp.null()
        if why is not None:
            absent = sql.case((sql.is_null(cell), absent), other=told(why))
        branches = [(fine, exp.null()), (sql.is_null(value), absent)]
        for check in checks:
            holds = exp.Coalesce(this=check.holds, expressions=[exp.false()])
            branches.append((exp.not_(holds, copy=False), told(check.reason)))
        yield sql.case(*branches)

    @staticmethod
    def _lets_pass(column: Column, mapping: ColumnMapping) -> bool:
        """Tell whether an unknown code is stored as no value."""
        coded = mapping.codes is not None or column.codes is not None
        is_truth = column.type is ColumnType.BOOLEAN
        return mapping.unknown_codes == "missing" and (coded or is_truth)
