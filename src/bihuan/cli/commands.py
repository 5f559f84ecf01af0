"""The commands. Each opens the workspace, calls one method, and shows what came of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import pyarrow.csv
import pyarrow.parquet
import typer

from bihuan.audience import to_text
from bihuan.cli.progress import BarProgress
from bihuan.cli.show import Screen
from bihuan.decision import explain
from bihuan.evaluation import NotEstimable
from bihuan.kernel import SilentProgress, UserError
from bihuan.pack import PACKS
from bihuan.strategy import plan_text
from bihuan.workspace import Workspace, open_workspace

app = typer.Typer(
    name="bihuan",
    help="Closed-loop precision marketing: data → tag → audience → model → decision → delivery → "
    "feedback → evaluation. 闭环精准营销。",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
tags_app = typer.Typer(no_args_is_help=True, help="Derive, list and explain tags. 标签。")
model_app = typer.Typer(no_args_is_help=True, help="Learn models and read their cards. 模型。")
campaign_app = typer.Typer(no_args_is_help=True, help="Plan and decide campaigns. 营销方案。")
app.add_typer(tags_app, name="tags")
app.add_typer(model_app, name="model")
app.add_typer(campaign_app, name="campaign")

Folder = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="BIHUAN_WORKSPACE", help="Workspace folder. 工作区"),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for machines. 机器可读")]
AsOf = Annotated[str, typer.Option("--as-of", help="Snapshot date, 2026-10-31. 快照日期")]
Columns = Annotated[str, typer.Option(help="Tags to add, separated by commas. 附加标签")]
HERE = Path()

_screen: Screen | None = None


def screen_of() -> Screen | None:
    """Return the screen of the running command, if it has come so far."""
    return _screen


def _open(folder: Path, as_json: bool, *, create: bool = False) -> tuple[Workspace, Screen]:
    global _screen
    _screen = Screen(as_json=as_json, language=os.environ.get("BIHUAN_LANG", "zh"))
    progress: Any = SilentProgress()
    if _screen.err.is_terminal and not as_json:
        progress = BarProgress(_screen.err)
        progress.stop_on_interrupt()
    workspace = open_workspace(folder, create=create, progress=progress)
    _screen.language = os.environ.get("BIHUAN_LANG", workspace.settings.language)
    return workspace, _screen


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="New or empty folder. 新文件夹")],
    pack: Annotated[str, typer.Option(help=f"Ready-made definitions: {', '.join(PACKS)}")] = "",
    as_json: AsJson = False,
) -> None:
    """Lay out a workspace, with a pack's definitions if you like. 新建工作区。

    Example: bihuan init my-workspace --pack retention
    """
    workspace, screen = _open(folder, as_json, create=True)
    copied: list[str] = []
    if pack:
        if pack not in PACKS:
            raise UserError(
                f"There is no pack '{pack}'.",
                remedy=f"Choose from: {', '.join(PACKS)}.",
                zh=f"没有名为 {pack} 的方案包，可选：{'、'.join(PACKS)}。",
            )
        copied = workspace.install(PACKS[pack])
    screen.say(f"工作区已就绪：{folder}", f"Workspace ready: {folder}")
    screen.table([{"file": name} for name in copied])
    screen.result({"workspace": folder, "installed": copied})


@app.command(name="ingest")
def ingest_source(
    source: Annotated[str, typer.Argument(help="File, or URL#table of a database. 文件或数据库表")],
    mapping: Annotated[str, typer.Option(help="Name of a file in mappings/. 映射文件名")],
    as_of: AsOf,
    append: Annotated[bool, typer.Option(help="Add to that date's snapshot. 追加")] = False,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Take a file or a database table into the lake; bad rows go to quarantine. 接入数据。

    CSV (any encoding), Parquet, Excel, SPSS, or a table: sqlite:///crm.db#customers.
    Example: bihuan ingest customers.csv --mapping crm --as-of 2026-10-31
    """
    ws, screen = _open(workspace, as_json)
    report = ws.ingest(source, mapping, as_of, append=append)
    screen.table(
        [
            {"table": t.table, "read": t.rows_read, "stored": t.rows_stored,
             "quarantined": t.rows_quarantined}
            for t in report.tables
        ]
    )  # fmt: skip
    if report.quarantine_id:
        screen.say(
            f"有行被隔离，原因见：bihuan quarantine {report.quarantine_id}",
            f"Some rows were refused; see why: bihuan quarantine {report.quarantine_id}",
        )
    screen.result(report)


@app.command()
def quarantine(
    batch: Annotated[str, typer.Argument(help="Batch id; none lists the batches. 批次")] = "",
    mend: Annotated[str, typer.Option("--replay", help="Mended mapping to replay with")] = "",
    limit: Annotated[int, typer.Option(help="Rows to show. 行数")] = 20,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List refused rows with file, line, column and reason; replay them when mended. 隔离区。

    Example: bihuan quarantine 3f2a... --replay crm
    """
    ws, screen = _open(workspace, as_json)
    if not batch:
        batches = ws.quarantine.list_batches()
        screen.table(
            [
                {"batch": b.id, "source": b.source, "as of": b.as_of, "state": b.state,
                 "rows": b.rows}
                for b in batches
            ]
        )  # fmt: skip
        screen.result(batches)
    elif mend:
        report = ws.replay(batch, mend)
        screen.table(
            [
                {"table": t.table, "read": t.rows_read, "stored": t.rows_stored,
                 "quarantined": t.rows_quarantined}
                for t in report.tables
            ]
        )  # fmt: skip
        screen.result(report)
    else:
        rows = ws.quarantine.rows(batch).slice(0, limit).to_pylist()
        screen.table([{k: v for k, v in row.items() if k != "raw"} for row in rows])
        screen.result(rows)


@app.command()
def quality(
    table: Annotated[str, typer.Argument(help="Table of the lake. 表名")],
    as_of: AsOf,
    picture: Annotated[Path | None, typer.Option(help="Write the picture (SVG) here")] = None,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Profile a table: completeness, range, granularity, freshness. 数据质量。

    Example: bihuan quality bill --as-of 2026-10-31 --picture bill.svg
    """
    ws, screen = _open(workspace, as_json)
    profile = ws.quality(table, as_of)
    rows = profile.table().to_pylist()
    screen.table(rows)
    if picture is not None:
        picture.write_text(profile.picture(), encoding="utf-8")
        screen.say(f"图已写入 {picture}", f"Picture written to {picture}")
    screen.result(rows)


@tags_app.command(name="derive")
def derive_tags(
    as_of: AsOf,
    subject: Annotated[str, typer.Option(help="customer, subscription, org_unit, staff")] = (
        "customer"
    ),
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Derive all live tags for a date; what has not changed is left. 生成标签。

    Example: bihuan tags derive --as-of 2026-10-31
    """
    ws, screen = _open(workspace, as_json)
    report = ws.refresh_tags(as_of, subject=subject)
    screen.table(
        [
            {"group": g.group, "state": g.state, "tags": len(g.tags), "rows": g.rows,
             "seconds": g.seconds}
            for g in report.groups
        ]
    )  # fmt: skip
    for name, pending in report.pending.items():
        screen.say(f"待生成 {name}：{pending.reason['zh']}", f"{name}: {pending.reason['en']}")
    screen.result(report)


@tags_app.command(name="list")
def list_tags(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """List the tag dictionary. 标签字典。"""
    ws, screen = _open(workspace, as_json)
    screen.table(
        [
            {"tag": t.name, "title": screen.title(t.title), "layer": t.layer, "means": t.means,
             "subject": t.subject, "state": t.state}
            for t in ws.dictionary
        ]
    )  # fmt: skip
    screen.result(ws.dictionary.to_table())


@tags_app.command(name="show")
def show_tag(
    name: Annotated[str, typer.Argument(help="Tag name. 标签名")],
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Explain one tag: meaning, definition, source, lineage, users. 标签口径与血缘。"""
    ws, screen = _open(workspace, as_json)
    tag, lineage = ws.dictionary.get(name), ws.dictionary.lineage(name)
    facts = {
        "title": screen.title(tag.title),
        "meaning": screen.title(tag.meaning),
        "definition": screen.title(tag.definition),
        "source": tag.source or tag.model or "",
        "expression": tag.expression or "",
        "owner": tag.owner,
        "version": tag.version,
    }
    screen.table([{"": key, " ": str(value)} for key, value in facts.items()], title=name)
    for key, value in _fields(lineage).items():
        screen.say(f"{key}: {value}", f"{key}: {value}")
    screen.result({"tag": tag, "lineage": lineage})


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
    ws, screen = _open(workspace, as_json)
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
        write = pyarrow.parquet.write_table if out.suffix == ".parquet" else _write_csv
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
    ws, screen = _open(workspace, as_json)
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
    ws, screen = _open(workspace, as_json)
    entries = ws.registry.list()
    screen.table([_fields(entry) for entry in entries])
    screen.result(entries)


@model_app.command(name="card")
def show_card(
    name: Annotated[str, typer.Argument(help="Model name. 模型名")],
    version: Annotated[str, typer.Option(help="Version; none: the newest champion")] = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show a model's card: data, features, steps, figures, limits. 模型说明。"""
    ws, screen = _open(workspace, as_json)
    card = ws.registry.load(name, version or None).card
    screen.say(card.to_markdown("zh"), card.to_markdown("en"))
    screen.result(card.to_dict())


@campaign_app.command(name="list")
def list_campaigns(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """List the campaigns of the workspace. 方案列表。"""
    ws, screen = _open(workspace, as_json)
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
    ws, screen = _open(workspace, as_json)
    campaign = ws.campaign(name)
    texts = {lang: plan_text(campaign, ws.catalogue, lang) for lang in ("zh", "en")}
    screen.say(texts["zh"], texts["en"])
    screen.result({"campaign": name, "content_id": campaign.content_id, **texts})


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
    ws, screen = _open(workspace, as_json)
    plan = ws.decide(name, as_of, confirmed=frozenset(confirm or ()))
    record = ws.decisions(name, as_of)
    screen.table([dict(limit) for limit in record.limits if limit["price"] > 0])
    screen.say(
        f"期望价值 {record.value:,.0f}，距最优不超过 {record.gap:.3%}",
        f"Expected value {record.value:,.0f}, within {record.gap:.3%} of the best possible",
    )
    arms = plan.decisions.group_by("arm").aggregate([("customer_id", "count")]).to_pylist()
    counts = {row["arm"]: row["customer_id_count"] for row in arms}
    screen.table([counts])
    result: dict[str, Any] = {
        "value": record.value, "bound": record.bound, "gap": record.gap, "arms": counts,
        "limits": record.limits,
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
    ws, screen = _open(workspace, as_json)
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
    ws, screen = _open(workspace, as_json)
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
    ws, screen = _open(workspace, as_json)
    judged = ws.evaluate(name, as_of, responses_as_of)
    effect = judged.effect
    if isinstance(effect, NotEstimable):
        screen.say(f"效果无法估计：{effect.reason_zh}", f"Not estimable: {effect.reason}")
    else:
        figures = f"{effect.estimate:+.4f} [{effect.low:+.4f}, {effect.high:+.4f}]"
        screen.say(f"每户效果 {figures}", f"Effect per planned customer {figures}")
    screen.table([_fields(judged.roi.total)])
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
    ws, screen = _open(workspace, as_json)
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
    port: Annotated[int, typer.Option(help="Port of the report's address. 端口")] = 8000,
    headless: Annotated[bool, typer.Option(help="Do not serve; end with one JSON line")] = False,
) -> None:
    """Run both turns on real data and serve the report. 演示。

    A real outbound campaign replayed month by month, and a retention turn with real customers and
    simulated reaction, estimated effect beside the true one.
    """
    from bihuan.demo import run, serve

    global _screen
    _screen = Screen(as_json=False, language=os.environ.get("BIHUAN_LANG", "zh"))
    progress: Any = BarProgress(_screen.err) if _screen.err.is_terminal else SilentProgress()
    result = run(workspace, progress=progress, say=_screen.say)
    if headless:
        Screen(as_json=True, language="en").result(result.summary)
    else:
        serve(result.page.parent, result.page.name, port=port, say=_screen.say)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _write_csv(rows: Any, path: Path) -> None:
    from bihuan.data import write_csv

    write_csv(rows, path)
