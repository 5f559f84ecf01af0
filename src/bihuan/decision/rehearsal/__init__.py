"""Rehearsal (方案预演): a plan played through before anybody is contacted, and judged.

In come a :class:`~bihuan.decision.Plan` that was decided but not logged, what earlier contacts
have brought, and what else is going on at the same time. Out comes a :class:`Rehearsal`: how many
are reached and where the others fall, how full the channels are day by day, what it will bring as
an interval, what it does to people, what its control group can show; and four judgements,
feasibility, reasonableness, scientific soundness and expected effect, each with a score and the
facts behind it. Two rehearsals are put side by side by :func:`compare`.

Read in this order: ``reach`` and ``load`` (who, when), ``calibrate`` and ``forecast`` (what it
brings), ``people`` (what it does to them), ``rehearsal`` (all of it), ``figures`` and ``judge``
(what it is worth), ``told`` (in words), ``compare``; ``codec`` files it.
"""

from bihuan.decision.rehearsal.calibrate import (
    Assumptions,
    Calibration,
    HistoryError,
    PastContacts,
    calibrate,
)
from bihuan.decision.rehearsal.compare import Comparison, Line, compare
from bihuan.decision.rehearsal.figures import judge_findings
from bihuan.decision.rehearsal.forecast import (
    CellForecast,
    Contacts,
    Forecast,
    Interval,
    forecast,
)
from bihuan.decision.rehearsal.judge import (
    CRITERIA,
    JUDGEMENTS,
    Criterion,
    Fact,
    Judgement,
    judge_figures,
    read_criteria,
)
from bihuan.decision.rehearsal.load import (
    ChannelLoad,
    DailyCapacity,
    DayLoad,
    DeskLoad,
    level_fill,
    spread_load,
    working_days,
)
from bihuan.decision.rehearsal.people import (
    Fairness,
    Fatigue,
    GroupRate,
    Overlap,
    Overlaps,
    measure_fairness,
    measure_fatigue,
    measure_overlap,
)
from bihuan.decision.rehearsal.reach import (
    ReachStep,
    Sample,
    SampleError,
    draw_sample,
    reach_steps,
    scale_limits,
)
from bihuan.decision.rehearsal.rehearsal import (
    Certificate,
    ControlDesign,
    Findings,
    LimitFact,
    Readiness,
    Rehearsal,
    Simulation,
    rehearsal_id,
)
from bihuan.decision.rehearsal.told import judgement_text, rehearsal_text

__all__ = [
    "Rehearsal",
    "rehearsal_id",
    "Findings",
    "Readiness",
    "ControlDesign",
    "Certificate",
    "LimitFact",
    "Simulation",
    "Sample",
    "SampleError",
    "draw_sample",
    "scale_limits",
    "ReachStep",
    "reach_steps",
    "ChannelLoad",
    "DayLoad",
    "DeskLoad",
    "DailyCapacity",
    "working_days",
    "spread_load",
    "level_fill",
    "PastContacts",
    "HistoryError",
    "Assumptions",
    "Calibration",
    "calibrate",
    "Contacts",
    "Interval",
    "CellForecast",
    "Forecast",
    "forecast",
    "Fatigue",
    "measure_fatigue",
    "Overlap",
    "Overlaps",
    "measure_overlap",
    "GroupRate",
    "Fairness",
    "measure_fairness",
    "CRITERIA",
    "JUDGEMENTS",
    "Criterion",
    "read_criteria",
    "Fact",
    "Judgement",
    "judge_figures",
    "judge_findings",
    "judgement_text",
    "rehearsal_text",
    "Line",
    "Comparison",
    "compare",
]
