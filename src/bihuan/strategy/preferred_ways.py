"""What customers' preferred ways of contact mean for a decision, for one customer and for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Mode: TypeAlias = Literal["factor", "filter"]


class PreferredWays:
    """Preferences, put in order once and looked up by customer afterwards.

    Parameters
    ----------
    preference
        ``customer_id``, ``channel``, ``rank`` (1 = liked best), ``chance`` (of success by one
        contact, 0..1), as :func:`bihuan.strategy.preferred_channel` gives them; at most one row
        per customer and channel.
    most
        A factor is at most this, and at least its inverse; > 1.
    keep
        How many channels a filter leaves, >= 1.

    Examples
    --------
    >>> rows = [("a", "sms", 1, 0.3), ("a", "app", 2, 0.1), ("b", "app", 1, 0.3)]
    >>> names = ["customer_id", "channel", "rank", "chance"]
    >>> ways = PreferredWays(pa.table([list(c) for c in zip(*rows)], names), keep=1)
    >>> ways.factor(pa.array(["a", "b", "c"]), ["sms", "app"]).round(6).tolist()
    [[1.0, 0.5], [0.0, 1.5], [1.0, 1.0]]
    >>> ways.liked_of("a", ["sms", "app"]).tolist()
    [[True, False]]
    """

    def __init__(self, preference: pa.Table, *, most: float = 4.0, keep: int = 2) -> None:
        self._most, self._keep = most, keep
        ids = pc.unique(preference["customer_id"]).cast(pa.string())
        self._ids: pa.Array = ids.take(pc.sort_indices(ids))
        binary = self._ids.cast(pa.binary()).to_numpy(zero_copy_only=False)
        self._keys = np.array(binary, dtype=np.bytes_) if len(binary) else np.array([], "S1")
        self._channels = sorted(pc.unique(preference["channel"]).to_pylist())
        row = pc.index_in(preference["customer_id"].cast(pa.string()), value_set=self._ids)
        names = pa.array(self._channels, pa.string())
        column = pc.index_in(preference["channel"].cast(pa.string()), value_set=names)
        at = row.to_numpy(), column.to_numpy()
        # a last row stands for customers of whom nothing is known, a last column for channels
        shape = (len(self._ids) + 1, len(self._channels) + 1)
        self._chance = np.full(shape, np.nan)
        self._chance[at] = preference["chance"].to_numpy()
        self._rank = np.full(shape, np.iinfo(np.int32).max, dtype=np.int32)
        self._rank[at] = preference["rank"].to_numpy()
        means = [pc.mean(preference.filter(pc.equal(preference["channel"], name))["chance"])
                 for name in self._channels]  # fmt: skip
        self._base = np.array([*(mean.as_py() for mean in means), np.nan], dtype=np.float64)

    def matrix(
        self, customer_id: pa.Array, channels: Sequence[str], mode: Mode
    ) -> Floats | NDArray[np.bool_]:
        """Return :meth:`factor` or :meth:`liked`."""
        if mode == "filter":
            return self.liked(customer_id, channels)
        return self.factor(customer_id, channels)

    def factor(self, customer_id: pa.Array, channels: Sequence[str]) -> Floats:
        """Return the customers' chances by the mean chance of the channel, shape ``(n, m)``.

        1 where nothing is known, 0 for a channel that a customer refuses.
        """
        return self._factor(self._rows(customer_id), channels)

    def factor_of(self, customer_id: str, channels: Sequence[str]) -> Floats:
        """Return the same of one customer, shape ``(1, m)``."""
        return self._factor(self._row(customer_id), channels)

    def liked(self, customer_id: pa.Array, channels: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of these channels are the first that customers like, shape ``(n, m)``.

        All of them where nothing is known.
        """
        return self._liked(self._rows(customer_id), channels)

    def liked_of(self, customer_id: str, channels: Sequence[str]) -> NDArray[np.bool_]:
        """Return the same of one customer, shape ``(1, m)``."""
        return self._liked(self._row(customer_id), channels)

    def _rows(self, customer_id: pa.Array) -> NDArray[np.intp]:
        found = pc.index_in(customer_id.cast(pa.string()), value_set=self._ids)
        return np.asarray(found.fill_null(len(self._ids)).to_numpy(zero_copy_only=False), np.intp)

    def _row(self, customer_id: str) -> NDArray[np.intp]:
        key = customer_id.encode()
        at = int(np.searchsorted(self._keys, key))
        is_known = at < len(self._keys) and self._keys[at] == key
        return np.array([at if is_known else len(self._ids)], dtype=np.intp)

    def _columns(self, channels: Sequence[str]) -> NDArray[np.intp]:
        place = {name: i for i, name in enumerate(self._channels)}
        return np.array([place.get(name, len(place)) for name in channels], dtype=np.intp)

    def _factor(self, rows: NDArray[np.intp], channels: Sequence[str]) -> Floats:
        columns = self._columns(channels)
        chance = self._chance[np.ix_(rows, columns)]
        factor = np.clip(chance / self._base[columns], 1 / self._most, self._most)
        is_known = rows < len(self._ids)
        seen = columns < len(self._channels)
        factor[np.isnan(chance) & is_known[:, None] & seen[None, :]] = 0.0
        return np.asarray(np.nan_to_num(factor, nan=1.0))

    def _liked(self, rows: NDArray[np.intp], channels: Sequence[str]) -> NDArray[np.bool_]:
        rank = self._rank[np.ix_(rows, self._columns(channels))]
        order = np.argsort(np.argsort(rank, axis=1, kind="stable"), axis=1)
        liked: NDArray[np.bool_] = (order < self._keep) & (rank < np.iinfo(np.int32).max)
        liked[rows == len(self._ids)] = True
        return liked
