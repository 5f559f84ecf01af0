"""Puts a campaign's report together: the strip of key figures and the chapters in order."""

from __future__ import annotations

import math

from bihuan.evaluation.effect import Effect
from bihuan.evaluation.report import plan, process, result
from bihuan.evaluation.report.page import KeyFigure, Report
from bihuan.evaluation.report.summary import CampaignReport
from bihuan.evaluation.roi import Estimate, Roi
from bihuan.evaluation.text import Kind, Text, both, reason_of
from bihuan.kernel import NotEstimable

_CHAPTERS = (
    plan.goal,
    result.effect,
    result.returns,
    plan.audience,
    plan.model,
    plan.offers,
    plan.allocation,
    plan.decision,
    process.delivery,
    process.review,
    result.costs,
)
"""Result first, then how it came about."""


def build_report(campaign: CampaignReport) -> Report:
    """Turn a campaign's data into a report; what is None or empty has no section.

    Parameters
    ----------
    campaign
        The data.

    Returns
    -------
    Report
        To be printed with ``write_html`` and ``write_pdf``.
    """
    made = (write(campaign) for write in _CHAPTERS)
    notes = result.data_notes(campaign)
    return Report(
        title=campaign.title,
        subtitle=Text("营销活动评估报告", "Campaign evaluation"),
        as_of=campaign.as_of,
        currency=campaign.currency,
        strip=tuple(_strip(campaign)),
        sections=(*(section for section in made if section), *campaign.extra, notes),
        alerts=campaign.effect.warnings if isinstance(campaign.effect, Effect) else (),
    )


def _strip(report: CampaignReport) -> list[KeyFigure]:
    figures = []
    if isinstance(report.effect, Effect):
        figures += _effect_figures(report, report.effect)
    elif report.effect is not None:
        figures.append(
            KeyFigure(
                Text("效果", "Effect"),
                Text("无法估计", "Not estimable"),
                note=reason_of(report.effect),
                is_main=True,
            )
        )
    if report.roi is not None:
        figures += _money_figures(report, report.roi)
    if report.decision is not None and len(figures) < 6:
        figures.append(
            KeyFigure(
                Text("计划接触 / 随机对照", "To contact / held out"),
                both(Kind.COUNT, report.decision.treatment),
                note=Text("随机对照 {n:,} 户", "{n:,} customers held out at random").fill(
                    n=report.decision.control
                ),
            )
        )
    return figures


def _effect_figures(report: CampaignReport, effect: Effect) -> list[KeyFigure]:
    kind = report.figure_kind.difference
    value = both(kind, effect.estimate, currency=report.currency)
    unit = None
    if kind is Kind.POINTS:
        value = Text(value.zh.split(" ")[0], value.en.split(" ")[0])
        unit = Text("个百分点", "pp")
    interval = both(kind, effect.low, high=effect.high, currency=report.currency)
    level = f"{100 * (1 - effect.alpha):g}%"
    return [
        KeyFigure(
            Text("活动效果（每户）", "Effect per planned customer"),
            value,
            unit=unit,
            note=Text("{level} 区间 {i}", "{level} interval {i}").fill(level=level, i=interval),
            is_main=True,
        )
    ]


def _money_figures(report: CampaignReport, roi: Roi) -> list[KeyFigure]:
    money = report.currency

    def figure(title: Text, estimate: Estimate | NotEstimable, kind: Kind) -> KeyFigure:
        if isinstance(estimate, NotEstimable):
            return KeyFigure(title, Text("无法估计", "Not estimable"), note=reason_of(estimate))
        note = both(kind, estimate.low, high=estimate.high, currency=money)
        if math.isinf(estimate.high):
            note = Text("至少 {low}", "at least {low}").fill(
                low=both(kind, estimate.low, currency=money)
            )
        return KeyFigure(title, both(kind, estimate.value, currency=money), note=note)

    return [
        figure(report.gained, roi.incremental_sales, Kind.COUNT),
        figure(Text("增量收入", "Incremental revenue"), roi.incremental_revenue, Kind.MONEY),
        KeyFigure(
            Text("成本", "Cost"),
            both(Kind.MONEY, roi.total.cost, currency=money),
            note=Text("接触 {a}，产品 {b}", "contacts {a}, offers {b}").fill(
                a=both(Kind.MONEY, roi.total.contact_cost, currency=money),
                b=both(Kind.MONEY, roi.total.offer_cost, currency=money),
            ),
        ),
        figure(Text("投资回报率", "Return on investment"), roi.roi, Kind.RATIO),
    ]
