"""What a rehearsal needs of the lake: earlier contacts, live campaigns, groups, base rates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlglot import exp, parse_one

from bihuan.data import LakeView, Source
from bihuan.decision.rehearsal import PastContacts
from bihuan.delivery import MARKET_ZONE, Deployment, list_deployments
from bihuan.feedback import fold_outcomes, read_outcomes
from bihuan.kernel import DefectError
from bihuan.step.rehearse_terms import Trait
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign
from bihuan.tag import TagTable

MOST_DEPLOYMENTS = 24  # the newest; older ones say little of today
ROUTINE_MONTHS = 12
_TRIED = """
select campaign_id, offer_id, channel, count(*) as contacts,
       count(*) filter (where state in ('accepted', 'ordered')) as accepted,
       count(*) filter (where state = 'ordered') as ordered
from state
where state in ('failed', 'delivered', 'connected', 'accepted', 'refused', 'ordered')
group by campaign_id, offer_id, channel order by campaign_id, offer_id, channel
"""
_ROUTINE = """
select coalesce(contact.campaign_id, '') as campaign_id, channel, count(*) as contacts,
       count(*) filter (where is_success) as accepted
from contact left join known on contact.campaign_id = known.campaign_id
where known.campaign_id is null
  and cast(contacted_at at time zone :zone as date) < cast(:before as date)
group by 1, 2 order by max(contacted_at), 1, 2
"""
_LIVE = """
select distinct decision.campaign_id, customer_id, arm, channel, org_unit_id
from decision join known on decision.campaign_id = known.campaign_id
where arm in ('treatment', 'control')
"""
_PAST = """
select customer_id, day from (
    select campaign_id, customer_id, cast(contacted_at at time zone :zone as date) as day
    from contact
) where day >= cast(:first as date) and day <= cast(:start as date)
union all
select live.customer_id, cast(:start as date) as day
from live left join (select distinct campaign_id, customer_id from contact) as made
  on live.campaign_id = made.campaign_id and live.customer_id = made.customer_id
where live.arm = 'treatment' and made.customer_id is null
"""
_RETAINED = """
select customer_id, max(case when coalesce(left_in_month, false) then 0.0 else 1.0 end) as response
from subscription where status <> 'disconnected' or coalesce(left_in_month, false)
group by customer_id
"""
_BILLED = "select customer_id, cast(sum(amount) as double) as response from bill group by 1"
_CONTACT = pa.schema(
    [("customer_id", pa.string()), ("campaign_id", pa.string()), ("channel", pa.string()),
     ("contacted_at", pa.timestamp("us", "UTC")), ("is_success", pa.bool_())]
)  # fmt: skip
_LIVE_SCHEMA = pa.schema(
    [("campaign_id", pa.string()), ("customer_id", pa.string()), ("arm", pa.string()),
     ("channel", pa.string()), ("org_unit_id", pa.string())]
)  # fmt: skip
SHORT_TEXTS = 60  # a tag with more values is no group


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """Other campaigns of the same time.

    Parameters
    ----------
    rows
        ``campaign_id``, ``customer_id``, ``arm``, ``channel``, ``org_unit_id``.
    periods
        First and last day by campaign id.
    """

    rows: pa.Table
    periods: Mapping[str, tuple[date, date]]


def read_history(rooms: Rooms, before: date) -> tuple[PastContacts, ...]:
    """Return what earlier contacts have brought, oldest first.

    Parameters
    ----------
    rooms
        The operator.
    before
        Contacts before this day count; of deployments, those that had ended by then and by
        today, because of the others too little is known yet.

    Returns
    -------
    tuple of PastContacts
        Of ended deployments by offer and channel; of other contacts on record by channel alone.
    """
    view = rooms.lake.view()
    today = rooms.clock.now().astimezone(ZoneInfo(MARKET_ZONE)).date()
    deployments = list_deployments(view)
    ended = [d for d in deployments if d.valid_until < min(before, today)]
    found = []
    for deployment in ended[-MOST_DEPLOYMENTS:]:
        found += _tried(rooms, view, deployment, today)
    routine = rooms.engine.query(
        _query(_ROUTINE, zone=MARKET_ZONE, before=before.isoformat()),
        {
            "contact": _contacts(view, before, ROUTINE_MONTHS),
            "known": _names({d.campaign_id for d in deployments}),
        },
    )
    old = [
        PastContacts(r["campaign_id"], "", r["channel"], r["contacts"], r["accepted"], 0)
        for r in routine.to_pylist()
    ]
    return (*old, *found)


def _tried(rooms: Rooms, view: LakeView, deployment: Deployment, today: date) -> list[PastContacts]:
    states = fold_outcomes(
        deployment.assignments(view),
        read_outcomes(view, deployment.deployment_id),
        today=today,
        engine=rooms.engine,
    )
    rows = rooms.engine.query(_query(_TRIED), {"state": states}).to_pylist()
    return [PastContacts(**row) for row in rows]


def read_live(rooms: Rooms, campaign: Campaign, as_of: date) -> Live:
    """Return the customers of campaigns that run at the same time as ``campaign``.

    Parameters
    ----------
    rooms
        The operator.
    campaign
        The one that is rehearsed; its own earlier rows are left out.
    as_of
        Campaigns decided on this date's data count as live, deployed or not.
    """
    view = rooms.lake.view()
    opens, closes = campaign.goal.starts_on, campaign.goal.ends_on
    periods = {
        d.campaign_id: (d.valid_from, d.valid_until)
        for d in list_deployments(view)
        if d.valid_until >= opens and d.valid_from <= closes
    }
    decided = view.find("decision", as_of)
    for name in () if decided is None else decided.lineage.get("campaigns", {}):
        periods.setdefault(name, (opens, closes))
    periods.pop(campaign.campaign_id, None)
    open_names, parts = set(periods), [_LIVE_SCHEMA.empty_table()]
    for day in reversed(view.dates("decision")):
        snapshot = view.get("decision", day)
        here = open_names & set(snapshot.lineage.get("campaigns", {}))
        if here:
            sources: dict[str, Source] = {"decision": snapshot, "known": _names(here)}
            parts.append(rooms.engine.query(_query(_LIVE), sources).cast(_LIVE_SCHEMA))
            open_names -= here
    return Live(pa.concat_tables(parts), periods)


def live_load(
    live: Live, days: Sequence[date], *, scale: float = 1.0
) -> dict[tuple[date, str, str | None], float]:
    """Spread the contacts of live campaigns evenly over their days, by channel and unit.

    Parameters
    ----------
    live
        The campaigns.
    days
        Days of interest.
    scale
        Factor on every number.
    """
    rows = live.rows.filter(pc.equal(live.rows["arm"], "treatment"))
    groups = rows.group_by(["campaign_id", "channel", "org_unit_id"]).aggregate([([], "count_all")])
    load: dict[tuple[date, str, str | None], float] = {}
    for row in groups.to_pylist():
        first, last = live.periods[row["campaign_id"]]
        share = scale * row["count_all"] / ((last - first).days + 1)
        for day in days:
            if first <= day <= last:
                key = (day, row["channel"], row["org_unit_id"])
                load[key] = load.get(key, 0.0) + share
    return load


def read_past_contacts(rooms: Rooms, live: Live, starts_on: date, days: int) -> pa.Table:
    """Return ``customer_id, day``: contacts in the days before a start, and those to come.

    Parameters
    ----------
    rooms
        The operator.
    live
        Contacts that live campaigns have planned and not made yet count as made at the start.
    starts_on, days
        End and length of the window.
    """
    first = starts_on - timedelta(days=days)
    view = rooms.lake.view()
    return rooms.engine.query(
        _query(_PAST, zone=MARKET_ZONE, first=first.isoformat(), start=starts_on.isoformat()),
        {"contact": _contacts(view, starts_on, days // 28 + 2), "live": live.rows},
    )


def read_groups(
    rooms: Rooms, tags: TagTable, traits: Sequence[Trait], ids: pa.Array
) -> dict[str, pa.Array]:
    """Return the group of each customer by trait, as text, missing where it is not known.

    Parameters
    ----------
    rooms, tags
        Where the tags are.
    traits
        Those whose tag is not derived at the date are left out, and those with too many values.
    ids
        Customers, shape ``(n,)``.
    """
    wanted = [trait for trait in traits if trait.tag in tags.versions]
    if not wanted:
        return {}
    rows = tags.read(rooms.engine, sorted({trait.tag for trait in wanted}))
    at = pc.index_in(ids, value_set=rows[tags.id_column])
    found = {}
    for trait in wanted:
        column = rows[trait.tag].take(at).combine_chunks()
        labels = _bands(column, trait.edges) if trait.edges else column.cast(pa.string())
        if len(pc.unique(labels)) <= SHORT_TEXTS:
            found[trait.tag] = labels
    return found


def read_response(
    rooms: Rooms, metric: str, ids: pa.Array, as_of: date
) -> NDArray[np.float64] | None:
    """Return last month's metric, NaN = unknown; None if there is no table.

    Parameters
    ----------
    rooms
        The operator.
    metric
        ``revenue``: of each of the customers. ``retained``: of everybody who was there when the
        month began, because no audience holds those who have left.
    ids
        Customers, shape ``(n,)``.
    as_of
        Date of the data.
    """
    table, text = ("bill", _BILLED) if metric == "revenue" else ("subscription", _RETAINED)
    snapshot = rooms.lake.view().find(table, as_of)
    if snapshot is None:
        return None
    rows = rooms.engine.query(_query(text), {table: snapshot})
    if metric == "retained":
        return np.asarray(rows["response"].cast(pa.float64()).to_numpy(), dtype=np.float64)
    at = pc.index_in(ids, value_set=rows["customer_id"])
    return np.asarray(rows["response"].cast(pa.float64()).take(at).to_numpy(), dtype=np.float64)


def _bands(column: pa.Array, edges: tuple[float, ...]) -> pa.Array:
    """Return the band of each number as text; missing where the number is."""
    names = [f"<{edges[0]:g}"]
    names += [f"{low:g}–{high:g}" for low, high in itertools.pairwise(edges)]
    names.append(f"≥{edges[-1]:g}")
    numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    band = np.searchsorted(edges, np.nan_to_num(numbers), side="right")
    return pa.array(names, pa.string()).take(pa.array(band, mask=np.isnan(numbers)))


def _contacts(view: LakeView, until: date, months: int) -> Source:
    """Return the contact snapshots of the last months; an empty table where there is none."""
    first = until - timedelta(days=31 * months)
    last = until + timedelta(days=31)  # a month's snapshot is dated at its end
    days = [day for day in view.dates("contact") if first <= day <= last]
    found = tuple(view.get("contact", day) for day in days)
    return found or _CONTACT.empty_table()


def _names(names: set[str]) -> pa.Table:
    return pa.table({"campaign_id": pa.array(sorted(names), pa.string())})


def _query(text: str, **values: str) -> exp.Query:
    tree = exp.replace_placeholders(parse_one(text, dialect="duckdb"), **values)
    if not isinstance(tree, exp.Query):
        raise DefectError("A statement of the rehearsal is no query.")
    return tree
