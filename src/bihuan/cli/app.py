"""The command tree, the options that commands share, and how a command opens its workspace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bihuan.cli.progress import BarProgress, token_of_interrupt
from bihuan.cli.show import Screen
from bihuan.kernel import Progress, SilentProgress
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
scene_app = typer.Typer(no_args_is_help=True, help="Audiences selected by the clock. 固化场景。")
app.add_typer(tags_app, name="tags")
app.add_typer(scene_app, name="scene")
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


def open_here(folder: Path, as_json: bool, *, create: bool = False) -> tuple[Workspace, Screen]:
    """Open the workspace and the screen of a command."""
    screen = new_screen(as_json=as_json)
    workspace = open_workspace(folder, create=create, progress=progress_of(screen))
    screen.language = os.environ.get("BIHUAN_LANG", workspace.settings.language)
    screen.currency = workspace.settings.currency
    return workspace, screen


def new_screen(*, as_json: bool) -> Screen:
    """Make the screen of the running command; the error handler speaks through it too."""
    global _screen
    _screen = Screen(as_json=as_json, language=os.environ.get("BIHUAN_LANG", "zh"))
    return _screen


def progress_of(screen: Screen) -> Progress:
    """Return bars where a person watches, silence where a machine reads; Ctrl-C stops both."""
    token = token_of_interrupt()
    if screen.as_json or not screen.err.is_terminal:
        return SilentProgress(token)
    return BarProgress(screen.err, token)
