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
from bihuan.strategy.campaign_limit import CampaignLimit
from bihuan.strategy.cube import (
    CoverageReport,
    Cube,
    CubeDefinition,
    build_cube,
    load_cube,
    measure_coverage,
    propose_changes,
)
from bihuan.strategy.lifecycle import (
    LifeCycle,
    MarketingMap,
    MomentBook,
    detect,
    load_life_cycle,
    load_moments,
    moment_factors,
)
from bihuan.strategy.policy import (
    Hours,
    Impact,
    OrgTree,
    PolicyBook,
    PolicyChange,
    PolicyConflictError,
    PolicyStatement,
    ResolvedPolicy,
    UnknownPolicyError,
    UnknownUnitError,
    Violation,
)
from bihuan.strategy.preference import channel_preference_matrix, preferred_channel
from bihuan.strategy.preferred_ways import PreferredWays
from bihuan.strategy.readiness import CampaignFacts, unmet_requirements
from bihuan.strategy.script import (
    ForbiddenWord,
    ForbiddenWordError,
    ScriptBook,
    ScriptChoice,
    TiedScriptsError,
)
from bihuan.strategy.touchpoint import Touchpoint, TouchpointBook
from bihuan.strategy.touchpoint_plan import (
    TouchpointCustomers,
    TouchpointDeployment,
    deploy_touchpoints,
    preference_shares,
)

__all__ = [
    "Campaign",
    "Goal",
    "MixItem",
    "ChannelPlan",
    "CampaignLimit",
    "ActionStep",
    "Requirement",
    "load_campaign",
    "plan_text",
    "CampaignFacts",
    "unmet_requirements",
    "OrgTree",
    "PolicyBook",
    "PolicyStatement",
    "PolicyChange",
    "PolicyConflictError",
    "ResolvedPolicy",
    "Impact",
    "Violation",
    "Hours",
    "UnknownPolicyError",
    "UnknownUnitError",
    "ScriptBook",
    "ScriptChoice",
    "TiedScriptsError",
    "ForbiddenWord",
    "ForbiddenWordError",
    "Touchpoint",
    "TouchpointBook",
    "TouchpointCustomers",
    "TouchpointDeployment",
    "deploy_touchpoints",
    "preference_shares",
    "Cube",
    "CubeDefinition",
    "load_cube",
    "build_cube",
    "CoverageReport",
    "measure_coverage",
    "propose_changes",
    "LifeCycle",
    "load_life_cycle",
    "MomentBook",
    "load_moments",
    "detect",
    "moment_factors",
    "MarketingMap",
    "preferred_channel",
    "channel_preference_matrix",
    "PreferredWays",
]
