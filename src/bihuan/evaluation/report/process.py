"""Chapters on the way from plan to order: the delivery funnel and what to mend in it."""

from __future__ import annotations

from bihuan.evaluation.funnel import STATIONS, STEPS, FunnelRow
from bihuan.evaluation.report.chart import Bar, Bars, Tone
from bihuan.evaluation.report.page import Column, Section, Table
from bihuan.evaluation.report.summary import CampaignReport
from bihuan.evaluation.review import review_process
from bihuan.evaluation.text import MISSING, Kind, Text, both, name_of

_CHANNEL = Text("渠道", "Channel")
_TOTAL = Text("合计", "Total")


def delivery(campaign: CampaignReport) -> Section | None:
    """Write the delivery funnel and its break."""
    result = campaign.funnel
    if result is None or not result.overall.planned:
        return None
    whole, worst = result.overall, result.overall.break_point
    finding = Text(
        "计划 {planned:,} 次接触，订购 {orders:,} 单（{rate}）",
        "{planned:,} contacts planned, {orders:,} orders ({rate})",
    ).fill(
        planned=whole.planned,
        orders=whole.reached[-1],
        rate=both(Kind.SHARE, whole.order_rate),
    )
    if worst is not None:
        finding = Text(
            "{finding}；流失最多的是「{step}」：{lost:,} 次，占该步的 {share}",
            '{finding}; most are lost at "{step}": {lost:,}, {share} of those who came that far',
        ).fill(
            finding=finding,
            step=worst.title,
            lost=worst.lost,
            share=both(Kind.SHARE, worst.lost / worst.entered),
        )
    steps = whole.steps
    bars = [Bar(STATIONS["planned"], whole.planned)]
    bars += [
        Bar(
            STATIONS[step.after],
            step.passed,
            Tone.ACCENT if worst == step else Tone.PLAIN,
            note=Text("前一步的 {r}", "{r} of the step before").fill(r=both(Kind.SHARE, step.rate)),
        )
        for step in steps
    ]
    return Section(
        "delivery",
        Text("下发漏斗", "Delivery funnel"),
        Text("{f}。", "{f}.").fill(f=finding),
        Bars(
            Text("到达每一步的接触次数", "Contacts that reached each step"),
            Text("从计划到订购的漏斗。", "The funnel from plan to order."),
            Kind.COUNT,
            tuple(bars),
        ),
        _funnel_table(campaign, (*result.by_channel, whole)),
        tuple(_funnel_notes(campaign)),
    )


def _funnel_table(campaign: CampaignReport, rows: tuple[FunnelRow, ...]) -> Table:
    names = {**campaign.words, "all": _TOTAL}
    return Table(
        (
            Column(_CHANNEL),
            *(Column(STATIONS[station], Kind.COUNT) for station in STEPS),
            Column(Text("订购率", "Order rate"), Kind.SHARE),
            Column(Text("断点", "Break")),
        ),
        tuple(
            (
                name_of(row.key, names),
                *(
                    None if row.is_silent and station == "connected" else count
                    for station, count in zip(STEPS, row.reached, strict=True)
                ),
                row.order_rate,
                row.break_point.title if row.break_point else MISSING,
            )
            for row in rows
        ),
    )


def _funnel_notes(campaign: CampaignReport) -> list[Text]:
    result = campaign.funnel
    if result is None:
        return []
    ends = result.overall.ends
    notes = [
        Text(
            "对账：{total:,} 次接触各有且仅有一个结局（抑制 {s:,}，失败 {f:,}，过期 {e:,}，"
            "未知 {u:,}，未执行 {p:,}）。",
            "Reconciled: each of the {total:,} contacts has exactly one end ({s:,} suppressed, "
            "{f:,} failed, {e:,} expired, {u:,} unknown, {p:,} pending).",
        ).fill(
            total=ends.total, s=ends.suppressed, f=ends.failed, e=ends.expired, u=ends.unknown,
            p=ends.pending,
        )
    ]  # fmt: skip
    silent = Text(
        "{c}不回报接通，送达即按接通计。",
        "{c} reports no connection; a delivered message counts as connected.",
    )
    names = campaign.words
    notes += [silent.fill(c=name_of(channel, names)) for channel in result.silent_channels]
    if result.conflicts:
        notes.append(
            Text(
                "{n:,} 次接触已被抑制却仍有接触结果，请检查渠道。",
                "{n:,} contacts were suppressed and yet carried out: check the channel.",
            ).fill(n=result.conflicts)
        )
    if result.strays:
        notes.append(
            Text(
                "{n:,} 条结果不属于本次计划，未计入。",
                "{n:,} outcome rows do not belong to this plan and are left out.",
            ).fill(n=result.strays)
        )
    return notes


def review(campaign: CampaignReport) -> Section | None:
    """Write what to examine at each channel's break."""
    findings = review_process(campaign.funnel) if campaign.funnel is not None else ()
    if not findings:
        return None
    names, worst = campaign.words, findings[0]
    return Section(
        "review",
        Text("过程复盘", "Process review"),
        Text(
            "先看{c}的「{step}」：{advice}",
            'Look first at "{step}" of {c}. {advice}',
        ).fill(c=name_of(worst.channel, names), step=worst.step.title, advice=worst.advice),
        Bars(
            Text("各渠道断点流失的接触次数", "Contacts lost at each channel's break"),
            Text("各渠道流失最多的一步。", "The step at which each channel loses most."),
            Kind.COUNT,
            tuple(
                Bar(
                    name_of(finding.channel, names),
                    finding.step.lost,
                    Tone.ACCENT if finding is worst else Tone.PLAIN,
                    note=finding.step.title,
                )
                for finding in findings
            ),
        ),
        Table(
            (
                Column(_CHANNEL),
                Column(Text("断点", "Break")),
                Column(Text("流失", "Lost"), Kind.COUNT),
                Column(Text("通过率", "Passed"), Kind.SHARE),
                Column(Text("最多的原因", "Most frequent reason")),
                Column(Text("检查什么", "What to examine")),
            ),
            tuple(
                (
                    name_of(finding.channel, names),
                    finding.step.title,
                    finding.step.lost,
                    finding.step.rate,
                    Text("{r}（{n:,} 次）", "{r} ({n:,})").fill(
                        r=finding.top_reason, n=finding.top_reason_count
                    )
                    if finding.top_reason
                    else MISSING,
                    finding.advice,
                )
                for finding in findings
            ),
        ),
    )
