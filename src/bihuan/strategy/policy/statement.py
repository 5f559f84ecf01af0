"""What policy files say: statements of units about offers, and who may decide on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bihuan.data import load_contracts
from bihuan.kernel.document import Document, DocumentError, read_yaml
from bihuan.offer import KINDS
from bihuan.strategy.policy.limit import (
    ANY,
    CONTACT_FIELDS,
    FIELDS,
    FRAME_FIELDS,
    Cap,
    Hours,
    Limits,
    Value,
)
from bihuan.strategy.policy.tree import TIERS

STATUSES = ("draft", "approved")
OTHERS = "others"
"""Stands for the kinds of offer that a file's ``decides`` does not name."""
_ABOUT = ("policy_id", "unit", "kind", "offer", "status", "note")


@dataclass(frozen=True, slots=True)
class PolicyStatement:
    """What one unit lays down for all offers, one kind of offer, or one offer.

    It holds for the unit and everything below it.

    Parameters
    ----------
    policy_id
        Stable id, unique in the workspace.
    unit_id
        The unit that says it.
    kind, offer_id
        What it is about: at most one of the two; neither = all offers.
    status
        ``approved`` (in force) or ``draft``.
    limits
        What it says, by facet; see :data:`~bihuan.strategy.policy.limit.Limits`.
    place
        File and position, for messages.
    note
        For people, by language.
    """

    policy_id: str
    unit_id: str
    kind: str | None
    offer_id: str | None
    status: str
    limits: Limits
    place: str
    note: Mapping[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """How specific it is: 0 all offers, 1 a kind, 2 one offer."""
        return 2 if self.offer_id else 1 if self.kind else 0

    @property
    def scope(self) -> tuple[str, str | None, str | None]:
        """Unit, kind and offer: two approved statements of one scope say each limit once."""
        return self.unit_id, self.kind, self.offer_id

    @property
    def about(self) -> str:
        """What it is about, for messages."""
        return self.offer_id or self.kind or "all offers"

    @property
    def is_approved(self) -> bool:
        """Whether it is in force."""
        return self.status == "approved"

    def to_document(self) -> dict[str, Any]:
        """Return the statement as it stands in a policy file."""
        found: dict[str, Any] = {"policy_id": self.policy_id, "unit": self.unit_id}
        if self.kind:
            found["kind"] = self.kind
        if self.offer_id:
            found["offer"] = self.offer_id
        found["status"] = self.status
        for facet, value in self.limits.items():
            name, _, part = facet.partition(".")
            if part:
                found.setdefault(name, {})[part] = _plain(value)
            else:
                found[name] = _plain(value)
        return found | ({"note": dict(self.note)} if self.note else {})


@dataclass(frozen=True, slots=True)
class DecisionRight:
    """Who may lay down a strategy for a kind of offer.

    Parameters
    ----------
    frame
        Tiers that set bounds (price band, greatest discount) and no more.
    detail
        Tiers that set the strategy itself: offers, scripts, budget, and tighter bounds.
    place
        File and field, for messages.
    """

    frame: tuple[str, ...]
    detail: tuple[str, ...]
    place: str

    @property
    def needs_detail(self) -> bool:
        """Whether a frame alone is no strategy: a lower level has to fill it in."""
        return bool(self.frame)

    def allows(self, tier: str, limit_field: str) -> bool:
        """Whether a unit of this tier may set a field for offers of the kind."""
        if limit_field in CONTACT_FIELDS or tier in self.detail:
            return True
        return limit_field in FRAME_FIELDS and tier in self.frame


@dataclass(frozen=True, slots=True)
class Authority:
    """Who may decide on what, by kind of offer.

    Parameters
    ----------
    rights
        By kind; :data:`OTHERS` for the kinds not named. A kind without any right may be decided
        on by every tier.
    """

    rights: Mapping[str, DecisionRight]

    def of(self, kind: str) -> DecisionRight:
        """Return who may decide on offers of a kind."""
        return self.rights.get(kind) or self.rights.get(OTHERS) or _EVERYBODY


_EVERYBODY = DecisionRight((), TIERS, "no rule")


def read_policies(
    path: Path, text: str | None = None
) -> tuple[tuple[PolicyStatement, ...], Mapping[str, DecisionRight]]:
    """Read a policy file.

    Parameters
    ----------
    path
        YAML file with a list under ``policies:`` and rights under ``decides:``.
    text
        Its content, where it is not yet what stands on the disk.

    Returns
    -------
    (statements, rights)
        In the order written; rights by kind of offer.

    Raises
    ------
    DocumentError
        If a field is missing, misspelt or of the wrong form; names file and field.
    """
    top = Document.read(path) if text is None else _document(path, text)
    top.allow("note", "decides", "policies")
    rights = top.find_part("decides")
    return (
        tuple(read_statement(part) for part in top.parts("policies")),
        {} if rights is None else {kind: _read_right(rights, kind) for kind in rights.fields()},
    )


def read_statement(part: Document) -> PolicyStatement:
    """Read one entry of ``policies:``; see :func:`read_policies`."""
    part.allow(*_ABOUT, *FIELDS)
    if part.has("kind") and part.has("offer"):
        raise part.refuse("offer", "stands beside kind", "Give the one or the other.")
    limits: dict[str, Value] = {}
    for name in FIELDS:
        if part.has(name):
            limits |= _READERS[name](part)
    if not limits:
        raise part.refuse("", "says nothing", f"Give at least one of: {', '.join(FIELDS)}.")
    return PolicyStatement(
        policy_id=part.text("policy_id"),
        unit_id=part.text("unit"),
        kind=part.choice("kind", KINDS) if part.has("kind") else None,
        offer_id=part.text("offer") if part.has("offer") else None,
        status=part.choice("status", STATUSES),
        limits=limits,
        place=f"{part.where} ({part.text('policy_id')})",
        note=part.titles("note") if part.has("note") else {},
    )


@cache
def channel_kinds() -> tuple[str, ...]:
    """Return the channel kinds of the table contracts."""
    return tuple(load_contracts([])["channel"]["kind"].codes or ())


def _document(path: Path, text: str) -> Document:
    try:
        return Document(read_yaml(text), path.name)
    except yaml.YAMLError as error:
        raise DocumentError(
            f"{path.name} is not YAML: {error}.",
            remedy="Correct the place named.",
            zh=f"{path.name} 不是有效的 YAML:{error}。请更正。",
        ) from error


def _read_right(part: Document, kind: str) -> DecisionRight:
    if kind not in (*KINDS, OTHERS):
        raise part.refuse(
            kind, "is no kind of offer", f"Choose from: {', '.join((*KINDS, OTHERS))}."
        )
    where = f"{part.where}.{kind}"
    if isinstance(part.raw(kind), Mapping):
        inner = part.part(kind).allow("frame", "detail")
        frame, detail = _tiers(inner, "frame"), _tiers(inner, "detail")
    else:
        frame, detail = (), _tiers(part, kind)
    if not detail:
        raise part.refuse(kind, "names nobody who decides", "Name at least one tier.")
    return DecisionRight(frame, detail, where)


def _tiers(part: Document, name: str) -> tuple[str, ...]:
    texts = part.texts(name)
    for tier in texts:
        if tier not in TIERS:
            raise part.refuse(name, f"names '{tier}'", f"Choose from: {', '.join(TIERS)}.")
    return texts


def _read_channels(part: Document) -> dict[str, Value]:
    kinds = part.texts("channels")
    if not kinds:
        raise part.refuse("channels", "is empty", "To stop an offer write  offers: [] .")
    for kind in kinds:
        _require_channel(part, "channels", kind)
    return {"channels": frozenset(kinds)}


def _read_price(part: Document) -> dict[str, Value]:
    band = part.part("price").allow("low", "high")
    found: dict[str, Value] = {
        f"price.{side}": band.number(side, low=0) for side in ("low", "high") if band.has(side)
    }
    if not found:
        raise part.refuse("price", "has neither low nor high", "Give at least one.")
    if band.number("low", 0.0) > band.number("high", float("inf")):
        raise part.refuse("price", "ends below its beginning", "Give low <= high.")
    return found


def _read_caps(part: Document) -> dict[str, Value]:
    caps = part.part("caps")
    found: dict[str, Value] = {}
    for kind in caps.fields():
        _require_channel(caps, kind, kind, ANY)
        one = isinstance(caps.raw(kind), Mapping)
        windows: Sequence[Document] = [caps.part(kind)] if one else caps.parts(kind)
        for window in windows:
            window.allow("days", "most")
        found[f"caps.{kind}"] = tuple(
            sorted(Cap(window.whole("days", low=1), window.whole("most")) for window in windows)
        )
    return found


def _read_hours(part: Document) -> dict[str, Value]:
    hours = part.part("hours")
    found: dict[str, Value] = {}
    for kind in hours.fields():
        _require_channel(hours, kind, kind, ANY)
        one = isinstance(hours.raw(kind), str)
        try:
            found[f"hours.{kind}"] = Hours.parse(
                [hours.text(kind)] if one else list(hours.texts(kind))
            )
            if not hours.raw(kind):
                raise ValueError("is empty")
        except ValueError as error:
            raise hours.refuse(kind, str(error), "Write  [09:00-12:00, 14:00-20:00].") from error
    return found


def _require_channel(part: Document, name: str, kind: str, *more: str) -> None:
    known = (*channel_kinds(), *more)
    if kind not in known:
        raise part.refuse(
            name, f"names the unknown channel '{kind}'", f"Choose from: {', '.join(known)}."
        )


_READERS: Mapping[str, Callable[[Document], dict[str, Value]]] = {
    "channels": _read_channels,
    "price": _read_price,
    "max_discount": lambda part: {"max_discount": part.number("max_discount", low=0, high=1)},
    "caps": _read_caps,
    "hours": _read_hours,
    "offers": lambda part: {"offers": frozenset(part.texts("offers"))},
    "scripts": lambda part: {"scripts": frozenset(part.texts("scripts"))},
    "budget": lambda part: {"budget": part.number("budget", low=0)},
}


def _plain(value: Value) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Hours):
        return str(value).split(", ")
    if isinstance(value, tuple):
        found = [{"days": cap.days, "most": cap.most} for cap in value]
        return found[0] if len(found) == 1 else found
    return value
