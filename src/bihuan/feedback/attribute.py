"""Closing the loop in the data: what happened becomes contact history and responses.

The rows go into the lake table ``contact``, where the next turn's tags read them. No later room
hands anything back to an earlier one by a call: the loop closes in the data, never in the imports.
"""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import DuckDBEngine, Engine, Lake, Source, load_contracts
from bihuan.delivery import MARKET_ZONE, Deployment
from bihuan.feedback.state import fold_outcomes
from bihuan.feedback.store import outcome_snapshots, some_outcomes, statement
from bihuan.kernel import Clock, DefectError, file_lock

CONTACT = "contact"

# A list that was handed over is not a contact until somebody reports one; a message in doubt may
# have disturbed the customer, so it counts.
_CONTACTS = """
SELECT
    assignment_id AS contact_id,
    customer_id,
    campaign_id,
    channel,
    CAST(NULL AS TEXT) AS staff_id,
    COALESCE(first_contact_at, occurred_at) AS contacted_at,
    CASE
        WHEN state = 'failed' THEN 'not_delivered'
        WHEN state IN ('accepted', 'ordered') THEN 'accepted'
        WHEN state = 'refused' THEN 'refused'
        WHEN state = 'connected' AND ';' || reason || ';' LIKE '%;interested;%' THEN 'interested'
        ELSE 'no_answer'
    END AS result,
    state IN ('accepted', 'ordered') AS is_success,
    LAST_DAY(CAST(COALESCE(first_contact_at, occurred_at) AT TIME ZONE :zone AS DATE)) AS as_of
FROM state
WHERE state IN ('delivered', 'failed', 'connected', 'accepted', 'refused', 'ordered')
    OR (state = 'unknown' AND COALESCE(reason, '') <> 'listed')
ORDER BY contact_id
"""
_RESPONSES = """
SELECT
    customer.customer_id,
    CAST(CASE WHEN answered.customer_id IS NULL THEN 0 ELSE 1 END AS DOUBLE) AS response,
    CAST(COALESCE(answered.amount, 0) AS DOUBLE) AS amount
FROM (SELECT DISTINCT customer_id FROM customer) AS customer
LEFT JOIN (
    SELECT customer_id, SUM(amount) AS amount FROM positive GROUP BY customer_id
) AS answered ON customer.customer_id = answered.customer_id
ORDER BY customer.customer_id
"""


def contact_rows(
    states: pa.Table, *, zone: str = MARKET_ZONE, engine: Engine | None = None
) -> pa.Table:
    """Turn states into contact history.

    Parameters
    ----------
    states
        From :func:`fold_outcomes`.
    zone
        Zone in which months end.
    engine
        DuckDB by default.

    Returns
    -------
    pyarrow.Table
        Columns of the ``contact`` contract and ``as_of``, the last day of the month of contact.
        One row for each assignment that reached or may have reached the customer; ``contact_id``
        is the assignment's id. Suppressed, expired and pending assignments, and lists of which
        nothing was reported, are no contacts.
    """
    engine = engine or DuckDBEngine()
    return engine.query(statement(_CONTACTS, zone=zone), {"state": states})


def publish_contacts(
    lake: Lake,
    deployment: Deployment,
    *,
    clock: Clock,
    zone: str = MARKET_ZONE,
    engine: Engine | None = None,
) -> dict[date, int]:
    """Write a deployment's contacts into the lake table ``contact``, month by month.

    Rows of other origin in the same months stay; the deployment's own are replaced, so calling it
    again after more outcomes have come brings the history up to date. All months are published
    together.

    Parameters
    ----------
    lake
        Holds assignments and outcomes, and takes the contacts.
    deployment
        Whose contacts.
    clock
        Now.
    zone
        Zone in which days and months end.
    engine
        DuckDB by default.

    Returns
    -------
    dict[datetime.date, int]
        Contacts of the deployment by snapshot date (month end).
    """
    engine = engine or DuckDBEngine()
    schema = load_contracts()[CONTACT].schema
    with file_lock(lake.root / ".contact.lock"):
        view = lake.view()
        states = fold_outcomes(
            deployment.assignments(view),
            outcome_snapshots(view, deployment.deployment_id),
            today=clock.now().astimezone(ZoneInfo(zone)).date(),
            engine=engine,
        )
        contacts = contact_rows(states, zone=zone, engine=engine)
        months = set(pc.unique(contacts["as_of"]).to_pylist())
        # A late report may have moved a contact to an earlier month, so every month in which it
        # may have stood is written again.
        since = deployment.valid_from.replace(day=1)
        months |= {day for day in view.dates(CONTACT) if day >= since}
        if not months:
            return {}
        counts: dict[date, int] = {}
        with lake.publication(clock) as publication:
            for month in sorted(months):
                mine = contacts.filter(pc.equal(contacts["as_of"], month))
                counts[month] = mine.num_rows
                rows = mine.select(schema.names).cast(schema)
                standing = view.find(CONTACT, month)
                if standing is not None:
                    others = _without(standing.read(), contacts["contact_id"])
                    rows = pa.concat_tables([_as(others, schema), rows])
                lineage = {"deployment": deployment.deployment_id}
                publication.add(CONTACT, month, rows, lineage=lineage)
    return {month: count for month, count in counts.items() if count}


def response_by_customer(
    customers: pa.Table,
    outcomes: Source | None = None,
    *,
    orders: pa.Table | None = None,
    stages: tuple[str, ...] = ("accepted", "ordered"),
    engine: Engine | None = None,
) -> pa.Table:
    """Return what each customer of a decision did, for the comparison of the arms.

    Give ``orders`` wherever customers can respond without being contacted: an effect is only
    fair if both arms are measured in the same way, and outcomes exist for the contacted alone.

    Parameters
    ----------
    customers
        ``customer_id`` of everybody decided upon, both arms; repeats count once.
    outcomes
        Rows of the ``outcome`` contract; used only without ``orders``.
    orders
        ``customer_id`` and ``amount`` (workspace's currency) of every response in the period,
        contacted or not, from the order system.
    stages
        Outcome stages that count as a response.
    engine
        DuckDB by default.

    Returns
    -------
    pyarrow.Table
        ``customer_id``, ``response`` (1.0 or 0.0) and ``amount`` (float64, sum, workspace's
        currency), one row per customer, by id. A customer without a row in the source is 0: not
        missing, because the source is the whole of the responses.
    """
    engine = engine or DuckDBEngine()
    if (outcomes is None) == (orders is None):
        raise DefectError("Responses come from outcomes or from orders, one of the two.")
    positive: Source = orders if orders is not None else _positive(outcomes, stages, engine)
    sources = {"customer": customers.select(["customer_id"]), "positive": positive}
    return engine.query(statement(_RESPONSES), sources)


def _positive(outcomes: Source | None, stages: tuple[str, ...], engine: Engine) -> pa.Table:
    query = statement(
        "SELECT customer_id, amount FROM outcome JOIN wanted ON outcome.stage = wanted.stage"
    )
    wanted = pa.table({"stage": pa.array(stages, pa.string())})
    return engine.query(query, {"outcome": some_outcomes(outcomes or ()), "wanted": wanted})


def _without(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["contact_id"], value_set=ids)))


def _as(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows of another origin in the contract's columns; absent ones are missing."""
    columns = {
        field.name: rows[field.name]
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    }
    return pa.table(columns).cast(schema)
