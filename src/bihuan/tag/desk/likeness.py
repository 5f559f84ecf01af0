"""Tags beside each other by their values: which say the same, and which say nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.data import Engine
from bihuan.tag.table import TagTable

Floats = NDArray[np.float64]

LEAST_ROWS = 30
"""Two tags are compared where at least so many subjects have a value of both."""


@dataclass(frozen=True, slots=True)
class ValueFacts:
    """What the values of one tag are like.

    Parameters
    ----------
    missing
        Subjects without a value.
    is_constant
        Whether all known values are the same (also where there is none).
    outside_codes
        Values that are none of the tag's codes.
    """

    missing: int
    is_constant: bool
    outside_codes: int


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two tags whose values go together.

    Parameters
    ----------
    first, second
        Their names, in order.
    correlation
        Pearson's, over the subjects that have both; 1 for texts that cut the subjects alike.
    rows
        Subjects compared.
    """

    first: str
    second: str
    correlation: float
    rows: int


def value_facts(tags: TagTable, engine: Engine) -> dict[str, ValueFacts]:
    """Return the facts of every tag that has values: one scan per table of tags."""
    found: dict[str, ValueFacts] = {}
    for table, snapshot in tags.snapshots.items():
        names = [name for name in tags.fields if tags.versions[name] == snapshot.id]
        outputs: list[exp.Expr] = []
        for i, name in enumerate(names):
            value = exp.column(name, quoted=True)
            outputs.append(exp.Count(this=value.copy()).as_(f"known_{i}"))
            low, high = exp.Min(this=value.copy()), exp.Max(this=value.copy())
            outputs.append(low.eq(high).as_(f"same_{i}"))
            codes = tags.fields[name].codes
            if codes is not None:
                listed = [exp.Literal.string(code) for code in sorted(codes)]
                outside = exp.Not(this=exp.In(this=value.copy(), expressions=listed))
                outputs.append(exp.CountIf(this=outside).as_(f"outside_{i}"))
        query = exp.select(*outputs).from_(exp.to_table(table, quoted=True))
        row = engine.query(query, {table: snapshot}).to_pylist()[0]
        for i, name in enumerate(names):
            known = int(row[f"known_{i}"])
            is_same = known == 0 or bool(row[f"same_{i}"])
            outside_codes = int(row.get(f"outside_{i}") or 0)
            found[name] = ValueFacts(tags.rows - known, is_same, outside_codes)
    return {name: found[name] for name in tags.fields}


def find_alike(
    tags: TagTable, engine: Engine, *, above: float = 0.999, sample_rows: int = 20_000
) -> tuple[Likeness, ...]:
    """Find pairs of tags that say the same of every subject, in other words or another scale.

    Numbers, booleans and dates are alike if they correlate by more than ``above`` (or less than
    its negative) over the subjects that have both, and are known for the same subjects up to one
    in a thousand; texts if each value of one goes with one value of the other.

    Parameters
    ----------
    tags
        Values at one date.
    engine
        Reads them.
    above
        From 0 to 1.
    sample_rows
        About so many subjects at most are compared, drawn by a hash of the id.

    Returns
    -------
    tuple[Likeness, ...]
        By name. Tags with a single value are left out.
    """
    query, sources = tags.relation(tags.fields)
    id_ = exp.column(tags.id_column, quoted=True)
    step = exp.Literal.number(max(1, -(-tags.rows // sample_rows)))
    spread = exp.Mod(this=exp.func("hash", id_), expression=step).eq(0)
    sample = exp.select("*").from_(query.subquery("tags")).where(spread)
    rows = engine.query(sample, sources)
    texts = [name for name in tags.fields if pa.types.is_string(rows.schema.field(name).type)]
    numbers = [name for name in tags.fields if name not in texts]
    pairs = _alike_numbers(rows, numbers, above) + _alike_texts(rows, texts)
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def _alike_numbers(rows: pa.Table, names: Sequence[str], above: float) -> list[Likeness]:
    values = [_as_floats(rows[name]) for name in names]
    spread = [v[np.isfinite(v)] for v in values]
    kept = [i for i, v in enumerate(spread) if len(v) >= LEAST_ROWS and np.ptp(v) > 0]
    if len(kept) < 2:
        return []
    matrix = np.stack([_standard(values[i]) for i in kept], axis=1)
    known = np.isfinite(matrix)
    filled = np.where(known, matrix, 0.0)
    both = known.T.astype(np.float64) @ known
    # sums over the rows that two tags have in common, for all pairs at once
    sums, squares = filled.T @ known, (filled**2).T @ known
    products = filled.T @ filled
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = products / both - (sums / both) * (sums.T / both)
        variance = squares / both - (sums / both) ** 2
        correlation = covariance / np.sqrt(variance * variance.T)
    own = np.diag(both)
    same_gaps = both >= 0.999 * np.maximum(own[:, None], own[None, :])
    hits = np.argwhere(
        np.triu((np.abs(correlation) > above) & same_gaps & (both >= LEAST_ROWS), k=1)
    )
    return [
        _pair(names[kept[i]], names[kept[j]], float(correlation[i, j]), int(both[i, j]))
        for i, j in hits
    ]


def _standard(values: Floats) -> Floats:
    """Centre and scale, so that sums of squares of large numbers keep their digits."""
    return np.asarray((values - np.nanmean(values)) / np.nanstd(values))


def _as_floats(column: pa.ChunkedArray) -> Floats:
    kind = column.type
    if pa.types.is_temporal(kind):
        column = pc.cast(column, pa.timestamp("s")).cast(pa.int64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    values = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def _alike_texts(rows: pa.Table, names: Sequence[str]) -> list[Likeness]:
    """Find texts that cut the subjects into the same parts, whatever they call them."""
    by_cut: dict[bytes, list[str]] = {}
    known: Mapping[str, int] = {}
    for name in names:
        codes = rows[name].combine_chunks().dictionary_encode()
        # numbered by first appearance, so equal cuts give equal numbers
        numbered = pc.fill_null(codes.indices, -1).to_numpy(zero_copy_only=False)
        known = {**known, name: int((numbered >= 0).sum())}
        if len(codes.dictionary) > 1 and known[name] >= LEAST_ROWS:
            by_cut.setdefault(numbered.astype(np.int32).tobytes(), []).append(name)
    return [
        _pair(first, second, 1.0, known[first])
        for group in by_cut.values()
        for i, first in enumerate(group)
        for second in group[i + 1 :]
    ]


def _pair(first: str, second: str, correlation: float, rows: int) -> Likeness:
    one, other = sorted((first, second))
    return Likeness(one, other, correlation, rows)
