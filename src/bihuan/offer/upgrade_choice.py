"""What was recommended to each line, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.kernel import UserError
from bihuan.offer.offer import Offer

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
MB_PER_GB = 1024.0


class UpgradeError(UserError):
    """A tier cannot be recommended from these plans or figures."""


class UpgradeState(IntEnum):
    """How a line stands to an upgrade; written in lower case in tables."""

    UPGRADE = 0
    PARTIAL = 1
    FITS = 2
    NONE = 3
    UNKNOWN = 4


_STATES = tuple(state.name.lower() for state in UpgradeState)


@dataclass(frozen=True, slots=True)
class TierChoice:
    """The tier recommended to one line.

    Parameters
    ----------
    line_id
        Whose.
    state
        ``upgrade`` (covers the need), ``partial`` (covers more than now, not all), ``fits`` (the
        present plan suffices), ``none`` (nothing within reach) or ``unknown`` (plan or use not
        known).
    offer_id
        The plan recommended; None unless ``upgrade`` or ``partial``.
    current_id
        The present plan; None if it is not known.
    need_mb
        MB per month to be covered; None if not known.
    difference
        Price per month above what is paid now, in the workspace's currency; None without an offer.
    covers
        Share of the known months that the plan covers (the present one if none is recommended).
    reason
        To be read aloud, by language.
    """

    line_id: str
    state: str
    offer_id: str | None
    current_id: str | None
    need_mb: float | None
    difference: float | None
    covers: float | None
    reason: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TierChoices:
    """The tiers recommended to ``n`` lines.

    Parameters
    ----------
    plans
        The family, lowest tier first.
    ids
        Line ids.
    state
        Position in :class:`UpgradeState`, shape ``(n,)``.
    choice, current
        Positions in ``plans``, shape ``(n,)``; -1 = none, not known.
    need_mb, difference, covers
        As in :class:`TierChoice`, shape ``(n,)``; NaN where there is none.
    currency
        Words for the currency, by language.
    """

    plans: tuple[Offer, ...]
    ids: pa.Array
    state: Ints
    choice: Ints
    current: Ints
    need_mb: Floats
    difference: Floats
    covers: Floats
    currency: Mapping[str, str]

    def counts(self) -> dict[str, int]:
        """Return how many lines are in each state."""
        found = np.bincount(self.state, minlength=len(_STATES))
        return dict(zip(_STATES, found.tolist(), strict=True))

    def table(self) -> pa.Table:
        """Return one row per line.

        Returns
        -------
        pyarrow.Table
            ``line_id, state, offer_id, current_id, need_mb, difference, covers, reason_zh,
            reason_en``; null where there is none.
        """
        names = pa.array([plan.offer_id for plan in self.plans], pa.string())
        return pa.table(
            {
                "line_id": self.ids,
                "state": pa.array(_STATES, pa.string()).take(pa.array(self.state)),
                "offer_id": names.take(_positions(self.choice)),
                "current_id": names.take(_positions(self.current)),
                "need_mb": pa.array(self.need_mb, from_pandas=True),
                "difference": pa.array(self.difference, from_pandas=True),
                "covers": pa.array(self.covers, from_pandas=True),
                "reason_zh": self._reason("zh"),
                "reason_en": self._reason("en"),
            }
        )

    def of(self, line_id: str) -> TierChoice:
        """Return the choice of one line.

        Raises
        ------
        UpgradeError
            If the line is not among them.
        """
        at = pc.index(self.ids, line_id).as_py()
        if at < 0:
            raise UpgradeError(
                f"There is no active line '{line_id}' among those looked at.",
                remedy="Check the id; the line must be in use on that date.",
                zh=f"没有在用的用户 {line_id}，请核对编号与日期。",
            )
        one = TierChoices(
            self.plans, self.ids.slice(at, 1), self.state[at : at + 1], self.choice[at : at + 1],
            self.current[at : at + 1], self.need_mb[at : at + 1], self.difference[at : at + 1],
            self.covers[at : at + 1], self.currency,
        )  # fmt: skip
        row = one.table().to_pylist()[0]
        reason = {"zh": row.pop("reason_zh"), "en": row.pop("reason_en")}
        return TierChoice(**row, reason=reason)

    def _reason(self, language: str) -> pa.Array:
        """Word the reasons: numbers as text, put between the words of the line's state."""
        titles = pa.array([plan.title[language] for plan in self.plans], pa.string())
        unit = self.currency.get(language, "")
        data = np.array([plan.data_mb for plan in self.plans], dtype=np.float64)
        parts = {
            "need": _text(self.need_mb / MB_PER_GB, 1),
            "now": titles.take(_positions(self.current)).fill_null("-"),
            "new": titles.take(_positions(self.choice)).fill_null("-"),
            "more": pc.binary_join_element_wise(_text(self.difference, 2), unit, ""),
            "covers": _text(100 * self.covers, 0),
            "data": _text(np.where(self.choice >= 0, data[self.choice], np.nan) / MB_PER_GB, 1),
        }
        found = pa.nulls(len(self.ids), pa.string())
        for code, state in enumerate(_STATES):
            words = _worded(_WORDS[language][state], parts)
            found = pc.if_else(pa.array(self.state == code), words, found)
        return found


def _positions(at: Ints) -> pa.Array:
    return pa.array(at, mask=at < 0)


def _text(values: Floats, digits: int) -> pa.Array:
    """Return numbers as text without needless zeros; a missing one as ``-``."""
    whole, at = np.unique(np.round(values, digits), return_inverse=True)
    words = pa.array(["-" if np.isnan(value) else f"{value:.{digits}f}".rstrip("0").rstrip(".")
                      if digits else f"{value:.0f}" for value in whole], pa.string())  # fmt: skip
    return words.take(pa.array(at))


def _worded(words: str, parts: Mapping[str, pa.Array]) -> pa.Array:
    """Fill ``{name}`` places of a sentence, for all lines at once."""
    pieces: list[pa.Array | str] = []
    for number, piece in enumerate(words.replace("}", "{").split("{")):
        pieces.append(parts[piece] if number % 2 else piece)
    return pc.binary_join_element_wise(*pieces, "")


_WORDS: Mapping[str, Mapping[str, str]] = {
    "zh": {
        "upgrade": "您每月约需 {need} GB 流量，现有{now}不够用；升到{new}可满足 {covers}% 的月份，"
        "每月多付 {more}。",
        "partial": "您每月约需 {need} GB 流量，现有{now}不够用；可升档次中{new}最接近，"
        "流量增至 {data} GB，每月多付 {more}。",
        "fits": "您每月约需 {need} GB 流量，现有{now}已够用，不必升档。",
        "none": "您每月约需 {need} GB 流量，现有{now}不够用，但暂无合适的可升档次。",
        "unknown": "套餐或近期用量不明，暂不推荐升档。",
    },
    "en": {
        "upgrade": "You need about {need} GB a month and {now} falls short; {new} covers {covers} %"
        " of your months for {more} more a month.",
        "partial": "You need about {need} GB a month and {now} falls short; of the plans within"
        " reach {new} comes nearest with {data} GB for {more} more a month.",
        "fits": "You need about {need} GB a month and {now} suffices; no upgrade is needed.",
        "none": "You need about {need} GB a month and {now} falls short, but no plan is within"
        " reach.",
        "unknown": "The plan or the recent use is not known; no upgrade is recommended.",
    },
}
