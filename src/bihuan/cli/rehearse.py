"""Commands that rehearse plans before anybody is contacted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here
from bihuan.cli.show import Screen
from bihuan.decision.rehearsal import Rehearsal, judgement_text, rehearsal_text

rehearsal_app = typer.Typer(no_args_is_help=True, help="Rehearse plans. 方案预演。")
app.add_typer(rehearsal_app, name="rehearsal")

SampleOption = Annotated[str, typer.Option(help="Customers (5000) or share (10%); none: all. 样本")]
SeedOption = Annotated[int | None, typer.Option(help="Of sample, lots and draws. 随机种子")]
Confirm = Annotated[
    list[str] | None, typer.Option(help="By-hand precondition (English text) that holds")
]


@rehearsal_app.command(name="run")
def run_rehearsals(
    campaigns: Annotated[list[str], typer.Argument(help="Campaigns or files of drafts. 方案")],
    as_of: AsOf,
    sample: SampleOption = "",
    seed: SeedOption = None,
    confirm: Confirm = None,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Play plans through without contacting anybody, and judge them. 方案预演.

    Several plans are rehearsed at once. Facts and judgements are filed under rehearsals/.
    Example: bihuan rehearsal run retention-2026-11 --as-of 2026-10-31 --sample 10%
    """
    ws, screen = open_here(workspace, as_json)
    plans = [Path(name) if name.endswith(".yaml") else name for name in campaigns]
    found = ws.rehearsals.run_many(
        plans,
        as_of,
        sample=_sample(sample),
        seed=seed,
        confirmed=frozenset(confirm or ()),
    )
    for rehearsal in found:
        _tell(screen, rehearsal)
    screen.result(found)


@rehearsal_app.command(name="list")
def list_rehearsals(
    campaign: Annotated[str, typer.Option(help="Only of this campaign. 方案")] = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List the filed rehearsals, newest first. 预演记录."""
    ws, screen = open_here(workspace, as_json)
    entries = ws.rehearsals.list(campaign or None)
    screen.table(
        [
            {"rehearsal": e.rehearsal_id, "campaign": e.campaign_id, "as of": str(e.as_of),
             "customers": e.sample, "of": e.population,
             "verdict": screen.word("verdict", e.verdict),
             **{name: round(score) for name, score in e.scores.items()}}
            for e in entries
        ],
        whole=("rehearsal", "as of"),
    )  # fmt: skip
    if not entries:
        screen.say("还没有预演记录", "Nothing has been rehearsed yet")
    screen.result(entries)


@rehearsal_app.command(name="show")
def show_rehearsal(
    rehearsal_id: Annotated[str, typer.Argument(help="Id of a filed rehearsal. 预演编号")],
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show a filed rehearsal: reach, load, forecast, the four judgements. 预演结果."""
    ws, screen = open_here(workspace, as_json)
    rehearsal = ws.rehearsals.get(rehearsal_id)
    screen.say(rehearsal_text(rehearsal, "zh"), rehearsal_text(rehearsal, "en"))
    screen.result(rehearsal)


@rehearsal_app.command(name="compare")
def compare_rehearsals(
    first: Annotated[str, typer.Argument(help="Id of a filed rehearsal. 预演编号")],
    second: Annotated[str, typer.Argument(help="Id of another one. 另一预演编号")],
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Put two rehearsals side by side and say which is better on what. 方案对比."""
    ws, screen = open_here(workspace, as_json)
    comparison = ws.rehearsals.compare(first, second)
    screen.table(comparison.table(screen.language).to_pylist())
    screen.result(comparison)


def _tell(screen: Screen, rehearsal: Rehearsal) -> None:
    found, sample = rehearsal.findings, rehearsal.sample
    screen.say(
        f"{rehearsal.title['zh']}（{rehearsal.campaign_id}）：预演 {sample.size:,} 户，"
        f"共 {sample.population:,} 户；编号 {rehearsal.rehearsal_id}",
        f"{rehearsal.title['en']} ({rehearsal.campaign_id}): {sample.size:,} customers of "
        f"{sample.population:,} rehearsed; id {rehearsal.rehearsal_id}",
    )
    screen.table(
        [
            {"step": screen.title(step.title), "out": step.dropped, "left": step.left}
            for step in found.reach
            if step.dropped or step is found.reach[0]
        ]
    )
    expected = found.forecast
    middle, money = expected.conversions, expected.profit
    screen.say(
        f"接触 {expected.contacts:,}，预期转化 {middle.mean:,.0f}"
        f"（{expected.level:.0%} 区间 {middle.low:,.0f} 至 {middle.high:,.0f}），"
        f"预期利润 {money.mean:,.0f} {screen.money_unit}（{money.low:,.0f} 至 {money.high:,.0f}）",
        f"{expected.contacts:,} contacts, {middle.mean:,.0f} conversions expected "
        f"({expected.level:.0%} interval {middle.low:,.0f} to {middle.high:,.0f}), "
        f"profit {money.mean:,.0f} {screen.money_unit} ({money.low:,.0f} to {money.high:,.0f})",
    )
    for judgement in rehearsal.judgements:
        screen.say(judgement_text(judgement, "zh"), judgement_text(judgement, "en"))


def _sample(text: str) -> int | float | None:
    """Read ``5000``, ``10%`` or ``0.1``; nothing means all."""
    text = text.strip()
    if not text:
        return None
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return float(text) if "." in text else int(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"A sample of '{text}' is no number; write 5000 or 10%."
        ) from error
