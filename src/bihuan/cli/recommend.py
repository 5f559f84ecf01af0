"""Commands of the next best offer: one customer, all customers, why, step in, plan, event."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute
import pyarrow.parquet
import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here
from bihuan.cli.show import Screen
from bihuan.data import write_csv
from bihuan.decision import PHASES, Event, Wish
from bihuan.kernel import UserError
from bihuan.workspace import Workspace

recommend_app = typer.Typer(no_args_is_help=True, help="Next best offer, and why. 一户一荐。")
app.add_typer(recommend_app, name="recommend")

CustomerId = Annotated[str, typer.Argument(help="Customer id. 客户编号")]
CampaignId = Annotated[str, typer.Argument(help="Campaign. 方案")]
OnChannel = Annotated[str, typer.Option("--channel", help="Only through this channel. 渠道")]
Top = Annotated[int, typer.Option(min=1, help="How many offers at most. 最多推荐数")]
WhatOffer = Annotated[str, typer.Option("--offer", help="Offer id. 商品")]


@recommend_app.command(name="customer")
def recommend_customer(
    customer: CustomerId,
    as_of: AsOf,
    channel: OnChannel = "",
    top: Top = 3,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Say what to do with one customer now, with reasons to read aloud. 单客户推荐.

    Example: bihuan recommend customer c000000012 --as-of 2026-10-31 --channel hall
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.recommender.for_customer(customer, as_of, channel=channel or None, top=top)
    for item in found.items:
        net, way = screen.amount(item.net), screen.word("channel", item.channel)
        money = f"{item.value:,.2f} − {item.charge:,.2f} = {net}"
        screen.say(
            f"{item.rank}. [{way}] {item.reason['zh']}（价值 − 名额价格 = 净值：{money}）",
            f"{item.rank}. [{way}] {item.reason['en']} (value − price of room = net: {money})",
        )
    if not found.items:
        screen.say(
            f"目前没有适合的推荐。原因见：bihuan recommend campaigns {customer} --as-of {as_of}",
            "Nothing suits this customer at present. Why:  "
            f"bihuan recommend campaigns {customer} --as-of {as_of}",
        )
    _tell_left_out(ws, as_of, screen)
    screen.result(found)


@recommend_app.command(name="list")
def recommend_list(
    as_of: AsOf,
    audience: Annotated[str, typer.Option(help="Whom. 客户群条件")] = "everyone",
    channel: OnChannel = "",
    top: Top = 3,
    out: Annotated[Path | None, typer.Option(help="Write .csv or .parquet. 输出清单")] = None,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Recommend to everybody of an audience; count by offer, write the list. 批量推荐.

    Example: bihuan recommend list --as-of 2026-10-31 --audience "arpu >= 80" --out next.csv
    """
    ws, screen = open_here(workspace, as_json)
    wish = Wish(channel=channel or None, top=top)
    rows = ws.recommender.for_customers(as_of, audience, wish=wish)
    first = rows.filter(pyarrow.compute.equal(rows["rank"], 1))
    counts = first.group_by(["campaign_id", "offer_id", "channel"]).aggregate(
        [("net", "count"), ("net", "sum")]
    )
    counts = counts.rename_columns(["campaign", "offer", "channel", "customers", "net"])
    table = counts.sort_by([("customers", "descending")]).to_pylist()
    screen.table(
        [
            {"campaign": row["campaign"],
             "offer": screen.title(ws.catalogue.get(row["offer"]).title),
             "channel": screen.word("channel", row["channel"]),
             "customers": row["customers"], "net": round(row["net"], 2)}
            for row in table
        ],
        units={"net": "money"},
    )  # fmt: skip
    screen.say(
        f"{first.num_rows:,} 户有推荐；上表按第一推荐统计，净值为合计",
        f"{first.num_rows:,} customers have a recommendation; the table counts the first of each, "
        "net is the sum",
    )
    _tell_left_out(ws, as_of, screen)
    if out is not None and out.suffix == ".parquet":
        pyarrow.parquet.write_table(rows, out)
    elif out is not None:
        write_csv(rows, out)
    if out is not None:
        screen.say(f"已写出 {rows.num_rows:,} 行到 {out}", f"{rows.num_rows:,} rows in {out}")
    screen.result({"customers": first.num_rows, "rows": rows.num_rows, "first": table, "out": out})


@recommend_app.command(name="why")
def tell_why(
    campaign: CampaignId,
    customer: CustomerId,
    as_of: AsOf,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Tell the whole path of a customer through a decided campaign. 为什么推荐或不推荐.

    Example: bihuan recommend why retention-2026-11 c000000012 --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    told = ws.recommender.why(campaign, customer, as_of)
    screen.table(
        [
            {"phase": screen.title(PHASES[p.phase]), "check": screen.title(p.title),
             "came": p.came, "left": p.left}
            for p in told.path
        ]
    )  # fmt: skip
    screen.say(
        "检查项为剔除原因；数字为该客户剩余的候选（产品 × 渠道）数。",
        "A check is named by why it takes a candidate out; numbers are the customer's candidates "
        "(offer × channel) that came and were left.",
    )
    screen.say(told.text["zh"], told.text["en"])
    if not told.agrees:
        screen.say(
            "注意：规则或数据在决策之后有变化，以上路径与决策日志不一致。",
            "Note: rules or data have changed since; this path is not that of the log.",
        )
    screen.result(told)


@recommend_app.command(name="campaigns")
def match_campaigns(
    customer: CustomerId,
    as_of: AsOf,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Say which live campaign fits a customer best, and why not the others. 营销案匹配.

    Example: bihuan recommend campaigns c000000012 --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.recommender.match(customer, as_of)
    rows: list[dict[str, Any]] = [
        {"campaign": m.campaign_id, "title": screen.title(m.title),
         "offer": screen.title(ws.catalogue.get(m.offer_id).title) if m.offer_id else "",
         "channel": screen.word("channel", m.channel) if m.channel else "",
         "net": None if m.fell_at else round(m.net, 2),
         "why not": screen.title(m.fell_title) if m.fell_at else ""}
        for m in found
    ]  # fmt: skip
    screen.table(rows, units={"net": "money"})
    if not found:
        screen.say("今天没有在途方案。", "No campaign is live today.")
    _tell_left_out(ws, as_of, screen)
    screen.result(found)


@recommend_app.command(name="override")
def lay_down(
    campaign: CampaignId,
    customer: CustomerId,
    action: Annotated[str, typer.Argument(help="force, forbid, replace or lift. 动作")],
    by: Annotated[str, typer.Option(help="Who. 操作人")],
    reason: Annotated[str, typer.Option(help="Why. 原因")],
    offer: WhatOffer = "",
    channel: OnChannel = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Step in for one customer; it holds from the next decision on. 人工干预.

    Example: bihuan recommend override keep c012 forbid --by "Account manager" --reason "In talks"
    """
    ws, screen = open_here(workspace, as_json)
    laid = ws.recommender.override(
        customer, campaign, action, by=by, reason=reason, offer_id=offer, channel=channel
    )
    said = screen.word("action", action)
    screen.say(
        f"已登记：{customer}，{said}；下次决策起生效",
        f"Laid down: {customer}, {said}; it holds from the next decision on",
    )
    screen.result(laid)


@recommend_app.command(name="plan")
def write_plan(
    customers: Annotated[list[str], typer.Argument(help="Customer ids. 客户编号")],
    as_of: AsOf,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write one plan per customer as a document. 一户一案.

    Example: bihuan recommend plan E001 E002 --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    files = ws.recommender.write_plans(customers, as_of)
    for file in files:
        screen.say(str(file), str(file))
    screen.result({"files": files})


@recommend_app.command(name="event")
def take_event(
    event_id: Annotated[str, typer.Argument(help="Event id. 事件编号")],
    kind: Annotated[str, typer.Argument(help="Kind of event. 事件类型")],
    customer: CustomerId,
    at: Annotated[str, typer.Option(help="When: 2026-11-02T10:00:00+08:00. 时间")],
    as_of: AsOf,
    channel: OnChannel = "",
    page: Annotated[str, typer.Option(help="Page. 页面")] = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Hold an event against the triggers; say what fired and what did not. 事件触发.

    Example: bihuan recommend event e1 configure c012 --page broadband/configure
    --at 2026-11-02T10:00:00+08:00 --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise UserError(
            f"'{at}' is not a moment.",
            remedy="Write it as 2026-11-02T10:00:00+08:00.",
            zh=f"“{at}”不是有效时间，请写作 2026-11-02T10:00:00+08:00。",
        ) from error
    event = Event(event_id, kind, customer, moment, channel=channel or None, page=page or None)
    fired = ws.recommender.on_event(event, as_of)
    screen.table(
        [
            {"trigger": f.trigger, "outcome": screen.word("outcome", f.outcome),
             "confirm": f.needs_confirmation,
             "offer": f.strategies[0].offer_id if f.strategies else ""}
            for f in fired
        ]
    )  # fmt: skip
    if not fired:
        waiting = {trigger.event for trigger in ws.recommender.triggers}
        kinds = ", ".join(sorted(waiting)) or "—"
        screen.say(
            f"没有触发器接受此事件（类型、页面或渠道不符）。triggers/ 中的事件类型：{kinds}",
            "No trigger waits for this event on this page and channel. Kinds of event in "
            f"triggers/: {kinds}",
        )
    screen.result(fired)


def _tell_left_out(ws: Workspace, as_of: str, screen: Screen) -> None:
    """Name live campaigns that could not be asked."""
    for campaign, why in ws.recommender.left_out(as_of).items():
        screen.say(f"方案 {campaign} 未参与：{why['zh']}", f"Without {campaign}: {why['en']}")
