"""Chapters on what was planned: goal, audience, model, offers, allocation, decision.

Each takes the campaign's data and gives a section or None. A finding is a sentence that a planner
can say aloud in a meeting; it never claims more than the figures behind it.
"""

from __future__ import annotations

import math

from bihuan.evaluation.report.chart import Axis, Bar, Bars, Lines, Series, Tone, waterfall
from bihuan.evaluation.report.page import Column, Section, Table
from bihuan.evaluation.report.summary import CampaignReport, LimitSummary, ModelSummary
from bihuan.evaluation.roi import Estimate
from bihuan.evaluation.text import Kind, Text, Value, both, reason_of
from bihuan.kernel import NotEstimable

_CUSTOMERS = Text("客户数", "Customers")
_STEP = Text("步骤", "Step")
_SHARE = Text("占比", "Share")


def goal(campaign: CampaignReport) -> Section | None:
    """Write the goal and, if it is known, what was reached."""
    given = campaign.goal
    if given is None:
        return None
    target = both(given.kind, given.target, currency=campaign.currency)
    finding = Text("目标：{metric}达到 {target}。", "Goal: {metric} of {target}.")
    reached, verdict = given.reached, _verdict(given.reached, given.target)
    shown: Text | None = None
    if isinstance(reached, NotEstimable):
        shown = reason_of(reached)
        finding = Text(
            "目标：{metric}达到 {target}；是否达成无法估计。",
            "Goal: {metric} of {target}; whether it was reached cannot be estimated.",
        )
    elif reached is not None:
        value = reached.value if isinstance(reached, Estimate) else reached
        shown = both(given.kind, value, currency=campaign.currency)
        finding = Text(
            "目标：{metric}达到 {target}；结果为 {reached}，{verdict}。",
            "Goal: {metric} of {target}; the result is {reached}, {verdict}.",
        )
    period = Text("{a} 至 {b}", "{a} to {b}").fill(a=given.starts_on, b=given.ends_on)
    return Section(
        "goal",
        Text("目标", "Goal"),
        finding.fill(metric=given.metric, target=target, reached=shown, verdict=verdict),
        notes=(
            Text("原因：{r}", "Why: {r}").fill(r=given.reason),
            Text("活动期：{p}", "Period: {p}").fill(p=period),
        ),
    )


def _verdict(reached: float | Estimate | NotEstimable | None, target: float) -> Text:
    """Say whether the goal was met; with an interval around the target, nobody knows."""
    low = high = reached
    if isinstance(reached, Estimate):
        low, high = reached.low, reached.high
    if isinstance(low, (int, float)) and low >= target:
        return Text("目标已达成", "so the goal was met")
    if isinstance(high, (int, float)) and high < target:
        return Text("目标未达成", "so the goal was missed")
    return Text(
        "区间包含目标，是否达成尚不能断定",
        "but its interval holds the target: whether the goal was met is open",
    )


def audience(campaign: CampaignReport) -> Section | None:
    """Write whom the campaign was for, and who was left in peace."""
    given = campaign.audience
    if given is None:
        return None
    everyone = Text("全部客户", "All customers")
    left = Text("可接触客户", "Customers who may be contacted")
    removed = (
        (Text("不符合规则", "Not matched by the rule"), given.considered - given.matched),
        *given.suppressed,
    )
    share = given.reachable / given.considered if given.considered else None
    rows: list[tuple[Value, ...]] = [(everyone, given.considered, 1.0)]
    rows += [
        (name, -n, -n / given.considered if share is not None else None) for name, n in removed
    ]
    rows.append((left, given.reachable, share))
    return Section(
        "audience",
        Text("目标客户", "Audience"),
        Text(
            "{considered:,} 户中，规则选出 {matched:,} 户；排除后可接触 {left:,} 户（{share}）。",
            "Of {considered:,} customers the rule chose {matched:,}; after the exclusions "
            "{left:,} may be contacted ({share}).",
        ).fill(
            considered=given.considered,
            matched=given.matched,
            left=given.reachable,
            share=both(Kind.SHARE, share),
        ),
        waterfall(
            Text(
                "从全部客户到可接触客户（户）", "From all customers to those who may be contacted"
            ),
            Text(
                "全部 {a:,} 户，逐步排除后剩 {b:,} 户。",
                "{a:,} customers, {b:,} left after each exclusion in turn.",
            ).fill(a=given.considered, b=given.reachable),
            (everyone, given.considered),
            removed,
            left,
        ),
        Table(
            (
                Column(_STEP),
                Column(_CUSTOMERS, Kind.COUNT),
                Column(_SHARE, Kind.SHARE),
            ),
            tuple(rows),
        ),
        (Text("规则：{r}", "Rule: {r}").fill(r=given.rule),),
    )


def model(campaign: CampaignReport) -> Section | None:
    """Write the model card: what it can tell apart and whether its probabilities hold."""
    card = campaign.model
    if card is None:
        return None
    tenth = _reached_at(card, 0.1)
    auc = f"{card.auc:.3f}"
    if card.auc_low is not None and card.auc_high is not None:
        auc += f" ({card.auc_low:.3f}–{card.auc_high:.3f})"
    figures: tuple[tuple[Value, ...], ...] = (
        (Text("算法", "Learner"), card.learner),
        (Text("数据日期", "Data as of"), card.trained_as_of),
        (Text("学习样本（户）", "Customers learned from"), both(Kind.COUNT, card.n_customers)),
        (Text("样本响应率", "Response rate among them"), both(Kind.SHARE, card.base_rate)),
        (Text("特征数", "Features"), both(Kind.COUNT, card.n_features)),
        (Text("AUC（留出数据）", "AUC on held-out data"), auc),
        *(
            (
                Text("前 {p} 客户覆盖的响应者", "Responders among the top {p}").fill(
                    p=f"{share:.0%}"
                ),
                both(Kind.SHARE, _reached_at(card, share)),
            )
            for share in (0.1, 0.2, 0.3, 0.5)
        ),
        *(
            (
                Text("预测 {p} 时的实际响应率", "Observed rate where {p} was predicted").fill(
                    p=both(Kind.SHARE, predicted)
                ),
                both(Kind.SHARE, observed),
            )
            for predicted, observed in card.calibration
        ),
    )
    return Section(
        "model",
        Text("模型", "Model"),
        Text(
            "{title}：得分最高的 10% 客户包含 {reached} 的响应者，"
            "是随机挑选的 {times} 倍；AUC 为 {auc}。",
            "{title}: the top 10% by score hold {reached} of the responders, {times} times as many "
            "as a random tenth; AUC {auc}.",
        ).fill(
            title=card.title, reached=both(Kind.SHARE, tenth), times=f"{tenth * 10:.1f}", auc=auc
        ),
        (_gains(card), _calibration(card)),
        Table((Column(Text("项目", "Item")), Column(Text("值", "Value"), Kind.NUMBER)), figures),
        (
            Text(
                "增益图：按得分从高到低接触时能覆盖多少响应者；校准图：预测的概率与实际发生的比例。",
                "Gains: how many responders are reached when customers are contacted in order of "
                "score. Calibration: predicted probability against what happened.",
            ),
        ),
    )


def _reached_at(card: ModelSummary, share: float) -> float:
    """Interpolate the gains curve."""
    for (x0, y0), (x1, y1) in zip(card.gains, card.gains[1:], strict=False):
        if x0 <= share <= x1:
            return y0 + (y1 - y0) * ((share - x0) / (x1 - x0) if x1 > x0 else 1.0)
    return card.gains[-1][1] if card.gains else math.nan


def _gains(card: ModelSummary) -> Lines:
    rate = min(max(card.base_rate, 1e-9), 1.0)
    return Lines(
        Text("增益", "Gains"),
        Text("响应者覆盖比例随接触比例的变化。", "Share of responders by share contacted."),
        Axis(Text("接触的客户比例", "Share of customers contacted"), Kind.SHARE, 0, 1),
        Axis(Text("覆盖的响应者比例", "Share of responders reached"), Kind.SHARE, 0, 1),
        (
            Series(Text("模型", "Model"), card.gains, Tone.ACCENT),
            Series(Text("随机", "Random"), ((0, 0), (1, 1)), Tone.FAINT),
            Series(Text("完美", "Perfect"), ((0, 0), (rate, 1), (1, 1)), Tone.PLAIN),
        ),
    )


def _calibration(card: ModelSummary) -> Lines:
    top = max((value for pair in card.calibration for value in pair), default=1.0)
    end = min(1.0, math.ceil(top * 10.5) / 10)
    return Lines(
        Text("校准", "Calibration"),
        Text("预测概率与实际响应率。", "Predicted probability and observed rate."),
        Axis(Text("预测的响应概率", "Predicted probability"), Kind.SHARE, 0, end),
        Axis(Text("实际的响应率", "Observed rate"), Kind.SHARE, 0, end),
        (
            Series(Text("模型", "Model"), card.calibration, Tone.ACCENT, dots=True),
            Series(Text("完全一致", "Perfect"), ((0, 0), (end, end)), Tone.FAINT),
        ),
    )


def offers(campaign: CampaignReport) -> Section | None:
    """Write which offers were assigned to how many customers."""
    if not campaign.offers:
        return None
    ranked = sorted(campaign.offers, key=lambda offer: -offer.assigned)
    total, first = sum(offer.assigned for offer in ranked), ranked[0]
    return Section(
        "offers",
        Text("产品", "Offers"),
        Text(
            "{n} 个产品共分配给 {total:,} 户，最多的是「{title}」（{count:,} 户）。",
            '{n} offers were assigned to {total:,} customers, most often "{title}" ({count:,}).',
        ).fill(n=len(ranked), total=total, title=first.title, count=first.assigned),
        Bars(
            Text("分配的客户数", "Customers by offer"),
            Text("各产品分配到的客户数。", "Customers assigned to each offer."),
            Kind.COUNT,
            tuple(
                Bar(offer.title, offer.assigned, Tone.ACCENT if offer is first else Tone.PLAIN)
                for offer in ranked
            ),
        ),
        Table(
            (
                Column(Text("产品", "Offer")),
                Column(_CUSTOMERS, Kind.COUNT),
                Column(Text("月价", "Monthly price"), Kind.PRICE),
                Column(Text("每笔毛利", "Margin per sale"), Kind.PRICE),
            ),
            tuple((o.title, o.assigned, o.price, o.margin) for o in ranked),
        ),
    )


def allocation(campaign: CampaignReport) -> Section | None:
    """Write the certificate, and the shadow prices in words."""
    given = campaign.allocation
    if given is None:
        return None
    currency = campaign.currency
    scarce = [limit for limit in given.limits if limit.price > 0]
    dearest = max(scarce, key=lambda limit: limit.price, default=None)
    finding = Text(
        "分配的期望价值为 {value}，与任何可行方案的上限相差不超过 {gap}。",
        "The allocation's expected value is {value}, within {gap} of the best that any plan could "
        "reach.",
    ).fill(value=both(Kind.MONEY, given.value, currency=currency), gap=_small_share(given.gap))
    return Section(
        "allocation",
        Text("资源分配", "Allocation"),
        finding,
        Bars(
            Text("各项限额的使用率", "Use of each limit"),
            Text("已用额度占限额的比例。", "Used part of each limit."),
            Kind.SHARE,
            tuple(
                Bar(
                    limit.title,
                    limit.used / limit.bound if limit.bound else 0.0,
                    Tone.ACCENT if limit is dearest else Tone.PLAIN,
                    note=_worth(limit, currency) if limit.price > 0 else None,
                )
                for limit in given.limits
            ),
        )
        if given.limits
        else None,
        Table(
            (
                Column(Text("限额", "Limit")),
                Column(Text("已用", "Used"), Kind.COUNT),
                Column(Text("上限", "Bound"), Kind.COUNT),
                Column(Text("单位", "Unit")),
                Column(Text("影子价格", "Shadow price"), Kind.PRICE),
            ),
            tuple((li.title, li.used, li.bound, li.unit, li.price) for li in given.limits),
        ),
        tuple(_price_in_words(limit, currency) for limit in given.limits),
    )


def _small_share(share: float) -> Text:
    """Write a gap; below a hundredth of a per cent say so rather than nought."""
    if share < 0.0001:
        return Text("0.01%", "0.01%")
    return Text(f"{share * 100:.2f}%", f"{share * 100:.2f}%")


def _worth(limit: LimitSummary, currency: str) -> Text:
    return Text("再加一个值 {p}", "one more is worth {p}").fill(
        p=both(Kind.PRICE, limit.price, currency=currency)
    )


def _price_in_words(limit: LimitSummary, currency: str) -> Text:
    if limit.price <= 0:
        return Text(
            "{limit}：还有余量，再加不会增加价值。",
            "{limit}: not scarce; more of it would add nothing.",
        ).fill(limit=limit.title)
    return Text(
        "{limit}：已经用满，每再加 1 {unit}，期望价值可增加 {price}。",
        "{limit}: used up; one more {unit} would add {price} of expected value.",
    ).fill(
        limit=limit.title,
        unit=limit.unit,
        price=both(Kind.PRICE, limit.price, currency=currency),
    )


def decision(campaign: CampaignReport) -> Section | None:
    """Write what became of everybody considered, up to the random hold-out."""
    given = campaign.decision
    if given is None:
        return None
    planned = given.control + given.treatment
    share = both(Kind.SHARE, given.control / planned if planned else None)
    considered = Text("进入决策", "Considered")
    contact = Text("计划接触（实验组）", "To contact (treatment)")
    held = Text("随机留出（对照组）", "Held out at random (control)")
    removed = (*given.no_contact, (held, given.control))
    rows: list[tuple[Value, ...]] = [(considered, given.considered)]
    rows += [(name, -count) for name, count in removed]
    return Section(
        "decision",
        Text("决策", "Decision"),
        Text(
            "{considered:,} 户进入决策，{planned:,} 户值得接触；其中随机留出 {control:,} 户"
            "（{share}）作对照，其余 {treatment:,} 户下发。",
            "Of {considered:,} customers considered, {planned:,} were worth a contact; "
            "{control:,} of them ({share}) were held out at random, {treatment:,} are to be "
            "contacted.",
        ).fill(
            considered=given.considered,
            planned=planned,
            control=given.control,
            share=share,
            treatment=given.treatment,
        ),
        waterfall(
            Text("从进入决策到下发（户）", "From consideration to contact (customers)"),
            Text(
                "{a:,} 户进入决策，{b:,} 户下发。", "{a:,} considered, {b:,} to be contacted."
            ).fill(a=given.considered, b=given.treatment),
            (considered, given.considered),
            removed,
            contact,
        ),
        Table(
            (Column(_STEP), Column(_CUSTOMERS, Kind.COUNT)),
            (*rows, (contact, given.treatment)),
        ),
        (
            Text(
                "对照组在下发之前由系统随机抽取并记录，因此两组之差就是活动的作用。",
                "The control group was drawn at random and logged before delivery; that is why the "
                "difference between the groups is the effect of the campaign.",
            ),
        ),
    )
