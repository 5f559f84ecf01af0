"""Who gets which offer through which channel, who is held out, and why everybody else is not.

In come customers, candidates (offer x channel x step), propensities, margins, costs, the gates of
the funnel and the limits (seats, budgets, maxima). Out comes a :class:`Plan`: the allocation with
a certificate of how near it is to the best possible, what one more unit of each limit would be
worth, the lots drawn for the control group with their exact probabilities, and one row per
customer for the lake table ``decision``, which :func:`log_decisions` publishes before anything is
delivered. :func:`explain` answers "why this" and "why nothing" for one customer.
"""

from bihuan.decision.allocate import Allocation, LimitUse, allocate
from bihuan.decision.assign import balance, global_control
from bihuan.decision.eligibility import (
    Funnel,
    Stage,
    exclusion_stage,
    offer_stage,
    opt_out_stage,
    reach_stage,
    run_funnel,
    suppression_stage,
)
from bihuan.decision.explain import Explanation, explain
from bihuan.decision.options import Limit
from bihuan.decision.plan import (
    DecisionInputs,
    Plan,
    decide,
    decision_contract,
    log_decisions,
)
from bihuan.decision.value import Candidate, expected_value

__all__ = [
    "Candidate",
    "expected_value",
    "Limit",
    "Allocation",
    "LimitUse",
    "allocate",
    "Stage",
    "Funnel",
    "run_funnel",
    "offer_stage",
    "exclusion_stage",
    "opt_out_stage",
    "reach_stage",
    "suppression_stage",
    "global_control",
    "balance",
    "DecisionInputs",
    "Plan",
    "decide",
    "decision_contract",
    "log_decisions",
    "Explanation",
    "explain",
]
