"""The stock of tags, counted: how many there are, of what kind, in which state, in what order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from bihuan.kernel import UserError
from bihuan.tag.definition import State, TagDefinition
from bihuan.tag.dictionary import TagDictionary

LEVELS = 3
"""Levels of a tag's category: first-, second- and third-level category."""
_KINDS = (
    *("subject", "library", "layer", "means", "state", "owner"),
    *(f"category_{level}" for level in range(1, LEVELS + 1)),
)


@dataclass(frozen=True, slots=True)
class TagStock:
    """How many tags there are.

    Parameters
    ----------
    table
        One row per tag: ``name``, ``subject``, ``library``, ``layer``, ``means``, ``state``,
        ``owner``, ``category_1`` to ``category_3`` (a level that a tag does not have is empty),
        ``version``, and ``is_candidate`` for what is not in force yet.
    """

    table: pa.Table

    @property
    def total(self) -> int:
        """Tags in force, in whatever state; candidates are not counted."""
        return sum(1 for row in self.table.to_pylist() if not row["is_candidate"])

    @property
    def live(self) -> int:
        """Live tags."""
        rows = self.table.to_pylist()
        return sum(1 for r in rows if r["state"] == State.LIVE and not r["is_candidate"])

    @property
    def candidates(self) -> int:
        """Tags and new versions on the desk."""
        return int(self.table.num_rows) - self.total

    def by(self, *kinds: str) -> dict[tuple[str, ...], int]:
        """Count by one or more kinds: ``subject``, ``layer``, ``category_1``, ``state``, ...

        Returns
        -------
        dict[tuple[str, ...], int]
            Tags in force and candidates, by their values of the kinds, sorted.
        """
        if not kinds or set(kinds) - set(_KINDS):
            raise UserError(
                f"Tags cannot be counted by {', '.join(kinds) or 'nothing'}.",
                remedy=f"Choose from: {', '.join(_KINDS)}.",
                zh=f"不能按 {'、'.join(kinds) or '空'} 统计，可选：{'、'.join(_KINDS)}。",
            )
        counts: dict[tuple[str, ...], int] = {}
        for row in self.table.select(list(kinds)).to_pylist():
            key = tuple(row.values())
            counts[key] = counts.get(key, 0) + 1
        return dict(sorted(counts.items()))


def take_stock(dictionary: TagDictionary, candidates: Iterable[TagDefinition] = ()) -> TagStock:
    """Count the tags in force and those on the desk."""
    rows = [_row(tag, is_candidate=False) for tag in dictionary]
    rows += [_row(tag, is_candidate=True) for tag in candidates]
    schema = pa.schema(
        [("name", pa.string()), *((kind, pa.string()) for kind in _KINDS),
         ("version", pa.int64()), ("is_candidate", pa.bool_())]
    )  # fmt: skip
    return TagStock(pa.Table.from_pylist(rows, schema=schema))


def _row(tag: TagDefinition, *, is_candidate: bool) -> Mapping[str, object]:
    levels = [*tag.category.strip("/").split("/"), *[""] * LEVELS]
    kinds = {kind: str(getattr(tag, kind)) for kind in _KINDS[:6]}
    paths = {f"category_{n}": levels[n - 1] for n in range(1, LEVELS + 1)}
    return {
        **kinds,
        **paths,
        "name": tag.name,
        "version": tag.version,
        "is_candidate": is_candidate,
    }
