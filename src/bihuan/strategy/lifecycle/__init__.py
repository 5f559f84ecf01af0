"""Life cycle (客户生命周期), key moments (关键时刻) and marketing map (营销地图).

In come definition files, tag values, events, org units and staff; out go every customer's stage
and strategy, the customers to be warned about, those at a key moment and since when, and the guide
that says to each unit on the ground what to do for whom, with which words and how many.
"""

from bihuan.strategy.lifecycle.choice import OfferChoice, parse_choice
from bihuan.strategy.lifecycle.detect import MomentReport, detect
from bihuan.strategy.lifecycle.follow import LifeCycleReport, StageFacts, follow_life_cycle
from bihuan.strategy.lifecycle.map import (
    Ground,
    MapPlan,
    MapRow,
    MarketingMap,
    draw_map,
    load_map,
)
from bihuan.strategy.lifecycle.map_page import draw_map_picture, write_map_page
from bihuan.strategy.lifecycle.moment import Moment, MomentBook, load_moments, moment_factors
from bihuan.strategy.lifecycle.place import assign_strategies, place_customers
from bihuan.strategy.lifecycle.stage import (
    MEANS,
    STAGES,
    LifeCycle,
    LifeCycleError,
    Sign,
    Stage,
    StageStrategy,
    load_life_cycle,
)
from bihuan.strategy.lifecycle.warn import (
    WarningRecord,
    check_warnings,
    judge_warnings,
    warn_of_decline,
)

__all__ = [
    "STAGES",
    "MEANS",
    "LifeCycle",
    "LifeCycleError",
    "Stage",
    "StageStrategy",
    "Sign",
    "OfferChoice",
    "parse_choice",
    "load_life_cycle",
    "assign_strategies",
    "place_customers",
    "follow_life_cycle",
    "LifeCycleReport",
    "StageFacts",
    "warn_of_decline",
    "check_warnings",
    "judge_warnings",
    "WarningRecord",
    "Moment",
    "MomentBook",
    "MomentReport",
    "load_moments",
    "detect",
    "moment_factors",
    "MapPlan",
    "MapRow",
    "MarketingMap",
    "Ground",
    "load_map",
    "draw_map",
    "draw_map_picture",
    "write_map_page",
]
