"""Scenes added while the service runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bihuan.kernel import FixedClock, UserError
from bihuan.server.app import scene
from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError
from bihuan.server.control import Control

from .small_lake import OCTOBER, person, serve

BY_FORM: dict[str, Any] = {
    "title": {"zh": "长期在网", "en": "Long with us"},
    "goal": {"zh": "感谢老客户", "en": "Thank old customers"},
    "audience": "tenure_months >= {months}",
    "parameters": [
        {"name": "months", "title": {"zh": "月数", "en": "Months"}, "type": "integer",
         "default": 20}
    ],
    "touchpoints": [
        {"channel": "sms", "path": {"zh": "短信", "en": "Text"},
         "requirement": {"zh": "工作时间", "en": "In working hours"}}
    ],
}  # fmt: skip
BY_CLOCK = {
    "title": {"zh": "每日新离网", "en": "Left"}, "goal": {"zh": "挽回", "en": "Win back"},
    "audience": "tenure_months < 10",
    "clock": {"cron": "0 6 * * *", "starts_on": "2026-11-01", "time_zone": "Asia/Shanghai"},
}  # fmt: skip


@pytest.fixture
def world(
    control: Control, database_url: str, clock: FixedClock, tmp_path: Path
) -> SimpleNamespace:
    service = serve(control, database_url, clock, tmp_path)
    service.workspace.refresh_tags(OCTOBER)
    return SimpleNamespace(
        service=service,
        planner=person(control, "planner", ("planner", "province")),
        city=person(control, "city", ("planner", "city-a")),
        clerk=person(control, "clerk", ("grid_manager", "grid-b11")),
    )


def add(world: SimpleNamespace, name: str, document: dict[str, Any], **more: Any) -> str:
    actor = more.get("actor", world.planner)
    with world.service.work(actor, "scene.manage") as work:
        return scene.add_scene(
            work, world.service, actor, more.get("unit", "province"), name, document, note="新增"
        ).scene_id


def change(world: SimpleNamespace, actor: Any, scene_id: str) -> None:
    with world.service.work(actor, "scene.manage") as work:
        row = scene.get_scene(work, scene_id)
        scene.change_scene(work, world.service, actor, row, BY_FORM, note="x")


def count(world: SimpleNamespace, scene_id: str, actor: Any = None, **values: Any) -> Any:
    actor = actor or world.planner
    with world.service.work(actor, "audience.read", read_only=True) as work:
        row = scene.get_scene(work, scene_id)
        return scene.count_scene(work, world.service, row, values=values, sees_small=True)


def test_a_scene_is_counted_the_moment_it_was_added(world: SimpleNamespace) -> None:
    scene_id = add(world, "long_with_us", BY_FORM)
    assert count(world, scene_id).members == 10
    assert count(world, scene_id, months=25).members == 5
    # the caller's own customers: grid-b11 has every third
    assert count(world, scene_id, world.clerk).members == 4


def test_what_is_not_there_is_told_before_anything_is_kept(world: SimpleNamespace) -> None:
    for changes, told in (
        ({"audience": "tenure_month >= {months}"}, "tenure_months"),
        ({"audience": "tenure_months >= "}, "parameters|read|expected"),
        ({"offer_kinds": ["loan"]}, "no 'loan'"),
        ({"touchpoints": [BY_FORM["touchpoints"][0] | {"channel": "pigeon"}]}, "no 'pigeon'"),
        ({"review": ["unknown_rate"]}, "no 'unknown_rate'"),
        ({"colour": "red"}, "colour"),
        ({"clock": BY_CLOCK["clock"]}, "beside parameters"),
        ({"goal": "x"}, "both languages"),
    ):
        with pytest.raises(UserError, match=told):
            add(world, "wrong", BY_FORM | changes)
    with world.service.work(world.planner, "scene.read", read_only=True) as work:
        assert list(work.session.scalars(scene.find_scenes())) == []


def test_names_are_taken_once_also_by_files(world: SimpleNamespace) -> None:
    folder = world.service.workspace.layout.definitions("filters")
    (folder / "on_file.yaml").write_text(
        "title: {zh: 文件, en: File}\naudience: tenure_months >= 3\n", encoding="utf-8"
    )
    with pytest.raises(ConflictError, match="in a file"):
        add(world, "on_file", BY_FORM)
    add(world, "mine", BY_FORM)
    with pytest.raises(ConflictError):
        add(world, "mine", BY_FORM, actor=world.city, unit="city-a")
    with pytest.raises(RefusedError):
        add(world, "Not A Name", BY_FORM)
    assert scene.list_file_scenes(world.service)["filters"] == ["on_file"]


def test_units_below_see_it_and_only_its_own_change_it(world: SimpleNamespace) -> None:
    scene_id = add(world, "province_scene", BY_FORM)
    with world.service.work(world.city, "scene.read", read_only=True) as work:
        assert scene.get_scene(work, scene_id).name == "province_scene"
    local = add(world, "local_scene", BY_FORM, actor=world.city, unit="city-a")
    with (
        world.service.work(world.clerk, "scene.read", read_only=True) as work,
        pytest.raises(NotFoundError),
    ):
        scene.get_scene(work, local)
    with pytest.raises(UserError, match="outside"):
        change(world, world.city, scene_id)


def test_changes_are_versions_and_a_switched_off_scene_takes_nobody(
    world: SimpleNamespace,
) -> None:
    scene_id = add(world, "long_with_us", BY_FORM)
    with world.service.work(world.planner, "scene.manage") as work:
        row = scene.get_scene(work, scene_id)
        newer = BY_FORM | {"audience": "tenure_months > {months}"}
        scene.change_scene(work, world.service, world.planner, row, newer, note="大于")
    assert count(world, scene_id).members == 9
    with world.service.work(world.planner, "scene.manage") as work:
        row = scene.get_scene(work, scene_id)
        scene.set_scene_status(work, world.planner, row, "disabled", note="停用")
        with pytest.raises(ConflictError):
            scene.set_scene_status(work, world.planner, row, "disabled", note="停用")
    with pytest.raises(RefusedError, match="switched off"):
        count(world, scene_id)
    with world.service.work(world.planner, "scene.read", read_only=True) as work:
        versions = scene.scene_versions(work, scene.get_scene(work, scene_id))
    assert [(v.number, v.status, v.note) for v in versions] == [
        (1, "active", "新增"), (2, "active", "大于"), (3, "disabled", "停用"),
    ]  # fmt: skip
    assert versions[0].document["audience"] == BY_FORM["audience"]


def test_a_scene_by_the_clock_runs_once_when_due(world: SimpleNamespace, clock: FixedClock) -> None:
    add(world, "newcomers", BY_CLOCK)
    off = add(world, "switched_off", BY_CLOCK | {"title": {"zh": "停", "en": "Off"}})
    with world.service.work(world.planner, "scene.manage") as work:
        row = scene.get_scene(work, off)
        scene.set_scene_status(work, world.planner, row, "disabled", note="")

    def due() -> dict[str, list[tuple[str, int | None]]]:
        with world.service.system_work(read_only=True) as work:
            found = scene.run_due_scenes(work, world.service, clock.now() + timedelta(days=1))
        return {name: [(r.state, r.count) for r in runs] for name, runs in found.items()}

    first = due()
    assert list(first) == ["newcomers"]
    assert first["newcomers"][-1] == ("done", 10)
    assert due() == {}
