"""Campaigns as they were decided, prepared once, so that "why" costs milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.decision import (
    Inquiry,
    Match,
    Override,
    OverrideLog,
    PairPolicy,
    PriceBook,
    StrategyBoard,
    Why,
    Wording,
    override_masks,
    why,
)
from bihuan.step.board import DecisionRules, make_board, read_ways, strategies_of
from bihuan.step.facts import contacts_before, longest_window
from bihuan.step.facts_single import ByCustomer, CustomerFacts
from bihuan.step.recommend import wording
from bihuan.tag import TagIndex

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

RulesOf: TypeAlias = Callable[[date], DecisionRules]
Rivals: TypeAlias = Callable[[Mapping[str, Any]], tuple[Match, ...]]
_LOGGED = (
    "arm", "treatment_probability", "stratum", "offer_id", "channel", "step", "propensity",
    "expected_value", "margin", "cost", "reason", "policy_version", "decided_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A campaign as it was decided, ready for "why"."""

    board: StrategyBoard
    prices: PriceBook
    words: Wording
    facts: CustomerFacts
    logged: ByCustomer
    index: TagIndex
    policies: PairPolicy | None
    overrides: Mapping[str, Override]
    allowed: dict[str | None, NDArray[np.bool_]] = field(default_factory=dict)

    def policy(self, unit: str | None) -> NDArray[np.bool_] | None:
        """Return what the policies allow a unit, shape ``(1, m)``; None: everything."""
        if self.policies is None:
            return None
        if unit not in self.allowed:
            pairs = [(c.offer_id, c.channel) for c in self.board.candidates]
            self.allowed[unit] = self.policies.allowed(pa.array([unit], pa.string()), pairs)
        return self.allowed[unit]

    def by_hand(self, customer_id: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """Return what people left open and forced for a customer, each ``(1, m)``, or None."""
        laid = self.overrides.get(customer_id)
        if laid is None:
            return None
        ids = pa.array([customer_id])
        masks = override_masks([laid], laid.campaign_id, ids, self.board.candidates)
        return masks.keep, masks.keep & masks.forced[:, None]


class Inquiries:
    """Answers "why" for campaigns that were decided.

    Parameters
    ----------
    workspace
        Whose campaigns.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._cases: dict[tuple[str, date, object], _Case] = {}

    def why(
        self, campaign_id: str, customer_id: str, as_of: date, rules: RulesOf, rivals: Rivals
    ) -> Why:
        """Tell the path of one customer through one campaign.

        Parameters
        ----------
        campaign_id, customer_id, as_of
            Of whom, on the data of which date.
        rules
            Of the workspace at a date; asked when a campaign is prepared.
        rivals
            Says how the other campaigns fit the customer of a profile.
        """
        case = self._case(campaign_id, as_of, rules)
        profile, known = case.index.profile(customer_id), case.facts.case(customer_id)
        rows = case.logged(customer_id)
        inquiry = Inquiry(
            profile=profile,
            case=known,
            logged=dict(zip(_LOGGED, rows[0], strict=True)) if rows else None,
            policy=case.policy(known.org_unit_id),
            by_hand=case.by_hand(customer_id),
            moments=case.board.moments(known.moments) if known.moments else None,
            rivals=rivals(profile),
        )
        return why(case.board, case.prices, case.words, inquiry, campaign_id=campaign_id)

    def _case(self, campaign_id: str, as_of: date, rules: RulesOf) -> _Case:
        """Return a campaign as it was decided, prepared once per log."""
        record = self._ws.view.find("decision", as_of)
        key = (campaign_id, as_of, record.id if record else None)
        found = self._cases.get(key)
        if found is None:
            found = self._cases[key] = self._prepare(campaign_id, as_of, rules(as_of))
        return found

    def _prepare(self, campaign_id: str, as_of: date, rules: DecisionRules) -> _Case:
        ws = self._ws
        record = ws.decisions(campaign_id, as_of)
        campaign, tags = ws.campaign(campaign_id), ws.tags(as_of)
        at = record.decisions["decided_at"][0].as_py()
        day = max(campaign.goal.starts_on, at.date())
        strategies = strategies_of(campaign, ws.catalogue)
        board = make_board(
            strategies, tags.fields, ws.catalogue, day=day, rules=rules,
            ways=read_ways(ws.rooms, tags, strategies),
        )  # fmt: skip
        overrides = OverrideLog(ws.layout.root / "decisions" / "overrides.jsonl")
        laid = {o.customer_id: o for o in overrides.read()
                if o.campaign_id == campaign_id and o.at <= at}  # fmt: skip
        return _Case(
            board=board,
            prices=record.prices,
            words=wording(ws.dictionary, tags.fields, ws.settings.currency),
            facts=CustomerFacts(
                ws.view,
                as_of,
                contacts=contacts_before(ws.view, day, longest_window(board)),
                detected=rules.detected,
            ),
            logged=ByCustomer(record.decisions, _LOGGED),
            index=ws.reader(as_of).index,
            policies=rules.policies,
            overrides={name: o for name, o in laid.items() if o.action != "lift"},
        )
