"""Plans (方案): four steps and one library (四步一库), for every level of the org tree.

In come drafts of campaigns, rehearsals, judgements and decisions of people; out goes, through one
gate, exactly the content that was approved by everybody who has to and made by none of them.

Read in this order: ``machine`` (the states), ``content`` (what a plan says), ``draft``, ``steps``
and ``approval`` (who decides), ``gate`` (what may run, what must stop), ``stop``, ``impact``,
``frame`` and ``local`` (the province frames, the city fills in), ``regular``, ``result``,
``library``.
"""

from bihuan.server.app.plan.gate import (
    ActiveStop,
    Approval,
    ApprovedPlan,
    NotApprovedError,
    StoppedError,
    find_stop,
    mark_deployed,
    require_deployable,
    stops,
)

__all__ = [
    "require_deployable",
    "mark_deployed",
    "stops",
    "find_stop",
    "ApprovedPlan",
    "Approval",
    "ActiveStop",
    "NotApprovedError",
    "StoppedError",
]
