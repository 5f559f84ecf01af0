"""What we want and by what means: campaigns with goal, audience, marketing mix and action plan.

In come campaign files (YAML) that planners write; out go :class:`Campaign` values that the
decision room can decide on. A campaign says *what*; who may approve it and when it runs is not
known here.
"""

from bihuan.strategy.campaign import (
    ActionStep,
    Campaign,
    ChannelPlan,
    Goal,
    MixItem,
    Requirement,
    load_campaign,
    plan_text,
)
from bihuan.strategy.readiness import CampaignFacts, unmet_requirements

__all__ = [
    "Campaign",
    "Goal",
    "MixItem",
    "ChannelPlan",
    "ActionStep",
    "Requirement",
    "load_campaign",
    "plan_text",
    "CampaignFacts",
    "unmet_requirements",
]
