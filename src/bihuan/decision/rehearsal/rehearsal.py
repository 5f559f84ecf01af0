"""A rehearsal: everything found about a plan before anybody is contacted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from bihuan.decision.rehearsal.codec import from_plain, to_plain
from bihuan.decision.rehearsal.forecast import Forecast
from bihuan.decision.rehearsal.judge import JUDGEMENTS, Judgement, Title, worst
from bihuan.decision.rehearsal.load import ChannelLoad
from bihuan.decision.rehearsal.people import Fairness, Fatigue, Overlaps
from bihuan.decision.rehearsal.reach import ReachStep, Sample
from bihuan.kernel import DefectError, NotEstimable, UserError, canonical_json, hash_id

FORMAT = 1


@dataclass(frozen=True, slots=True)
class ControlDesign:
    """What the held-out customers will be able to show.

    Parameters
    ----------
    metric, target
        Of the goal; the effect per planned customer that is to be seen.
    treatment, control
        Planned customers by arm, of the whole audience.
    base
        Mean of the metric without contact.
    power
        Chance to see an effect as large as the target, 0..1.
    detectable
        Smallest effect that is seen with a chance of 80 %.
    """

    metric: str
    target: float
    treatment: int
    control: int
    base: float | NotEstimable
    power: float | NotEstimable
    detectable: float | NotEstimable


@dataclass(frozen=True, slots=True)
class LimitFact:
    """What the plan uses of a limit and what one more unit is worth.

    Parameters
    ----------
    name, kind, unit
        Of the limit.
    bound, usage
        In ``unit``, of the customers rehearsed.
    price
        Value of one more unit (of a minimum one less), in the workspace's currency.
    shortfall
        What the contacts lack of a minimum, in ``unit``; 0 where nothing is missing.
    """

    name: str
    kind: str
    unit: str
    bound: float
    usage: float
    price: float
    shortfall: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """How good the plan is among all plans within its limits.

    Parameters
    ----------
    value, bound, gap
        As in :class:`bihuan.decision.Allocation`, of the customers rehearsed.
    limits
        In the order given.
    """

    value: float
    bound: float
    gap: float
    limits: tuple[LimitFact, ...]

    @property
    def missed(self) -> tuple[LimitFact, ...]:
        """The minimums that are missed, the one that lacks the greatest share first."""
        short = [limit for limit in self.limits if limit.shortfall > 0]
        return tuple(sorted(short, key=lambda limit: -limit.shortfall / limit.bound))


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the twin's customers answered; only a twin can tell.

    Parameters
    ----------
    contacts
        Contacts played, those of the customers rehearsed.
    accepted, ordered
        Of these.
    expected
        Acceptances that the truth lets expect of these contacts.
    by_cell
        Acceptances by offer and channel, as ``(offer id, channel, contacts, accepted)``.
    """

    contacts: int
    accepted: int
    ordered: int
    expected: float
    by_cell: tuple[tuple[str, str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Readiness:
    """What must hold before a campaign may start.

    Parameters
    ----------
    unmet
        Preconditions that do not hold, or that nobody has confirmed yet; by language.
    data_age
        Days between the data and today.
    budget
        In the workspace's currency; None where open.
    policies
        What policies take out of the plan without forbidding it, by language.
    """

    unmet: tuple[Mapping[str, str], ...]
    data_age: int
    budget: float | None
    policies: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """The facts of a rehearsal.

    Parameters
    ----------
    reach
        From the audience to the contacts.
    load
        By day and desk.
    forecast
        What it will bring.
    fatigue, overlap, fairness
        What it does to people.
    design
        What the control group can show.
    certificate
        How near the plan is to the best one.
    readiness
        What must hold before.
    simulation
        What the twin answered; None where there is none.
    """

    reach: tuple[ReachStep, ...]
    load: ChannelLoad
    forecast: Forecast
    fatigue: tuple[Fatigue, ...]
    overlap: Overlaps
    fairness: tuple[Fairness, ...]
    design: ControlDesign
    certificate: Certificate
    readiness: Readiness
    simulation: Simulation | None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A plan rehearsed: facts and the four judgements.

    Parameters
    ----------
    rehearsal_id
        Hash of everything that it hangs on.
    campaign_id, content_id, title
        The plan, and the hash of exactly what it would do.
    as_of
        Date of the data.
    rehearsed_at
        When.
    sample
        Whom.
    seed
        Of ties, lots and draws.
    currency
        ISO 4217 code of all amounts.
    findings
        The facts.
    judgements
        Feasibility, reasonableness, scientific soundness, expected effect.
    seconds
        Wall time.
    """

    rehearsal_id: str
    campaign_id: str
    content_id: str
    title: Title
    as_of: date
    rehearsed_at: datetime
    sample: Sample
    seed: int
    currency: str
    findings: Findings
    judgements: tuple[Judgement, ...]
    seconds: float

    @property
    def verdict(self) -> str:
        """``pass``, ``warn`` or ``fail``: the worst of the four."""
        return worst([judgement.verdict for judgement in self.judgements])

    def judgement(self, name: str) -> Judgement:
        """Return one of the four.

        Raises
        ------
        UserError
            If there is no judgement of that name.
        """
        for judgement in self.judgements:
            if judgement.name == name:
                return judgement
        raise UserError(
            f"There is no judgement '{name}'.",
            remedy=f"Choose from: {', '.join(JUDGEMENTS)}.",
            zh=f"没有名为 {name} 的评判，可选：{'、'.join(JUDGEMENTS)}。",
        )

    def to_json(self) -> str:
        """Return the whole rehearsal as one JSON document, to be filed with the plan."""
        plain = {"format": FORMAT, **to_plain(self)}
        return canonical_json(plain)

    @classmethod
    def from_json(cls, text: str) -> Rehearsal:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        UserError
            If it is not a rehearsal of this version.
        """
        try:
            plain = json.loads(text)
            if not isinstance(plain, dict) or plain.pop("format", None) != FORMAT:
                raise DefectError("It does not say that it is a rehearsal of this form.")
            found = from_plain(cls, plain)
        except (json.JSONDecodeError, DefectError) as error:
            raise UserError(
                f"The document is not a filed rehearsal: {error}",
                remedy="Rehearse the plan again.",
                zh=f"该文件不是有效的预演记录（{error}），请重新预演。",
            ) from error
        if not isinstance(found, cls):
            raise DefectError("The document was read as something else.")
        return found


def rehearsal_id(
    content_id: str,
    as_of: date,
    seed: int,
    findings: Findings,
    judgements: tuple[Judgement, ...],
) -> str:
    """Return the id of a rehearsal: a hash of the plan and of everything found about it.

    Parameters
    ----------
    content_id
        Of the campaign.
    as_of, seed
        Data and chance.
    findings, judgements
        What was found.
    """
    return hash_id("rehearsal", content_id, as_of, seed, to_plain(findings), to_plain(judgements))
