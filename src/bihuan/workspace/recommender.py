"""The next best offer of the workspace: for one customer, for all, with reasons and prices."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.audience import profile_of
from bihuan.decision import (
    Case,
    ContactCap,
    Event,
    Firing,
    LeverBook,
    Match,
    Override,
    OverrideLog,
    Recommended,
    Trigger,
    TriggerDesk,
    TriggerLog,
    Why,
    Wish,
    load_triggers,
)
from bihuan.kernel import UserError
from bihuan.step.board import DecisionRules
from bihuan.step.facts import contacts_before, longest_window, newest
from bihuan.step.facts_single import CustomerFacts
from bihuan.step.recommend import (
    Live,
    NothingLiveError,
    contact_caps,
    open_live,
    recommend_many,
)
from bihuan.tag import TagIndex, TagTable
from bihuan.workspace.customer_plan import CustomerPlan, plan_of
from bihuan.workspace.inquiries import Inquiries
from bihuan.workspace.place import Day, day_of

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

_READ_AT_ALL_DATES = ("decision", "contact", "opt_out")
LOOK_SECONDS = 1.0  # so long it is trusted that nothing new was decided or laid down


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do with one customer now.

    Parameters
    ----------
    customer_id
        Empty for a profile of somebody unknown.
    as_of, day
        Date of the data, and day of the contact.
    items
        Best first; empty where nothing passes the gates or is worth it.
    """

    customer_id: str
    as_of: date
    day: date
    items: tuple[Recommended, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """The live campaigns at two dates, ready to be asked; ``stamp`` tells when it is stale."""

    live: Live
    tags: TagTable
    index: TagIndex
    facts: CustomerFacts
    rules: DecisionRules
    used: frozenset[str]
    stamp: object


class Recommendations:
    """Next best offers over the live campaigns: asked singly or in bulk, explained, overruled.

    Parameters
    ----------
    workspace
        Whose customers.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._opened: dict[tuple[date, date], _Opened] = {}
        self._looked: dict[tuple[date, date], float] = {}
        self._inquiries = Inquiries(workspace)
        self._desk: tuple[_Opened, TriggerDesk] | None = None
        folder = workspace.layout.root / "decisions"
        self._overrides_file = folder / "overrides.jsonl"
        self._fired = TriggerLog(folder / "fired.jsonl")

    # what is laid down

    @property
    def levers(self) -> LeverBook:
        """Levers, moments and fit rules of ``levers/``."""
        return LeverBook.load(*self._files("levers"))

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """Triggers of ``triggers/``."""
        return load_triggers(self._files("triggers"))

    @property
    def overrides(self) -> OverrideLog:
        """What people have laid down for single customers."""
        return OverrideLog(self._overrides_file)

    def override(  # noqa: PLR0913 - each is what somebody must say
        self,
        customer_id: str,
        campaign_id: str,
        action: str,
        *,
        by: str,
        reason: str,
        offer_id: str = "",
        channel: str = "",
    ) -> Override:
        """Step in for one customer: force, forbid or replace a contact, or lift what was laid down.

        Parameters
        ----------
        customer_id, campaign_id
            Whom it is about, in which campaign.
        action, offer_id, channel
            See :class:`bihuan.decision.Override`.
        by, reason
            Who and why; logged, and seen in the decision's reason.
        """
        campaign = self._ws.campaign(campaign_id)
        laid = Override(
            customer_id, campaign_id, action, by, reason, self._ws.clock.now(), offer_id, channel
        )
        if action != "lift" and offer_id:
            pairs = [(item.offer_id, kind) for item, kind in campaign.candidates()]
            if not any(offer_id == o and channel in ("", kind) for o, kind in pairs):
                have = ", ".join(f"{o} · {kind}" for o, kind in pairs)
                raise UserError(
                    f"Campaign '{campaign_id}' does not do '{offer_id} {channel}'.",
                    remedy=f"Choose from: {have}.",
                    zh=f"方案 {campaign_id} 没有 {offer_id} {channel}。可选:{have}。",
                )
        self.overrides.add(laid)
        self.look_again()
        return laid

    def rules(self, as_of: Day) -> DecisionRules:
        """Return what the workspace lays down for all decisions on the data of a date.

        Levers of ``levers/``, policies and their contact caps, key moments of ``moments/`` with
        the customers at them, the overrides in force, and the principles of ``matching/``.
        """
        on = day_of(as_of)
        book = self._ws.policies.find_book(on)
        caps: tuple[ContactCap, ...] = ()
        if book is not None:
            customers = self._ws.view.get("customer", on).read(["org_unit_id"])
            units = pc.unique(customers["org_unit_id"]).to_pylist()
            campaigns = [self._ws.campaign(name) for name in self._ws.list_campaigns()]
            caps = contact_caps(book, units, campaigns)
        names, strategy = [file.stem for file in self._files("moments")], self._ws.strategy
        seen = [strategy.detected(on, n).select(["customer_id", "moment_id"]) for n in names]
        books = [strategy.moment_book(name) for name in names]
        return DecisionRules(
            levers=self.levers,
            contacts=caps,
            policies=book,
            overrides=self.overrides.in_force(),
            moments=tuple(moment for moments in books for moment in moments.supported),
            detected=pa.concat_tables(seen) if seen else None,
            matchings=self._ws.offer_desk.matchings,
        )

    def look_again(self) -> None:
        """Notice what was decided a moment ago at the next question, not a second later."""
        self._looked.clear()

    # the batch

    def for_customers(
        self,
        as_of: Day | None = None,
        customers: Sequence[str] | str = "everyone",
        *,
        day: Day | None = None,
        wish: Wish | None = None,
    ) -> pa.Table:
        """Return the next best offers of many customers, a row per customer and rank.

        Parameters
        ----------
        as_of
            Date of the data; None: the newest.
        customers
            Ids, or an audience (``arpu >= 80``).
        day
            Of the contact; None: today.
        wish
            How many, per what, through which channel.

        Returns
        -------
        pyarrow.Table
            See :func:`bihuan.decision.recommendation.table`.
        """
        opened = self._open(as_of, day)
        if isinstance(customers, str):
            members = self._ws.take_snapshot(customers, opened.tags.as_of).members(
                [], tags=opened.tags, engine=self._ws.engine
            )
            ids = members["customer_id"].combine_chunks()
        else:
            ids = self._known(customers, opened)
        return recommend_many(
            self._ws.rooms, opened.live, opened.tags, ids, rules=opened.rules, wish=wish
        )

    # one customer

    def for_customer(
        self,
        customer_id: str,
        as_of: Day | None = None,
        *,
        day: Day | None = None,
        channel: str | None = None,
        context: Collection[str] = (),
        top: int = 3,
    ) -> Recommendation:
        """Return what to do with a customer now, with reasons that can be read aloud.

        Parameters
        ----------
        customer_id
            The customer.
        as_of, day
            See :meth:`for_customers`.
        channel
            Only through this channel; None for all.
        context
            Moments in which the customer is.
        top
            How many offers at most.
        """
        opened = self._open(as_of, day)
        profile = opened.index.profile(customer_id)
        case = opened.facts.case(customer_id)
        return self._answer(opened, profile, case, (channel, context, top))

    def for_profile(  # noqa: PLR0913 - each is a part of the situation
        self,
        profile: Mapping[str, Any],
        as_of: Day | None = None,
        *,
        case: Case | None = None,
        day: Day | None = None,
        channel: str | None = None,
        context: Collection[str] = (),
        top: int = 3,
    ) -> Recommendation:
        """Return what to do with somebody whose tag values are given, as they arrive.

        Parameters
        ----------
        profile
            Tag name to value, also as JSON gives them.
        case
            Products, opt-outs, contacts, unit; None: nothing is known.
        as_of, day, channel, context, top
            See :meth:`for_customer`.
        """
        opened = self._open(as_of, day)
        used = {name: value for name, value in profile.items() if name in opened.used}
        exact = profile_of(used, opened.tags.fields)
        return self._answer(opened, exact, case or Case(), (channel, context, top))

    def match(
        self, customer_id: str, as_of: Day | None = None, *, day: Day | None = None
    ) -> tuple[Match, ...]:
        """Say which live campaign fits a customer best, and why the others do not."""
        opened = self._open(as_of, day)
        profile, case = opened.index.profile(customer_id), opened.facts.case(customer_id)
        return opened.live.recommender.match_campaigns(profile, case=case)

    def on_event(
        self, event: Event, as_of: Day | None = None, *, top: int = 1
    ) -> tuple[Firing, ...]:
        """Hold an event against the triggers; return what fired, and what did not and why."""
        opened = self._open(as_of, event.occurred_at.date())
        desk = self._desk_of(opened)
        profile = opened.index.profile(event.customer_id)
        return desk.on_event(event, profile, case=opened.facts.case(event.customer_id), top=top)

    def _desk_of(self, opened: _Opened) -> TriggerDesk:
        if self._desk is None or self._desk[0] is not opened:
            made = TriggerDesk(self.triggers, opened.live.recommender, self._fired)
            self._desk = opened, made
        return self._desk[1]

    def left_out(self, as_of: Day | None = None) -> Mapping[str, Mapping[str, str]]:
        """Return live campaigns that cannot be asked, with the reason by language."""
        return self._open(as_of, None).live.left_out

    def plan_for(self, customer_id: str, as_of: Day | None = None, *, top: int = 5) -> CustomerPlan:
        """Return the plan of one customer (一户一案): offers in order, reasons, what is left out.

        Parameters
        ----------
        customer_id
            Most often an enterprise.
        as_of
            Date of the data; None: the newest.
        top
            How many offers at most.
        """
        found = self.for_customer(customer_id, as_of, top=top)
        opened = self._open(as_of, None)
        profile = opened.index.profile(customer_id)
        laid = tuple(o for o in self.overrides.in_force() if o.customer_id == customer_id)
        return plan_of(
            found, self.match(customer_id, as_of), laid, profile, opened.live.recommender
        )

    def write_plans(self, customers: Sequence[str], as_of: Day | None = None) -> list[Path]:
        """Write one document per customer and language under ``reports/plans/``."""
        folder = self._ws.layout.reports / "plans"
        return [
            path
            for customer_id in customers
            for path in self.plan_for(customer_id, as_of).write(folder)
        ]

    # why

    def why(self, campaign_id: str, customer_id: str, as_of: Day) -> Why:
        """Tell the whole path of a customer through a campaign decided on the data of ``as_of``.

        Also of customers outside its audience: which condition they do not meet.

        Raises
        ------
        DecisionRefusedError
            If the campaign has not been decided on that data.
        UnknownSubjectError
            If there is no such customer.
        """
        on = day_of(as_of)

        def rivals(profile: Mapping[str, Any]) -> tuple[Match, ...]:
            return self._rivals(campaign_id, customer_id, profile, on)

        return self._inquiries.why(campaign_id, customer_id, on, self.rules, rivals)

    # preparation

    def _files(self, kind: str) -> list[Path]:
        return sorted(self._ws.layout.definitions(kind).glob("*.yaml"))

    def _open(self, as_of: Day | None, day: Day | None) -> _Opened:
        """Return what is prepared for these days; prepare it anew where something has changed."""
        contact = self._ws.clock.now().date() if day is None else day_of(day)
        seen = self._newest(contact) if as_of is None else day_of(as_of)
        key = (seen, contact)
        if time.monotonic() - self._looked.get(key, -LOOK_SECONDS) < LOOK_SECONDS:
            return self._opened[key]
        stamp = self._stamp(seen)
        opened = self._opened.get(key)
        if opened is None or opened.stamp != stamp:
            opened = self._opened[key] = self._prepare(seen, contact, stamp)
        self._looked[key] = time.monotonic()
        return opened

    def _stamp(self, as_of: date) -> object:
        """Return what changes when a decision, an override, a tag or a definition does."""
        view = self._ws.view
        tables = [
            (table, on, snapshot.id)
            for table in view.tables
            for on in (view.dates(table) if table in _READ_AT_ALL_DATES else [as_of])
            if (snapshot := view.find(table, on)) is not None
        ]
        kinds = ("campaigns", "offers", "levers", "policies", "moments", "tags", "triggers",
                 "matching")  # fmt: skip
        files = [*(f for kind in kinds for f in self._files(kind)), self._overrides_file]
        seen = [(f.name, f.stat().st_mtime_ns) for f in files if f.exists()]
        return tables, seen, id(self._ws.catalogue)

    def _prepare(self, as_of: date, day: date, stamp: object) -> _Opened:
        ws, rules = self._ws, self.rules(as_of)
        tags = ws.tags(as_of)
        campaigns = [ws.campaign(name) for name in ws.list_campaigns()]
        live = open_live(ws.rooms, campaigns, tags, day=day, rules=rules)
        board = live.recommender.board
        facts = CustomerFacts(
            ws.view,
            as_of,
            contacts=contacts_before(ws.view, day, longest_window(board)),
            lots=live.lots,
            detected=rules.detected,
            opt_out_at=newest(ws.view, "opt_out", day),
        )
        index = ws.reader(as_of).index
        return _Opened(live, tags, index, facts, rules, board.tags, stamp)

    def _newest(self, day: date) -> date:
        dates = [on for on in self._ws.view.dates("customer") if on <= day]
        if not dates:
            raise UserError(
                f"There are no customers up to {day}.",
                remedy="Ingest the customers and derive their tags first.",
                zh=f"{day} 之前没有客户数据,请先导入客户并派生标签。",
            )
        return max(dates)

    def _rivals(
        self, campaign_id: str, customer_id: str, profile: Mapping[str, Any], as_of: date
    ) -> tuple[Match, ...]:
        try:
            opened = self._open(as_of, None)
        except NothingLiveError:
            return ()
        case = opened.facts.case(customer_id)
        found = opened.live.recommender.match_campaigns(profile, case=case)
        return tuple(match for match in found if match.campaign_id != campaign_id)

    def _answer(
        self,
        opened: _Opened,
        profile: Mapping[str, Any],
        case: Case,
        asked: tuple[str | None, Collection[str], int],
    ) -> Recommendation:
        channel, context, top = asked
        recommender = opened.live.recommender
        items = recommender.for_profile(
            profile, case=case, channel=channel, context=context, top=top
        )
        return Recommendation(case.customer_id, opened.tags.as_of, recommender.board.day, items)

    def _known(self, customers: Sequence[str], opened: _Opened) -> pa.Array:
        ids = pa.array(list(dict.fromkeys(customers)), pa.string())
        everybody = self._ws.view.get("customer", opened.tags.as_of).read(["customer_id"])
        unknown = ids.filter(pc.invert(pc.is_in(ids, value_set=everybody["customer_id"])))
        if len(unknown):
            raise UserError(
                f"There is no customer '{unknown[0]}' at {opened.tags.as_of}.",
                remedy="Check the ids and the date.",
                zh=f"{opened.tags.as_of} 没有编号为 {unknown[0]} 的客户,请核对。",
            )
        return ids
