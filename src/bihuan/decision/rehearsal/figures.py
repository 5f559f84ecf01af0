"""The figures of a rehearsal that are judged, and what is behind each."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bihuan.decision.rehearsal.forecast import NO_CONTACT, Forecast, Interval
from bihuan.decision.rehearsal.judge import (
    CRITERIA,
    Criterion,
    Figure,
    Judgement,
    Title,
    judge_figures,
)
from bihuan.decision.rehearsal.people import Fairness, Overlaps
from bihuan.decision.rehearsal.reach import Sample
from bihuan.decision.rehearsal.rehearsal import Findings, LimitFact, Simulation
from bihuan.kernel import NotEstimable

CLEAR_P = 0.05  # a claim less far off could be chance
CLEAR_CELL_P = 0.01  # shared between the cells
TRIED = 50  # earlier contacts from which a cell is judged by itself
UNEVEN_P = 0.01  # rates of groups less far apart could be chance
NAMED = 3  # minimums named in one sentence
BEYOND = 1e9  # stands for a ratio without bound


def judge_findings(
    findings: Findings, sample: Sample, criteria: tuple[Criterion, ...] = CRITERIA
) -> tuple[Judgement, ...]:
    """Hold the facts of a rehearsal against thresholds.

    Parameters
    ----------
    findings
        The facts.
    sample
        Whom they are about.
    criteria
        Thresholds.

    Returns
    -------
    tuple of Judgement
        The four, with the facts behind each.
    """
    figures: dict[str, Figure] = {}
    notes: dict[str, Title] = {}
    for part in (_feasibility, _reasonableness, _soundness, _effect):
        for name, value, note in part(findings, sample):
            figures[name] = value
            if note:
                notes[name] = note
    return judge_figures(figures, notes, criteria)


Rows = list[tuple[str, Figure, Title]]
_NONE: Title = {}


def _feasibility(findings: Findings, sample: Sample) -> Rows:
    ready, load, expected = findings.readiness, findings.load, findings.forecast
    planned = expected.contacts
    tight: Title = _NONE
    places = [*load.channels[:1], *load.desks[:1]]
    if places and (load.overflow > 0 or load.peak > 1):
        # a full desk says more than its channel, unless the channel itself is what is full
        first = max(reversed(places), key=lambda place: (round(place.overflow, 6), place.peak))
        place = " @ ".join(filter(None, (first.channel, first.org_unit_id)))
        tight = {"zh": f"最紧张：{place}", "en": f"Tightest: {place}"}
    rows: Rows = [
        ("contacts", float(planned), _NONE),
        ("overflow", load.overflow / max(planned, 1), tight),
        ("peak_load", min(load.peak, BEYOND), tight),
        ("unmet", float(len(ready.unmet)), _join(ready.unmet)),
        ("policy", float(len(ready.policies)), _join(ready.policies[:3])),
        ("data_age", float(ready.data_age), _NONE),
    ]
    if ready.budget is not None:
        rows.append(("budget_use", expected.spend.mean / max(ready.budget, 1e-9), _NONE))
    if any(limit.kind == "minimum" for limit in findings.certificate.limits):
        missed = findings.certificate.missed
        share = missed[0].shortfall / missed[0].bound if missed else 0.0
        rows.append(("shortfall", share, missed_text(missed[:NAMED], sample)))
    return rows


def missed_text(missed: tuple[LimitFact, ...], sample: Sample) -> Title:
    """Name minimums with what they lack, raised to the whole audience; empty where none is.

    Parameters
    ----------
    missed
        Minimums that are missed.
    sample
        Of which customers.
    """
    if not missed:
        return _NONE

    def of_all(number: float) -> str:
        return f"{number * sample.scale:,.4g}"

    return {
        "zh": "；".join(f"{m.name} 缺 {of_all(m.shortfall)}/{of_all(m.bound)}" for m in missed),
        "en": "; ".join(
            f"{m.name} lacks {of_all(m.shortfall)} of {of_all(m.bound)}" for m in missed
        ),
    }


def _reasonableness(findings: Findings, sample: Sample) -> Rows:
    del sample
    expected = findings.forecast
    rows: Rows = []
    if findings.fatigue:
        window = max(findings.fatigue, key=lambda f: f.share_above)
        note = {
            "zh": f"近 {window.days} 天超过 {window.most} 次",
            "en": f"more than {window.most} in {window.days} days",
        }
        rows.append(("fatigue", window.share_above, note))
    rows.append(("overlap", findings.overlap.share, _names(findings.overlap)))
    rows += _fairness(findings.fairness)
    prices = [t.price_ratio for t in findings.fairness]
    known = [ratio for ratio in prices if not isinstance(ratio, NotEstimable)]
    if known:
        rows.append(("price_fairness", min(known), _NONE))
    earned = expected.profit.mean + expected.spend.mean
    share: Figure = expected.spend.mean / earned if earned > 0 else BEYOND
    if not expected.contacts:
        share = NO_CONTACT
    rows.append(("cost_share", share, _NONE))
    return rows


def _fairness(traits: tuple[Fairness, ...]) -> Rows:
    """Judge the trait with the lowest ratio among those that chance does not explain."""
    if not traits:
        reason = {"zh": "没有可用于比较的群体标签。", "en": "There is no tag to form groups by."}
        return [("fairness", NotEstimable(reason), _NONE)]
    uneven = [t for t in traits if not isinstance(t.ratio, NotEstimable) and t.p_value < UNEVEN_P]
    if not uneven:
        return [("fairness", 1.0, _NONE)]
    trait = min(uneven, key=_ratio_of)
    shown = [group for group in trait.groups if group.value]
    note = {
        language: f"{trait.title[language]}: {shown[0].value} {shown[0].rate:.1%}, "
        f"{shown[-1].value} {shown[-1].rate:.1%}"
        for language in ("zh", "en")
    }
    return [("fairness", trait.ratio, note)]


def _ratio_of(trait: Fairness) -> float:
    return 1.0 if isinstance(trait.ratio, NotEstimable) else trait.ratio


def _soundness(findings: Findings, sample: Sample) -> Rows:
    expected, design = findings.forecast, findings.design
    note = _NONE
    if not isinstance(design.detectable, NotEstimable):
        note = {
            "zh": f"对照 {design.control:,} 户，可检出 {design.detectable:.4g}，"
            f"目标 {design.target:.4g}",
            "en": f"{design.control:,} in control show {design.detectable:.4g}, "
            f"target {design.target:.4g}",
        }
    rows: Rows = [
        ("power", design.power, note),
        ("misclaim", *_misclaim(expected)),
        ("worst_cell", *_worst_cell(expected)),
        ("backing", expected.backing, _NONE),
        ("gap", findings.certificate.gap, _NONE),
        ("spoilt_control", findings.overlap.control_share, _names(findings.overlap)),
    ]
    if not sample.is_whole:
        last = findings.reach[-1]
        error: Figure = last.error / last.left if last.left else NO_CONTACT
        rows.append(("sample_error", error, _NONE))
    if findings.simulation is not None:
        rows.append(("twin_distance", *_distance(findings.simulation, expected, sample)))
    return rows


def _misclaim(expected: Forecast) -> tuple[Figure, Title]:
    ratio = expected.overclaim
    if isinstance(ratio, NotEstimable):
        return ratio, _NONE
    note = {
        "zh": f"方案自报 {expected.claimed:,.0f} 笔，历史支持 {expected.conversions.mean:,.0f} 笔",
        "en": f"the plan claims {expected.claimed:,.0f}, history supports "
        f"{expected.conversions.mean:,.0f}",
    }
    return _folds(ratio) if expected.p_value < CLEAR_P else 1.0, note


def _worst_cell(expected: Forecast) -> tuple[Figure, Title]:
    tried = [cell for cell in expected.cells if cell.past_contacts >= TRIED]
    clear = [cell for cell in tried if cell.p_value < CLEAR_CELL_P / len(tried)]
    if not clear:
        return 1.0, _NONE
    cell = max(clear, key=lambda c: _folds(c.overclaim))
    seen = cell.past_accepted / cell.past_contacts
    claim = cell.claimed / max(cell.contacts, 1)
    return _folds(cell.overclaim), {
        "zh": f"{cell.offer_id} · {cell.channel}：自报 {claim:.1%}，历史 {seen:.1%}",
        "en": f"{cell.offer_id} · {cell.channel}: claimed {claim:.1%}, seen {seen:.1%}",
    }


def _distance(played: Simulation, expected: Forecast, sample: Sample) -> tuple[Figure, Title]:
    """Return how far the simulated count lies from the mean, 1 = the interval's end."""
    # a count of few customers, scaled up, would carry a noise that the whole campaign has not
    simulated = float(played.accepted) if sample.is_whole else played.expected * sample.scale
    middle = expected.conversions
    side = middle.high - middle.mean if simulated > middle.mean else middle.mean - middle.low
    distance = abs(simulated - middle.mean)
    note = {
        "zh": f"孪生转化 {simulated:,.0f} 笔，预期 {middle.low:,.0f} 至 {middle.high:,.0f} 笔",
        "en": f"{simulated:,.0f} in the twin, {middle.low:,.0f} to {middle.high:,.0f} expected",
    }
    return distance / max(side, 0.5), note


def _effect(findings: Findings, sample: Sample) -> Rows:
    del sample
    expected = findings.forecast
    low: Figure = expected.roi.low if isinstance(expected.roi, Interval) else expected.roi
    middle = expected.conversions
    width: Figure = (middle.high - middle.low) / middle.mean if middle.mean > 0 else NO_CONTACT
    return [
        ("goal_chance", expected.goal_chance, _NONE),
        ("loss_chance", expected.loss_chance, _NONE),
        ("return_low", low, _NONE),
        ("precision", width, _NONE),
    ]


def _folds(ratio: float) -> float:
    return math.exp(abs(math.log(max(ratio, 1e-9))))


def _join(texts: tuple[Mapping[str, str], ...]) -> Title:
    if not texts:
        return _NONE
    return {
        "zh": "；".join(text["zh"] for text in texts),
        "en": "; ".join(text["en"] for text in texts),
    }


def _names(overlap: Overlaps) -> Title:
    names = ", ".join(other.campaign_id for other in overlap.campaigns[:3])
    return {"zh": names, "en": names} if names else _NONE
