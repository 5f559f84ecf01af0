"""Scenes added while the service runs: checked on saving, used at once, every version kept."""

from bihuan.server.app.scene.form import SceneForm, read_scene
from bihuan.server.app.scene.registry import (
    add_scene,
    change_scene,
    find_scenes,
    get_scene,
    list_file_scenes,
    scene_versions,
    set_scene_status,
)
from bihuan.server.app.scene.use import (
    count_scene,
    recommend_in_scene,
    require_customer,
    run_due_scenes,
    scene_runs,
)

__all__ = [
    "SceneForm",
    "read_scene",
    "add_scene",
    "change_scene",
    "set_scene_status",
    "get_scene",
    "find_scenes",
    "scene_versions",
    "list_file_scenes",
    "count_scene",
    "recommend_in_scene",
    "run_due_scenes",
    "scene_runs",
    "require_customer",
]
