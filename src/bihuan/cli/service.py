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
    from bihuan.server.node import diagnose

    screen = new_screen(as_json=as_json)
    findings = diagnose(read_settings(workspace))
    for finding in findings:
        mark = "✓" if finding.ok else "✗"
        screen.say(f"{mark} {finding.zh}{finding.remedy_zh}", f"{mark} {finding.en}"
                   f"{' ' + finding.remedy_en if finding.remedy_en else ''}")  # fmt: skip
    screen.result(
        {
            "ok": all(finding.ok for finding in findings),
            "findings": [
                {
                    "name": finding.name, "ok": finding.ok, "zh": finding.zh, "en": finding.en,
                    "remedy_zh": finding.remedy_zh, "remedy_en": finding.remedy_en,
                }
                for finding in findings
            ],
        }
    )  # fmt: skip
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command(name="import-org")
def import_org(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Take org units and staff from the lake into the service. 导入组织.

    Units and staff that are no longer listed are closed; rows that do not fit are listed with the
    reason. Ingest the tables org_unit and staff first.
    """
    from bihuan.server.app.organisation import import_from_lake
    from bihuan.server.node import open_service

    screen = new_screen(as_json=as_json)
    service = open_service(read_settings(workspace))
    with service.system_work() as work:
        report = import_from_lake(work, service.workspace)
    counts = dict(report.counts)
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    screen.say(f"组织已导入：{told}", f"Imported: {told}")
    for row in report.refused[:20]:
        screen.say(f"  {row.subject_id}：{row.reason}", f"  {row.subject_id}: {row.reason}")
    screen.result({"counts": counts, "refused": len(report.refused)})


@app.command(name="first-account")
def open_first(
    name: Annotated[str, typer.Argument(help="Name to sign in with. 账号")],
    workspace: Folder = HERE,
    password: Annotated[
        str,
        typer.Option(
            prompt=True,
            hide_input=True,
            confirmation_prompt=True,
            envvar="BIHUAN_FIRST_PASSWORD",
            help="Asked for if not given. 密码",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Open the first administrator, who opens all others. 开通首个管理员.

    Needs an org tree (import-org) and no account yet.
    """
    from bihuan.server.app.account import open_first_account
    from bihuan.server.node import open_service

    screen = new_screen(as_json=as_json)
    service = open_service(read_settings(workspace))
    with service.system_work() as work:
        account = open_first_account(work, name, password)
        opened = account.name
    screen.say(f"已开通 {opened}，请登录后开通其他账号。", f"{opened} may sign in now.")
    screen.result({"account": opened})


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
