"""Kinds about audiences: taken by a schedule, or by the fixed scenes' own clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import Field

from bihuan.server.app.job import Arguments, JobContext, Kind
from bihuan.server.app.work_kinds.day import day_of_tags


class AudienceRefresh(Arguments):
    """An audience taken anew."""

    audience: str = Field(
        min_length=1, max_length=4000, description="Rule, arpu >= 80 and not has_contract."
    )
    name: str = Field("", max_length=100, description="For people.")
    as_of: date | None = Field(None, description="None: the newest date of the tags.")
    subject: str = Field("customer", min_length=1, max_length=32)


class SceneRuns(Arguments):
    """Fixed scenes (``scenes/``) that are due by their own clock."""


def run_audience_refresh(context: JobContext, arguments: AudienceRefresh) -> Mapping[str, Any]:
    """Freeze who satisfies the rule now, and keep the size."""
    day = day_of_tags(context, arguments.as_of, arguments.subject)

    def take() -> dict[str, Any]:
        snapshot = context.workspace.take_snapshot(
            arguments.audience, day, subject=arguments.subject
        )
        return {"snapshot_id": snapshot.id, **size(context, snapshot.count.members),
                "base": snapshot.count.base}  # fmt: skip

    taken: dict[str, Any] = context.step(
        "snapshot", {"zh": "提取客群", "en": "Take the audience"}, take
    )
    return {"name": arguments.name, "as_of": day.isoformat(), **taken}


def run_scenes(context: JobContext, arguments: SceneRuns) -> Mapping[str, Any]:
    """Run every scene's times missed since it was last settled, each once (its own log decides)."""
    del arguments

    def run() -> list[dict[str, Any]]:
        return [
            {
                "scene": done.scene,
                "fire_time": done.fire_time.isoformat(),
                "state": done.state,
                "snapshot_id": done.snapshot_id,
                "reason": dict(done.reason or {}),
                **size(context, done.count),
            }
            for done in context.workspace.scenes.run_due()
        ]

    runs: list[dict[str, Any]] = context.step(
        "scenes", {"zh": "运行固化场景", "en": "Run the scenes that are due"}, run
    )
    return {"runs": runs}


def size(context: JobContext, members: int | None) -> dict[str, Any]:
    """Return a size as job results show it: small groups are not told to the number."""
    least = context.service.settings.small_group
    if members is None or members == 0 or members >= least:
        return {"members": members, "shown": "" if members is None else f"{members:,}"}
    return {"members": None, "shown": f"<{least}"}


KINDS = (
    Kind(
        "audience_refresh", {"zh": "客群刷新", "en": "audience refresh"}, "audience.read",
        AudienceRefresh, run_audience_refresh,
    ),
    Kind(
        "scene_run", {"zh": "固化场景运行", "en": "fixed scenes"}, "audience.read",
        SceneRuns, run_scenes,
    ),
)  # fmt: skip
