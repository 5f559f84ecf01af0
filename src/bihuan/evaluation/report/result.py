"""Chapters on what came out: effect, return, cost, and the data behind them."""

from __future__ import annotations

import math

from bihuan.evaluation.effect import Effect
from bihuan.evaluation.report.chart import Bar, Bars, Range, Ranges, Tone
from bihuan.evaluation.report.page import Column, Section, Table
from bihuan.evaluation.report.summary import CampaignReport
from bihuan.evaluation.roi import Estimate, Roi, RoiLine
from bihuan.evaluation.text import Kind, Text, Value, both, name_of, reason_of
from bihuan.kernel import NotEstimable

_CHANNEL = Text("渠道", "Channel")
_TOTAL = Text("合计", "Total")


STRATA_SHOWN = 12  # the largest are drawn; the table holds them all


def effect(campaign: CampaignReport) -> Section | None:
    """Write what the campaign changed, or why that cannot be said."""
    given = campaign.effect
    title = Text("效果", "Effect")
    if given is None:
        return None
    if isinstance(given, NotEstimable):
        finding = Text("活动效果无法估计：{r}", "The effect cannot be estimated: {r}")
        return Section("effect", title, finding.fill(r=reason_of(given)))
    kind, currency = campaign.figure_kind, campaign.currency
    ranges = [
        Range(
            Text("全部计划客户", "All planned customers"),
            given.estimate,
            given.low,
            given.high,
            campaign.true_effect,
            Tone.ACCENT,
        )
    ]
    names = campaign.words
    known = [s for s in given.strata if math.isfinite(s.low)] if len(given.strata) > 1 else []
    strata = sorted(known, key=lambda s: -s.n_control)[:STRATA_SHOWN]
    ranges += [Range(name_of(s.stratum, names), s.estimate, s.low, s.high) for s in strata]
    arms = Bars(
        Text("实验组与对照组", "Treatment and control"),
        Text("两组的平均响应。", "Mean response of both arms."),
        kind,
        (
            Bar(Text("实验组", "Treatment"), given.treatment_mean, Tone.ACCENT),
            Bar(Text("对照组", "Control"), given.control_mean, Tone.PLAIN),
        ),
    )
    intervals = Ranges(
        Text("效果及其 {l} 区间", "Effect with its {l} interval").fill(l=_level(given)),
        Text("{f}", "{f}").fill(f=both(kind.difference, given.estimate, currency=currency)),
        kind.difference,
        tuple(ranges),
    )
    return Section(
        "effect",
        title,
        _effect_finding(campaign, given),
        (arms, intervals),
        _effect_table(campaign, given),
        tuple(_effect_notes(campaign, given)),
    )


def _level(given: Effect) -> str:
    return f"{100 * (1 - given.alpha):g}%"


def _effect_finding(campaign: CampaignReport, given: Effect) -> Text:
    kind, currency = campaign.figure_kind.difference, campaign.currency
    sentence = Text(
        "看不出活动改变了{response}：估计为 {estimate}，{level} 区间 {interval} 包含零。",
        "No effect on {response} can be seen: {estimate}, and the {level} interval {interval} "
        "includes nought.",
    )
    if given.is_positive:
        sentence = Text(
            "活动使{response}提高了 {size}（{level} 区间 {interval}）。",
            "The campaign raised {response} by {size} ({level} interval {interval}).",
        )
    elif given.is_negative:
        sentence = Text(
            "活动使{response}下降了 {size}（{level} 区间 {interval}）。",
            "The campaign lowered {response} by {size} ({level} interval {interval}).",
        )
    size = both(kind, abs(given.estimate), currency=currency)
    return sentence.fill(
        response=campaign.response,
        size=Text(size.zh.lstrip("+"), size.en.lstrip("+")),
        estimate=both(kind, given.estimate, currency=currency),
        level=_level(given),
        interval=both(kind, given.low, high=given.high, currency=currency),
    )


def _effect_table(campaign: CampaignReport, given: Effect) -> Table:
    kind, names = campaign.figure_kind, campaign.words
    change = kind.difference
    rows: list[tuple[Value, ...]] = [
        (
            Text("全部计划客户", "All planned customers"),
            given.n_treatment,
            given.n_control,
            given.treatment_mean,
            given.control_mean,
            given.estimate,
            given.low,
            given.high,
        )
    ]
    rows += [
        (
            name_of(s.stratum, names),
            s.n_treatment,
            s.n_control,
            s.treatment_mean,
            s.control_mean,
            s.estimate,
            s.low,
            s.high,
        )
        for s in given.strata
    ]
    return Table(
        (
            Column(Text("分层", "Stratum")),
            Column(Text("实验组户数", "In treatment"), Kind.COUNT),
            Column(Text("对照组户数", "In control"), Kind.COUNT),
            Column(Text("实验组响应", "Response, treatment"), kind),
            Column(Text("对照组响应", "Response, control"), kind),
            Column(Text("效果", "Effect"), change),
            Column(Text("下限", "Low"), change),
            Column(Text("上限", "High"), change),
        ),
        tuple(rows),
    )


def _effect_notes(campaign: CampaignReport, given: Effect) -> list[Text]:
    notes = [given.method]
    if isinstance(given.lift, NotEstimable):
        notes.append(Text("相对提升：{r}", "Relative effect: {r}").fill(r=reason_of(given.lift)))
    else:
        notes.append(
            Text("相对提升 {v}（{l} 区间 {i}）。", "Relative effect {v} ({l} interval {i}).").fill(
                v=both(Kind.RATIO, given.lift.estimate),
                l=_level(given),
                i=both(Kind.RATIO, given.lift.low, high=given.lift.high),
            )
        )
    if len(given.strata) > STRATA_SHOWN:
        notes.append(
            Text(
                "图中只画出最大的 {n} 层，其余见数据表。",
                "The chart shows the {n} largest strata; the table holds them all.",
            ).fill(n=STRATA_SHOWN)
        )
    ratio = given.sample_ratio
    notes.append(
        Text(
            "样本比例检查：实验组应有 {e:,.0f} 户，实有 {o:,} 户（p = {p:.3g}）。",
            "Sample ratio check: {e:,.0f} customers expected in treatment, {o:,} found "
            "(p = {p:.3g}).",
        ).fill(e=ratio.expected_treatment, o=ratio.observed_treatment, p=ratio.p_value)
    )
    if campaign.true_effect is not None:
        inside = given.covers(campaign.true_effect)
        notes.append(
            Text(
                "▲ 模拟世界中已知的真实效果：{t}，{verdict}。",
                "▲ True effect, known because this world is simulated: {t}, {verdict}.",
            ).fill(
                t=both(
                    campaign.figure_kind.difference,
                    campaign.true_effect,
                    currency=campaign.currency,
                ),
                verdict=Text("落在区间内", "inside the interval")
                if inside
                else Text("在区间之外", "outside the interval"),
            )
        )
    return notes


def returns(campaign: CampaignReport) -> Section | None:
    """Write revenue, cost and return, incremental and (labelled) gross."""
    given = campaign.roi
    if given is None:
        return None
    currency, revenue = campaign.currency, given.incremental_revenue
    bars = [Bar(Text("成本", "Cost"), given.total.cost)]
    if isinstance(revenue, Estimate):
        name = Text("增量收入", "Incremental revenue")
        bars.append(Bar(name, revenue.value, Tone.ACCENT, low=revenue.low, high=revenue.high))
    gross = Text("毛收入（不是效果）", "Gross revenue (not the effect)")
    bars.append(Bar(gross, given.total.gross_revenue, Tone.FAINT))
    return Section(
        "return",
        Text("投入产出", "Revenue, cost and return"),
        _return_finding(given, currency),
        Bars(
            Text("收入与成本（{c}）", "Revenue and cost ({c})").fill(c=currency),
            Text("成本、增量收入与毛收入。", "Cost, incremental revenue and gross revenue."),
            Kind.MONEY,
            tuple(bars),
        ),
        _return_table(given, currency, campaign.gained),
        (
            Text(
                "增量 = 每户效果 × 计划接触的客户；毛收入还包括没有活动也会发生的购买，不是效果。",
                "Incremental = effect per customer × customers planned for contact. Gross also "
                "counts purchases that would have happened anyway: it is not the effect.",
            ),
            Text(
                "成本是实际发生额，区间只来自效果的不确定性。",
                "Costs are counted, not estimated: the intervals come from the effect alone.",
            ),
        ),
    )


def _return_finding(given: Roi, currency: str) -> Text:
    cost = both(Kind.MONEY, given.total.cost, currency=currency)
    revenue, back = given.incremental_revenue, given.roi
    if isinstance(revenue, NotEstimable):
        return Text(
            "投入 {cost}；增量收入无法估计：{reason}",
            "{cost} was spent; incremental revenue cannot be estimated: {reason}",
        ).fill(cost=cost, reason=reason_of(revenue))
    brought = Text(
        "投入 {cost}，带来增量收入 {revenue}（{interval}）",
        "{cost} brought {revenue} of incremental revenue ({interval})",
    ).fill(
        cost=cost,
        revenue=both(Kind.MONEY, revenue.value, currency=currency),
        interval=both(Kind.MONEY, revenue.low, high=revenue.high, currency=currency),
    )
    if isinstance(back, NotEstimable):
        return Text("{brought}。", "{brought}.").fill(brought=brought)
    return Text("{brought}，投资回报率 {v}（{i}）。", "{brought}: a return of {v} ({i}).").fill(
        brought=brought,
        v=both(Kind.RATIO, back.value),
        i=both(Kind.RATIO, back.low, high=back.high),
    )


def _return_table(given: Roi, currency: str, gained: Text) -> Table:
    def line(name: Text, estimate: Estimate | NotEstimable, kind: Kind) -> tuple[Value, ...]:
        if isinstance(estimate, NotEstimable):
            return (name, reason_of(estimate), None, None)
        figures = (estimate.value, estimate.low, estimate.high)
        return (name, *(both(kind, figure, currency=currency) for figure in figures))

    def counted(name: Text, figure: float, kind: Kind) -> tuple[Value, ...]:
        return (name, both(kind, figure, currency=currency), None, None)

    total = given.total
    gross = Text("毛回报率（不是效果）", "Gross return (not the effect)")
    return Table(
        (
            Column(Text("项目", "Item")),
            Column(Text("数值", "Value"), Kind.NUMBER),
            Column(Text("下限", "Low"), Kind.NUMBER),
            Column(Text("上限", "High"), Kind.NUMBER),
        ),
        (
            line(gained, given.incremental_sales, Kind.COUNT),
            line(Text("增量收入", "Incremental revenue"), given.incremental_revenue, Kind.MONEY),
            counted(Text("接触成本", "Contact cost"), total.contact_cost, Kind.MONEY),
            counted(Text("产品成本", "Offer cost"), total.offer_cost, Kind.MONEY),
            line(Text("增量利润", "Incremental profit"), given.incremental_profit, Kind.MONEY),
            line(Text("投资回报率", "Return on investment"), given.roi, Kind.RATIO),
            line(
                Text("{g}：每个的成本", "{g}: cost of each").fill(g=gained),
                given.cost_per_sale,
                Kind.PRICE,
            ),
            counted(
                Text("毛订购（不是效果）", "Gross orders (not the effect)"),
                total.orders,
                Kind.COUNT,
            ),
            counted(
                Text("毛收入（不是效果）", "Gross revenue (not the effect)"),
                total.gross_revenue,
                Kind.MONEY,
            ),
            (gross, reason_of(given.gross_roi), None, None)
            if isinstance(given.gross_roi, NotEstimable)
            else counted(gross, given.gross_roi, Kind.RATIO),
        ),
    )


def costs(campaign: CampaignReport) -> Section | None:
    """Write what each channel cost and was seen to bring (gross)."""
    if campaign.roi is None or not campaign.roi.by_channel:
        return None
    names = {**campaign.words, "all": _TOTAL}
    lines, total = campaign.roi.by_channel, campaign.roi.total
    dearest = lines[0]
    share = dearest.cost / total.cost if total.cost else None

    def row(line: RoiLine) -> tuple[Value, ...]:
        return (
            name_of(line.key, names),
            line.planned,
            line.contacts,
            line.contact_cost,
            line.cost_per_contact,
            line.offer_cost,
            line.orders,
            line.gross_rate,
            line.gross_revenue,
        )

    return Section(
        "cost",
        Text("分渠道成本", "Cost by channel"),
        Text(
            "{c}花费最多：{cost}，占总成本的 {share}。",
            "{c} cost most: {cost}, {share} of the total.",
        ).fill(
            c=name_of(dearest.key, names),
            cost=both(Kind.MONEY, dearest.cost, currency=campaign.currency),
            share=both(Kind.SHARE, share),
        ),
        Bars(
            Text("接触与产品成本（{c}）", "Contact and offer cost ({c})").fill(c=campaign.currency),
            Text("各渠道的成本。", "Cost of each channel."),
            Kind.MONEY,
            tuple(
                Bar(
                    name_of(line.key, names),
                    line.cost,
                    Tone.ACCENT if line is dearest else Tone.PLAIN,
                )
                for line in lines
            ),
        ),
        Table(
            (
                Column(_CHANNEL),
                Column(Text("计划", "Planned"), Kind.COUNT),
                Column(Text("送达", "Delivered"), Kind.COUNT),
                Column(Text("接触成本", "Contact cost"), Kind.MONEY),
                Column(Text("每次接触", "Per contact"), Kind.PRICE),
                Column(Text("产品成本", "Offer cost"), Kind.MONEY),
                Column(Text("毛订购", "Gross orders"), Kind.COUNT),
                Column(Text("毛订购率", "Gross order rate"), Kind.SHARE),
                Column(Text("毛收入", "Gross revenue"), Kind.MONEY),
            ),
            tuple(row(line) for line in (*lines, total)),
        ),
        (
            Text(
                "毛订购与毛收入包含没有活动也会发生的部分，不能用来比较渠道的效果。",
                "Gross orders and revenue include what would have happened anyway; they do not "
                "compare the channels' effects.",
            ),
        ),
    )


def data_notes(campaign: CampaignReport) -> Section:
    """Write date, currency and what must be known about the data."""
    return Section(
        "data",
        Text("数据说明", "About the data"),
        Text("数据截至 {d}，金额以 {c} 计。", "Data as of {d}; amounts in {c}.").fill(
            d=campaign.as_of, c=campaign.currency
        ),
        notes=campaign.notes,
    )
