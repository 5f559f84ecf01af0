"""The steps of a turn: what the rooms do one after the other, each as one call.

A step reads what earlier steps left in the lake and writes what it found there. So the steps can
be run at different times by different people; :mod:`bihuan.loop` runs them in a row.
"""

from bihuan.step.board import DecisionRules, make_board, strategies_of
from bihuan.step.carry import Carried, carry_out, deploy_decisions
from bihuan.step.choose import Target, choose_audience
from bihuan.step.decide import (
    DecisionRecord,
    DecisionRefusedError,
    decide_campaign,
    prepare_decision,
    read_decisions,
)
from bihuan.step.judge import Judgement, judge_campaign
from bihuan.step.know import ScoreOrder, load_score_order, refresh_tags, score_customers
from bihuan.step.rehearse_lake import read_history
from bihuan.step.rooms import Rooms
from bihuan.step.tell import campaign_report

__all__ = [
    "Rooms",
    "refresh_tags",
    "ScoreOrder",
    "load_score_order",
    "score_customers",
    "choose_audience",
    "Target",
    "DecisionRules",
    "strategies_of",
    "make_board",
    "read_history",
    "prepare_decision",
    "decide_campaign",
    "read_decisions",
    "DecisionRecord",
    "DecisionRefusedError",
    "deploy_decisions",
    "carry_out",
    "Carried",
    "judge_campaign",
    "Judgement",
    "campaign_report",
]
