"""Strategies set off by events: what happened, to whom it matters, what follows, how often.

A trigger waits for events of one kind, holds the customer's profile against its rule, and lets
the recommender choose among the strategies in its scope. So a fired strategy has passed every gate
that a batch passes. It fires once per event, and again for the same customer only after its
cool-down. For enterprises a person confirms before anything goes out, unless the trigger says that
this is not needed: single events say less about a firm than about a person.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bihuan.audience import Everyone, Node, Profile, bind, matcher, parse
from bihuan.decision.lever import Scope
from bihuan.decision.recommendation.recommender import Recommended, Recommender
from bihuan.decision.recommendation.strategy import NOTHING_KNOWN, Case
from bihuan.kernel import UserError, canonical_json, file_lock
from bihuan.kernel.document import Document

EVENT_FIELDS = ("channel", "page", "product_id")
KIND_TAG = "customer_kind"


class TriggerError(UserError):
    """Triggers that do not go together, or an event that cannot be read."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a customer did, or that happened to him.

    Parameters
    ----------
    event_id
        The same event may arrive twice; it fires once.
    kind
        As in the lake table ``event``.
    customer_id
        Whose it is.
    occurred_at
        With a time zone.
    channel, page, product_id
        Where it has them.
    """

    event_id: str
    kind: str
    customer_id: str
    occurred_at: datetime
    channel: str | None = None
    page: str | None = None
    product_id: str | None = None

    def __post_init__(self) -> None:
        if self.occurred_at.tzinfo is None or not self.event_id:
            raise TriggerError(
                f"Event '{self.event_id}' has no id or a time without a zone.",
                remedy="Give an id and a time with its zone.",
                zh=f"事件“{self.event_id}”缺少编号,或时间没有时区。",
            )


@dataclass(frozen=True, slots=True)
class Trigger:
    """What sets a strategy off.

    Parameters
    ----------
    name, title
        Id, and title by language.
    event
        Kind of event.
    where
        Values that fields of the event (``channel``, ``page``, ``product_id``) must have.
    when
        Audience to which the customer must belong.
    campaigns, scope
        Among which strategies the best is chosen; empty = all.
    moments
        In which moments the customer is by the event.
    cooldown_days
        So long it does not fire again for the same customer, >= 0.
    confirm
        ``never``, ``always``, or ``enterprise``: a person confirms before anything goes out.
    """

    name: str
    title: Mapping[str, str]
    event: str
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)
    when: Node = field(default_factory=Everyone)
    campaigns: frozenset[str] = frozenset()
    scope: Scope = field(default_factory=Scope)
    moments: frozenset[str] = frozenset()
    cooldown_days: int = 30
    confirm: str = "enterprise"

    def is_set_off_by(self, event: Event) -> bool:
        """Whether the event is of the kind it waits for."""
        return event.kind == self.event and all(
            getattr(event, name) in wanted for name, wanted in self.where.items()
        )


@dataclass(frozen=True, slots=True)
class Firing:
    """What became of one trigger at one event.

    Parameters
    ----------
    trigger, event_id, customer_id, at
        Which, by what, for whom, when.
    outcome
        ``fired``; or why not: ``rule_not_met``, ``cooling``, ``repeated`` (the event came
        before), ``nothing_open`` (no strategy passed the gates or is worth it).
    strategies
        What to do, best first; empty unless fired.
    needs_confirmation
        Whether a person confirms before anything goes out.
    """

    trigger: str
    event_id: str
    customer_id: str
    at: datetime
    outcome: str
    strategies: tuple[Recommended, ...] = ()
    needs_confirmation: bool = False


class TriggerLog:
    """What has fired, in a file to which is only ever added.

    Parameters
    ----------
    path
        JSON lines; None keeps it in memory only (for trying out).
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._last: dict[tuple[str, str], datetime] = {}
        self._seen: set[tuple[str, str]] = set()
        for line in self.read():
            self._note(line["trigger"], line["customer_id"], line["event_id"], line["at"])

    def last(self, trigger: str, customer_id: str) -> datetime | None:
        """Return when a trigger last fired for a customer; None if never."""
        return self._last.get((trigger, customer_id))

    def has(self, trigger: str, event_id: str) -> bool:
        """Whether a trigger has fired at this event."""
        return (trigger, event_id) in self._seen

    def add(self, firing: Firing) -> None:
        """Write down that a trigger fired; it is on disk when this returns."""
        row = {
            "trigger": firing.trigger,
            "event_id": firing.event_id,
            "customer_id": firing.customer_id,
            "at": firing.at.isoformat(),
            "needs_confirmation": firing.needs_confirmation,
            "strategies": [
                [s.campaign_id, s.offer_id, s.channel, s.step, s.net] for s in firing.strategies
            ],
        }
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(self._path.with_suffix(".lock")), self._path.open("a+b") as file:
                file.seek(0)
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)  # the half line of a killed writer
                file.write(canonical_json(row).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        self._note(firing.trigger, firing.customer_id, firing.event_id, row["at"])

    def read(self) -> list[dict[str, Any]]:
        """Return all that fired, oldest first."""
        if self._path is None or not self._path.exists():
            return []
        content = self._path.read_bytes()
        return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]

    def _note(self, trigger: str, customer_id: str, event_id: str, at: Any) -> None:
        self._last[trigger, customer_id] = datetime.fromisoformat(at).astimezone(UTC)
        self._seen.add((trigger, event_id))


class TriggerDesk:
    """Triggers over a recommender, ready for events.

    Parameters
    ----------
    triggers
        With names of their own.
    recommender
        Chooses among the strategies.
    log
        Remembers what fired.

    Raises
    ------
    TriggerError
        If two triggers share a name, or one names a campaign that is not live.
    AudienceError
        If a rule names a tag that there is not.
    """

    def __init__(
        self, triggers: Sequence[Trigger], recommender: Recommender, log: TriggerLog
    ) -> None:
        _require_triggers(triggers, recommender)
        fields = recommender.board.fields
        self._tests = [(t, matcher(bind(t.when, fields))) for t in triggers]
        self._recommender, self._log = recommender, log
        self._among = {
            t.name: np.array(
                [
                    (not t.campaigns or s.campaign_id in t.campaigns)
                    and t.scope.covers(s.offer, s.candidate.channel)
                    for s in recommender.board.strategies
                ],
                dtype=np.bool_,
            )
            for t in triggers
        }

    def on_event(
        self, event: Event, profile: Profile, *, case: Case = NOTHING_KNOWN, top: int = 1
    ) -> tuple[Firing, ...]:
        """Return what became of every trigger that waits for such an event, and remember it.

        Parameters
        ----------
        event
            What happened.
        profile
            The customer's tag values of exact types.
        case
            What else is known of him.
        top
            How many strategies at most per trigger.
        """
        found = []
        for trigger, test in self._tests:
            if not trigger.is_set_off_by(event):
                continue
            outcome = self._hindrance(trigger, event) or ("" if test(profile) else "rule_not_met")
            firing = self._fire(trigger, event, outcome, profile, (case, top))
            if firing.outcome == "fired":
                self._log.add(firing)
            found.append(firing)
        return tuple(found)

    def _hindrance(self, trigger: Trigger, event: Event) -> str:
        """Return what in the past keeps a trigger from firing; empty if nothing does."""
        if self._log.has(trigger.name, event.event_id):
            return "repeated"
        last = self._log.last(trigger.name, event.customer_id)
        if last is not None and event.occurred_at < last + timedelta(days=trigger.cooldown_days):
            return "cooling"
        return ""

    def _fire(
        self,
        trigger: Trigger,
        event: Event,
        outcome: str,
        profile: Profile,
        asked: tuple[Case, int],
    ) -> Firing:
        case, top = asked
        strategies: tuple[Recommended, ...] = ()
        if not outcome:
            strategies = self._recommender.for_profile(
                profile,
                case=replace(case, customer_id=event.customer_id),
                context=trigger.moments,
                top=top,
                among=self._among[trigger.name],
            )
            outcome = "fired" if strategies else "nothing_open"
        firm = profile.get(KIND_TAG) == "enterprise"
        confirm = trigger.confirm == "always" or (trigger.confirm == "enterprise" and firm)
        return Firing(
            trigger.name, event.event_id, event.customer_id, event.occurred_at, outcome,
            strategies, confirm and bool(strategies),
        )  # fmt: skip


def load_triggers(paths: Iterable[Path]) -> tuple[Trigger, ...]:
    """Read trigger files: YAML with a list under ``triggers:``.

    Raises
    ------
    DocumentError
        If a field is missing or of the wrong form; the message names file and field.
    """
    parts = [p for path in paths for p in Document.read(path).allow("triggers", "note")
             .parts("triggers")]  # fmt: skip
    return tuple(_trigger(part) for part in parts)


def _trigger(part: Document) -> Trigger:
    part.allow(
        "trigger", "title", "event", "where", "when", "campaigns", "channels", "traits", "offers",
        "kinds", "categories", "moments", "cooldown_days", "confirm", "note",
    )  # fmt: skip
    where = part.find_part("where")
    if where is not None:
        where.allow(*EVENT_FIELDS)
    text = part.text("when", "")
    names = ("channels", "traits", "offers", "kinds", "categories")
    return Trigger(
        name=part.text("trigger"),
        title=part.titles("title"),
        event=part.text("event"),
        where={} if where is None else {f: frozenset(where.texts(f)) for f in where.fields()},
        when=parse(text) if text else Everyone(),
        campaigns=frozenset(part.texts("campaigns")),
        scope=Scope(**{name: frozenset(part.texts(name)) for name in names}),
        moments=frozenset(part.texts("moments")),
        cooldown_days=part.whole("cooldown_days", 30),
        confirm=part.choice("confirm", ("never", "always", "enterprise"), "enterprise"),
    )


def _require_triggers(triggers: Sequence[Trigger], recommender: Recommender) -> None:
    names = [trigger.name for trigger in triggers]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise TriggerError(
            f"There are two triggers called '{twice}'.",
            remedy="Give each a name of its own.",
            zh=f"触发器“{twice}”重名,请使用不同的名称。",
        )
    for trigger in triggers:
        unknown = sorted(trigger.campaigns - set(recommender.columns))
        if unknown:
            live = ", ".join(recommender.columns) or "none"
            raise TriggerError(
                f"Trigger '{trigger.name}' names campaign '{unknown[0]}', which is not live.",
                remedy=f"Live are: {live}.",
                zh=f"触发器“{trigger.name}”指定的方案 {unknown[0]} 未生效,当前生效:{live}。",
            )
