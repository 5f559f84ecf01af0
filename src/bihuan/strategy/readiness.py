"""Whether a campaign's preconditions hold."""

from __future__ import annotations

from dataclasses import dataclass

from bihuan.strategy.campaign import Campaign, Requirement


@dataclass(frozen=True, slots=True)
class CampaignFacts:
    """What is known when a campaign is about to be decided.

    Parameters
    ----------
    audience_size
        Customers left after suppression.
    control_size
        Customers that would be held out as control.
    data_age_days
        Days between the data's snapshot date and today.
    confirmed
        Texts (English) of the by-hand requirements that a person has confirmed.
    """

    audience_size: int
    control_size: int
    data_age_days: int
    confirmed: frozenset[str] = frozenset()


def unmet_requirements(campaign: Campaign, facts: CampaignFacts) -> tuple[Requirement, ...]:
    """Return the campaign's preconditions that do not hold, in the order written.

    Parameters
    ----------
    campaign
        With its requirements.
    facts
        What is known now.
    """
    return tuple(need for need in campaign.requirements if not _holds(need, facts))


def _holds(need: Requirement, facts: CampaignFacts) -> bool:
    if need.check == "audience_at_least":
        return facts.audience_size >= need.value
    if need.check == "control_at_least":
        return facts.control_size >= need.value
    if need.check == "data_age_at_most":
        return facts.data_age_days <= need.value
    return need.text["en"] in facts.confirmed
