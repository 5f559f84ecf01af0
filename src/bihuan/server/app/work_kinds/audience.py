"""Kinds about audiences: taken by a schedule, or by the fixed scenes' own clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import Field

from bihuan.audience import SceneRun
from bihuan.server.app.job import Arguments, JobContext, Kind
from bihuan.server.app.scene import find_scenes, run_due_scenes
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
    """Scenes that are due by their own clock: fixed ones (``scenes/``) and those added since."""


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
    """Run every scene's times missed since it was last settled, each once (its own log decides).

    All units' scenes are run; of those added in the service the result tells the ones within the
    owner's reach.
    """
    del arguments

    def run_fixed() -> list[dict[str, Any]]:
        return [_run_told(context, done) for done in context.workspace.scenes.run_due()]

    def run_added() -> list[dict[str, Any]]:
        with context.service.system_work(read_only=True) as work:
            found = run_due_scenes(work, context.own_service)
        return [_run_told(context, done) for runs in found.values() for done in runs]

    runs: list[dict[str, Any]] = context.step(
        "scenes", {"zh": "运行固化场景", "en": "Run the fixed scenes that are due"}, run_fixed
    )
    added: list[dict[str, Any]] = context.step(
        "added_scenes", {"zh": "运行增补场景", "en": "Run the added scenes that are due"}, run_added
    )
    with context.work(read_only=True) as work:
        mine = {row.name for row in work.session.scalars(find_scenes())}
    told = [run for run in added if run["scene"] in mine]
    return {"runs": [*runs, *told], "elsewhere": len(added) - len(told)}


def _run_told(context: JobContext, run: SceneRun) -> dict[str, Any]:
    return {
        "scene": run.scene,
        "fire_time": run.fire_time.isoformat(),
        "state": run.state,
        "snapshot_id": run.snapshot_id,
        "reason": dict(run.reason or {}),
        **size(context, run.count),
    }


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
        "scene_run", {"zh": "场景运行", "en": "scenes that are due"}, "audience.read",
        SceneRuns, run_scenes, steps=2,
    ),
)  # fmt: skip
