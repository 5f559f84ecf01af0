"""Four judgements of a plan: feasible, reasonable, scientifically sound, worth it.

Every fact is held against two thresholds: at ``pass_at`` or better it scores 100 and passes, at
``fail_at`` or worse it scores 0 and fails, in between the score is linear and it warns. A
judgement scores the mean of its facts' mean and their worst, so one failed fact cannot be outvoted;
its verdict is the worst of its facts'. A fact that these data cannot tell scores 50 and warns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bihuan.kernel import NotEstimable, UserError
from bihuan.kernel.document import Document

PASS, WARN, FAIL = "pass", "warn", "fail"
UNKNOWN_SCORE = 50.0
ROUNDING = 1e-9  # a plan that uses a limit exactly does not exceed it
Title = Mapping[str, str]
Figure = float | NotEstimable

JUDGEMENTS: Mapping[str, Title] = {
    "feasibility": {"zh": "可行性", "en": "Feasibility"},
    "reasonableness": {"zh": "合理性", "en": "Reasonableness"},
    "soundness": {"zh": "科学性", "en": "Scientific soundness"},
    "effect": {"zh": "成效", "en": "Expected effect"},
}
"""The four judgements of a scheme (可行性、合理性、科学性、成效), in order."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One fact that is judged.

    Parameters
    ----------
    name
        Code of the fact.
    judgement
        To which of the four it belongs.
    title
        By language.
    pass_at, fail_at
        Thresholds; which of them is greater says in which direction better lies.

    Raises
    ------
    UserError
        If both are the same number.
    """

    name: str
    judgement: str
    title: Title
    pass_at: float
    fail_at: float

    def __post_init__(self) -> None:
        if self.pass_at == self.fail_at:
            raise UserError(
                f"Criterion '{self.name}' passes and fails at {self.pass_at}.",
                remedy="Give two different numbers.",
                zh=f"评判项 {self.name} 的通过值与不通过值同为 {self.pass_at},请给出不同的数。",
            )

    def score(self, value: float) -> float:
        """Return 0..100: how far ``value`` is from ``fail_at`` towards ``pass_at``."""
        share = (value - self.fail_at) / (self.pass_at - self.fail_at)
        if share > 1 - ROUNDING:
            return 100.0
        return 100.0 * share if share > ROUNDING else 0.0


_DEFAULTS: Mapping[str, tuple[tuple[str, str, str, float, float], ...]] = {
    # code, zh, en, pass at, fail at
    "feasibility": (
        ("contacts", "计划接触数", "Planned contacts", 1, 0),
        ("overflow", "排不下的接触占比", "Contacts without room on any day", 0, 0.05),
        ("peak_load", "最忙日容量占用", "Use of capacity on the fullest day", 1, 1.2),
        ("budget_use", "预计支出占预算", "Expected spend over budget", 1, 1.1),
        # the lot alone may hold out a few more of a small unit than its share
        ("shortfall", "最低要求的最大缺口", "Largest missing share of a minimum", 0.05, 0.5),
        ("unmet", "未满足的前提条件", "Preconditions that do not hold", 0, 1),
        ("policy", "政策限制的条目", "Policies that take a part out of the plan", 0, 20),
        ("data_age", "数据天数", "Age of the data in days", 45, 92),
    ),
    "reasonableness": (
        ("fatigue", "接触过多的客户占比", "Customers contacted too often", 0.05, 0.25),
        ("overlap", "与在途活动重叠占比", "Overlap with live campaigns", 0.05, 0.3),
        ("fairness", "各群体入选率之比", "Lowest over highest rate of selection", 0.8, 0.3),
        ("price_fairness", "各群体均价之比", "Lowest over highest mean price", 0.7, 0.2),
        ("cost_share", "成本占转化收益", "Spend over what conversions earn", 0.5, 1),
    ),
    "soundness": (
        ("power", "检出目标效果的把握", "Power to see the goal's effect", 0.8, 0.4),
        ("misclaim", "响应率与历史之比", "Claimed rates over those of history", 1.15, 1.5),
        ("worst_cell", "偏差最大的套餐渠道", "The same, worst offer and channel", 1.25, 1.8),
        # no history at all is a reason to warn, never to fail: somebody has to be first
        ("backing", "有历史依据的转化占比", "Conversions backed by own history", 0.8, -1),
        ("gap", "距最优的证书差距", "Certified distance from the best plan", 0.005, 0.05),
        ("spoilt_control", "对照组受其他活动影响", "Control contacted by others", 0.02, 0.2),
        ("sample_error", "样本推算的相对误差", "Relative error from sampling", 0.05, 0.25),
        ("twin_distance", "与孪生模拟的偏离", "Distance from the twin, in intervals", 1, 2),
    ),
    "effect": (
        ("goal_chance", "达成目标的概率", "Probability to reach the goal", 0.8, 0.2),
        ("loss_chance", "亏损概率", "Probability of a loss", 0.05, 0.5),
        ("return_low", "投入产出下限", "Lower bound of the return", 0, -0.5),
        ("precision", "转化区间相对宽度", "Width of the interval over its mean", 0.6, 2.5),
    ),
}
CRITERIA: tuple[Criterion, ...] = tuple(
    Criterion(name, judgement, {"zh": zh, "en": en}, pass_at, fail_at)
    for judgement, rows in _DEFAULTS.items()
    for name, zh, en, pass_at, fail_at in rows
)
"""What is judged unless a workspace says otherwise."""


def read_criteria(part: Document) -> tuple[Criterion, ...]:
    """Return the criteria with the thresholds of a document put in.

    Parameters
    ----------
    part
        Entries ``name: {pass_at: ..., fail_at: ...}``; what is not named stays as in
        :data:`CRITERIA`, and ``name: off`` takes a fact out.

    Raises
    ------
    DocumentError
        If a name or a number is wrong; names file and field.
    """
    part.allow(*(criterion.name for criterion in CRITERIA))
    found = []
    for criterion in CRITERIA:
        if not part.has(criterion.name):
            found.append(criterion)
        elif part.raw(criterion.name) not in (False, "off"):  # YAML reads a bare off as false
            own = part.part(criterion.name).allow("pass_at", "fail_at")
            pass_at = own.number("pass_at", criterion.pass_at)
            fail_at = own.number("fail_at", criterion.fail_at)
            if pass_at == fail_at:
                raise part.refuse(criterion.name, "passes and fails at one number", "Give two.")
            found.append(replace(criterion, pass_at=pass_at, fail_at=fail_at))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure and what it means.

    Parameters
    ----------
    name, title
        Of the criterion.
    value
        The figure, or why these data cannot tell it.
    pass_at, fail_at
        Thresholds it was held against.
    score
        0..100.
    verdict
        ``pass``, ``warn`` or ``fail``.
    note
        Which group, cell or precondition is behind it, by language; empty where nothing is to be
        said.
    """

    name: str
    title: Title
    value: Figure
    pass_at: float
    fail_at: float
    score: float
    verdict: str
    note: Title


@dataclass(frozen=True, slots=True)
class Judgement:
    """One of the four.

    Parameters
    ----------
    name, title
        Which.
    score
        0..100.
    verdict
        ``pass``, ``warn`` or ``fail``: the worst of its facts'.
    facts
        The worst first.
    """

    name: str
    title: Title
    score: float
    verdict: str
    facts: tuple[Fact, ...]

    def fact(self, name: str) -> Fact:
        """Return the fact of that name; raise :class:`KeyError` if it was not judged."""
        return {fact.name: fact for fact in self.facts}[name]


def judge_figures(
    figures: Mapping[str, Figure],
    notes: Mapping[str, Title],
    criteria: tuple[Criterion, ...] = CRITERIA,
) -> tuple[Judgement, ...]:
    """Hold figures against thresholds.

    Parameters
    ----------
    figures
        By criterion; a criterion without a figure is left out.
    notes
        What is behind a figure, by criterion.
    criteria
        Thresholds.

    Returns
    -------
    tuple of Judgement
        All four, in order; one without any fact is not estimable from these data and warns.

    Examples
    --------
    >>> found = judge_figures({"overflow": 0.02, "contacts": 10.0}, {})
    >>> found[0].name, round(found[0].score), found[0].verdict
    ('feasibility', 70, 'warn')
    """
    facts: dict[str, list[Fact]] = {name: [] for name in JUDGEMENTS}
    for criterion in criteria:
        if criterion.name in figures:
            value = figures[criterion.name]
            facts[criterion.judgement].append(
                _fact(criterion, value, notes.get(criterion.name, {}))
            )
    return tuple(_judge(name, found) for name, found in facts.items())


def worst(verdicts: list[str]) -> str:
    """Return the worst of some verdicts; ``warn`` where there is none."""
    return max(verdicts, key=(PASS, WARN, FAIL).index, default=WARN)


def _fact(criterion: Criterion, value: Figure, note: Title) -> Fact:
    if isinstance(value, NotEstimable):
        score, verdict, note = UNKNOWN_SCORE, WARN, note or value.reason
    else:
        score = criterion.score(value)
        verdict = PASS if score == 100.0 else FAIL if score == 0.0 else WARN
    return Fact(
        name=criterion.name,
        title=criterion.title,
        value=value,
        pass_at=criterion.pass_at,
        fail_at=criterion.fail_at,
        score=score,
        verdict=verdict,
        note=note,
    )


def _judge(name: str, facts: list[Fact]) -> Judgement:
    scores = [fact.score for fact in facts] or [UNKNOWN_SCORE]
    score = (sum(scores) / len(scores) + min(scores)) / 2
    verdict = worst([fact.verdict for fact in facts])
    facts = sorted(facts, key=lambda fact: fact.score)
    return Judgement(name, JUDGEMENTS[name], score, verdict, tuple(facts))
