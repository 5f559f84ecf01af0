"""What the program reader answers, where a number alone would not say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CrossTable:
    """Subjects by the values of one, two or three tags.

    Parameters
    ----------
    tags
        Their names.
    values
        The values along each axis, ascending; None stands for missing and comes last.
    counts
        Shape as long as ``values`` says; every subject of the audience is in one cell.
    """

    tags: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    counts: Counts

    def table(self) -> pa.Table:
        """Return one row per cell that is not empty: the tags' values as text, and ``count``."""
        cells = np.argwhere(self.counts)
        columns: dict[str, Any] = {
            tag: pa.array([_text(values[i]) for i in cells[:, axis]], pa.string())
            for axis, (tag, values) in enumerate(zip(self.tags, self.values, strict=True))
        }
        return pa.table({**columns, "count": pa.array(self.counts[tuple(cells.T)], pa.int64())})


@dataclass(frozen=True, slots=True)
class Histogram:
    """Subjects by ranges of a tag's values.

    Parameters
    ----------
    tag
        Its name.
    edges
        Ascending, one more than counts; a range takes its lower edge in, the last both.
    counts
        Subjects per range.
    missing
        Subjects of the audience without a value.
    outside
        Subjects whose value is below the first edge or above the last.
    """

    tag: str
    edges: tuple[Any, ...]
    counts: Counts
    missing: int
    outside: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where to cut a tag so that a wanted number is left.

    Parameters
    ----------
    tag, side
        Which tag, and whether its ``top`` or ``bottom`` values are left.
    size
        The wanted number.
    value
        The value of the last one taken, in the tag's own type.
    beyond
        Subjects strictly beyond the value, <= ``size``.
    ties
        Subjects exactly at the value, >= 1.
    """

    tag: str
    side: str
    size: int
    value: Any
    beyond: int
    ties: int

    @property
    def size_with_ties(self) -> int:
        """Subjects at the value and beyond it, >= ``size``: what ``tag >= value`` selects."""
        return self.beyond + self.ties

    @property
    def is_exact(self) -> bool:
        """Whether taking the whole value gives the wanted number, so that no tie is cut."""
        return self.size_with_ties == self.size


def share_out(size: int, sizes: Counts) -> Counts:
    """Share ``size`` out in proportion to ``sizes``; the largest remainders get the rest.

    Parameters
    ----------
    size
        Whole number to share out, at most the sum of ``sizes``.
    sizes
        Shape ``(n,)``.

    Examples
    --------
    >>> share_out(5, np.array([10, 10, 20])).tolist()
    [1, 1, 3]
    """
    whole = int(sizes.sum())
    if whole == 0:
        return np.zeros(len(sizes), np.int64)
    shares = sizes * size // whole
    rest = np.argsort(-(sizes * size % whole), kind="stable")[: size - int(shares.sum())]
    shares[rest] += 1
    return shares


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
