"""Matrix analysis (矩阵分析): customers by two tags, each cell an audience of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from bihuan.audience.algebra import Compare, Missing, Node, Not, all_of
from bihuan.audience.bind import TagTypeError
from bihuan.audience.coverage import NotEstimable
from bihuan.audience.literal import AudienceError, Value
from bihuan.audience.segment.reader import EVERYONE, NUMERIC, Ordered, SqlReader
from bihuan.audience.snapshot import require_tags
from bihuan.audience.text import to_text
from bihuan.data import ColumnType, Engine
from bihuan.tag import TagTable

How: TypeAlias = Literal["quantile", "even"]
MAX_CELLS = 200
_MAX_VALUES = 30


class MatrixError(AudienceError):
    """A matrix cannot be cut as asked."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of a matrix.

    Parameters
    ----------
    tag
        A number, or a tag with few values (codes, texts, true or false).
    cuts
        Inner cut points of a number; each begins a band. Empty: found by ``how``.
    bands
        How many bands to find, if no cuts are given.
    how
        ``quantile``: about equal numbers of customers; ``even``: equal widths.
    """

    tag: str
    cuts: tuple[Ordered, ...] = ()
    bands: int = 3
    how: How = "quantile"


@dataclass(frozen=True, slots=True)
class Band:
    """One row or column: its name and who belongs to it."""

    name: str
    condition: Node


@dataclass(frozen=True, slots=True)
class Cell:
    """Customers of one row and one column.

    Parameters
    ----------
    name
        ``r1c2``, or as named.
    row, column
        Names of the bands.
    audience
        Who belongs to it.
    size
        Customers.
    share
        Part of all customers in the matrix, 0..1.
    means
        Mean of each chosen tag over the customers whose value is known.
    """

    name: str
    row: str
    column: str
    audience: Node
    size: int
    share: float
    means: Mapping[str, float | NotEstimable] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The cell as a planner writes it, to be saved or marketed to."""
        return to_text(self.audience)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Customers by two tags; everyone is in exactly one cell.

    Parameters
    ----------
    rows, columns
        Bands in the order of their values; customers without a value come last, if there are any.
    cells
        Row by row.
    size
        Customers in all.
    """

    rows: tuple[Band, ...]
    columns: tuple[Band, ...]
    cells: tuple[Cell, ...]
    size: int

    def __getitem__(self, name: str) -> Cell:
        """Return a cell by name; raise KeyError if there is none."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise KeyError(name)

    def named(self, names: Mapping[str, str]) -> Matrix:
        """Give cells names (``{"r1c3": "stars"}``); each name once.

        Raises
        ------
        MatrixError
            If there is no such cell, or two cells would have one name.
        """
        unknown = sorted(set(names) - {cell.name for cell in self.cells})
        cells = tuple(replace(cell, name=names.get(cell.name, cell.name)) for cell in self.cells)
        if unknown or len({cell.name for cell in cells}) < len(cells):
            what = f"there is no cell '{unknown[0]}'" if unknown else "two cells have one name"
            raise MatrixError(
                f"The cells cannot be named: {what}.",
                remedy="Name cells r1c1, r1c2 ... once each.",
                zh=f"无法命名单元格({what})，请对 r1c1、r1c2 等逐一命名且不重复。",
            )
        return replace(self, cells=cells)

    def to_table(self) -> pa.Table:
        """Return one row per cell: names, size, share, means and the audience as text."""
        return pa.Table.from_pylist(
            [
                {
                    "cell": cell.name,
                    "row": cell.row,
                    "column": cell.column,
                    "size": cell.size,
                    "share": cell.share,
                    **{
                        f"mean_{tag}": None if isinstance(mean, NotEstimable) else mean
                        for tag, mean in cell.means.items()
                    },
                    "audience": cell.text,
                }
                for cell in self.cells
            ]
        )


def analyse_matrix(
    rows: Axis,
    columns: Axis,
    tags: TagTable,
    *,
    engine: Engine,
    within: Node = EVERYONE,
    means: Sequence[str] = (),
) -> Matrix:
    """Part customers by two tags.

    Parameters
    ----------
    rows, columns
        The sides.
    tags
        Tag values at one date.
    engine
        Runs the queries.
    within
        A bound tree: only its members; it becomes part of each cell's audience.
    means
        Numeric tags whose mean is shown per cell.

    Raises
    ------
    MatrixError
        If there are more than 200 cells, or cut points do not rise.
    UnknownTagError, TagTypeError
        If a tag does not exist or cannot be cut.
    """
    reader = SqlReader(tags, engine)
    sides = [_bands(axis, tags, reader, within) for axis in (rows, columns)]
    if len(sides[0]) * len(sides[1]) > MAX_CELLS:
        raise MatrixError(
            f"The matrix would have {len(sides[0]) * len(sides[1])} cells, above {MAX_CELLS}.",
            remedy="Take fewer bands.",
            zh=f"矩阵单元格超过 {MAX_CELLS} 个，请减少分档。",
        )
    places = [(i, j) for i in range(len(sides[0])) for j in range(len(sides[1]))]
    inside = [] if within == EVERYONE else [within]
    audiences = [all_of([*inside, sides[0][i].condition, sides[1][j].condition]) for i, j in places]
    sizes = reader.counts(audiences)
    total = int(sizes.sum())
    return Matrix(
        tuple(sides[0]),
        tuple(sides[1]),
        tuple(
            Cell(
                name=f"r{i + 1}c{j + 1}",
                row=sides[0][i].name,
                column=sides[1][j].name,
                audience=audience,
                size=int(size),
                share=int(size) / total if total else 0.0,
                means={tag: reader.mean(tag, audience) for tag in means},
            )
            for (i, j), audience, size in zip(places, audiences, sizes, strict=True)
        ),
        total,
    )


# ------------------------------------------------------------------------------------------ inside


def _bands(axis: Axis, tags: TagTable, reader: SqlReader, within: Node) -> list[Band]:
    require_tags([axis.tag], tags)
    kind = tags.fields[axis.tag].type
    gone = Band("missing", Missing(axis.tag))
    if kind in NUMERIC:
        bands = _intervals(axis, _cuts(axis, tags, reader, within))
    elif kind in (ColumnType.STRING, ColumnType.BOOLEAN):
        bands = _values(axis.tag, reader, within)
    else:
        raise TagTypeError(
            f"'{axis.tag}' is a {kind.value} tag, which a matrix cannot cut.",
            remedy="Choose a number, a text with few values, or true/false.",
            zh=f"标签 {axis.tag} 不能作为矩阵维度，请选择数值、少量取值的文字或是/否标签。",
        )
    missing = reader.count(all_of([within, gone.condition]))
    return [*bands, gone] if missing or not bands else bands


def _cuts(axis: Axis, tags: TagTable, reader: SqlReader, within: Node) -> list[Ordered]:
    cuts: list[Any] = list(axis.cuts)
    if not cuts and axis.how == "quantile":
        shares = [i / axis.bands for i in range(1, axis.bands)]
        found = [value for value in reader.quantiles(axis.tag, shares, within) if value is not None]
        least = reader.quantiles(axis.tag, [0.0], within)[0]
        cuts = sorted({value for value in found if value > least})
    elif not cuts:
        ends = reader.histogram(axis.tag, within, bins=max(2, axis.bands)).edges
        cuts = sorted(set(ends[1:-1])) if axis.bands > 1 else []
        kind = tags.fields[axis.tag].type
        if kind is ColumnType.MONEY:
            cuts = sorted({Decimal(f"{cut:.2f}") for cut in cuts})
        elif kind is ColumnType.INTEGER:
            cuts = sorted({math.ceil(cut) for cut in cuts})
    if any(b <= a for a, b in pairwise(cuts)):
        raise MatrixError(
            f"The cut points of {axis.tag} do not rise: {', '.join(map(str, cuts))}.",
            remedy="Write them from the least to the greatest, each once.",
            zh=f"标签 {axis.tag} 的分档点必须递增且不重复。",
        )
    return cuts


def _intervals(axis: Axis, cuts: Sequence[Ordered]) -> list[Band]:
    """Make bands of which each begins at its cut point and ends before the next."""
    tag, bands = axis.tag, []
    ends: list[Ordered | None] = [None, *cuts, None]
    for low, high in pairwise(ends):
        if low is None and high is None:
            bands.append(Band("known", Not(Missing(tag))))
            continue
        parts: list[Node] = [] if low is None else [Compare(tag, ">=", low)]
        parts += [] if high is None else [Compare(tag, "<", high)]
        name = f"< {high}" if low is None else f">= {low}" if high is None else f"{low} .. {high}"
        bands.append(Band(name, all_of(parts)))
    return bands


def _values(tag: str, reader: SqlReader, within: Node) -> list[Band]:
    values: list[Value] = [v for v in reader.cross([tag], within).values[0] if v is not None]
    if len(values) > _MAX_VALUES:
        raise MatrixError(
            f"'{tag}' has {len(values)} values; a matrix shows up to {_MAX_VALUES}.",
            remedy="Choose a tag with fewer values.",
            zh=f"标签 {tag} 有 {len(values)} 个取值，矩阵最多支持 {_MAX_VALUES} 个。",
        )
    return [Band(str(value), Compare(tag, "=", value)) for value in values]
