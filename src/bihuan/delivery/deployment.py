"""Deployment: the plan becomes a frozen set of assignments, once.

A deployment is *published*, not inserted. Its assignments go into one lake table of their own,
``assignment__<deployment_id>``, in the same publication as its row in the register ``deployment``;
so a killed process leaves both or neither, a second campaign never rewrites the rows of the first,
and 18 million rows cost one sorted write.

Every id is a hash of what it names. Deploying the same decisions again, in any row order, finds
the deployment that is already there and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa

from bihuan.data import DuckDBEngine, Engine, Lake, LakeView, Snapshot
from bihuan.delivery.channel import MARKET_ZONE
from bihuan.delivery.freeze import rank, write_parts
from bihuan.delivery.logged import check_decisions, check_read
from bihuan.delivery.reading import Decisions, Treated, read_decisions
from bihuan.delivery.sql import statement
from bihuan.kernel import (
    Clock,
    DefectError,
    Progress,
    SilentProgress,
    UserError,
    canonical_json,
    file_lock,
    hash_id,
)
from bihuan.kernel.crash import crash_point

REGISTER = "deployment"
_COUNT = """
SELECT channel, org_unit_id, offer_id, COUNT(*) AS planned FROM assignment
GROUP BY channel, org_unit_id, offer_id
ORDER BY channel, org_unit_id NULLS FIRST, offer_id
"""

_REGISTER_SCHEMA = pa.schema(
    [
        ("deployment_id", pa.string()),
        ("campaign_id", pa.string()),
        ("generation", pa.int64()),
        ("content_hash", pa.string()),
        ("terms_hash", pa.string()),
        ("planned", pa.int64()),
        ("valid_from", pa.date32()),
        ("valid_until", pa.date32()),
        ("deployed_at", pa.timestamp("us", tz="UTC")),
    ]
)


class DeploymentConflictError(UserError):
    """The campaign already has another deployment of the same or a later generation."""


class DeploymentNotFoundError(UserError):
    """The lake holds no deployment of that id."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A frozen assignment set; what is planned can no longer change.

    Parameters
    ----------
    deployment_id
        Hash of campaign, decision content and generation.
    campaign_id
        The campaign that it carries out.
    generation
        0 for the first; raised to deploy a campaign anew.
    content_hash
        SHA-256 of all decision rows, whatever their order.
    terms_hash
        Hash of validity and scripts.
    planned
        Number of assignments.
    valid_from, valid_until
        First and last day on which an assignment may be carried out.
    deployed_at
        Moment of publication, UTC.
    """

    deployment_id: str
    campaign_id: str
    generation: int
    content_hash: str
    terms_hash: str
    planned: int
    valid_from: date
    valid_until: date
    deployed_at: datetime

    @property
    def table(self) -> str:
        """Name of the lake table with the assignments, in the ``assignment`` contract."""
        return f"assignment__{self.deployment_id}"

    def assignments(self, view: LakeView) -> Snapshot:
        """Return the frozen assignments, ordered by channel, org unit and priority."""
        return view.get(self.table)

    def counts(self, view: LakeView, engine: Engine | None = None) -> pa.Table:
        """Count what the lake holds, independently of ``planned``.

        Returns
        -------
        pyarrow.Table
            ``channel``, ``org_unit_id`` (may be missing), ``offer_id``, ``planned``, in that order.
        """
        query = statement(_COUNT)
        return (engine or DuckDBEngine()).query(query, {"assignment": self.assignments(view)})


def deploy(  # noqa: PLR0913 - a deployment binds all of these, and each has one plain name
    decisions: Decisions,
    *,
    campaign_id: str,
    lake: Lake,
    clock: Clock,
    period: tuple[date, date],
    scripts: Mapping[tuple[str, str], str],
    generation: int = 0,
    zone: str = MARKET_ZONE,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Deployment:
    """Freeze the treatment rows of a logged decision into assignments, once.

    Parameters
    ----------
    decisions
        Rows of the ``decision`` contract, all arms: a table of one campaign, or a snapshot of the
        lake, which is read block by block and may hold other campaigns beside. Only ``treatment``
        rows become assignments; the others count for the content, because they are the design.
    campaign_id
        The campaign; every row of a table must carry it.
    lake
        Where the assignments and the register row are published together.
    clock
        Now: stamps the deployment, starts its validity, and must not be before ``decided_at``.
    period
        First and last day of the campaign; nothing may be carried out outside it. Deploying again
        on another day of it is still the same.
    scripts
        Script id by offer id and channel kind. Empty for a campaign without scripts; otherwise
        every pair that is deployed must have one.
    generation
        0, or a number greater than that of every earlier deployment of the campaign.
    zone
        Time zone in which the days of validity begin.
    engine
        Where rows are counted; DuckDB by default.
    progress
        Where the steps are reported.

    Returns
    -------
    Deployment
        The new one, or the one that the same decisions already have.

    Raises
    ------
    UnloggedDecisionError
        If a decision was not logged before: no probability, no moment, or a later one.
    DecisionShapeError
        If a row lacks what an assignment needs, or a customer has two decisions for one step.
    UnknownChannelError, MissingScriptError
        If a channel is not in the register, or a deployed pair has no script.
    DeploymentConflictError
        If other decisions, validity or scripts are already deployed in this or a later generation.

    Notes
    -----
    Priority is the rank by expected value within channel and org unit; ties by assignment id, a
    missing value last.
    """
    opens, closes = period
    if closes < opens:
        raise UserError(
            f"A deployment cannot be valid from {opens} to {closes}.",
            remedy="Give a period whose last day is not before its first.",
            zh=f"部署有效期不能从 {opens} 到 {closes}，结束日不能早于开始日。",
        )
    engine = engine or DuckDBEngine()
    now = clock.now()
    progress = progress or SilentProgress()
    crash_point("freeze.before_check")
    planned = check_decisions(decisions, campaign_id=campaign_id, now=now, engine=engine)
    crash_point("freeze.checked")
    rows = decisions.num_rows if isinstance(decisions, pa.Table) else decisions.rows
    with progress.task("deploy", total=2 * rows, unit="rows") as task:
        logged = read_decisions(decisions, campaign_id=campaign_id, task=task)
        check_read(logged, decisions, campaign_id=campaign_id, scripts=scripts, engine=engine)
        crash_point("freeze.hashed")
        today = now.astimezone(ZoneInfo(zone)).date()
        content = logged.content_hash
        wanted = Deployment(
            deployment_id=hash_id("deployment", campaign_id, content, generation),
            campaign_id=campaign_id,
            generation=generation,
            content_hash=content,
            terms_hash=_terms_hash(period, scripts),
            planned=planned,
            valid_from=max(today, opens),
            valid_until=closes,
            deployed_at=now,
        )
        crash_point("freeze.before_lock")
        with file_lock(lake.root / ".deployment.lock"):
            crash_point("freeze.locked")
            standing = _find_standing(lake.view(), wanted)
            crash_point("freeze.looked_up")
            if standing is None:
                _require_open(wanted, today)
                _publish(lake, wanted, logged.treated, scripts, clock)
        task.advance(rows)
    crash_point("freeze.published")
    return standing or wanted


def list_deployments(view: LakeView, campaign_id: str | None = None) -> tuple[Deployment, ...]:
    """Return the deployments of one campaign, or of all, oldest first."""
    rows = [
        row for snapshot in view.upto(REGISTER, date.max) for row in snapshot.read().to_pylist()
    ]
    deployments = [Deployment(**row) for row in rows]
    wanted = [d for d in deployments if campaign_id in (None, d.campaign_id)]
    return tuple(sorted(wanted, key=lambda d: (d.deployed_at, d.deployment_id)))


def find_deployment(view: LakeView, deployment_id: str) -> Deployment | None:
    """Return the deployment of that id, or None if the lake has none."""
    found = [d for d in list_deployments(view) if d.deployment_id == deployment_id]
    return found[0] if found else None


def get_deployment(view: LakeView, deployment_id: str) -> Deployment:
    """Return the deployment of that id.

    Raises
    ------
    DeploymentNotFoundError
        If there is none; the message lists the newest ones.
    """
    found = find_deployment(view, deployment_id)
    if found is None:
        newest = ", ".join(d.deployment_id for d in list_deployments(view)[-5:]) or "none"
        raise DeploymentNotFoundError(
            f"The lake has no deployment '{deployment_id}' (newest: {newest}).",
            remedy="Deploy the campaign first, or choose one of the ids named.",
            zh=f"数据湖中没有部署 {deployment_id}(最近的:{newest})。请先部署方案,或选用已有编号。",
        )
    return found


def _find_standing(view: LakeView, wanted: Deployment) -> Deployment | None:
    """Return the deployment that is already there; refuse one that contradicts it."""
    earlier = list_deployments(view, wanted.campaign_id)
    for standing in earlier:
        if standing.deployment_id == wanted.deployment_id:
            if standing.terms_hash != wanted.terms_hash:
                raise _conflict(standing, "with other validity or scripts")
            return standing
    for standing in earlier:
        if standing.generation >= wanted.generation:
            raise _conflict(standing, "with other decisions")
    return None


def _conflict(standing: Deployment, what: str) -> DeploymentConflictError:
    return DeploymentConflictError(
        f"Campaign '{standing.campaign_id}' is already deployed {what} "
        f"(deployment {standing.deployment_id}, generation {standing.generation}, "
        f"{standing.planned} assignments).",
        remedy=f"To deploy anew beside it, give generation {standing.generation + 1}.",
        zh=f"方案 {standing.campaign_id} 已有内容不同的部署(部署 {standing.deployment_id},"
        f"第 {standing.generation} 代,{standing.planned} 条)。"
        f"如确需重新部署,请使用代次 {standing.generation + 1}。",
    )


def _publish(
    lake: Lake,
    wanted: Deployment,
    treated: Treated,
    scripts: Mapping[tuple[str, str], str],
    clock: Clock,
) -> None:
    day = wanted.valid_from
    lineage = {"campaign_id": wanted.campaign_id, "content_hash": wanted.content_hash}
    with lake.publication(clock) as publication:
        with publication.folder(wanted.table, day, lineage=lineage) as folder:
            ranked = rank(treated, wanted)
            crash_point("freeze.ranked")
            written = write_parts(ranked, wanted, scripts, folder)
        if written != wanted.planned:
            raise DefectError(f"{wanted.planned} assignments planned, {written} written.")
        crash_point("freeze.parts_written")
        publication.add(REGISTER, day, _register_rows(lake.view(), wanted, day))
        crash_point("freeze.registered")


def _register_rows(view: LakeView, wanted: Deployment, day: date) -> pa.Table:
    row = {name: getattr(wanted, name) for name in _REGISTER_SCHEMA.names}
    added = pa.Table.from_pylist([row], schema=_REGISTER_SCHEMA)
    today = view.find(REGISTER, day)
    return added if today is None else pa.concat_tables([today.read(), added])


def _require_open(wanted: Deployment, today: date) -> None:
    if wanted.valid_until < today:
        raise UserError(
            f"Campaign '{wanted.campaign_id}' ended on {wanted.valid_until}.",
            remedy="Give it a new period before it is deployed.",
            zh=f"方案 {wanted.campaign_id} 已于 {wanted.valid_until} 结束，请先修改有效期。",
        )


def _terms_hash(period: tuple[date, date], scripts: Mapping[tuple[str, str], str]) -> str:
    named = {canonical_json(list(pair)): script for pair, script in scripts.items()}
    return hash_id("terms", [str(day) for day in period], named)
