"""Commands that decide, deliver and judge: audience, model, campaign, deploy, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet
import typer

from bihuan.audience import to_text
from bihuan.cli.app import (
    HERE,
    AsJson,
    AsOf,
    Columns,
    Folder,
    app,
    campaign_app,
    model_app,
    new_screen,
    open_here,
    progress_of,
)
from bihuan.cli.show import Screen, fields_of
from bihuan.data import write_csv
from bihuan.decision import explain
from bihuan.evaluation import NotEstimable
from bihuan.strategy import plan_text


@app.command()
def audience(
    rule: Annotated[str, typer.Argument(help="e.g. arpu >= 80 and not has_contract. 条件")],
    as_of: AsOf,
    suppress: Annotated[bool, typer.Option(help="Apply the standard exclusions. 剔除")] = False,
    out: Annotated[Path | None, typer.Option(help="Write members: .csv or .parquet. 清单")] = None,
    columns: Columns = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Count who satisfies a rule; freeze and export them if asked. 目标客户群。

    Rules know and or not, = != < <= > >=, in (...), between ... and ..., is missing.
    Example: bihuan audience "tenure_months >= 12 and city in ('石家庄', '保定')" --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    count = ws.count(rule, as_of)
    screen.say(
        f"{count.members:,} / {count.base:,} 户符合", f"{count.members:,} of {count.base:,} match"
    )
    result: dict[str, Any] = {"members": count.members, "base": count.base}
    if suppress:
        report = ws.suppress(rule, as_of)
        screen.table(
            [
                {"exclusion": screen.title(c.title), "hits": c.hits, "removed": c.removed,
                 "remaining": c.remaining}
                for c in report.counts
            ]
        )  # fmt: skip
        result |= {"remaining": report.remaining, "exclusions": report.counts}
    if out is not None:
        rows = ws.members(rule, as_of, [c.strip() for c in columns.split(",") if c.strip()])
        if suppress:
            rows = rows.join(report.kept, "customer_id", join_type="inner").sort_by("customer_id")
        write = pyarrow.parquet.write_table if out.suffix == ".parquet" else write_csv
        write(rows, out)
        screen.say(f"已写出 {rows.num_rows:,} 行到 {out}", f"{rows.num_rows:,} rows in {out}")
        result |= {"file": out, "rows": rows.num_rows}
    screen.result(result)


@model_app.command(name="learn")
def learn_model(
    name: Annotated[str, typer.Argument(help="Name of a file in models/. 模型名")],
    as_of: AsOf,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Learn a model in eight steps, register it, score the customers. 建模。

    Example: bihuan model learn churn --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    model, metrics = ws.learn(name, as_of)
    auc = metrics.auc
    screen.say(model.card.to_markdown("zh"), model.card.to_markdown("en"))
    screen.result(
        {"model": name, "version": ws.registry.list(name)[-1].version, "auc": auc.value,
         "auc_low": auc.low, "auc_high": auc.high, "metrics": metrics}
    )  # fmt: skip


@model_app.command(name="list")
def list_models(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """List every version of every model. 模型库。"""
    ws, screen = open_here(workspace, as_json)
    entries = ws.registry.list()
    screen.table([fields_of(entry) for entry in entries])
    screen.result(entries)


@model_app.command(name="card")
def show_card(
    name: Annotated[str, typer.Argument(help="Model name. 模型名")],
    version: Annotated[str, typer.Option(help="Version; none: the newest champion")] = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show a model's card: data, features, steps, figures, limits. 模型说明。"""
    ws, screen = open_here(workspace, as_json)
    card = ws.registry.load(name, version or None).card
    screen.say(card.to_markdown("zh"), card.to_markdown("en"))
    screen.result(card.to_dict())


@campaign_app.command(name="list")
def list_campaigns(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """List the campaigns of the workspace. 方案列表。"""
    ws, screen = open_here(workspace, as_json)
    rows = [
        {"campaign": name, "title": screen.title((c := ws.campaign(name)).title),
         "audience": to_text(c.audience), "from": str(c.goal.starts_on), "to": str(c.goal.ends_on)}
        for name in ws.list_campaigns()
    ]  # fmt: skip
    screen.table(rows)
    screen.result(rows)


@campaign_app.command(name="plan")
def show_plan(
    name: Annotated[str, typer.Argument(help="Campaign. 方案")],
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write a campaign as a plan document: goal, audience, mix, action plan. 方案文本。"""
    ws, screen = open_here(workspace, as_json)
    campaign = ws.campaign(name)
    texts = {lang: plan_text(campaign, ws.catalogue, lang) for lang in ("zh", "en")}
    screen.say(texts["zh"], texts["en"])
    screen.result({"campaign": name, "content_id": campaign.content_id, **texts})


_UNITS = {"contact": "次接触", "sale": "笔预期成交"}


@campaign_app.command(name="decide")
def decide_campaign(
    name: Annotated[str, typer.Argument(help="Campaign. 方案")],
    as_of: AsOf,
    confirm: Annotated[
        list[str] | None, typer.Option(help="By-hand precondition (English text) that holds")
    ] = None,
    customer: Annotated[str, typer.Option(help="Explain this customer's decision. 解释")] = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Decide who gets what within seats, budget and caps; log it; send nothing. 决策。

    Shows the certificate (how far from the best possible plan at most) and what one more unit of
    each limit would be worth.
    Example: bihuan campaign decide retention-2026-11 --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    plan = ws.decide(name, as_of, confirmed=frozenset(confirm or ()))
    record = ws.decisions(name, as_of)
    screen.table([dict(limit) for limit in record.limits if limit["price"] > 0])
    for row in record.limits:
        if row["name"] in record.shortfall:
            lacks = f"{row['shortfall']:,.4g} / {row['bound']:,.4g}"
            unit = _UNITS.get(row["unit"], row["unit"])
            screen.say(
                f"未满足的最低要求：{row['name']}，缺 {lacks} {unit}",
                f"Minimum missed: {row['name']}, lacks {lacks} ({row['unit']})",
            )
    for limit, reason in record.prices.left_out.items():
        screen.say(
            f"“{limit}”的价格不用于单客推荐：{reason['zh']}",
            f"The price of '{limit}' is not used for single customers: {reason['en']}",
        )
    screen.say(
        f"期望价值 {record.value:,.0f}，距最优不超过 {record.gap:.3%}",
        f"Expected value {record.value:,.0f}, within {record.gap:.3%} of the best possible",
    )
    arms = plan.decisions.group_by("arm").aggregate([("customer_id", "count")]).to_pylist()
    counts = {row["arm"]: row["customer_id_count"] for row in arms}
    screen.table([counts])
    result: dict[str, Any] = {
        "value": record.value, "bound": record.bound, "gap": record.gap, "arms": counts,
        "limits": record.limits, "shortfall": record.shortfall,
    }  # fmt: skip
    if customer:
        told = explain(plan, customer, screen.language)
        screen.say(told.text, told.text)
        result["explanation"] = told.text
    screen.result(result)


@app.command()
def deploy(
    name: Annotated[str, typer.Argument(help="Campaign. 方案")],
    as_of: AsOf,
    columns: Columns = "",
    xlsx: Annotated[
        bool, typer.Option(help="Workbooks beside the CSV lists. 同时输出 Excel")
    ] = False,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Freeze the decisions and write one target list per channel and unit. 部署。

    The same decisions twice are one deployment. Opt-outs are checked again at this moment.
    Example: bihuan deploy retention-2026-11 --as-of 2026-10-31 --columns monthly_fee,tenure_months
    """
    ws, screen = open_here(workspace, as_json)
    deployment = ws.deploy(name, as_of)
    wanted = [c.strip() for c in columns.split(",") if c.strip()]
    carried = ws.write_lists(name, columns=wanted, with_xlsx=xlsx)
    sent = carried.dispatch
    screen.say(
        f"部署 {deployment.deployment_id}：计划 {deployment.planned:,}，列入清单 {sent.sent:,}，"
        f"剔除 {sent.suppressed:,}，已发过 {sent.repeated:,}。清单在 {ws.layout.lists}",
        f"Deployment {deployment.deployment_id}: planned {deployment.planned:,}, listed "
        f"{sent.sent:,}, suppressed {sent.suppressed:,}, sent before {sent.repeated:,}. "
        f"Lists in {ws.layout.lists}",
    )
    screen.result(
        {"deployment": deployment, "listed": sent.sent, "suppressed": sent.suppressed,
         "repeated": sent.repeated, "reasons": sent.reasons, "lists": ws.layout.lists}
    )  # fmt: skip


@app.command()
def outcomes(
    name: Annotated[str, typer.Argument(help="Campaign. 方案")],
    file: Annotated[Path, typer.Argument(help="CSV or Parquet of outcomes. 回单文件")],
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Take in what happened to a deployment; the same file twice changes nothing. 回单。

    Example: bihuan outcomes retention-2026-11 feedback.csv
    """
    ws, screen = open_here(workspace, as_json)
    report = ws.record_outcomes(name, file)
    screen.table(
        [
            {"received": report.received, "stored": report.stored, "duplicate": report.duplicate,
             "quarantined": report.quarantined}
        ]
    )  # fmt: skip
    screen.result(report)


Responses = Annotated[
    str, typer.Option("--responses-as-of", help="Date of the data that shows what they did")
]


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="Campaign. 方案")],
    as_of: AsOf,
    responses_as_of: Responses,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Judge a campaign: funnel, effect against control with interval, return. 评估。

    Example: bihuan evaluate retention-2026-11 --as-of 2026-10-31 --responses-as-of 2026-11-30
    """
    ws, screen = open_here(workspace, as_json)
    judged = ws.evaluate(name, as_of, responses_as_of)
    effect = judged.effect
    if isinstance(effect, NotEstimable):
        screen.say(f"效果无法估计：{effect.reason['zh']}", f"Not estimable: {effect.reason['en']}")
    else:
        figures = f"{effect.estimate:+.4f} [{effect.low:+.4f}, {effect.high:+.4f}]"
        screen.say(f"每户效果 {figures}", f"Effect per planned customer {figures}")
    screen.table([fields_of(judged.roi.total)])
    screen.result({"effect": effect, "roi": judged.roi})


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="Campaign. 方案")],
    as_of: AsOf,
    responses_as_of: Responses,
    model: Annotated[str, typer.Option(help="Model whose card is shown. 模型")] = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write the campaign's report as HTML and PDF. 评估报告。

    Example: bihuan report retention-2026-11 --as-of 2026-10-31 --responses-as-of 2026-11-30
    """
    ws, screen = open_here(workspace, as_json)
    card = ws.registry.load(model).card if model else None
    learnt = None if card is None else (card, card.metrics)
    files = ws.report(name, as_of, responses_as_of, learnt=learnt)
    for file in files:
        screen.say(str(file), str(file))
    screen.result({"files": files})


@app.command(name="demo")
def run_demo(
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Made anew. 工作区")] = Path(
        "var/demo"
    ),
    port: Annotated[int, typer.Option(help="Port of the service. 端口")] = 8000,
    headless: Annotated[bool, typer.Option(help="Do not serve; end with one JSON line")] = False,
) -> None:
    """Run both turns on real data, lay out people and plans, and serve it. 演示。

    A real outbound campaign replayed month by month, and a retention turn with real customers and
    simulated reaction, estimated effect beside the true one.
    """
    from bihuan.demo import run
    from bihuan.server.node import run_server
    from bihuan.server.settings import Settings

    screen = new_screen(as_json=False)
    result = run(workspace, progress=progress_of(screen), say=screen.say)
    if headless:
        Screen(as_json=True, language="en").result(result.summary)
    else:
        settings = Settings(workspace=workspace, port=port)
        run_server(settings, with_worker=True, say=screen.say)
