"""How each feature is read: plain data, learnt once, applied to any later month alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihuan.model.frame import Columns, FeatureKind, Levels
from bihuan.model.steps.binning import Floats


@dataclass(frozen=True, slots=True)
class Grouping:
    """Merged levels of a categorical feature.

    Parameters
    ----------
    groups
        Levels of each group, groups by rising response; None stands for "missing".
    default
        Group of a level never seen: the pool of rare levels, -1 if there is none.
    """

    groups: tuple[tuple[str | None, ...], ...]
    default: int

    def apply(self, levels: Levels) -> NDArray[np.int32]:
        """Return the group of each row, shape ``(n,)``; -1 for a level never seen."""
        group_of = {level: i for i, group in enumerate(self.groups) for level in group}
        table = np.empty(len(levels.vocabulary) + 1, dtype=np.int32)
        for code, word in enumerate(levels.vocabulary):
            table[code] = group_of.get(word, self.default)
        table[-1] = group_of.get(None, self.default)
        return table[levels.codes]


@dataclass(frozen=True, slots=True)
class NumberRecipe:
    """How a numeric, boolean or date feature is made ready for the logistic learner.

    Parameters
    ----------
    low, high
        Limits to which values are pulled.
    is_log
        Whether ``log1p`` follows.
    fill
        Value for missing ones, on the final scale.
    flags_missing
        Whether "is missing" is a feature of its own.
    """

    low: float
    high: float
    is_log: bool
    fill: float
    flags_missing: bool

    def apply(self, values: Floats) -> Floats:
        """Return the processed values, shape ``(n,)``, none missing."""
        clipped = np.clip(values, self.low, self.high)
        scaled = np.log1p(clipped) if self.is_log else clipped
        return np.where(np.isnan(scaled), self.fill, scaled)


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """The features that stay and how each is read; learnt from the training rows.

    Parameters
    ----------
    kinds
        Kind of each feature that stays, in order.
    groupings, recipes
        Of the categorical and of the other features that stay.
    """

    kinds: Mapping[str, FeatureKind]
    groupings: Mapping[str, Grouping]
    recipes: Mapping[str, NumberRecipe]

    @property
    def names(self) -> tuple[str, ...]:
        """Features that stay, in order."""
        return tuple(self.kinds)

    def groups(self, columns: Columns, name: str) -> NDArray[np.int32]:
        """Return the merged group of each row of a categorical feature, shape ``(n,)``."""
        return self.groupings[name].apply(columns.levels[name])

    def tree_matrix(self, columns: Columns) -> Floats:
        """Return the features as a boosted tree reads them, shape ``(n, n_features)``.

        Numbers stay raw (a tree cares for their order only) and missing stays NaN; groups are
        their rank by response.
        """
        matrix = np.empty((columns.n, len(self.kinds)))
        for j, (name, kind) in enumerate(self.kinds.items()):
            if kind is FeatureKind.CATEGORICAL:
                group = self.groups(columns, name).astype(np.float64)
                matrix[:, j] = np.where(group < 0, np.nan, group)
            else:
                matrix[:, j] = columns.numbers[name]
        return matrix

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kinds": {name: kind.value for name, kind in self.kinds.items()},
            "order": list(self.kinds),
            "groupings": {
                name: {"groups": [list(g) for g in x.groups], "default": x.default}
                for name, x in self.groupings.items()
            },
            "recipes": {name: asdict(x) for name, x in self.recipes.items()},
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> FeaturePlan:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            {name: FeatureKind(raw["kinds"][name]) for name in raw["order"]},
            {
                name: Grouping(tuple(tuple(g) for g in x["groups"]), x["default"])
                for name, x in raw["groupings"].items()
            },
            {name: NumberRecipe(**x) for name, x in raw["recipes"].items()},
        )
