"""Scripts: what is said about which offers, in which channels, to whom, in which arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bihuan.audience import And, AudienceError, Everyone, Node, normalise, parse, to_text
from bihuan.kernel.document import LANGUAGES, Document, DocumentError
from bihuan.offer import KINDS
from bihuan.strategy.policy.statement import channel_kinds
from bihuan.strategy.script.template import Template, TemplateError
from bihuan.strategy.script.wording import ForbiddenWord, read_words

STATUSES = ("draft", "approved", "retired")
OFFER_WORDS = ("offer", "price", "months")
"""Placeholders that are filled from the offer: its title, monthly price, and term."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One wording of a script.

    Parameters
    ----------
    name
        ``A``, ``B``, ...
    share
        Of the customers who hear the script, 0 < share <= 1.
    text
        By language.
    templates
        The same, taken apart.
    """

    name: str
    share: float
    text: Mapping[str, str]
    templates: Mapping[str, Template]


@dataclass(frozen=True, slots=True)
class Script:
    """One version of a script.

    Parameters
    ----------
    script_id, version
        Which one; of a script the highest approved version is in use.
    title
        By language.
    status
        ``draft``, ``approved`` or ``retired``.
    offers, kinds
        Offer ids, or kinds of offer, it is made for; both empty = all offers.
    channels
        Channel kinds it is made for; empty = all.
    audience
        To whom it is said, in normal form.
    priority
        Among scripts that fit equally well the greater one is said.
    arms
        Its wordings; their shares have sum 1.
    instead
        What is written where a value is missing: by placeholder, then by language.
    place
        File and position, for messages.
    """

    script_id: str
    version: int
    title: Mapping[str, str]
    status: str
    offers: frozenset[str]
    kinds: frozenset[str]
    channels: frozenset[str]
    audience: Node
    priority: int
    arms: tuple[Arm, ...]
    instead: Mapping[str, Mapping[str, str]]
    place: str

    @property
    def key(self) -> str:
        """Script and version in one word."""
        return f"{self.script_id}@{self.version}"

    @property
    def has_audience(self) -> bool:
        """Whether it is said to some customers only."""
        return not isinstance(self.audience, Everyone)

    @property
    def conditions(self) -> frozenset[str]:
        """What must all hold of a customer, each as text."""
        parts = self.audience.parts if isinstance(self.audience, And) else (self.audience,)
        return frozenset(to_text(part) for part in parts) if self.has_audience else frozenset()

    @property
    def rank(self) -> tuple[int, int, int, int, int]:
        """How well it fits, compared field by field: offer, channel, audience, priority."""
        return (
            2 if self.offers else 1 if self.kinds else 0,
            1 if self.channels else 0,
            1 if self.has_audience else 0,
            self.priority,
            len(self.conditions),
        )

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the tags that its texts need, each once."""
        names = [n for arm in self.arms for t in arm.templates.values() for n in t.names]
        return tuple(name for name in dict.fromkeys(names) if name not in OFFER_WORDS)

    def fits(self, offer_id: str, kind: str, channel: str) -> bool:
        """Whether it is made for an offer of a kind in a channel."""
        is_offer = offer_id in self.offers or kind in self.kinds
        return (is_offer or not (self.offers or self.kinds)) and (
            not self.channels or channel in self.channels
        )

    def content(self) -> list[object]:
        """Return what it says and to whom, for ids and comparisons."""
        return [
            self.script_id, self.version, sorted(self.offers), sorted(self.kinds),
            sorted(self.channels), to_text(self.audience), self.priority,
            [[arm.name, arm.share, dict(arm.text)] for arm in self.arms],
            {name: dict(texts) for name, texts in self.instead.items()},
        ]  # fmt: skip


def read_scripts(path: Path) -> tuple[tuple[Script, ...], tuple[ForbiddenWord, ...]]:
    """Read a script file.

    Parameters
    ----------
    path
        YAML file with a list under ``scripts:`` and forbidden words under ``forbidden:``.

    Raises
    ------
    DocumentError
        If a field is missing, misspelt or of the wrong form; names file and field.
    """
    top = Document.read(path).allow("note", "scripts", "forbidden")
    return (
        tuple(_read_script(part) for part in top.parts("scripts")),
        read_words(top.parts("forbidden")),
    )


def _read_script(part: Document) -> Script:
    part.allow(
        "script_id", "version", "title", "status", "offers", "kinds", "channels", "audience",
        "priority", "arms", "text", "instead", "note",
    )  # fmt: skip
    if part.has("offers") and part.has("kinds"):
        raise part.refuse("kinds", "stands beside offers", "Give the one or the other.")
    for name, known in (("kinds", KINDS), ("channels", channel_kinds())):
        for text in part.texts(name):
            if text not in known:
                raise part.refuse(name, f"names '{text}'", f"Choose from: {', '.join(known)}.")
    return Script(
        script_id=part.text("script_id"),
        version=part.whole("version", 1, low=1),
        title=part.titles("title"),
        status=part.choice("status", STATUSES),
        offers=frozenset(part.texts("offers")),
        kinds=frozenset(part.texts("kinds")),
        channels=frozenset(part.texts("channels")),
        audience=normalise(read_audience(part)),
        priority=part.whole("priority", 0),
        arms=_read_arms(part),
        instead=_read_instead(part),
        place=f"{part.where} ({part.text('script_id')})",
    )


def _read_arms(part: Document) -> tuple[Arm, ...]:
    """Read the arms, or the one text of a script without arms."""
    if part.has("arms") == part.has("text"):
        raise part.refuse("arms", "and text: there has to be one of them", "Give arms or text.")
    if part.has("text"):
        return (_arm(part, "A", 1.0),)
    arms = [
        _arm(arm.allow("arm", "share", "text"), arm.text("arm"), arm.number("share", low=1e-6))
        for arm in part.parts("arms")
    ]
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise part.refuse("arms", "holds an arm twice", "Give each arm a name of its own.")
    if abs(sum(arm.share for arm in arms) - 1.0) > 1e-9:
        raise part.refuse("arms", "has shares whose sum is not 1", "Correct the shares.")
    return tuple(arms)


def _arm(part: Document, name: str, share: float) -> Arm:
    text = part.titles("text")
    try:
        templates = {language: Template.parse(text[language]) for language in LANGUAGES}
    except TemplateError as error:
        raise part.refuse(
            "text", f"of arm {name} is wrong: {error.message}", error.remedy
        ) from error
    return Arm(name, share, text, templates)


def _read_instead(part: Document) -> Mapping[str, Mapping[str, str]]:
    inner = part.find_part("instead")
    return {} if inner is None else {name: inner.titles(name) for name in inner.fields()}


def read_audience(part: Document) -> Node:
    """Read the field ``audience``; everyone where there is none.

    Raises
    ------
    DocumentError
        If it is no condition; names file and field.
    """
    text = part.text("audience", "")
    try:
        return parse(text) if text else Everyone()
    except AudienceError as error:
        raise DocumentError(
            f"{part.where}.audience: {error}", zh=f"{part.where}.audience：{error.zh}"
        ) from error


def texts_of(script: Script) -> Sequence[tuple[str, Mapping[str, str]]]:
    """Return every text that a customer may hear, with its place."""
    arms = [(f"{script.place} arm {arm.name}", arm.text) for arm in script.arms]
    return [*arms, *((f"{script.place} instead", texts) for texts in script.instead.values())]
