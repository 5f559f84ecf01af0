"""Commands that explore: planes, thresholds, cross tables, scenes, one customer, the tag stock."""

from __future__ import annotations

from typing import Annotated

import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here, scene_app, tags_app

Within = Annotated[str, typer.Option(help="Audience to look inside of. 客户群条件")]
SubjectOption = Annotated[str, typer.Option(help="customer, subscription, leased_line, staff ...")]


@tags_app.command(name="index")
def index_tags(
    as_of: AsOf,
    subject: SubjectOption = "customer",
    afresh: Annotated[bool, typer.Option(help="Build all again. 全部重建")] = False,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Bring the bit planes of a date's tags up to date. 构建标签位图索引。

    Example: bihuan tags index --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    report = ws.index_tags(as_of, subject=subject, afresh=afresh)
    screen.say(
        f"新建 {len(report.built)} 个标签，未变 {len(report.unchanged)} 个，"
        f"{report.rows:,} 个对象，{report.seconds:.2f} 秒",
        f"{len(report.built)} tags built, {len(report.unchanged)} unchanged, {report.rows:,}"
        f" subjects, {report.seconds:.2f} s",
    )
    for name, reason in report.left_out.items():
        screen.say(f"未建索引 {name}：{reason['zh']}", f"{name} left out: {reason['en']}")
    screen.result(report)


@app.command()
def threshold(
    tag: Annotated[str, typer.Argument(help="A number, money, integer or date tag. 标签")],
    size: Annotated[int, typer.Argument(help="How many shall be left. 目标规模")],
    as_of: AsOf,
    within: Within = "everyone",
    bottom: Annotated[bool, typer.Option(help="Keep the lowest values. 取最低值")] = False,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Find the exact threshold that leaves a wanted number. 按规模求阈值。

    Example: bihuan threshold arpu 2000 --within "not has_contract" --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.reader(as_of).threshold(tag, size, within, side="bottom" if bottom else "top")
    op = "<=" if bottom else ">="
    screen.say(
        f"{tag} {op} {found.value} 选出 {found.size_with_ties:,} 户，"
        f"其中恰等于阈值 {found.ties:,} 户",
        f"{tag} {op} {found.value} leaves {found.size_with_ties:,}, {found.ties:,} of them exactly"
        " at the threshold",
    )
    screen.result(found)


@app.command()
def cross(
    tags: Annotated[list[str], typer.Argument(help="One to three tags. 一至三个标签")],
    as_of: AsOf,
    within: Within = "everyone",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Count an audience by the values of one to three tags. 交叉分析。

    Example: bihuan cross city life_cycle_stage --within "arpu >= 80" --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    rows = ws.reader(as_of).cross(tags, within).table()
    screen.table(rows.to_pylist())
    screen.result(rows)


@app.command()
def view(
    customer: Annotated[str, typer.Argument(help="Customer id. 客户编号")],
    as_of: AsOf,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one customer: the 360-degree view. 360 度客户视图。

    Example: bihuan view C000123 --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.view360(customer, as_of)
    for line in found.to_text(screen.language).splitlines():
        screen.say(line, line)
    screen.result({"customer": found.customer_id, "text": found.to_text(screen.language)})


@scene_app.command(name="run-due")
def run_due_scenes(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Run every scene whose time has come, also the times that were missed. 运行到期场景。

    Made for a clock: running it twice, or twice at once, counts each time once.
    Example: bihuan scene run-due
    """
    ws, screen = open_here(workspace, as_json)
    runs = ws.scenes.run_due()
    screen.table(
        [{"scene": r.scene, "due": r.fire_time, "as of": r.as_of, "state": r.state,
          "count": r.count} for r in runs]
    )  # fmt: skip
    screen.say(f"本次运行 {len(runs)} 次", f"{len(runs)} runs")
    screen.result(runs)


@scene_app.command(name="status")
def show_scenes(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Tell of each scene its newest good count, of which date, and how late it is. 场景状态。

    Example: bihuan scene status
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.scenes.status()
    screen.table([{"scene": s.scene.name, "state": s.state, "last": s.said} for s in found])
    for name, problem in ws.scenes.broken().items():
        screen.say(f"场景 {name} 无法读取：{problem}", f"Scene {name} cannot be read: {problem}")
    screen.result(found)


@tags_app.command(name="stock")
def show_stock(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Count tags and models, and show businesses and scenes that lack some. 标签与模型存量覆盖。

    Example: bihuan tags stock
    """
    ws, screen = open_here(workspace, as_json)
    stock, coverage = ws.tag_desk.stock(), ws.tag_desk.coverage()
    by_subject = {subject: count for (subject,), count in stock.by("subject").items()}
    screen.table([{"subject": subject, "tags": count} for subject, count in by_subject.items()])
    models = {name for names in coverage.models.values() for name in names}
    screen.say(
        f"在用标签 {stock.live} 个，模型 {len(models)} 个，覆盖缺口 {len(coverage.gaps)} 处",
        f"{stock.live} live tags, {len(models)} models, {len(coverage.gaps)} gaps",
    )
    for gap in coverage.gaps:
        screen.say(f"{gap.what['zh']} {gap.remedy['zh']}", f"{gap.what['en']} {gap.remedy['en']}")
    screen.result(
        {"live": stock.live, "tags": by_subject, "models": len(models), "gaps": coverage.gaps}
    )
