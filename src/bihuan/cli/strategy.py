"""Commands of the strategy room: cube, coverage, life cycle, key moments, map, channels."""

from __future__ import annotations

from typing import Annotated, Any

import pyarrow.compute as pc
import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here
from bihuan.cli.show import Screen
from bihuan.cli.words import word
from bihuan.strategy.cube import Cube, axis_title
from bihuan.workspace import Workspace

strategy_app = typer.Typer(
    no_args_is_help=True, help="Strategy cube, key moments, marketing map. 策略。"
)
app.add_typer(strategy_app, name="strategy")

Axes = Annotated[list[str] | None, typer.Argument(help="Axes of the cells, e.g. stage value. 维度")]
Name = Annotated[str, typer.Option(help="Name of the definition file. 定义文件名")]
_SHOWN = ("size", "covered", "coverage", "strategy", "expected_value", "main_reason")


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
    screen.table(
        _cells(ws, screen, found, wanted),
        units={"coverage": "%", "expected_value": "money"},
    )
    for what, tags in found.left_out.items():
        screen.say(
            f"{what}：标签 {'、'.join(tags)} 没有值，按不满足处理",
            f"{what}: no values of {', '.join(tags)}; taken as not met",
        )
    if draw and len(wanted) == 2:
        path = ws.strategy.draw(found, *wanted, language=_language(screen))
        screen.say(f"热力图：{path}", f"Heat map: {path}")
    elif draw:
        screen.say("热力图需要两个维度", "A heat map needs two axes")
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
    counted = ws.strategy.cube(as_of, name)
    screen.table(
        [
            {"scope": screen.word("all", row["all"]),
             "part": screen.word("channel", row[f"title_{_language(screen)}"]),
             "size": row["size"], "covered": row["covered"], "share": row["share"],
             "main_reason": _reason(screen, counted, row["main_reason"])}
            for row in rows.to_pylist()
        ],
        units={"share": "%"},
    )  # fmt: skip
    for reach in report.reaches:
        parts = [part for part in reach.parts if not part.covered]
        zh = "、".join(word("channel", part.title["zh"], "zh") for part in parts)
        en = ", ".join(word("channel", part.title["en"], "en") for part in parts)
        if parts:
            screen.say(
                f"{reach.title['zh']}未覆盖：{zh}", f"{reach.title['en']}, not covered: {en}"
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
        screen.say(
            f"没有偏离预期的单元（每单元至少 {minimum} 次触达才判断）",
            f"No cell is off its expectation (cells with fewer than {minimum} contacts that "
            "arrived are not judged)",
        )
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
    cycle = ws.strategy.life_cycle()
    report = ws.strategy.follow(as_of, earlier=earlier)
    screen.table(
        [
            {"stage": screen.title(fact.title), "size": fact.size,
             "monthly_value": (
                 fact.mean_value if isinstance(fact.mean_value, float) else None
             ),
             "monthly_leaving": fact.leaving_rate if isinstance(fact.leaving_rate, float) else None}
            for fact in report.stages
        ],
        units={"monthly_value": "money", "monthly_leaving": "%"},
    )  # fmt: skip
    if earlier is None:
        screen.say("月离网率需用 --earlier 给出对比日期", "Leaving rates need --earlier DAY")
    screen.table(
        [
            {"stage": screen.title(fact.title),
             "strategy": screen.title(cycle.strategy(name).title), "customers": count}
            for fact in report.stages
            for name, count in fact.strategies.items()
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
    stages = {stage.code: screen.title(stage.title) for stage in ws.strategy.life_cycle().in_order}
    screen.table(
        [
            row | {"stage": stages.get(str(row["stage"]), row["stage"]),
                   "kind": screen.word("moment", str(row["kind"]))}
            for row in rows
        ]
    )  # fmt: skip
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
    paths = ws.strategy.write_map(as_of, name, tier=tier, language=_language(screen))
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
    screen.table([row | {"channel": screen.word("channel", row["channel"])} for row in rows])
    screen.say(
        "按每位客户最偏好的渠道统计（本网在网客户）",
        "Customers on our network by the channel each likes best",
    )
    screen.result(rows)


def _cells(ws: Workspace, screen: Screen, cube: Cube, axes: list[str]) -> list[dict[str, Any]]:
    """Return the cells of a cube in words."""
    strategies = ws.strategy.strategy_titles()
    rows = []
    for cell in cube.roll_up(*axes).to_pylist():
        row = {
            axis_title(cube, axis, _language(screen)): _part(screen, cube, axis, cell[axis])
            for axis in axes
        }
        row |= {name: cell[name] for name in _SHOWN}
        title = strategies.get(cell["strategy"])
        named = {"strategy": cell["strategy"] if title is None else screen.title(title)}
        reason = {"main_reason": _reason(screen, cube, cell["main_reason"])}
        rows.append(row | named | reason)
    return rows


def _part(screen: Screen, cube: Cube, axis: str, code: str) -> str:
    return screen.word("channel", code) if axis == "channel" else screen.title(
        cube.title_of(axis, code)
    )  # fmt: skip


def _reason(screen: Screen, cube: Cube, code: str | None) -> str | None:
    return None if code is None else screen.title(cube.reason_title(code))


def _language(screen: Screen) -> str:
    return screen.language if screen.language in ("zh", "en") else "en"
