"""Commands of the audit trail: is it whole, keep its head elsewhere, take it out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bihuan.cli.app import HERE, AsJson, Folder, app, new_screen
from bihuan.cli.service import read_settings
from bihuan.kernel import UserError, write_atomically

if TYPE_CHECKING:
    from bihuan.server.app.service import Service

audit_app = typer.Typer(no_args_is_help=True, help="The audit trail. 审计链。")
app.add_typer(audit_app, name="audit")

KINDS = {
    "changed": ("内容被改动", "its content was changed"),
    "missing": ("条目缺失", "it is missing"),
    "swapped": ("位置被调换", "it stands in another's place"),
    "forged": ("并非由本服务写入", "it was not written by this service"),
    "added": ("多出的条目", "nobody's entry"),
    "unlinked": ("与前一条不衔接", "it does not follow the one before"),
    "truncated": ("自此条起被截断", "it and all after it are cut off"),
    "rewritten": ("与导出的链头不符", "it is not what was exported"),
}
"""What is told of each kind of break, in Chinese and English."""
HeadFiles = Annotated[
    list[Path] | None,
    typer.Option("--head", help="A head exported before; may be repeated. 以前导出的链头"),
]


class BrokenTrailError(UserError):
    """The audit trail does not hold."""

    exit_code = 3


@audit_app.command()
def verify(workspace: Folder = HERE, head: HeadFiles = None, as_json: AsJson = False) -> None:
    """Say whether the trail is whole; exit code 3 if it is not. 校验审计链.

    Example: bihuan audit verify --head /mnt/safe/head-2026-11.json
    """
    screen = new_screen(as_json=as_json)
    from bihuan.server.app.audit import verify_trail

    report = verify_trail(_service(workspace), [_read(path) for path in head or []])
    broken = report.broken
    screen.result(
        {
            "whole": report.is_whole, "entries": report.entries, "sequence": report.sequence,
            "seal": report.seal, "marked": report.marked, "heads": report.heads,
            "broken": None if broken is None else {"sequence": broken.sequence,
                                                   "kind": broken.kind},
        }
    )  # fmt: skip
    if broken is None:
        heads_zh = f"，并与 {report.heads} 个导出的链头相符" if report.heads else ""
        heads = f" and agree with {report.heads} exported heads" if report.heads else ""
        screen.say(
            f"审计链完整：{report.entries} 条{heads_zh}",
            f"The trail is whole: {report.entries} entries{heads}",
        )
        return
    zh, en = KINDS[broken.kind]
    raise BrokenTrailError(
        f"The trail breaks at entry {broken.sequence}: {en}; {report.entries} entries before hold.",
        remedy="Keep the database as it is, and compare with exports and backups.",
        zh=f"审计链在第 {broken.sequence} 条断裂：{zh}；之前 {report.entries} 条有效。"
        "请保持数据库原状，并与导出文件和备份比对。",
    )


@audit_app.command()
def head(
    to: Annotated[Path, typer.Argument(help="File to write. 目标文件")],
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Export the signed head, to be kept on another machine. 导出链头.

    Example: bihuan audit head /mnt/safe/head-2026-11.json
    """
    screen = new_screen(as_json=as_json)
    from bihuan.server.app.audit import take_head

    service = _service(workspace)
    with service.system_work() as work:
        taken = take_head(service, work)
    write_atomically(to, json.dumps(taken.as_json(), indent=1).encode() + b"\n")
    screen.say(
        f"链头（第 {taken.sequence} 条）已写入 {to}", f"Head of entry {taken.sequence} is in {to}"
    )
    screen.result({**taken.as_json(), "file": str(to)})


@audit_app.command()
def export(
    to: Annotated[Path, typer.Argument(help="File to write, JSON Lines. 目标文件")],
    workspace: Folder = HERE,
    action: Annotated[str, typer.Option(help="Named action, * for any. 动作")] = "",
    account: Annotated[str, typer.Option(help="Account id. 账号")] = "",
    as_json: AsJson = False,
) -> None:
    """Export entries with their seals, oldest first. 导出审计条目.

    Example: bihuan audit export trail.jsonl --action "customer.*"
    """
    screen = new_screen(as_json=as_json)
    from bihuan.server.app import audit

    service = _service(workspace)
    wanted = audit.EntryFilter(account_id=account or None, action=action or None)
    with service.system_work() as work:
        audit.note_export(work, wanted)
    lines = 0
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f"{to.name}.part")
    with service.system_work(read_only=True) as work, part.open("w", encoding="utf-8") as file:
        for line in audit.export_lines(work, audit.find_entries(service, wanted)):
            file.write(line)
            lines += 1
    part.replace(to)
    screen.say(f"已导出 {lines} 条到 {to}", f"{lines} entries are in {to}")
    screen.result({"entries": lines, "file": str(to)})


def _service(workspace: Path) -> Service:
    from bihuan.server.node import open_service

    return open_service(read_settings(workspace))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a file of an exported head.",
            remedy="Give the file that `bihuan audit head` wrote.",
            zh=f"{path} 不是导出的链头文件，请使用 bihuan audit head 写出的文件。",
        ) from error
    return content if isinstance(content, dict) else {}
