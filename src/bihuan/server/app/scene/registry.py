"""The registry of scenes: added, changed, switched off and on, with every version on record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from bihuan.kernel.document import Document
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.indicator import approved_catalogue
from bihuan.server.app.scene.form import SceneForm, read_scene, require_fits
from bihuan.server.app.service import Service
from bihuan.server.app.unit_scope import require_units
from bihuan.server.control import SceneRecord, SceneVersion, UnitOfWork

STATUSES = ("active", "disabled")


def add_scene(  # noqa: PLR0913 - who, where, what
    work: UnitOfWork,
    service: Service,
    actor: Actor,
    unit_id: str,
    name: str,
    document: Mapping[str, Any],
    *,
    note: str,
) -> SceneRecord:
    """Add a scene; it is in use at once for its unit and all units below.

    Parameters
    ----------
    work
        In the scope of ``scene.manage``.
    service
        Against whose tags, offers and channels it is checked.
    actor, unit_id
        Who adds it, for which unit.
    name
        Lower-case letters, digits and ``_``; no scene or filter, also of a file, has it yet.
    document
        See :mod:`bihuan.server.app.scene.form`.
    note
        Why.

    Raises
    ------
    UserError
        If it cannot be read or names what is not there.
    ConflictError
        If the name is taken.
    """
    require_units(work, [unit_id])
    if not (name.isidentifier() and name.islower() and name.isascii()):
        raise RefusedError(
            f"'{name}' is no name for a scene.",
            remedy="Use lower-case letters, digits and _.",
            zh=f"“{name}”不能作为场景名，请使用小写字母、数字和下划线。",
        )
    taken = {*service.workspace.scenes.list(), *service.workspace.filters.list()}
    if name in taken:
        raise ConflictError(
            f"The workspace has a scene or filter '{name}' in a file.",
            remedy="Choose another name.",
            zh=f"工作区文件中已有场景或筛选器 {name}，请更换名称。",
        )
    _checked(work, service, name, document)
    title = Document(dict(document), f"scene {name}").titles("title")
    row = SceneRecord(
        scene_id=work.new_id("scene"), unit_id=unit_id, sharing="down", name=name, number=1,
        title_zh=title["zh"], title_en=title["en"], document=dict(document), status="active",
        made_by=actor.account_id, made_at=work.now, changed_at=work.now,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    _keep(work, actor, row, note)
    work.audit("scene.add", "scene", row.scene_id, name=name, unit=unit_id)
    return row


def change_scene(
    work: UnitOfWork,
    service: Service,
    actor: Actor,
    row: SceneRecord,
    document: Mapping[str, Any],
    *,
    note: str,
) -> SceneRecord:
    """Give a scene a new content, as its next version; the earlier ones stay on record.

    Raises
    ------
    UserError
        If it cannot be read or names what is not there; then nothing changes.
    """
    _checked(work, service, row.name, document)
    title = Document(dict(document), f"scene {row.name}").titles("title")
    row.document, row.title_zh, row.title_en = dict(document), title["zh"], title["en"]
    row.number += 1
    row.changed_at = work.now
    _keep(work, actor, row, note)
    work.audit("scene.change", "scene", row.scene_id, name=row.name, number=row.number)
    return row


def set_scene_status(
    work: UnitOfWork, actor: Actor, row: SceneRecord, status: str, *, note: str
) -> SceneRecord:
    """Switch a scene off (it takes nobody any more) or on again.

    Raises
    ------
    ConflictError
        If it stands so already.
    """
    if row.status == status:
        raise ConflictError(
            f"Scene '{row.name}' is {status} already.",
            remedy="Read it again.",
            zh=f"场景 {row.name} 已是 {status} 状态。",
        )
    row.status = status
    row.number += 1
    row.changed_at = work.now
    _keep(work, actor, row, note)
    work.audit(f"scene.{status}", "scene", row.scene_id, name=row.name)
    return row


def get_scene(work: UnitOfWork, scene_id: str) -> SceneRecord:
    """Return a scene by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(SceneRecord, scene_id)
    if row is None:
        raise missing("scene", "场景", scene_id)
    return row


def find_scenes(status: str | None = None) -> sa.Select[SceneRecord]:
    """Return a select of scenes."""
    statement = sa.select(SceneRecord)
    return statement if status is None else statement.where(SceneRecord.status == status)


def scene_versions(work: UnitOfWork, row: SceneRecord) -> list[SceneVersion]:
    """Return what a scene has said, oldest first."""
    statement = (
        sa.select(SceneVersion)
        .where(SceneVersion.scene_id == row.scene_id)
        .order_by(SceneVersion.number)
    )
    return list(work.session.scalars(statement))


def list_file_scenes(service: Service) -> dict[str, list[str]]:
    """Return the scenes and filters of the workspace's files, which stay as they are."""
    return {
        "scenes": list(service.workspace.scenes.list()),
        "filters": list(service.workspace.filters.list()),
    }


def _checked(
    work: UnitOfWork, service: Service, name: str, document: Mapping[str, Any]
) -> SceneForm:
    form = read_scene(name, document)
    require_fits(form, service, approved_catalogue(work))
    return form


def _keep(work: UnitOfWork, actor: Actor, row: SceneRecord, note: str) -> None:
    work.session.add(
        SceneVersion(
            scene_version_id=work.new_id("scenever"), scene_id=row.scene_id, unit_id=row.unit_id,
            sharing=row.sharing, number=row.number, document=row.document, status=row.status,
            note=note, made_by=actor.account_id, made_at=work.now,
        )
    )  # fmt: skip
    work.session.flush()
