"""Audiences by the clock and by forms: fixed scenes (固化场景) and self-service filters.

In come YAML files; out go runs on record, each fire time once, never silently stale. Read in this
order: ``definition``, ``log``, ``schedule`` for scenes, ``form`` for filters.
"""

from bihuan.audience.scene.definition import (
    Scene,
    load_scene,
)
from bihuan.audience.scene.form import (
    FilterForm,
    load_form,
)
from bihuan.audience.scene.log import (
    Resumed,
    SceneLog,
    SceneRun,
)
from bihuan.audience.scene.schedule import (
    SceneStatus,
    resume_scene,
    run_due,
    scene_status,
)

__all__ = [
    "FilterForm",
    "Resumed",
    "Scene",
    "SceneLog",
    "SceneRun",
    "SceneStatus",
    "load_form",
    "load_scene",
    "resume_scene",
    "run_due",
    "scene_status",
]
