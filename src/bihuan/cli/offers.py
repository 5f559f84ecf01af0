"""Commands on offers: coverage and fair prices, matching, pack sizes, plan changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here
from bihuan.cli.show import Screen
from bihuan.kernel import NotEstimable, UserError
from bihuan.offer import CATEGORIES

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
    screen.table(
        [
            {"category": _category(screen, name), "offers": len(ids)}
            for name, ids in coverage.offers.items()
        ]
    )
    if coverage.empty:
        names = ", ".join(_category(screen, name) for name in coverage.empty)
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
            [
                {"offer": screen.title(ws.catalogue.get(r["offer_id"]).title), "score": r["total"],
                 "why": r[reason]}
                for r in rows
            ]
        )  # fmt: skip
        if not rows:
            screen.say("没有适合该客户的产品", "No offer suits this customer")
        _tell_left_out(found.left_out, screen)
        screen.result({"customer": customer, "offers": rows, "left_out": found.left_out})
        return
    found = ws.offer_desk.match(as_of, matching=matching, within=within)
    ranked = found.for_group(top=top)
    screen.table(
        [
            {"offer": screen.title(o.title), "suited": o.suited, "share": o.share, "score": o.total}
            for o in ranked
        ],
        units={"share": "%"},
    )
    screen.say(
        "得分为适合客户的平均匹配分（0 至 1）。按需求群的方案：",
        "The score is the mean match of those it suits, 0 to 1. Schemes by need group:",
    )
    schemes = found.schemes(top=top)
    for scheme in schemes:
        if scheme.members:
            screen.say(scheme.text("zh"), scheme.text("en"))
    _tell_left_out(found.left_out, screen)
    screen.result({"offers": ranked, "schemes": schemes, "left_out": found.left_out})


@offers_app.command(name="tiers")
def set_tiers(
    as_of: AsOf,
    tiers: Annotated[int, typer.Option(help="At most so many sizes. 档次数")] = 3,
    sizes: Annotated[str, typer.Option(help="Sizes in MB: 1024,5120. 候选档次")] = "",
    within: Annotated[str, typer.Option(help="Whose consumption. 客户群")] = "everyone",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Set add-on pack sizes from what customers use beyond their plans. 加装包档次。

    Without --sizes any size may be chosen, to the MB.
    Example: bihuan offers tiers --tiers 4 --sizes 1024,5120,10240,30720 --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.offer_desk.addon_tiers(as_of, tiers, sizes=_sizes(sizes), within=within)
    if isinstance(found, NotEstimable):
        screen.say(found.reason["zh"], found.reason["en"])
        screen.result({"reason": found.reason})
        return
    screen.table(
        [
            {"pack": round(size), "customers": count}
            for size, count in zip(found.sizes, found.customers, strict=True)
        ],
        units={"pack": "MB"},
    )
    screen.say(
        f"{found.needs:,} 户有套外流量，其中 {found.without:,} 户不买更合适",
        f"{found.needs:,} customers use data beyond the plan, {found.without:,} of them are best "
        "off without a pack",
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


def _category(screen: Screen, code: str) -> str:
    return screen.title(CATEGORIES.get(code, {"zh": "其他", "en": "Other"}))


def _tell_left_out(left_out: Mapping[str, Sequence[str]], screen: Screen) -> None:
    if left_out:
        tags = sorted({tag for needed in left_out.values() for tag in needed})
        screen.say(
            f"{len(left_out)} 个产品未参与匹配，所需标签没有值：{'、'.join(tags)}",
            f"{len(left_out)} offers were not matched; they ask for tags without values: "
            f"{', '.join(tags)}",
        )


def _sizes(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.split(",") if part.strip()] or None
    except ValueError as error:
        raise UserError(
            f"'{text}' is no list of sizes.",
            remedy="Write sizes in MB, separated by commas: 1024,5120,10240.",
            zh=f"“{text}”不是有效档次，请填写以逗号分隔的 MB 数，例如 1024,5120,10240。",
        ) from error
