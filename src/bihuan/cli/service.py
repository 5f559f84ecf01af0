"""Commands of the service: serve it, bring its database up to date, say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bihuan.cli.app import HERE, AsJson, Folder, app, new_screen
from bihuan.kernel import UserError

if TYPE_CHECKING:
    from bihuan.server.settings import Settings


@app.command()
def serve(
    workspace: Folder = HERE,
    host: Annotated[str, typer.Option(help="Address to listen on. 监听地址")] = "",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one. 端口")] = -1,
    with_worker: Annotated[
        bool, typer.Option(help="Run jobs in this process too. 同时运行作业")
    ] = True,
) -> None:
    """Serve /api/v1 over a workspace. 启动服务.

    Settings come from BIHUAN_* and <workspace>/service.toml; see docs/operations/settings.md.

    Example: bihuan serve -w var/demo --port 8000
    """
    given: dict[str, Any] = {}
    if host:
        given["host"] = host
    if port >= 0:
        given["port"] = port
    settings = read_settings(workspace, **given)
    screen = new_screen(as_json=False)
    from bihuan.server.node import run_server

    run_server(settings, with_worker=with_worker, say=screen.say)


@app.command()
def migrate(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Bring the control database to this program's form. 升级控制库.

    Make a backup first. An empty database is laid out; a current one is left alone.
    """
    from bihuan.server.node import bring_up_to_date

    screen = new_screen(as_json=as_json)
    before, after = bring_up_to_date(read_settings(workspace))
    screen.say(
        f"控制库：{before or '空'} → {after}", f"Control database: {before or 'none'} → {after}"
    )
    screen.result({"before": before, "after": after})


@app.command()
def doctor(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Say what is wrong with a service and what to do. 体检.

    Ends with 1 if something is wrong.
    """
    from bihuan.server.app.doctor import examine
    from bihuan.server.node import open_service

    screen = new_screen(as_json=as_json)
    findings = examine(open_service(read_settings(workspace)))
    for finding in findings:
        mark = "✓" if finding.ok else "✗"
        screen.say(f"{mark} {finding.zh}{finding.remedy_zh}", f"{mark} {finding.en}"
                   f"{' ' + finding.remedy_en if finding.remedy_en else ''}")  # fmt: skip
    screen.result(
        {
            "ok": all(finding.ok for finding in findings),
            "findings": [
                {"name": finding.name, "ok": finding.ok, "zh": finding.zh, "en": finding.en}
                for finding in findings
            ],
        }
    )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def read_settings(workspace: Path, **given: Any) -> Settings:
    """Return the settings of a service over ``workspace``.

    Raises
    ------
    UserError
        If one does not fit; the message names it.
    """
    from pydantic import ValidationError

    from bihuan.server.settings import Settings

    try:
        return Settings(workspace=workspace, **given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"The setting {name} does not fit: {first['msg']}.",
            remedy=f"Mend BIHUAN_{name.upper()} or {name} in service.toml.",
            zh=f"设置 {name} 有误，请检查环境变量 BIHUAN_{name.upper()} 或 service.toml。",
        ) from error
