"""Using scenes: counts, recommendations within a scene, and those due by the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from bihuan.audience import (
    AudienceSnapshot,
    Scene,
    SceneLog,
    SceneRun,
    bind,
    match,
    parse,
    profile_of,
    run_due,
    to_text,
)
from bihuan.decision import Recommended
from bihuan.server.app.audience import within
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.personal.customer import get_place
from bihuan.server.app.scene.form import SceneForm, read_scene
from bihuan.server.app.scene.registry import find_scenes
from bihuan.server.app.service import Service
from bihuan.server.control import SceneRecord, UnitOfWork


class SceneDisabledError(RefusedError):
    """A scene that was switched off takes nobody."""


@dataclass(frozen=True, slots=True)
class SceneCount:
    """How many a scene takes.

    Parameters
    ----------
    text
        The audience as filled in.
    as_of
        Date of the tags.
    members, base
        Its size (None: fewer than the least that may be shown), and of how many.
    """

    text: str
    as_of: date
    members: int | None
    base: int


@dataclass(frozen=True, slots=True)
class SceneAdvice:
    """What a scene has for one customer.

    Parameters
    ----------
    is_member
        Whether the customer is in the scene; outside it there is nothing to offer.
    items
        Best first, only what the scene offers through its touchpoints.
    paths
        By channel of its touchpoints: how it is done there, by language.
    """

    is_member: bool
    items: tuple[Recommended, ...] = ()
    paths: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def count_scene(
    work: UnitOfWork,
    service: Service,
    row: SceneRecord,
    *,
    as_of: date | None = None,
    values: Mapping[str, object] | None = None,
    sees_small: bool = False,
) -> SceneCount:
    """Count whom a scene takes now, of the customers of the caller's units.

    Parameters
    ----------
    work
        In the scope of ``audience.read``.
    service
        Whose customers.
    row
        An active scene.
    as_of
        Date of the tags; None: the newest.
    values
        By name of the blank, for a scene that a clerk fills in.
    sees_small
        Whether groups below the service's ``small_group`` are told.

    Raises
    ------
    SceneDisabledError
        If it is switched off.
    """
    form = _active(row)
    text = form.audience(values or {})
    day = as_of or _newest(service, form)
    ws = service.workspace
    rule = parse(text)
    if form.taken.subject == "customer":
        rule = within(work, rule)
    counted = ws.count(to_text(rule), day, subject=form.taken.subject)
    hidden = not sees_small and 0 < counted.members < service.settings.small_group
    return SceneCount(text, day, None if hidden else counted.members, counted.base)


def recommend_in_scene(
    service: Service,
    row: SceneRecord,
    customer_id: str,
    *,
    as_of: date | None = None,
    values: Mapping[str, object] | None = None,
    top: int = 3,
) -> SceneAdvice:
    """Return the next best offers of one customer within a scene.

    Raises
    ------
    SceneDisabledError
        If it is switched off.
    UnknownSubjectError
        If there is no such customer.
    """
    form = _active(row)
    if form.taken.subject != "customer":
        raise RefusedError(
            f"Scene '{row.name}' takes {form.taken.subject}s, not customers.",
            remedy="Choose a scene of customers.",
            zh=f"场景 {row.name} 的对象不是客户，不能推荐。",
        )
    ws = service.workspace
    day = as_of or _newest(service, form)
    tags = ws.tags(day)
    text = form.audience(values or {})
    profile = profile_of(tags.profile(customer_id), tags.fields)
    if not match(bind(parse(text), tags.fields), profile):
        return SceneAdvice(is_member=False)
    paths = {point.channel: dict(point.path) for point in form.touchpoints}
    found = ws.recommender.for_customer(customer_id, day, top=100)
    items = [
        item
        for item in found.items
        if form.may_offer(item.offer_id, ws.catalogue) and (not paths or item.channel in paths)
    ]
    return SceneAdvice(True, tuple(items[:top]), paths)


def require_customer(work: UnitOfWork, service: Service, customer_id: str) -> None:
    """Refuse a customer out of reach; raise :class:`NotFoundError`, the same for one not there."""
    get_place(service, work, customer_id)


def run_due_scenes(
    work: UnitOfWork, service: Service, now: datetime | None = None
) -> dict[str, list[SceneRun]]:
    """Run every active scene by the clock that has become due, each time once.

    Parameters
    ----------
    work
        Of the system: all units' scenes are looked at.
    service
        Whose customers.
    now
        The present moment; None: that of ``work``.

    Returns
    -------
    dict[str, list[SceneRun]]
        What became of each, by name of the scene; only those with something to tell.
    """
    moment = now or work.now
    found: dict[str, list[SceneRun]] = {}
    for row in work.session.scalars(find_scenes("active")):
        form = read_scene(row.name, row.document)
        if isinstance(form.taken, Scene):
            runs = run_due(
                form.taken,
                _log(service, row.name),
                moment,
                lambda scene: _dates(service, scene.subject),
                lambda scene, day: _take(service, scene, day),
            )
            if runs:
                found[row.name] = runs
    return found


def scene_runs(service: Service, row: SceneRecord) -> list[SceneRun]:
    """Return what became of every time at which a scene was due, oldest first."""
    return _log(service, row.name).runs()


def _active(row: SceneRecord) -> SceneForm:
    if row.status != "active":
        raise SceneDisabledError(
            f"Scene '{row.name}' is switched off.",
            remedy="Switch it on, or choose another.",
            zh=f"场景 {row.name} 已停用，请先启用或选择其他场景。",
        )
    return read_scene(row.name, row.document)


def _newest(service: Service, form: SceneForm) -> date:
    dates = _dates(service, form.taken.subject)
    if not dates:
        raise RefusedError(
            f"No {form.taken.subject} tags have been derived.",
            remedy="Refresh the tags first.",
            zh="尚无标签数据，请先刷新标签。",
        )
    return dates[-1]


def _dates(service: Service, subject: str) -> list[date]:
    view = service.workspace.view
    prefix = f"tag__{subject}__"
    return sorted(
        {day for table in view.tables if table.startswith(prefix) for day in view.dates(table)}
    )


def _take(service: Service, scene: Scene, day: date) -> AudienceSnapshot:
    return service.workspace.take_snapshot(scene.text, day, subject=scene.subject)


def _log(service: Service, name: str) -> SceneLog:
    folder = service.workspace.layout.root / "runs" / "scenes"
    return SceneLog(folder / f"{name}.jsonl")
