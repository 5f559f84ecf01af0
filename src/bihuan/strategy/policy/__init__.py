"""Policies that inherit over the org tree: who may offer what, how, at which price.

In come the org tree and policy files that levels write; out go resolved views that say what holds
for a unit and an offer and which level said so, conflicts found before anything is written, and
what a change would touch. Limits only tighten on the way down.
"""

from bihuan.strategy.policy.book import (
    PolicyBook,
    PolicyGroups,
    UnknownPolicyError,
    policy_files,
    read_all,
)
from bihuan.strategy.policy.conflict import PolicyConflict, PolicyConflictError
from bihuan.strategy.policy.edit import edit_text, parse_statement
from bihuan.strategy.policy.impact import (
    CampaignImpact,
    FieldChange,
    Impact,
    PolicyChange,
)
from bihuan.strategy.policy.limit import Cap, Hours
from bihuan.strategy.policy.resolved import ResolvedLimit, ResolvedPolicy
from bihuan.strategy.policy.statement import Authority, DecisionRight, PolicyStatement
from bihuan.strategy.policy.tree import (
    TIERS,
    OrgTree,
    OrgTreeError,
    OrgUnit,
    UnknownUnitError,
)
from bihuan.strategy.policy.verdict import Violation

__all__ = [
    "OrgTree",
    "OrgUnit",
    "OrgTreeError",
    "UnknownUnitError",
    "TIERS",
    "PolicyBook",
    "PolicyGroups",
    "PolicyStatement",
    "PolicyConflict",
    "PolicyConflictError",
    "UnknownPolicyError",
    "ResolvedPolicy",
    "ResolvedLimit",
    "Violation",
    "PolicyChange",
    "Impact",
    "FieldChange",
    "CampaignImpact",
    "Authority",
    "DecisionRight",
    "edit_text",
    "parse_statement",
    "policy_files",
    "read_all",
    "Cap",
    "Hours",
]
