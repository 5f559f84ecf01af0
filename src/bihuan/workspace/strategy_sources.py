"""What a workspace's strategy cube is counted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import exp

from bihuan.audience import find_snapshot, standard_suppression, tags_of
from bihuan.data import LakeView, Snapshot, Source
from bihuan.delivery import Deployment, list_deployments
from bihuan.feedback import outcome_snapshots
from bihuan.strategy.cube import CubeSources
from bihuan.tag import TagTable

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

_OVER_LIMIT = {"over_limit": {"zh": "超出容量或预算", "en": "Beyond capacity or budget"}}
_RESPONSES = sqlglot.parse_one(
    """
SELECT assignment.campaign_id, assignment.customer_id, assignment.step,
    BOOL_OR(outcome.stage IN ('delivered', 'connected', 'accepted', 'refused', 'ordered'))
        AS reached,
    BOOL_OR(outcome.stage IN ('accepted', 'ordered')) AS converted
FROM assignment JOIN outcome ON assignment.assignment_id = outcome.assignment_id
GROUP BY assignment.campaign_id, assignment.customer_id, assignment.step
""",
    into=exp.Select,
)


def cube_sources(ws: Workspace, day: date, months: int) -> CubeSources:
    """Gather what a workspace's cube is counted from: tags, offers, decisions, outcomes.

    Parameters
    ----------
    ws
        The workspace.
    day
        Date of the tags.
    months
        Months of decisions, 1 = those of the month of ``day``.
    """
    view, tags = ws.view, ws.tags(day)
    decisions = view.upto("decision", day, months=months)
    logged = [record for s in decisions for record in s.lineage["campaigns"].values()]
    found = [find_snapshot(view, r["audience"]) for r in logged if "audience" in r]
    audiences = tuple(a.stored for a in found if a is not None)
    standard = standard_suppression().exclusions
    gates = [e for e in standard if all(_is_known(tag, tags) for tag in tags_of(e.who))]
    return CubeSources(
        tags=tags,
        catalogue=ws.catalogue,
        decisions=decisions or None,
        stages=merge_stages([record.get("stages", ()) for record in logged]) | _OVER_LIMIT,
        audiences=audiences or None,
        gates={exclusion.name: exclusion.who for exclusion in gates},
        gate_titles={exclusion.name: exclusion.title for exclusion in gates},
        responses=_responses(ws, decisions),
    )


def _responses(ws: Workspace, decisions: Sequence[Snapshot]) -> Source | None:
    view = ws.view
    campaigns = {name for s in decisions for name in s.lineage["campaigns"]}
    newest: dict[str, Deployment] = {}
    for deployment in list_deployments(view):
        if deployment.campaign_id in campaigns:
            newest[deployment.campaign_id] = deployment
    outcomes = tuple(s for d in newest.values() for s in outcome_snapshots(view, d.deployment_id))
    if not outcomes:
        return None
    assignments = tuple(deployment.assignments(view) for deployment in newest.values())
    return ws.engine.query(_RESPONSES, {"assignment": assignments, "outcome": outcomes})


def channel_kinds(view: LakeView, day: date) -> dict[str, str]:
    """Return the kind of each channel of a date by its id; its id where it has none."""
    snapshot = view.find("channel", day)
    if snapshot is None:
        return {}
    rows = snapshot.read(["channel_id", "kind"]).to_pylist()
    return {row["channel_id"]: row["kind"] or row["channel_id"] for row in rows}


def merge_stages(
    funnels: Sequence[Sequence[Mapping[str, Any]]],
) -> dict[str, Mapping[str, str]]:
    """Put the stages of several campaigns' funnels into one order.

    Parameters
    ----------
    funnels
        Per campaign the stages in order, each with ``name`` and ``title``.

    Returns
    -------
    dict[str, Mapping[str, str]]
        Titles by name; a stage comes after those that stand before it in its own funnel, as far
        as the funnels agree.

    Examples
    --------
    >>> a, b, x = ({"name": name, "title": {}} for name in "abx")
    >>> list(merge_stages([[a, b], [x, a]]))
    ['x', 'a', 'b']
    """
    titles: dict[str, Mapping[str, str]] = {}
    before: dict[str, set[str]] = {}
    for funnel in funnels:
        names = [str(stage["name"]) for stage in funnel]
        for number, stage in enumerate(funnel):
            titles[names[number]] = stage["title"]
            before.setdefault(names[number], set()).update(names[:number])
    order: list[str] = []
    while len(order) < len(titles):
        rest = [name for name in titles if name not in order]
        # where funnels contradict each other none is first, and the one met first is taken
        free = (name for name in rest if before[name] <= set(order))
        order.append(next(free, rest[0]))
    return {name: titles[name] for name in order}


def _is_known(tag: str, tags: TagTable) -> bool:
    return tag in tags.fields or tag in tags.pending
