"""Delivery: the logged plan becomes frozen assignments, and channels carry them.

In come decisions that were logged, with their probabilities, before anything is sent. They are
frozen once into assignments whose ids are hashes (:func:`deploy`), pass a final gate at the moment
of sending (:class:`FinalGate`), and go out through channels (:class:`FileChannel` writes target
lists). Out come receipts: outcome rows that say ``suppressed``, ``delivered`` or, where nobody can
know, ``unknown``. No assignment is dropped silently and none is sent twice.
"""

from pathlib import Path

from bihuan.delivery.channel import (
    CHANNEL_KINDS,
    MARKET_ZONE,
    RECEIPT_SCHEMA,
    TOUCHPOINTS,
    Channel,
    ChannelKind,
    ContactHours,
    Stage,
    guard_repeats,
    receipt_rows,
)
from bihuan.delivery.deployment import (
    Deployment,
    DeploymentConflictError,
    DeploymentNotFoundError,
    deploy,
    find_deployment,
    get_deployment,
    list_deployments,
)
from bihuan.delivery.dispatch import Dispatch, dispatch
from bihuan.delivery.file_channel import FileChannel
from bihuan.delivery.final_gate import (
    FinalGate,
    GatePolicy,
    GateResult,
    load_opt_outs,
    no_opt_outs,
)
from bihuan.delivery.freeze import assignment_id
from bihuan.delivery.reading import Decisions
from bihuan.delivery.target_list import ListLayout, guarded

CONTRACTS = Path(__file__).parent / "contracts"
"""Folder of the contracts ``assignment`` and ``deployment``."""

__all__ = [
    "CONTRACTS",
    "deploy",
    "Deployment",
    "Decisions",
    "DeploymentConflictError",
    "DeploymentNotFoundError",
    "assignment_id",
    "get_deployment",
    "find_deployment",
    "list_deployments",
    "FinalGate",
    "GatePolicy",
    "GateResult",
    "load_opt_outs",
    "no_opt_outs",
    "dispatch",
    "Dispatch",
    "Channel",
    "ChannelKind",
    "CHANNEL_KINDS",
    "TOUCHPOINTS",
    "ContactHours",
    "Stage",
    "guard_repeats",
    "guarded",
    "receipt_rows",
    "RECEIPT_SCHEMA",
    "MARKET_ZONE",
    "FileChannel",
    "ListLayout",
]
