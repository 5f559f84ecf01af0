"""Draining: a live deployment goes out through a channel in batches, under the stop switch.

Before every batch the stops and the refusals are read anew, and a batch is kept so small that it is
sent within about a second: so a stop holds within two, and so does a refusal, long before it is
carried into the lake. What a stop holds back stays pending; after it is lifted the next round sends
it, and nothing that was sent before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bihuan.data import Snapshot
from bihuan.delivery import (
    Channel,
    FinalGate,
    GatePolicy,
    dispatch,
    load_opt_outs,
    no_opt_outs,
)
from bihuan.feedback import OutcomeLedger
from bihuan.kernel import file_lock
from bihuan.server.app.deployment.record import frozen_deployment, get_deployment
from bihuan.server.app.deployment.switch import stop_parts
from bihuan.server.app.errors import ConflictError
from bihuan.server.app.personal import KINDS as REFUSALS
from bihuan.server.app.personal import is_opted_out
from bihuan.server.app.plan.content import decides_on_persons
from bihuan.server.app.service import Service, UnitOfWork
from bihuan.server.control import PlanRevision
from bihuan.workspace import Workspace

BATCH_ROWS = 2_000
"""Rows between two looks at the stop switch."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What a round of draining did; ``planned = sent + repeated + suppressed + held``.

    Parameters
    ----------
    planned
        Assignments of the channel.
    sent, repeated, suppressed
        As :class:`bihuan.delivery.Dispatch`, over all batches.
    held
        Left pending, because their part is stopped or everything was.
    reasons
        Of the suppressed.
    stopped
        Whether a stop of everything ended the round.
    """

    planned: int
    sent: int = 0
    repeated: int = 0
    suppressed: int = 0
    held: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    stopped: bool = False


def drain_deployment(
    service: Service,
    deployment_id: str,
    kind: str,
    channel: Channel,
    *,
    policy: GatePolicy | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Drained:
    """Send what a live deployment has for one channel kind and may be sent now.

    Parameters
    ----------
    service
        The running service.
    deployment_id
        A live deployment.
    kind
        Channel kind.
    channel
        Who carries it.
    policy
        Contact hours and further stops; None: the usual.
    batch_rows
        Rows between two looks at the stop switch.

    Returns
    -------
    Drained

    Raises
    ------
    ConflictError
        If the deployment is not live.
    OptOutUnknownError
        If the lake has no table of opt-outs.
    """
    workspace = service.workspace
    with service.system_work(read_only=True) as work:
        row = get_deployment(work, deployment_id)
        content = work.session.get_one(PlanRevision, row.revision_id).content
    if row.state != "live":
        raise ConflictError(
            f"Deployment {deployment_id} is {row.state}, not live.",
            remedy="Deploy its plan first.",
            zh=f"部署 {deployment_id} 状态为 {row.state}，尚未生效，请先部署。",
        )
    frozen = frozen_deployment(workspace.lake.view(), row)
    # one drain at a time: what another one sends meanwhile is not in the states read here
    with file_lock(workspace.lake.root / f".drain-{frozen.deployment_id}-{kind}.lock"):
        ledger = OutcomeLedger(
            workspace.lake,
            frozen,
            workspace.layout.quarantine,
            workspace.clock,
            engine=workspace.engine,
        )
        states = ledger.states()
        states = states.filter(pc.equal(states["channel"], kind))
        done = Drained(planned=states.num_rows)
        terms = replace(policy or GatePolicy(), profiles=decides_on_persons(content))
        gate = FinalGate(terms, _known_refusals(workspace), workspace.engine)
        for batch in _batches(frozen.assignments(workspace.lake.view()), kind, batch_rows):
            with service.system_work(read_only=True) as work:
                is_stopped, parts = stop_parts(work, row.plan_id)
                refused = _refusals(service, work, batch["customer_id"].to_pylist(), kind)
            if is_stopped:
                left = done.planned - done.sent - done.repeated - done.suppressed - done.held
                return replace(done, held=done.held + left, stopped=True)
            guard = replace(gate.policy, stopped_parts=gate.policy.stopped_parts | parts)
            open_ = batch.filter(pc.invert(_is_stopped(batch, guard)))
            done = replace(done, held=done.held + batch.num_rows - open_.num_rows)
            if not open_.num_rows:
                continue
            mine = states.filter(
                pc.is_in(states["assignment_id"], value_set=open_["assignment_id"])
            )
            sent = dispatch(
                open_,
                channel,
                gate=replace(
                    gate, policy=guard, opt_outs=pa.concat_tables([gate.opt_outs, refused])
                ),
                states=mine,
                record=ledger.record,
                clock=workspace.clock,
                engine=workspace.engine,
            )
            reasons = dict(done.reasons)
            for reason, count in sent.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + count
            done = replace(
                done,
                sent=done.sent + sent.sent,
                repeated=done.repeated + sent.repeated,
                suppressed=done.suppressed + sent.suppressed,
                reasons=reasons,
            )
    return done


def _known_refusals(workspace: Workspace) -> pa.Table:
    return load_opt_outs(workspace.lake.view()).cast(no_opt_outs().schema)


def _refusals(service: Service, work: UnitOfWork, customers: Sequence[str], kind: str) -> pa.Table:
    """Return who of a batch has refused by now, as the final gate takes it."""
    rows = [
        {"customer_id": customer, "kind": refusal, "channel": "all", "since": None}
        for refusal in REFUSALS
        for customer in sorted(is_opted_out(service, work, customers, kind, kind=refusal))
    ]
    return pa.Table.from_pylist(rows, schema=no_opt_outs().schema)


def _batches(assignments: Snapshot, kind: str, rows: int) -> Iterator[pa.Table]:
    """Read one channel's assignments in order of unit and rank, some at a time."""
    for path in assignments.files:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                at = file.schema_arrow.get_field_index("channel")
                range_ = file.metadata.row_group(group).column(at).statistics
                known = range_ is not None and range_.has_min_max
                if known and not range_.min <= kind <= range_.max:
                    continue
                table = file.read_row_group(group)
                table = table.filter(pc.equal(table["channel"], kind))
                for start in range(0, table.num_rows, rows):
                    yield table.slice(start, rows)


def _is_stopped(batch: pa.Table, policy: GatePolicy) -> pa.Array:
    places = (batch[name].to_pylist() for name in ("campaign_id", "channel", "org_unit_id"))
    return pa.array([policy.is_stopped(c, k, u or "") for c, k, u in zip(*places, strict=True)])
