"""Commands that explore audiences: planes, thresholds, cross tables."""

from __future__ import annotations

from typing import Annotated

import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here, tags_app

Within = Annotated[str, typer.Option(help="Audience to look inside of. 客户群条件")]
SubjectOption = Annotated[str, typer.Option(help="customer, subscription, leased_line, staff ...")]


@tags_app.command(name="index")
def index_tags(
    as_of: AsOf,
    subject: SubjectOption = "customer",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Bring the bit planes of a date's tags up to date. 构建标签位图索引。

    Example: bihuan tags index --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    report = ws.index_tags(as_of, subject=subject)
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
