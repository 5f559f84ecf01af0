"""Commands that take data in and say what is known: init, ingest, quality, tags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here, tags_app
from bihuan.data import QualityProfile
from bihuan.kernel import UserError
from bihuan.pack import PACKS


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="New or empty folder. 新文件夹")],
    pack: Annotated[str, typer.Option(help=f"Ready-made definitions: {', '.join(PACKS)}")] = "",
    as_json: AsJson = False,
) -> None:
    """Lay out a workspace, with a pack's definitions if you like. 新建工作区。

    Example: bihuan init my-workspace --pack retention
    """
    workspace, screen = open_here(folder, as_json, create=True)
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
    ws, screen = open_here(workspace, as_json)
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
    ws, screen = open_here(workspace, as_json)
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
    ws, screen = open_here(workspace, as_json)
    profile = ws.quality(table, as_of)
    rows, findings = profile.table().to_pylist(), profile.findings()
    whole = _of_table(profile)
    screen.table(
        [{"measure": name, "value": value} for name, value in whole.items()],
        title=f"{table} {profile.as_of}",
    )
    screen.table(rows)
    screen.table(
        [{"finding": screen.title(f.message), "value": f.value, "limit": f.limit} for f in findings]
    )
    if not findings:
        screen.say("未发现超限问题", "Nothing is beyond its limit")
    if picture is not None:
        picture.write_text(profile.picture(), encoding="utf-8")
        screen.say(f"图已写入 {picture}", f"Picture written to {picture}")
    screen.result({**whole, "findings": findings, "columns": rows})


def _of_table(profile: QualityProfile) -> dict[str, Any]:
    """Return what is known of the table as a whole: granularity, keys, history, freshness."""
    per_subject = profile.rows_per_subject
    return {
        "grain": profile.grain,
        "key": ", ".join(profile.key),
        "rows": profile.rows,
        "rows_per_subject": ", ".join(f"{k}: {v:.4g}" for k, v in per_subject.items()),
        "duplicate_keys": profile.duplicate_keys,
        "age_days": profile.age_days,
        "missing_months": ", ".join(profile.missing_months),
        "row_change": profile.row_change,
        "outside_month": profile.outside_month,
        "snapshots": len(profile.dates),
    }


@tags_app.command(name="derive")
def derive_tags(
    as_of: AsOf,
    subject: Annotated[str, typer.Option(help="customer, subscription, leased_line, staff ...")] = (
        "customer"
    ),
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Derive all live tags for a date; what has not changed is left. 生成标签。

    Example: bihuan tags derive --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
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
    ws, screen = open_here(workspace, as_json)
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
    ws, screen = open_here(workspace, as_json)
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
    screen.say(
        f"来自列：{_list(lineage.all_columns)}", f"From columns: {_list(lineage.all_columns)}"
    )
    screen.say(f"来自标签：{_list(lineage.tags)}", f"From tags: {_list(lineage.tags)}")
    screen.say(f"被使用于：{_list(lineage.users)}", f"Used by: {_list(lineage.users)}")
    screen.result({"tag": tag, "lineage": lineage})


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "—"
