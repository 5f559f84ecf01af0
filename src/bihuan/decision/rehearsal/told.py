"""A rehearsal in words: what a planner reads, and what is filed beside the scheme."""

from __future__ import annotations

from bihuan.decision.rehearsal.figures import missed_text
from bihuan.decision.rehearsal.forecast import Interval
from bihuan.decision.rehearsal.judge import PASS, Fact, Judgement
from bihuan.decision.rehearsal.rehearsal import Rehearsal
from bihuan.kernel import NotEstimable, UserError

_NUMBERS = frozenset(
    {"contacts", "unmet", "policy", "data_age", "misclaim", "worst_cell", "twin_distance"}
)
"""Facts that are counts or multiples; the others are shares."""
_WORDS = {
    "zh": {
        "pass": "通过", "warn": "提醒", "fail": "不通过", "unknown": "无法判断", "all": "各项达标",
        "fact": "{title} {value}（通过值 {goal}{note}）", "blind": "{title}无法判断（{note}）",
        "head": "{title} {score} 分，{verdict}：{body}。", "join": "；", "note": "；{note}",
        "plan": "方案", "data": "数据日期", "sample": "预演客户", "of": "共",
        "reach": "触达", "step": "环节", "out": "剔除", "left": "剩余",
        "expected": "预期（{level} 区间）", "contacts": "接触", "conversions": "转化",
        "spend": "支出", "profit": "利润", "to": "至", "judged": "评判",
        "missed": "未满足的最低要求",
    },
    "en": {
        "pass": "pass", "warn": "warning", "fail": "fail", "unknown": "not known",
        "all": "everything is as it should be",
        "fact": "{title} {value} (passes at {goal}{note})", "blind": "{title}: not known ({note})",
        "head": "{title}: {score} points, {verdict}: {body}.", "join": "; ", "note": "; {note}",
        "plan": "Plan", "data": "Data of", "sample": "Customers rehearsed", "of": "of",
        "reach": "Reach", "step": "Step", "out": "out", "left": "left",
        "expected": "Expected ({level} interval)", "contacts": "Contacts",
        "conversions": "Conversions", "spend": "Spend", "profit": "Profit", "to": "to",
        "judged": "Judgements", "missed": "Minimums that are missed",
    },
}  # fmt: skip


def judgement_text(judgement: Judgement, language: str = "zh") -> str:
    """Say a judgement in one sentence: score, verdict, and every fact that does not pass.

    Parameters
    ----------
    judgement
        One of the four.
    language
        ``zh`` or ``en``.

    Raises
    ------
    UserError
        If there is no such language.
    """
    words = _words(language)
    open_facts = [fact for fact in judgement.facts if fact.verdict != PASS]
    body = words["join"].join(_fact(fact, language) for fact in open_facts) or words["all"]
    return words["head"].format(
        title=judgement.title[language],
        score=round(judgement.score),
        verdict=words[judgement.verdict],
        body=body,
    )


def rehearsal_text(rehearsal: Rehearsal, language: str = "zh") -> str:
    """Write a rehearsal as a Markdown document, for reading and filing.

    Parameters
    ----------
    rehearsal
        As found.
    language
        ``zh`` or ``en``.

    Raises
    ------
    UserError
        If there is no such language.
    """
    words, found = _words(language), rehearsal.findings
    expected, sample = found.forecast, rehearsal.sample
    lines = [
        f"# {rehearsal.title[language]}",
        f"- {words['plan']}: {rehearsal.campaign_id} ({rehearsal.content_id})",
        f"- {words['data']}: {rehearsal.as_of}",
        f"- {words['sample']}: {sample.size:,} {words['of']} {sample.population:,}",
        f"## {words['judged']}",
        *(f"- {judgement_text(judgement, language)}" for judgement in rehearsal.judgements),
        f"## {words['reach']}",
        f"| {words['step']} | {words['out']} | {words['left']} |",
        "|---|---:|---:|",
        *(
            f"| {step.title[language]} | {step.dropped:,} | {step.left:,} |"
            for step in found.reach
            if step.dropped or step is found.reach[0]
        ),
        f"## {words['expected'].format(level=f'{expected.level:.0%}')}",
        f"- {words['contacts']}: {expected.contacts:,}",
        *(
            f"- {words[name]}: {_interval(value, words['to'])}"
            for name, value in (
                ("conversions", expected.conversions),
                ("spend", expected.spend),
                ("profit", expected.profit),
            )
        ),
    ]
    missed = found.certificate.missed
    if missed:
        lines.append(f"## {words['missed']}")
        lines += [f"- {missed_text((limit,), sample)[language]}" for limit in missed]
    return "\n".join(lines) + "\n"


def _fact(fact: Fact, language: str) -> str:
    words, note = _words(language), fact.note.get(language, "")
    if isinstance(fact.value, NotEstimable):
        reason = fact.value.reason[language].rstrip("。.")
        return words["blind"].format(title=fact.title[language], note=reason)
    return words["fact"].format(
        title=fact.title[language],
        value=_show(fact.name, fact.value),
        goal=_show(fact.name, fact.pass_at),
        note=words["note"].format(note=note) if note else "",
    )


def _show(name: str, value: float) -> str:
    return (
        f"{value:,.4g}" if name in _NUMBERS else f"{value:.4g}" if value > 100 else f"{value:.1%}"
    )


def _interval(value: Interval, to: str) -> str:
    return f"{value.mean:,.0f} ({value.low:,.0f} {to} {value.high:,.0f})"


def _words(language: str) -> dict[str, str]:
    if language not in _WORDS:
        raise UserError(
            f"No rehearsal is written in '{language}'.",
            remedy="Choose zh or en.",
            zh=f"没有“{language}”语言的预演文本，请选择 zh 或 en。",
        )
    return _WORDS[language]
