"""The model card: what was done to make a model, how good it is, and what it is not for.

A card is complete on its own: a marketing planner reads it in Chinese or English, a developer
reads the same facts as JSON, and an auditor finds in it why every feature was used or left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from bihuan.model.metrics import CalibrationBin, Estimate, Metrics

Text: TypeAlias = Mapping[str, str]
"""The same words by language: ``zh`` and ``en``."""

STEPS: Mapping[int, tuple[Text, Text]] = {
    1: (
        {"en": "Merge indicator categories", "zh": "指标类别合并"},
        {
            "en": "A level with few customers is noise; levels that respond alike are one level.",
            "zh": "人数很少的取值只是噪声，响应相近的取值可视为一类。",
        },
    ),
    2: (
        {"en": "Process feature data", "zh": "特征数据处理"},
        {
            "en": "Missing values, outliers and skew mislead a model; a feature that is recorded "
            "after the fact knows the answer and will not be there when it is needed.",
            "zh": "缺失、异常和偏斜会误导模型；事后才产生的特征等于泄露答案，实际预测时并不存在。",
        },
    ),
    3: (
        {"en": "Correlation analysis", "zh": "相关分析"},
        {
            "en": "Two features that say the same make reasons unstable and add nothing.",
            "zh": "两个高度相关的特征不增加信息，却使原因解释不稳定。",
        },
    ),
    4: (
        {"en": "Feature selection", "zh": "特征选择"},
        {
            "en": "Features without information add chance, cost and explanations nobody needs.",
            "zh": "没有信息量的特征只会增加偶然性、成本和无用的解释。",
        },
    ),
    5: (
        {"en": "Sampling", "zh": "样本抽样"},
        {
            "en": "Enough rows to learn from, not more than pay; probabilities are put right "
            "where negatives were thinned.",
            "zh": "样本够用即可；若对负例抽样，概率会按抽样比例还原。",
        },
    ),
    6: (
        {"en": "Model tuning", "zh": "模型调优"},
        {
            "en": "Learner and settings are chosen on rows that the model has not seen, and the "
            "scores are turned into probabilities on such rows too.",
            "zh": "算法与参数在模型未见过的数据上选择，评分也在这类数据上校准为概率。",
        },
    ),
    7: (
        {"en": "Model validation", "zh": "模型验证"},
        {
            "en": "The numbers shown are from customers (and, where there are periods, months) "
            "that had no part in building or choosing the model.",
            "zh": "所示指标来自未参与建模和选型的客户（有月份时为之后的月份）。",
        },
    ),
    8: (
        {"en": "Score the newest month", "zh": "预测最新月份"},
        {
            "en": "A model is right only for customers like those it learnt from, so the newest "
            "month is compared with the training months before its scores are used.",
            "zh": "模型只对与训练样本相似的客户有效，使用评分前须比较最新月份与训练月份的分布。",
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Step:
    """Record of one of the eight steps.

    Parameters
    ----------
    number
        1 to 8.
    name, did, why
        By language.
    facts
        The same in numbers and names, for machines.
    """

    number: int
    name: Text
    did: Text
    why: Text
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, number: int, *, en: str, zh: str, facts: Mapping[str, Any] | None = None) -> Step:
        """Make the record of step ``number`` from what it did."""
        name, why = STEPS[number]
        return cls(number, name, {"en": en, "zh": zh}, why, dict(facts or {}))


@dataclass(frozen=True, slots=True)
class FeatureFact:
    """What became of one candidate feature.

    Parameters
    ----------
    name, kind
        As in the frame.
    missing_share
        Share of the rows without a value, 0..1.
    information
        Information value above chance; None where it was dropped before it was measured.
    single_auc
        AUC of this feature alone, 0.5..1; None likewise.
    is_used
        Whether the model uses it.
    reason
        Why not, by language; empty where it is used.
    weight
        Share of the model's mean absolute contribution, 0..1; None where it is not used.
    title
        By language; the name where none was given.
    """

    name: str
    kind: str
    missing_share: float
    information: float | None
    single_auc: float | None
    is_used: bool
    reason: Text
    weight: float | None = None
    title: Text = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The rows that a model was built from.

    Parameters
    ----------
    rows, positives
        All labelled rows, and those whose answer is yes.
    periods
        First and last month of the rows, as given; empty where they have none.
    as_of
        First and last date at which features were seen, ISO; empty where not stated.
    lineage
        Snapshot ids and files.
    """

    rows: int
    positives: int
    periods: tuple[int, ...]
    as_of: tuple[str, ...]
    lineage: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything that must be known about a model besides its parameters.

    Parameters
    ----------
    name, title
        Id of the model (``churn``) and its title by language.
    label
        What is predicted: the label's definition, by language.
    owner, intended_use, limits
        Who answers for it; what it is for; what it is not for. By language except the owner.
    seed, learner, calibration
        Seed of the run, learner chosen, how scores became probabilities.
    data
        The rows it was built from.
    features
        One fact sheet per candidate feature.
    steps
        The eight steps in order.
    validation
        How the metrics were obtained, by language.
    metrics
        On rows that had no part in building the model.
    settings
        The order form (:class:`bihuan.model.ModelSpec`) as plain values, with what was tuned.
    libraries
        Versions of the libraries that built it.
    version
        Content hash; empty until the model is saved.
    created_at
        ISO moment of saving; empty before.
    """

    name: str
    title: Text
    label: Text
    owner: str
    intended_use: Text
    limits: Text
    seed: int
    learner: str
    calibration: str
    data: DataFacts
    features: tuple[FeatureFact, ...]
    steps: tuple[Step, ...]
    validation: Text
    metrics: Metrics
    settings: Mapping[str, Any]
    libraries: Mapping[str, str]
    version: str = ""
    created_at: str = ""

    @property
    def used(self) -> tuple[FeatureFact, ...]:
        """The features used, heaviest first."""
        used = [fact for fact in self.features if fact.is_used]
        return tuple(sorted(used, key=lambda fact: (-(fact.weight or 0.0), fact.name)))

    def with_step(self, step: Step) -> ModelCard:
        """Return a copy in which ``step`` takes the place of the record of its number."""
        steps = tuple(step if old.number == step.number else old for old in self.steps)
        return replace(self, steps=steps)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ModelCard:
        """Read what :meth:`to_dict` wrote."""
        data = dict(raw["data"])
        parts = {
            "data": DataFacts(
                **{**data, "periods": tuple(data["periods"]), "as_of": tuple(data["as_of"])}
            ),
            "features": tuple(FeatureFact(**fact) for fact in raw["features"]),
            "steps": tuple(Step(**step) for step in raw["steps"]),
            "metrics": Metrics.from_dict(raw["metrics"]),
        }
        return cls(**{**raw, **parts})

    def to_markdown(self, language: str = "zh") -> str:
        """Write the card for a reader who plans campaigns.

        Parameters
        ----------
        language
            ``zh`` or ``en``.
        """
        sections = (_heading, _summary, _lift_table, _calibration, _reasons, _steps, _left_out)
        return "\n".join(line for section in sections for line in section(self, language)) + "\n"


def _heading(card: ModelCard, language: str) -> Iterable[str]:
    title = said(card.title, language) or card.name
    yield f"# {title}"
    yield ""
    rows = [
        (_say(language, "预测什么", "What it predicts"), said(card.label, language)),
        (_say(language, "用途", "Intended use"), said(card.intended_use, language)),
        (_say(language, "不适用", "Limits"), said(card.limits, language)),
        (_say(language, "负责人", "Owner"), card.owner),
        (_say(language, "版本", "Version"), f"{card.name} {card.version}".strip()),
        (_say(language, "保存时间", "Saved at"), card.created_at),
        (_say(language, "算法", "Learner"), f"{card.learner}, {card.calibration}"),
        (_say(language, "样本", "Rows"), _data_words(card.data, language)),
    ]
    yield f"| | {_say(language, '说明', 'Description')} |"
    yield "|---|---|"
    for key, value in rows:
        if value:
            yield f"| {key} | {_cell(value)} |"
    yield ""


def _data_words(data: DataFacts, language: str) -> str:
    share = data.positives / data.rows
    words = _say(
        language,
        f"{data.rows:,} 行，其中正例 {data.positives:,}({share:.1%})",
        f"{data.rows:,} rows, of which {data.positives:,} positive ({share:.1%})",
    )
    if data.as_of:
        words += f"; {' - '.join(dict.fromkeys(data.as_of))}"
    return words


def _summary(card: ModelCard, language: str) -> Iterable[str]:
    metrics = card.metrics
    top = metrics.top_decile_lift
    yield f"## {_say(language, '效果如何', 'How good it is')}"
    yield ""
    yield _say(
        language,
        f"联系评分最高的 10% 客户，命中率约为随机联系的 **{top.value:.1f} 倍**"
        f"({top.low:.1f}-{top.high:.1f})，可找到 {metrics.gains[0]:.0%} 的目标客户;"
        f"联系一半客户可找到 {metrics.gains[4]:.0%}。",
        f"Contacting the 10 % with the highest scores hits **{top.value:.1f} times** as often as "
        f"chance ({top.low:.1f} to {top.high:.1f}) and finds {metrics.gains[0]:.0%} of all "
        f"targets; contacting half finds {metrics.gains[4]:.0%}.",
    )
    yield ""
    yield said(card.validation, language)
    yield ""
    yield f"| {_say(language, '指标', 'Measure')} | {_say(language, '值', 'Value')} | 95 % |"
    yield "|---|--:|---|"
    for name, estimate in (
        (_say(language, "AUC(0.5 为随机)", "AUC (0.5 is chance)"), metrics.auc),
        ("ALIFT", metrics.alift),
        (_say(language, "最高十分之一的提升", "Lift of the best tenth"), top),
        (_say(language, "Brier（越小越好）", "Brier (less is better)"), metrics.brier),
        (_say(language, "对数损失", "Log loss"), metrics.log_loss),
    ):
        yield f"| {name} | {estimate.value:.4f} | {_interval(estimate)} |"
    yield ""


def _lift_table(card: ModelCard, language: str) -> Iterable[str]:
    yield f"### {_say(language, '联系多少客户，找到多少目标', 'How many to contact')}"
    yield ""
    yield (
        "| "
        + " | ".join(
            (
                _say(language, "按评分联系前", "Contact the best"),
                _say(language, "找到目标", "Targets found"),
                _say(language, "这一档的提升", "Lift of this tenth"),
            )
        )
        + " |"
    )
    yield "|--:|--:|--:|"
    pairs = zip(card.metrics.gains, card.metrics.lift, strict=True)
    for tenth, (gain, lift) in enumerate(pairs, start=1):
        yield f"| {tenth * 10} % | {gain:.1%} | {lift:.2f} |"
    yield ""


def _calibration(card: ModelCard, language: str) -> Iterable[str]:
    yield f"### {_say(language, '评分能否当作概率', 'Are the scores probabilities')}"
    yield ""
    error = card.metrics.calibration_error
    yield _say(
        language,
        f"预测概率与实际比例平均相差 {error:.1%}。",
        f"Promised and observed response differ by {error:.1%} on average.",
    )
    yield ""
    yield (
        "| "
        + " | ".join(
            (
                _say(language, "客户数", "Customers"),
                _say(language, "预测", "Promised"),
                _say(language, "实际", "Observed"),
                "95 %",
            )
        )
        + " |"
    )
    yield "|--:|--:|--:|---|"
    for item in card.metrics.calibration:
        yield _calibration_row(item)
    yield ""


def _calibration_row(item: CalibrationBin) -> str:
    interval = f"{item.low:.1%} - {item.high:.1%}"
    return f"| {item.n:,} | {item.predicted:.1%} | {item.observed:.1%} | {interval} |"


def _reasons(card: ModelCard, language: str) -> Iterable[str]:
    yield f"## {_say(language, '依据哪些特征', 'What it looks at')}"
    yield ""
    yield (
        "| "
        + " | ".join(
            (
                _say(language, "特征", "Feature"),
                _say(language, "影响占比", "Share of influence"),
                _say(language, "信息值", "Information value"),
            )
        )
        + " |"
    )
    yield "|---|--:|--:|"
    for fact in card.used:
        information = "" if fact.information is None else f"{fact.information:.3f}"
        yield f"| {_named(fact, language)} | {fact.weight or 0:.1%} | {information} |"
    yield ""


def _steps(card: ModelCard, language: str) -> Iterable[str]:
    yield f"## {_say(language, '建模八步', 'The eight steps')}"
    yield ""
    for step in card.steps:
        yield f"{step.number}. **{said(step.name, language)}**: {said(step.did, language)}"
        yield f"   *{said(step.why, language)}*"
    yield ""


def _left_out(card: ModelCard, language: str) -> Iterable[str]:
    left = [fact for fact in card.features if not fact.is_used]
    if not left:
        return
    yield f"## {_say(language, '未采用的特征', 'Features left out')}"
    yield ""
    yield f"| {_say(language, '特征', 'Feature')} | {_say(language, '原因', 'Reason')} |"
    yield "|---|---|"
    for fact in left:
        yield f"| {_named(fact, language)} | {_cell(said(fact.reason, language))} |"


def said(text: Text, language: str) -> str:
    """Return ``text`` in ``language``, in English if it has no such language, or empty."""
    return text.get(language) or text.get("en", "")


def _named(fact: FeatureFact, language: str) -> str:
    return _cell(said(fact.title, language) or fact.name)


def _say(language: str, zh: str, en: str) -> str:
    return zh if language == "zh" else en


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.4f} - {estimate.high:.4f}"


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")
