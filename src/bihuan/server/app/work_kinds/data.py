"""Kinds about data and tags: ingest, tag refresh, index build."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field

from bihuan.server.app.errors import RefusedError
from bihuan.server.app.job import Arguments, JobContext, Kind
from bihuan.server.app.work_kinds.day import day_of_tags, resolve_day

INCOMING = "incoming"
"""Folder of the workspace from which files are taken in; nothing else on the machine is."""


class FileOutsideError(RefusedError):
    """The file to take in is not one of the incoming folder."""


class Ingest(Arguments):
    """A file of the folder ``incoming`` taken into the lake."""

    source: str = Field(
        min_length=1, max_length=200, description="Path under incoming/, crm/2026-10-31.csv."
    )
    mapping: str = Field(min_length=1, max_length=64, description="Name of a file in mappings/.")
    as_of: date = Field(description="Snapshot date.")
    append: bool = Field(False, description="Add to the snapshot instead of replacing it.")


class TagRefresh(Arguments):
    """Tags of a date derived and indexed."""

    as_of: date | None = Field(None, description="None: the newest date of the subject's table.")
    subject: str = Field("customer", min_length=1, max_length=32)


class IndexBuild(Arguments):
    """Bit planes brought up to date."""

    as_of: date | None = Field(None, description="None: the newest date of the tags.")
    subject: str = Field("customer", min_length=1, max_length=32)
    afresh: bool = Field(False, description="Build all planes anew, after damage.")


def run_ingest(context: JobContext, arguments: Ingest) -> Mapping[str, Any]:
    """Take a file into the lake; the same file twice changes nothing."""
    path = _incoming(context, arguments.source)

    def take_in() -> dict[str, Any]:
        report = context.workspace.ingest(
            path, arguments.mapping, arguments.as_of, append=arguments.append
        )
        return {
            "unchanged": report.unchanged,
            "quarantine_id": report.quarantine_id,
            "tables": {
                table.table: {
                    "read": table.rows_read,
                    "stored": table.rows_stored,
                    "quarantined": table.rows_quarantined,
                    "skipped": table.rows_skipped,
                }
                for table in report.tables
            },
        }

    report: dict[str, Any] = context.step(
        "ingest", {"zh": "导入数据", "en": "Take the file in"}, take_in
    )
    return {"as_of": arguments.as_of.isoformat(), **report}


def run_tag_refresh(context: JobContext, arguments: TagRefresh) -> Mapping[str, Any]:
    """Derive the live tags of a date, then bring their index up to date."""
    day = resolve_day(context, arguments.as_of, arguments.subject)

    def derive() -> dict[str, Any]:
        report = context.workspace.refresh_tags(day, subject=arguments.subject)
        states = [group.state for group in report.groups]
        return {
            "subjects": report.subjects,
            "tags": sum(len(group.tags) for group in report.groups),
            "derived": states.count("derived"),
            "unchanged": states.count("unchanged"),
            "pending": sorted(report.pending),
        }

    derived: dict[str, Any] = context.step(
        "derive", {"zh": "生成标签", "en": "Derive the tags"}, derive
    )
    indexed = _index(context, day, arguments.subject, afresh=False)
    return {"as_of": day.isoformat(), **derived, "index": indexed}


def run_index_build(context: JobContext, arguments: IndexBuild) -> Mapping[str, Any]:
    """Bring the bit planes of a date's tags up to date."""
    day = day_of_tags(context, arguments.as_of, arguments.subject)
    return {
        "as_of": day.isoformat(),
        **_index(context, day, arguments.subject, afresh=arguments.afresh),
    }


def _index(context: JobContext, day: date, subject: str, *, afresh: bool) -> dict[str, Any]:
    def build() -> dict[str, Any]:
        report = context.workspace.index_tags(day, subject=subject, afresh=afresh)
        return {
            "rows": report.rows,
            "built": len(report.built),
            "unchanged": len(report.unchanged),
            "left_out": sorted(report.left_out),
            "bytes": report.bytes,
        }

    built: dict[str, Any] = context.step("index", {"zh": "建索引", "en": "Build the index"}, build)
    return built


def _incoming(context: JobContext, source: str) -> Path:
    folder = (context.workspace.layout.root / INCOMING).resolve()
    path = (folder / source).resolve()  # links are followed before the look
    if "://" in source or not path.is_relative_to(folder) or not path.is_file():
        raise FileOutsideError(
            f"There is no file '{source}' in the folder {INCOMING}/ of the workspace.",
            remedy=f"Put it there and name its path under {INCOMING}/.",
            zh=f"工作区 {INCOMING}/ 中没有文件 {source}，请先放入该文件夹，再给出相对路径。",
        )
    return path


KINDS = (
    Kind(
        "ingest", {"zh": "数据导入", "en": "ingest"}, "job.run", Ingest, run_ingest
    ),
    Kind(
        "tag_refresh", {"zh": "标签刷新", "en": "tag refresh"}, "job.run", TagRefresh,
        run_tag_refresh, steps=2,
    ),
    Kind(
        "index_build", {"zh": "索引构建", "en": "index build"}, "job.run", IndexBuild,
        run_index_build,
    ),
)  # fmt: skip
