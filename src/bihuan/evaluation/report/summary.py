"""What the report of a campaign is made of: plain frozen data, so that any room can fill it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from bihuan.evaluation.effect import Effect
from bihuan.evaluation.funnel import Funnel
from bihuan.evaluation.report.page import Section
from bihuan.evaluation.roi import Estimate, Roi
from bihuan.evaluation.text import CHANNELS, Kind, Text
from bihuan.kernel import NotEstimable


@dataclass(frozen=True, slots=True)
class Goal:
    """What the campaign was to reach, by when and why.

    Parameters
    ----------
    metric, target, kind
        What is counted, how much of it, and what kind of figure that is.
    reason
        Why the campaign was started.
    starts_on, ends_on
        Its period.
    reached
        What came out, in the same figure, if possible with its interval; None if it is not
        known yet.
    """

    metric: Text
    target: float
    kind: Kind
    reason: Text
    starts_on: date
    ends_on: date
    reached: float | Estimate | NotEstimable | None = None


@dataclass(frozen=True, slots=True)
class AudienceSummary:
    """Whom the campaign was for.

    Parameters
    ----------
    rule
        The audience as the planner typed it.
    considered
        Customers before the rule.
    matched
        Customers that the rule chose.
    suppressed
        (name, customers) of each exclusion, in the order applied; together with what is left
        they add up to ``matched``.
    """

    rule: str
    considered: int
    matched: int
    suppressed: tuple[tuple[Text, int], ...] = ()

    @property
    def reachable(self) -> int:
        """Customers left after all exclusions."""
        return self.matched - sum(count for _, count in self.suppressed)


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """The model card in figures.

    Parameters
    ----------
    title, learner
        What it predicts, and with what.
    trained_as_of
        Date of the data learned from.
    n_customers, base_rate
        Customers learned from, and the share of them that responded.
    n_features
        Features used.
    auc
        Area under the ROC curve on held-out data.
    gains
        (share contacted, share of responders reached), from (0, 0) to (1, 1).
    calibration
        (predicted, observed) rates, one pair per bin.
    auc_low, auc_high
        Interval of the AUC where known.
    """

    title: Text
    learner: str
    trained_as_of: date
    n_customers: int
    base_rate: float
    n_features: int
    auc: float
    gains: tuple[tuple[float, float], ...]
    calibration: tuple[tuple[float, float], ...]
    auc_low: float | None = None
    auc_high: float | None = None


@dataclass(frozen=True, slots=True)
class OfferSummary:
    """One offer and how many customers it was assigned to.

    ``price`` is per month, ``margin`` per sale over its life, in the workspace's currency.
    """

    offer_id: str
    title: Text
    price: float
    margin: float
    assigned: int


@dataclass(frozen=True, slots=True)
class LimitSummary:
    """One limit of the allocation: how much was used, and what one more unit would be worth.

    Parameters
    ----------
    title
        For example "outbound seats".
    unit
        One unit in words: "call", "yuan of budget".
    used, bound
        In that unit.
    price
        Shadow price: expected value that one more unit would add; 0 if the limit does not bind.
    """

    title: Text
    unit: Text
    used: float
    bound: float
    price: float


@dataclass(frozen=True, slots=True)
class AllocationSummary:
    """The certificate: value reached, the most that any plan could reach, and the prices.

    ``value`` and ``bound`` are expected values in the workspace's currency.
    """

    value: float
    bound: float
    limits: tuple[LimitSummary, ...]

    @property
    def gap(self) -> float:
        """Distance from the bound, as a share of it."""
        return (self.bound - self.value) / self.bound if self.bound > 0 else 0.0


@dataclass(frozen=True, slots=True)
class DecisionSummary:
    """What became of everybody considered.

    Parameters
    ----------
    considered
        Customers in the decision log.
    no_contact
        (reason, customers) of those without contact.
    control, treatment
        Planned customers held out at random, and to be contacted.
    """

    considered: int
    no_contact: tuple[tuple[Text, int], ...]
    control: int
    treatment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignReport:
    """Everything that the report of a campaign is made of; what is None is left out.

    Parameters
    ----------
    title
        Name of the campaign.
    as_of, currency
        Date of the data, and the workspace's currency (ISO 4217).
    response
        What a response is ("renewed the contract"), for sentences.
    gained
        What the campaign gained beyond what would have happened anyway, as people count it:
        customers kept, orders, acceptances.
    response_kind
        ``Kind.SHARE`` for a 0/1 response, else the kind of figure.
    true_effect
        The known true effect of a simulated campaign; marked as such.
    extra
        Further sections, after those of the campaign.
    notes
        On the data: what was left out, what is simulated.
    names
        Names of codes (channels, strata, units, scripts) beyond the built-in channel names.
    """

    title: Text
    as_of: date
    currency: str = "CNY"
    response: Text = field(default_factory=lambda: Text("响应率", "the response rate"))
    gained: Text = field(default_factory=lambda: Text("增量响应", "Incremental responses"))
    response_kind: Kind = Kind.SHARE
    goal: Goal | None = None
    audience: AudienceSummary | None = None
    model: ModelSummary | None = None
    offers: tuple[OfferSummary, ...] = ()
    allocation: AllocationSummary | None = None
    decision: DecisionSummary | None = None
    funnel: Funnel | None = None
    effect: Effect | NotEstimable | None = None
    true_effect: float | None = None
    roi: Roi | None = None
    extra: tuple[Section, ...] = ()
    notes: tuple[Text, ...] = ()
    names: Mapping[str, Text] = field(default_factory=dict)

    @property
    def words(self) -> Mapping[str, Text]:
        """Names of all codes: channels, offers, and those given."""
        offers = {offer.offer_id: offer.title for offer in self.offers}
        return {**CHANNELS, **offers, **self.names}

    @property
    def figure_kind(self) -> Kind:
        """How a response per customer is written: small amounts need their decimals."""
        return Kind.PRICE if self.response_kind is Kind.MONEY else self.response_kind
