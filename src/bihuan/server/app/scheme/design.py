"""A complete scheme from a model's scores: refresh tags, score, propose, rehearse, as one run.

``design_scheme`` is what took a planner days by hand: whom (a threshold by expected value against
cost), what and through which channel (by what customers answered to), what is said, how many are
held out, what it will bring and cost in each city.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from bihuan.kernel import Progress
from bihuan.offer import Offer
from bihuan.server.app.errors import missing
from bihuan.server.app.plan.content import parsed_campaign
from bihuan.server.app.scheme.document import campaign_document
from bihuan.server.app.scheme.forecast import Forecast, control_design, forecast_by_unit
from bihuan.server.app.scheme.reading import Reading, read_case
from bihuan.server.app.scheme.terms import SchemeTerms
from bihuan.server.app.scheme.threshold import Line, draw_line
from bihuan.server.app.service import Service

STEPS = ("refresh tags", "score", "propose", "rehearse")


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A scheme as designed.

    Parameters
    ----------
    product, unit_id, as_of
        What for, for whose customers, on which data.
    title
        By language.
    line
        The threshold and whom it takes.
    forecast
        In all and by city; sums agree.
    control
        Share held out, power, and what it rests on.
    campaign
        The campaign's document, as of a campaign file.
    rates
        Chance of a sale by offer and channel, with what it rests on.
    rehearsal
        Verdict and judgements; empty if it was not rehearsed.
    notes
        What a reader must know, by language.
    """

    product: str
    unit_id: str
    as_of: date
    title: Mapping[str, str]
    line: Line
    forecast: Forecast
    control: Mapping[str, Any]
    campaign: dict[str, Any]
    rates: tuple[Mapping[str, Any], ...]
    rehearsal: Mapping[str, Any]
    notes: tuple[Mapping[str, str], ...]

    @property
    def content(self) -> dict[str, Any]:
        """The plan's content, as drafts of plans take it."""
        return {
            "campaign": self.campaign,
            "audience": {
                "rule": self.campaign["audience"],
                "as_of": self.as_of.isoformat(),
                "customers": self.forecast.customers,
            },
            "decision": "automatic",
            "units": [self.unit_id],
        }

    def to_json(self) -> dict[str, Any]:
        """Return all but the campaign in plain JSON."""
        return {
            "threshold": self.line.threshold,
            "value": round(self.line.value, 2),
            "curve": [[t, n, round(v, 2)] for t, n, v in self.line.curve],
            "forecast": self.forecast.to_json(),
            "control": dict(self.control),
            "rates": [dict(rate) for rate in self.rates],
            "rehearsal": dict(self.rehearsal),
            "notes": [dict(note) for note in self.notes],
        }


def propose_scheme(
    service: Service,
    product: str,
    unit_id: str,
    terms: SchemeTerms,
    *,
    as_of: date,
    progress: Progress | None = None,
) -> Proposal:
    """Design a scheme; nothing is stored but derived tags, scores and the rehearsal.

    Parameters
    ----------
    service
        Whose customers and offers.
    product
        An offer id, or a product that offers carry.
    unit_id
        Whose customers: those of the unit and all below it.
    terms
        The order.
    as_of
        Date of the data.
    progress
        Told after each of :data:`STEPS`; None: the workspace's.

    Raises
    ------
    NotFoundError
        If no offer on sale carries the product.
    NothingWorthwhileError
        If no contact is worth its cost.
    UserError
        If data, tags, model or channels are missing; says which.
    """
    ws = service.workspace
    offers = offers_of(service, product, terms.starts_on)
    with (progress or ws.progress).task("design scheme", total=len(STEPS), unit="steps") as task:
        ws.refresh_tags(as_of)
        task.advance()
        if terms.model and terms.score not in ws.tags(as_of).fields:
            ws.learn(terms.model, as_of)
        task.advance()
        case = read_case(service, offers, unit_id, terms, as_of)
        line, control = _settle(case, terms)
        forecast = forecast_by_unit(case, line, float(control["share"]))
        campaign = campaign_document(service, case, line, terms, control=control, product=product)
        task.advance()
        rehearsal = _rehearse(service, campaign, as_of) if terms.rehearse else {}
        task.advance()
    return Proposal(
        product=product,
        unit_id=unit_id,
        as_of=as_of,
        title=campaign["title"],
        line=line,
        forecast=forecast,
        control=control,
        campaign=campaign,
        rates=case.rates,
        rehearsal=rehearsal,
        notes=case.notes,
    )


def offers_of(service: Service, product: str, day: date) -> tuple[Offer, ...]:
    """Return the offers on sale that are the product or carry it.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    found = tuple(
        offer
        for offer in service.workspace.catalogue
        if (offer.offer_id == product or product in offer.products) and offer.is_on_sale(day)
    )
    if not found:
        raise missing("offer on sale for the product", "在售产品", product)
    return found


def _settle(case: Reading, terms: SchemeTerms) -> tuple[Line, dict[str, Any]]:
    """Draw the line and size the control group; each hangs on the other, so twice."""
    share = terms.most_control / 2
    line, control = None, {}
    for _ in range(2):
        room = [
            (columns, capacity / (1 - share)) for columns, capacity in case.room
        ]  # the held-out take no room
        line = draw_line(case.score, case.value, case.spent, room, terms.bounds)
        control = control_design(case, line, terms)
        share = float(control["share"])
    assert line is not None
    return line, control


def _rehearse(service: Service, campaign: Mapping[str, Any], as_of: date) -> dict[str, Any]:
    plan = parsed_campaign({"campaign": dict(campaign)}, service.workspace.catalogue)
    found = service.workspace.rehearsals.run(plan, as_of, against=("history",))
    return {
        "rehearsal_id": found.rehearsal_id,
        "content_id": found.content_id,
        "verdict": max(
            (one.verdict for one in found.judgements),
            key=("pass", "warn", "fail").index,
            default="pass",
        ),
        "judgements": {one.name: one.verdict for one in found.judgements},
    }
