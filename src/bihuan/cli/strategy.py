"""Commands of the strategy room: cube, coverage, life cycle, key moments, map, channels."""

from __future__ import annotations

from typing import Annotated

import pyarrow.compute as pc
import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here

strategy_app = typer.Typer(
    no_args_is_help=True, help="Strategy cube, key moments, marketing map. 策略。"
)
app.add_typer(strategy_app, name="strategy")

Axes = Annotated[list[str] | None, typer.Argument(help="Axes of the cells, e.g. stage value. 维度")]
Name = Annotated[str, typer.Option(help="Name of the definition file. 定义文件名")]
_SHOWN = ("size", "covered", "uncovered", "coverage", "strategy", "expected_value", "main_reason")


@strategy_app.command()
def cube(
    as_of: AsOf,
    axes: Axes = None,
    name: Name = "standard",
    draw: Annotated[bool, typer.Option(help="Write a heat map of two axes. 输出热力图")] = False,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Count the strategy cube by some axes. 策略魔方.

    Example: bihuan strategy cube stage value --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.strategy.cube(as_of, name)
    wanted = axes or [axis.name for axis in found.definition.in_group("life_cycle")]
    cells = found.roll_up(*wanted)
    screen.table([{k: row[k] for k in (*wanted, *_SHOWN)} for row in cells.to_pylist()])
    for what, tags in found.left_out.items():
        screen.say(
            f"{what}：标签 {'、'.join(tags)} 没有值，按不满足处理",
            f"{what}: read without {', '.join(tags)}, which have no values",
        )
    if draw and len(wanted) == 2:
        path = ws.strategy.draw(found, *wanted)
        screen.say(f"热力图：{path}", f"Heat map: {path}")
    screen.result(cells)


@strategy_app.command()
def coverage(
    as_of: AsOf, name: Name = "standard", workspace: Folder = HERE, as_json: AsJson = False
) -> None:
    """Say how far all customers, businesses, stages, scenes, touchpoints are covered. 全覆盖检查.

    Example: bihuan strategy coverage --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    report = ws.strategy.coverage(as_of, name)
    rows = report.table()
    language = screen.language if screen.language in ("zh", "en") else "en"
    screen.table(
        [
            {"all": row["all"], "part": row[f"title_{language}"], "size": row["size"],
             "covered": row["covered"], "share": row["share"], "why not": row["main_reason"]}
            for row in rows.to_pylist()
        ]
    )  # fmt: skip
    for reach in report.reaches:
        if reach.missing:
            screen.say(
                f"{reach.title['zh']}未覆盖：{'、'.join(reach.missing)}",
                f"{reach.title['en']}, without anything: {', '.join(reach.missing)}",
            )
    screen.result(rows)


@strategy_app.command()
def tune(
    as_of: AsOf,
    axes: Axes = None,
    minimum: Annotated[int, typer.Option(help="Fewest contacts that arrived. 最少触达")] = 30,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Propose changes where conversion is off its expectation. 策略调优建议.

    Example: bihuan strategy tune stage channel --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.strategy.tune(as_of, *(axes or ()), minimum=minimum)
    for proposal in found:
        screen.say(proposal.text["zh"], proposal.text["en"])
    if not found:
        screen.say("没有偏离预期的单元", "No cell is off its expectation")
    screen.result(found)


@strategy_app.command()
def lifecycle(
    as_of: AsOf,
    earlier: Annotated[str | None, typer.Option(help="Compare with this date. 对比日期")] = None,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show the stages of the life cycle and whom their strategies serve. 生命周期策略.

    Example: bihuan strategy lifecycle --as-of 2026-10-31 --earlier 2026-09-30
    """
    ws, screen = open_here(workspace, as_json)
    report = ws.strategy.follow(as_of, earlier=earlier)
    screen.table(
        [
            {"stage": screen.title(fact.title), "size": fact.size,
             "value": fact.mean_value if isinstance(fact.mean_value, float) else None,
             "leaving": fact.leaving_rate if isinstance(fact.leaving_rate, float) else None}
            for fact in report.stages
        ]
    )  # fmt: skip
    screen.result(report.stages)


@strategy_app.command()
def moments(
    as_of: AsOf, name: Name = "standard", workspace: Folder = HERE, as_json: AsJson = False
) -> None:
    """See who is at which key moment, and log it. 关键时刻识别.

    Example: bihuan strategy moments --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    book, report = ws.strategy.moment_book(name), ws.strategy.moments(as_of, name)
    rows = []
    for moment in book.moments:
        why = moment.lacks or report.blind.get(moment.moment_id)
        rows.append(
            {"moment": moment.moment_id, "title": screen.title(moment.title),
             "stage": moment.stage, "kind": moment.kind,
             "customers": report.counts.get(moment.moment_id),
             "lacks": screen.title(why) if why else None}
        )  # fmt: skip
    screen.table(rows)
    people = len(pc.unique(report.detected["customer_id"]))
    screen.say(f"{people:,} 户处于关键时刻", f"{people:,} customers are at a key moment")
    screen.result(rows)


@strategy_app.command(name="map")
def show_map(
    as_of: AsOf,
    name: Name = "standard",
    tier: Annotated[str | None, typer.Option(help="Tier of org units, e.g. grid. 层级")] = None,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write the marketing map for the front line: picture and page. 营销地图.

    Example: bihuan strategy map --tier county --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    found = ws.strategy.map(as_of, name, tier=tier)
    paths = ws.strategy.write_map(as_of, name, tier=tier)
    targets = sum(row.target for row in found.rows)
    screen.say(
        f"{len(found.units)} 个单元，目标 {targets:,} 户",
        f"{len(found.units)} units, {targets:,} customers to approach",
    )
    for path in paths:
        screen.say(str(path), str(path))
    screen.result({"units": len(found.units), "targets": targets, "files": paths,
                   "rows": found.table(screen.language)})  # fmt: skip


@strategy_app.command()
def channels(as_of: AsOf, workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Show which way of contact customers like best. 客户接触偏好.

    Example: bihuan strategy channels --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    table = ws.strategy.preferred_channel(as_of)
    first = table.filter(pc.equal(table["rank"], 1))
    counts = pc.value_counts(first["channel"]).to_pylist()
    rows = [
        {"channel": row["values"], "customers": row["counts"]}
        for row in sorted(counts, key=lambda row: -row["counts"])
    ]
    screen.table(rows)
    screen.result(rows)
