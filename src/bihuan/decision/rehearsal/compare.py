"""Two versions of a plan, or two plans, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from bihuan.decision.rehearsal.forecast import Interval
from bihuan.decision.rehearsal.judge import JUDGEMENTS
from bihuan.decision.rehearsal.rehearsal import Rehearsal
from bihuan.kernel import NotEstimable, UserError

MORE, LESS, NEITHER = 1, -1, 0
Reading = float | Interval | NotEstimable


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of both.

    Parameters
    ----------
    name, title
        Which figure.
    a, b
        The figures; missing where these data cannot tell.
    difference
        b - a; missing where one is.
    better
        ``a``, ``b``, ``same``, or empty where more is neither better nor worse or a figure is
        missing.
    is_clear
        Whether the difference is more than the doubt about the figures: their intervals do not
        meet. Figures without an interval differ clearly when they differ.
    """

    name: str
    title: Mapping[str, str]
    a: float | None
    b: float | None
    difference: float | None
    better: str
    is_clear: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rehearsals side by side.

    Parameters
    ----------
    a, b
        Ids of the rehearsals.
    lines
        Figures, then the scores of the four judgements (``feasibility_score``, ...).
    """

    a: str
    b: str
    lines: tuple[Line, ...]

    def line(self, name: str) -> Line:
        """Return one line; raise :class:`KeyError` if there is none of that name."""
        return {line.name: line for line in self.lines}[name]

    def better_on(self, side: str) -> tuple[str, ...]:
        """Return the names of the figures on which ``a`` or ``b`` is clearly better."""
        return tuple(line.name for line in self.lines if line.better == side and line.is_clear)

    def table(self, language: str = "zh") -> pa.Table:
        """Return ``figure``, ``a``, ``b``, ``difference``, ``better``, ``is_clear``.

        Parameters
        ----------
        language
            ``zh`` or ``en``.
        """
        return pa.table(
            {
                "figure": pa.array([line.title[language] for line in self.lines], pa.string()),
                "a": pa.array([line.a for line in self.lines], pa.float64()),
                "b": pa.array([line.b for line in self.lines], pa.float64()),
                "difference": pa.array([line.difference for line in self.lines], pa.float64()),
                "better": pa.array([line.better for line in self.lines], pa.string()),
                "is_clear": pa.array([line.is_clear for line in self.lines], pa.bool_()),
            }
        )


def compare(a: Rehearsal, b: Rehearsal) -> Comparison:
    """Put two rehearsals side by side and say which is better on what.

    Parameters
    ----------
    a, b
        Of the same data date and currency; the campaigns may differ.

    Raises
    ------
    UserError
        If dates or currencies differ, because then the figures say nothing about the plans.
    """
    if (a.as_of, a.currency) != (b.as_of, b.currency):
        raise UserError(
            f"Rehearsals on {a.as_of} ({a.currency}) and {b.as_of} ({b.currency}) cannot be "
            "compared.",
            remedy="Rehearse both on the same data.",
            zh=f"{a.as_of}（{a.currency}）与 {b.as_of}（{b.currency}）的预演不能比较，"
            "请基于同一数据预演。",
        )
    lines = [
        _line(name, {"zh": zh, "en": en}, sense, read(a), read(b))
        for name, zh, en, sense, read in _FIGURES
    ]
    for name, title in JUDGEMENTS.items():
        score = {"zh": f"{title['zh']}得分", "en": f"{title['en']}, score"}
        first, second = a.judgement(name).score, b.judgement(name).score
        lines.append(_line(f"{name}_score", score, MORE, first, second))
    return Comparison(a.rehearsal_id, b.rehearsal_id, tuple(lines))


def _reached(rehearsal: Rehearsal) -> float:
    """Return how many are left when the funnel has ended."""
    inside = [s for s in rehearsal.findings.reach if s.phase not in ("allocation", "hold_out")]
    return float(inside[-1].left)


def _fatigue(rehearsal: Rehearsal) -> Reading:
    shares = [window.share_above for window in rehearsal.findings.fatigue]
    return max(shares, default=0.0)


def _shortfall(rehearsal: Rehearsal) -> Reading:
    missed = rehearsal.findings.certificate.missed
    return missed[0].shortfall / missed[0].bound if missed else 0.0


def _fairness(rehearsal: Rehearsal) -> Reading:
    ratios = [t.ratio for t in rehearsal.findings.fairness]
    known = [ratio for ratio in ratios if not isinstance(ratio, NotEstimable)]
    return min(known) if known else ratios[0] if ratios else 1.0


_FIGURES: tuple[tuple[str, str, str, int, Callable[[Rehearsal], Reading]], ...] = (
    ("audience", "目标客户群", "Audience", NEITHER, lambda r: float(r.findings.reach[0].left)),
    ("reached", "通过漏斗的客户", "Customers left after the funnel", MORE, _reached),
    ("contacts", "接触数", "Contacts", NEITHER, lambda r: float(r.findings.forecast.contacts)),
    ("conversions", "预期转化", "Conversions", MORE, lambda r: r.findings.forecast.conversions),
    ("spend", "预计支出", "Spend", LESS, lambda r: r.findings.forecast.spend),
    ("profit", "预期利润", "Profit", MORE, lambda r: r.findings.forecast.profit),
    ("roi", "投入产出", "Return on spend", MORE, lambda r: r.findings.forecast.roi),
    ("cost_per_conversion", "单笔转化成本", "Cost per conversion", LESS,
     lambda r: r.findings.forecast.cost_per_conversion),
    ("effect", "每户效果", "Effect per customer", MORE, lambda r: r.findings.forecast.effect),
    ("goal_chance", "达成目标的概率", "Probability to reach the goal", MORE,
     lambda r: r.findings.forecast.goal_chance),
    ("loss_chance", "亏损概率", "Probability of a loss", LESS,
     lambda r: r.findings.forecast.loss_chance),
    ("overflow", "排不下的接触", "Contacts without room", LESS, lambda r: r.findings.load.overflow),
    ("peak_load", "最忙日容量占用", "Use of the fullest day", LESS, lambda r: r.findings.load.peak),
    ("shortfall", "最低要求的最大缺口", "Largest missing share of a minimum", LESS, _shortfall),
    ("fatigue", "接触过多的客户占比", "Customers contacted too often", LESS, _fatigue),
    ("overlap", "与在途活动重叠占比", "Overlap with live campaigns", LESS,
     lambda r: r.findings.overlap.share),
    ("fairness", "各群体入选率之比", "Lowest over highest rate of selection", MORE, _fairness),
    ("power", "检出目标效果的把握", "Power to see the goal's effect", MORE,
     lambda r: r.findings.design.power),
    ("gap", "距最优的证书差距", "Certified distance from the best", LESS,
     lambda r: r.findings.certificate.gap),
)  # fmt: skip


def _line(name: str, title: Mapping[str, str], sense: int, a: Reading, b: Reading) -> Line:
    first, second = _mean(a), _mean(b)
    if first is None or second is None:
        return Line(name, title, first, second, None, "", is_clear=False)
    difference = 0.0 if first == second else second - first
    better = ""
    if sense != NEITHER:
        better = "same" if difference == 0 else "b" if difference * sense > 0 else "a"
    return Line(name, title, first, second, difference, better, _is_apart(a, b))


def _mean(reading: Reading) -> float | None:
    if isinstance(reading, NotEstimable):
        return None
    return reading.mean if isinstance(reading, Interval) else reading


def _is_apart(a: Reading, b: Reading) -> bool:
    if isinstance(a, Interval) and isinstance(b, Interval):
        return a.high < b.low or b.high < a.low
    return a != b
