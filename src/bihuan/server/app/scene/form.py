"""What a scene says: its six steps in one document, held against tags, offers and channels.

::

    title, goal     in both languages; the goal of step 1
    subject         customer, unless said otherwise
    audience        whom it takes (steps 2 and 3), with {blanks} where a clerk fills them in
    clock           {cron, time_zone, starts_on, ...}: taken by the clock, or
    parameters      the blanks of the audience: taken by a clerk
    offers, offer_kinds      what may be offered (step 4); both empty: anything
    touchpoints     [{channel, path, requirement}]: each channel's own way (step 5)
    review          names of the indicators by which it is looked back on (step 6)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bihuan.audience import FilterForm, Scene, UnknownCodeError, bind, load_form, load_scene
from bihuan.evaluation.indicator import IndicatorCatalogue
from bihuan.kernel import canonical_json
from bihuan.kernel.document import Document
from bihuan.offer import KINDS, Catalogue
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.service import Service

FIELDS = (
    "title", "goal", "subject", "audience", "clock", "parameters", "columns", "offers",
    "offer_kinds", "touchpoints", "review", "owner",
)  # fmt: skip
_CLOCK = (
    "cron", "time_zone", "starts_on", "valid_until", "expected_size", "maximum_age_days",
    "catch_up", "on_failure", "attempts", "retry_minutes",
)  # fmt: skip


class SceneContentError(RefusedError):
    """A scene does not fit the tags, offers or channels that there are."""


@dataclass(frozen=True, slots=True)
class Touchpoint:
    """How one channel carries a scene out.

    Parameters
    ----------
    channel
        Channel kind.
    path, requirement
        Its own way of doing it, and what must be kept to, by language.
    """

    channel: str
    path: Mapping[str, str]
    requirement: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SceneForm:
    """A scene as read.

    Parameters
    ----------
    name
        Its name.
    goal
        By language.
    taken
        A scene by the clock or a form for a clerk.
    offers, offer_kinds
        What may be offered; both empty: anything.
    touchpoints
        By channel.
    review
        Indicators.
    """

    name: str
    goal: Mapping[str, str]
    taken: Scene | FilterForm
    offers: tuple[str, ...]
    offer_kinds: tuple[str, ...]
    touchpoints: tuple[Touchpoint, ...]
    review: tuple[str, ...]

    def audience(self, values: Mapping[str, object]) -> str:
        """Return the audience, filled in where a clerk fills it in; raise FormError if not."""
        if isinstance(self.taken, Scene):
            if values:
                raise SceneContentError(
                    f"Scene '{self.name}' has no blanks to fill in.",
                    remedy="Send no values.",
                    zh=f"场景 {self.name} 没有可填参数。",
                )
            return self.taken.text
        return self.taken.fill(values)

    def may_offer(self, offer_id: str, catalogue: Catalogue) -> bool:
        """Whether the scene offers it."""
        if not self.offers and not self.offer_kinds:
            return True
        return offer_id in self.offers or catalogue.get(offer_id).kind in self.offer_kinds


def read_scene(name: str, document: Mapping[str, Any]) -> SceneForm:
    """Read a scene's document.

    Raises
    ------
    UserError
        If a field is missing, unknown, or of the wrong form; names the field.
    """
    top = Document(dict(document), f"scene {name}").allow(*FIELDS)
    if top.has("clock") and top.has("parameters"):
        raise top.refuse("clock", "stands beside parameters", "Keep one of the two.")
    if not top.has("clock") and not top.has("parameters"):
        raise top.refuse("clock", "is missing", "Give clock, or parameters for a clerk.")
    shared = {field: document[field] for field in ("title", "audience") if field in document}
    shared["subject"] = top.text("subject", "customer")
    shared["owner"] = top.text("owner", "-")
    taken: Scene | FilterForm
    if top.has("clock"):
        clock = top.part("clock").allow(*_CLOCK)
        taken = _as_file(
            name, shared | {field: clock.raw(field) for field in _CLOCK if clock.has(field)}, Scene
        )
    else:
        more = {field: document[field] for field in ("parameters", "columns") if field in document}
        taken = _as_file(name, shared | more, FilterForm)
    return SceneForm(
        name=name,
        goal=top.titles("goal"),
        taken=taken,
        offers=top.texts("offers"),
        offer_kinds=top.texts("offer_kinds"),
        touchpoints=tuple(
            Touchpoint(part.text("channel"), part.titles("path"), part.titles("requirement"))
            for part in top.parts("touchpoints")
        ),
        review=top.texts("review"),
    )


def require_fits(form: SceneForm, service: Service, indicators: IndicatorCatalogue) -> None:
    """Hold a scene against the tag dictionary, the offers, the channels and the indicators.

    Raises
    ------
    UserError
        At the first name that is not there; says which there are.
    """
    ws = service.workspace
    schema = ws.dictionary.schema(form.taken.subject)
    if isinstance(form.taken, Scene):
        bind(form.taken.audience, schema)
    else:
        _bind_example(form.taken, schema)
        for column in form.taken.columns:
            ws.dictionary.get(column)
    for offer_id in form.offers:
        ws.catalogue.get(offer_id)
    kinds = set(KINDS)
    channels = set(ws.contracts["channel"]["kind"].codes or ())
    _require_known("offer_kinds", form.offer_kinds, kinds)
    _require_known("touchpoints", [point.channel for point in form.touchpoints], channels)
    _require_known("review", form.review, set(indicators.names))


def _bind_example(form: FilterForm, schema: Any) -> None:
    try:
        bind(form.example(), schema)
    except UnknownCodeError:  # the example's codes are made up
        return


def _require_known(field: str, given: Any, known: set[str]) -> None:
    for name in given:
        if name not in known:
            have = ", ".join(sorted(known)) or "none"
            raise SceneContentError(
                f"{field}: there is no '{name}'.",
                remedy=f"Choose from: {have}.",
                zh=f"{field} 中的 {name} 不存在，可选：{'、'.join(sorted(known)) or '无'}。",
            )


def _as_file(name: str, content: Mapping[str, Any], kind: type[Scene | FilterForm]) -> Any:
    """Read by the reader of files, so that a scene added here means what one of a file means."""
    with TemporaryDirectory(prefix="bihuan-scene-") as folder:
        path = Path(folder) / f"{name}.yaml"  # JSON is YAML
        path.write_text(canonical_json(dict(content)), encoding="utf-8")
        return load_scene(path) if kind is Scene else load_form(path)
