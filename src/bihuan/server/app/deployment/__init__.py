"""Deployment in one click, and strategies that change in all channels at once.

In comes an approved plan; out go frozen assignments in the lake and one row that makes them live,
planned counts by channel and unit, and a reconciliation that adds up. Read in this order:
``run`` (the one click), ``record`` (its row), ``reconcile``, ``drain`` (sending under the stop
switch), ``switch`` (stop and resume), ``release`` (the strategy centre).
"""

from bihuan.server.app.deployment.drain import Drained, drain_deployment
from bihuan.server.app.deployment.reconcile import (
    ListCount,
    ReconciliationReport,
    reconcile_deployment,
    report_of,
)
from bihuan.server.app.deployment.record import (
    ContentChangedError,
    ExpiredError,
    TakenOverError,
    counts_of,
    find_deployments,
    get_deployment,
    withdraw,
)
from bihuan.server.app.deployment.release import (
    ChannelStrategies,
    acknowledge,
    acknowledgements_of,
    current_release,
    current_releases,
    find_releases,
    get_release,
    publish_release,
    standing_release,
    standing_releases,
    strategies_of,
)
from bihuan.server.app.deployment.run import NoDataError, deploy_plan, request_deployment
from bihuan.server.app.deployment.switch import pause_deployment, resume_deployment, stop_parts

__all__ = [
    "deploy_plan",
    "request_deployment",
    "NoDataError",
    "get_deployment",
    "find_deployments",
    "counts_of",
    "withdraw",
    "ContentChangedError",
    "ExpiredError",
    "TakenOverError",
    "reconcile_deployment",
    "report_of",
    "ReconciliationReport",
    "ListCount",
    "drain_deployment",
    "Drained",
    "pause_deployment",
    "resume_deployment",
    "stop_parts",
    "publish_release",
    "current_release",
    "current_releases",
    "standing_release",
    "standing_releases",
    "ChannelStrategies",
    "strategies_of",
    "get_release",
    "find_releases",
    "acknowledge",
    "acknowledgements_of",
]
