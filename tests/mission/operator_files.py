"""Definition files of the simulated operator: model, tags, offers, campaigns; and a seat's report."""

from __future__ import annotations

from collections.abc import Sequence

from .by_hand import Rows

CHURN_FILE = """
label: left_in_month
lead_months: 1
population: not is_disconnected
features:
  [arpu, arpu_trend, dou, tenure_months, has_contract, contract_days_left, complaint_count_3m]
model:
  name: churn
  title: {zh: 离网概率, en: Probability to leave}
  label: {zh: 次月离网, en: Leaves next month}
  owner: data team
  learner: logistic
"""
NEWSPAPER_TAGS = """
defaults: {subject: customer, owner: 增值业务组, state: live, category: 增值/手机报}
tags:
  - name: mms_count
    title: {zh: 当月彩信条数, en: "Multimedia messages, this month"}
    layer: base
    means: statistics
    type: integer
    source: usage
    expression: sum(mms_count)
    default: 0
    meaning: {zh: 当月发送的彩信条数, en: Multimedia messages sent this month}
    definition: {zh: 当月彩信条数之和, en: Sum of the month's multimedia messages}
  - name: has_newspaper
    title: {zh: 已订手机报, en: Has the mobile newspaper}
    layer: base
    means: statistics
    type: boolean
    source: holding
    expression: bool_or(product_id = 'newspaper' and status = 'active')
    default: false
    meaning: {zh: 是否已订制手机报, en: Whether the mobile newspaper is subscribed}
    definition: {zh: 有生效的手机报订购, en: An active holding of the newspaper}
  - name: brand
    title: {zh: 品牌, en: Brand}
    layer: portrait
    means: experience
    type: string
    expression: "case when main_product in $gotone then 'gotone' else 'other' end"
    thresholds: {gotone: [plan_129, plan_199]}
    codes:
      gotone: {zh: 全球通, en: GoTone}
      other: {zh: 其他, en: other}
    meaning: {zh: 客户品牌, en: Brand of the customer}
    definition: {zh: 主套餐为 129 元及以上的为全球通, en: "GoTone if the plan is 129 or more"}
  - name: newspaper_points
    title: {zh: 手机报意向分, en: Points for the newspaper}
    layer: marketing
    means: mining
    type: number
    model: newspaper
    meaning: {zh: 由显性属性组合而成的意向分, en: Interest combined from explicit attributes}
    definition: {zh: 评分卡 newspaper 的总分, en: Points of the scorecard newspaper}
"""
OFFER_FILE = """
offers:
  - offer_id: keep_12
    title: {zh: 话费合约 12 个月, en: "Bill-credit contract, 12 months"}
    kind: contract
    products: [contract_12]
    price: 0
    months: 12
    margin: 60
    cost: 20
    eligibility: "not has_contract"
    channels: [outbound, sms, app]
  - offer_id: keep_24
    title: {zh: 购机合约 24 个月, en: "Handset contract, 24 months"}
    kind: contract
    products: [contract_24, handset]
    price: 10
    months: 24
    margin: 150
    cost: 80
    eligibility: "not has_contract and tenure_months >= 12 and arpu >= 60"
    channels: [outbound, app]
  - offer_id: data_pack
    title: {zh: 5G 流量包, en: 5G data pack}
    kind: addon
    products: [data_5g, video_pass]
    price: 20
    months: 6
    margin: 40
    cost: 5
    eligibility: "dou >= 4000"
    channels: [sms, app]
"""
CAMPAIGN_FILE = """
campaign_id: {campaign_id}
title: {{zh: 存量客户保有, en: Keeping customers}}
goal:
  metric: {metric}
  target: 0.01
  reason: {{zh: 上季度离网率上升, en: More customers left last quarter}}
  needs: {{zh: 实惠与流量, en: Savings and data}}
  starts_on: {starts_on}
  ends_on: {ends_on}
audience: "{audience}"
control_share: {control_share}
budget: 12000
{more}
channels:
  outbound: {{capacity: 220, unit_cost: 2.0}}
  sms: {{capacity: 500, unit_cost: 0.05}}
  app: {{capacity: 300, unit_cost: 0.01}}
scripts:
  call: {{zh: 您好，这里是客户服务。, en: "Hello, this is customer care."}}
  text: {{zh: 专属优惠已为您预留，拒收请回复 R, en: "Reserved for you. Reply R to refuse."}}
  push: {{zh: 专属优惠，点击查看, en: Tap to see your offer.}}
mix:
  - offer: keep_12
    promotion: {{zh: 每月返还话费, en: credit on every bill}}
    channels:
      outbound: {{script: call, acceptance: 0.3}}
      sms: {{script: text, acceptance: 0.1}}
  - offer: keep_24
    promotion: {{zh: 购机立减, en: handset discount}}
    channels:
      outbound: {{script: call, acceptance: 0.25}}
      app: {{script: push, acceptance: 0.12}}
    maximum: 150
  - offer: data_pack
    promotion: {{zh: 首月半价, en: first month half price}}
    channels:
      sms: {{script: text, acceptance: 0.15}}
      app: {{script: push, acceptance: 0.18}}
action_plan:
  - what: {{zh: 下发清单并培训, en: Issue lists and brief}}
    post: planner
    starts_on: {starts_on}
    ends_on: {starts_on}
  - what: {{zh: 渠道执行并回单, en: Carry out and report}}
    post: channel_operator
    starts_on: {starts_on}
    ends_on: {ends_on}
requirements:
  - text: {{zh: 剔除后不少于 300 户, en: At least 300 customers remain}}
    check: audience_at_least
    value: 300
  - text: {{zh: 数据不超过 45 天, en: Data not older than 45 days}}
    check: data_age_at_most
    value: 45
"""


def campaign_text(**changes: object) -> str:
    """Return a campaign file; what is not given is as for the hand-reported campaign."""
    fields: dict[str, object] = {
        "campaign_id": "orders-2026-11",
        "metric": "ordered",
        "starts_on": "2026-11-01",
        "ends_on": "2026-11-30",
        "audience": "arpu >= 20 and not is_disconnected",
        "control_share": 0.3,
        "more": "",
    }
    return CAMPAIGN_FILE.format(**fields | changes)


def report_by_hand(assignments: Rows) -> Rows:
    """Write what seats report: of ten each ends in its own way, of one nothing is heard."""
    ways: Sequence[tuple[tuple[str, str], ...]] = (
        (("failed", "wrong_number"),),
        (("delivered", ""),),
        (("delivered", ""), ("connected", ""), ("refused", "wrong_tag:arpu")),
        (("delivered", ""), ("connected", ""), ("refused", "price")),
        (("delivered", ""), ("connected", "interested")),
        (("delivered", ""), ("connected", ""), ("accepted", "")),
        (("delivered", ""), ("connected", ""), ("accepted", ""), ("ordered", "")),
        (("delivered", ""), ("connected", ""), ("accepted", ""), ("ordered", "")),
        (("delivered", ""), ("connected", ""), ("accepted", ""), ("ordered", "")),
        (),
    )
    rows = []
    for number, assignment in enumerate(assignments):
        for hour, (stage, reason) in enumerate(ways[number % len(ways)]):
            is_call = assignment["channel"] == "outbound" and stage == "delivered"
            rows.append(
                {
                    "outcome_id": f"{assignment['assignment_id']}-{stage}",
                    "assignment_id": assignment["assignment_id"],
                    "customer_id": assignment["customer_id"],
                    "stage": stage,
                    "occurred_at": f"2026-11-05 {10 + hour}:00:00",
                    "channel": assignment["channel"],
                    "cost": "2.50" if is_call else "",  # the call centre bills what a call took
                    "reason": reason,
                    "source": "回单",
                }
            )
    return rows


RETENTION_OFFERS = """
offers:
  - offer_id: keep_12
    title: {zh: 话费合约 12 个月, en: "Bill-credit contract, 12 months"}
    kind: contract
    products: [contract_12]
    months: 12
    margin: {per_unit: 5.4, of: monthly_fee}
    cost: 3
    eligibility: "not has_contract"
    channels: [outbound, sms, app]
  - offer_id: keep_24
    title: {zh: 购机合约 24 个月, en: "Handset contract, 24 months"}
    kind: contract
    products: [contract_24, handset]
    price: 10
    months: 24
    margin: {per_unit: 10.8, of: monthly_fee}
    cost: 8
    eligibility: "not has_contract and tenure_months >= 12"
    channels: [outbound, app]
  - offer_id: data_pack
    title: {zh: 5G 流量包, en: 5G data pack}
    kind: vas
    products: [data_5g, video_pass]
    price: 20
    months: 6
    margin: {per_unit: 4.0, of: monthly_fee}
    cost: 2
    eligibility: "dou >= 4000"
    channels: [sms, app]
"""
