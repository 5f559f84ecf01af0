"""Commands on offers: coverage and fair prices, matching, pack sizes, plan changes."""

from __future__ import annotations

from typing import Annotated

import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here
from bihuan.kernel import NotEstimable

offers_app = typer.Typer(
    no_args_is_help=True, help="Offers: prices, matching, upgrades. 产品套餐。"
)
app.add_typer(offers_app, name="offers")


@offers_app.command(name="check")
def check_offers(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Show which business categories are sold today, and refuse unfair prices. 业务覆盖与价格公平。

    A data pack must not cost more on a higher plan tier than on a lower one; the first such pack
    ends the command with the change to be made.
    Example: bihuan offers check
    """
    ws, screen = open_here(workspace, as_json)
    coverage = ws.offer_desk.coverage()
    screen.table([{"category": name, "offers": len(ids)} for name, ids in coverage.offers.items()])
    if coverage.empty:
        names = ", ".join(coverage.empty)
        screen.say(f"尚无在售产品的业务：{names}", f"Nothing on sale in: {names}")
    fairness = ws.offer_desk.require_fair_prices()
    screen.say(
        f"价格公平：{len(fairness.packs)} 个加装包，比较 {fairness.compared} 对，无倒挂",
        f"Prices are fair: {len(fairness.packs)} packs, {fairness.compared} comparisons",
    )
    screen.result({"coverage": coverage, "fairness": fairness})


@offers_app.command(name="match")
def match_offers(
    as_of: AsOf,
    customer: Annotated[str, typer.Option(help="One customer id. 客户编号")] = "",
    within: Annotated[str, typer.Option(help="Target group. 目标客户群")] = "everyone",
    matching: Annotated[str, typer.Option(help="File in matching/. 匹配原则")] = "standard",
    top: Annotated[int, typer.Option(help="So many offers. 前几项")] = 3,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Match offers to one customer, or to a target group as a whole. 产品匹配。

    Example: bihuan offers match --within "data_heavy" --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    if customer:
        found = ws.offer_desk.match_customer(customer, as_of, matching=matching)
        rows = found.table(top=top).to_pylist()
        reason = f"reason_{screen.language}"
        screen.table(
            [{"offer": r["offer_id"], "total": r["total"], "why": r[reason]} for r in rows]
        )
        screen.result({"customer": customer, "offers": rows, "left_out": found.left_out})
        return
    found = ws.offer_desk.match(as_of, matching=matching, within=within)
    ranked = found.for_group(top=top)
    screen.table(
        [
            {"offer": screen.title(o.title), "suited": o.suited, "share": o.share, "total": o.total}
            for o in ranked
        ]
    )
    schemes = found.schemes(top=top)
    for scheme in schemes:
        if scheme.members:
            screen.say(scheme.text("zh"), scheme.text("en"))
    screen.result({"offers": ranked, "schemes": schemes, "left_out": found.left_out})


@offers_app.command(name="tiers")
def set_tiers(
    as_of: AsOf,
    tiers: Annotated[int, typer.Option(help="At most so many sizes. 档次数")] = 3,
    within: Annotated[str, typer.Option(help="Whose consumption. 客户群")] = "everyone",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Set add-on pack sizes from what customers use beyond their plans. 加装包档次。

    Example: bihuan offers tiers --tiers 4 --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.offer_desk.addon_tiers(as_of, tiers, within=within)
    if isinstance(found, NotEstimable):
        screen.say(found.reason["zh"], found.reason["en"])
        screen.result({"reason": found.reason})
        return
    screen.table(
        [
            {"MB": size, "customers": count}
            for size, count in zip(found.sizes, found.customers, strict=True)
        ]
    )
    screen.say(
        f"{found.needs} 户有套外流量，其中 {found.without} 户不买更合适",
        f"{found.needs} use data beyond the plan, {found.without} of them are best off without",
    )
    screen.result(found)


@offers_app.command(name="upgrade")
def upgrade_plan(
    customer: Annotated[str, typer.Argument(help="Customer id. 客户编号")],
    as_of: AsOf,
    confirm: Annotated[str, typer.Option(help="Draft to confirm. 待确认草稿号")] = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Recommend the default tier to upgrade to, then confirm it: two steps. 一键办理。

    Example: bihuan offers upgrade C000123 --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    desk = ws.offer_desk.upgrades
    if confirm:
        order = desk.confirm(confirm, customer_id=customer)
    else:
        order = desk.one_click(customer, as_of)
    screen.say(order.text["zh"], order.text["en"])
    if order.confirmed_at is None:
        screen.say(
            f"确认请运行：bihuan offers upgrade {customer} --as-of {as_of} --confirm"
            f" {order.order_id}（{order.valid_until} 前有效）",
            f"To confirm: bihuan offers upgrade {customer} --as-of {as_of} --confirm"
            f" {order.order_id} (until {order.valid_until})",
        )
    else:
        screen.say(
            f"已办理，{order.effective_on} 生效，订单 {order.order_id}",
            f"Ordered, from {order.effective_on}, order {order.order_id}",
        )
    screen.result(order)
