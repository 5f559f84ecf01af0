"""Who gets which offer through which channel, who is held out, and why everybody else is not.

In come customers, candidates (offer x channel x step), propensities, margins, costs, the gates of
the funnel and the limits (seats, budgets, maxima). Out comes a :class:`Plan`: the allocation with
a certificate of how near it is to the best possible, what one more unit of each limit would be
worth, the lots drawn for the control group with their exact probabilities, and one row per
customer for the lake table ``decision``, which :func:`log_decisions` publishes before anything is
delivered. :func:`explain` answers "why this" and "why nothing" for one customer.

A :class:`StrategyBoard` holds what all live campaigns may do, prepared once: the same gates and
values serve the batch and one profile at the counter. With the batch's shadow prices in a
:class:`PriceBook`, :func:`recommend` gives the next best offers of one or of millions.
"""

from bihuan.decision.allocation.allocate import Allocation, LimitUse, allocate
from bihuan.decision.allocation.files import PairFiles, allocate_files, write_pairs
from bihuan.decision.allocation.limit import AllocationError, Limit
from bihuan.decision.allocation.pairs import Pairs, open_pairs
from bihuan.decision.allocation.rules import ContactRules, Lag, Window
from bihuan.decision.assign import balance, global_control
from bihuan.decision.eligibility import (
    PHASES,
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
from bihuan.decision.lever import (
    NO_LEVERS,
    FitRule,
    Lever,
    LeverBook,
    Scope,
    lever_matrix,
)
from bihuan.decision.override import (
    Override,
    OverrideError,
    OverrideLog,
    OverrideMasks,
    override_masks,
)
from bihuan.decision.plan import (
    DecisionInputs,
    Plan,
    decide,
    decision_contract,
    log_decisions,
)
from bihuan.decision.recommendation.board import Gate, StrategyBoard
from bihuan.decision.recommendation.pricebook import (
    PriceBook,
    PriceBookError,
    PricedLimit,
    price_book,
)
from bihuan.decision.recommendation.ranking import Ranking, recommend
from bihuan.decision.recommendation.reason import Wording
from bihuan.decision.recommendation.recommender import Match, Recommended, Recommender, Situation
from bihuan.decision.recommendation.strategy import (
    BoardError,
    BoardRules,
    Case,
    Cases,
    ContactCap,
    PairPolicy,
    Strategy,
)
from bihuan.decision.recommendation.table import Wish, recommend_table, told_tags
from bihuan.decision.recommendation.trigger import (
    Event,
    Firing,
    Trigger,
    TriggerDesk,
    TriggerError,
    TriggerLog,
    load_triggers,
)
from bihuan.decision.recommendation.why import Condition, Inquiry, Passage, Weighed, Why, trace, why
from bihuan.decision.value import Candidate, expected_value

__all__ = [
    "Candidate",
    "expected_value",
    "Limit",
    "Pairs",
    "open_pairs",
    "ContactRules",
    "Window",
    "Lag",
    "Allocation",
    "AllocationError",
    "LimitUse",
    "allocate",
    "PairFiles",
    "write_pairs",
    "allocate_files",
    "PHASES",
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
    "Scope",
    "Lever",
    "FitRule",
    "LeverBook",
    "NO_LEVERS",
    "lever_matrix",
    "Strategy",
    "ContactCap",
    "BoardError",
    "BoardRules",
    "Case",
    "Cases",
    "Gate",
    "StrategyBoard",
    "PairPolicy",
    "Ranking",
    "recommend",
    "Wording",
    "Situation",
    "Recommended",
    "Match",
    "Recommender",
    "Wish",
    "recommend_table",
    "told_tags",
    "PricedLimit",
    "PriceBook",
    "PriceBookError",
    "price_book",
    "Override",
    "OverrideError",
    "OverrideLog",
    "OverrideMasks",
    "override_masks",
    "Event",
    "Trigger",
    "Firing",
    "TriggerLog",
    "TriggerDesk",
    "TriggerError",
    "load_triggers",
    "Condition",
    "Passage",
    "Weighed",
    "Inquiry",
    "Why",
    "trace",
    "why",
]
