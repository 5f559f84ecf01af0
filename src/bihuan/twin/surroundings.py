"""The rest of an operator around real customers: units, contacts, lists, complaints, all simulated.

A public customer file has customers and bills but no city, no earlier contact and nobody on a
list. The twin supplies what is missing, says so in the lineage, and knows how these customers will
react.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import parse_one

from bihuan.data import Engine, Lake, Publication, TableContract
from bihuan.kernel import Clock, random_stream
from bihuan.twin.organisation import CITIES, CITY_WEIGHTS, in_contract, organisation_tables
from bihuan.twin.truth import Truth, draw_truth

N_CITIES = 6

# Month-to-month contracts, fibre, high fees and short tenure go with leaving in the real file;
# the simulated reaction keeps that order so that a model learnt there has something to say.
_LEAVE_LOGIT = """
select s.customer_id,
       -1.9 + 1.3 * max(case when s.contract_kind = 'month_to_month' then 1 else 0 end)
            - 1.1 * max(case when s.contract_kind = 'two_year' then 1 else 0 end)
            - 0.028 * max(s.tenure_months)
            + 0.007 * sum(s.monthly_fee)
            + 0.5 * max(case when a.payment_method = 'electronic_check' then 1 else 0 end)
            as leave_logit
from subscription s join account a on a.account_id = s.account_id
where not coalesce(s.left_in_month, false)
group by s.customer_id
"""


def surround_customers(
    lake: Lake,
    as_of: date,
    contracts: Mapping[str, TableContract],
    *,
    seed: int,
    clock: Clock,
) -> None:
    """Publish the simulated part of an operator around the customers in the lake.

    Adds city and org unit to ``customer`` and publishes ``org_unit``, ``staff``, ``channel``,
    ``contact`` and ``ticket`` (three months), ``customer_list`` and ``opt_out``.

    Parameters
    ----------
    lake
        Holds ``customer`` at ``as_of``; its other columns stay as they are.
    as_of
        Snapshot date of the customers.
    contracts
        The built-in table contracts.
    seed
        The twin's seed.
    clock
        Moment of publication.
    """
    customers = lake.view().get("customer", as_of)
    rows = customers.read().sort_by("customer_id")
    ids = rows["customer_id"].combine_chunks()
    rng = random_stream(seed, "surroundings")
    weights = CITY_WEIGHTS[:N_CITIES] / CITY_WEIGHTS[:N_CITIES].sum()
    city = pa.array([code for code, _, _ in CITIES]).take(
        pa.array(rng.choice(N_CITIES, len(ids), p=weights))
    )
    unit = pc.binary_join_element_wise("city", city, "-")
    rows = rows.set_column(rows.column_names.index("city_code"), "city_code", city)
    rows = rows.set_column(rows.column_names.index("org_unit_id"), "org_unit_id", unit)
    lineage = {"source": "twin", "seed": seed, "around": customers.id}
    with lake.publication(clock) as publication:
        publication.add("customer", as_of, rows, lineage=lineage)
        for name, table in organisation_tables(contracts).items():
            if name != "product":
                publication.add(name, as_of, table, lineage=lineage)
        _add_lists(publication, ids, as_of, contracts, rng, lineage)
        for months_back in range(3):
            _add_contacts(publication, ids, _months_before(as_of, months_back), contracts, rng,
                          lineage)  # fmt: skip


def draw_reaction(
    lake: Lake, as_of: date, offer_ids: tuple[str, ...], *, engine: Engine, seed: int
) -> Truth:
    """Draw how the customers still there at ``as_of`` will react.

    Parameters
    ----------
    lake
        Holds ``subscription`` and ``account`` at ``as_of``.
    as_of
        Snapshot date.
    offer_ids
        Offers that may be made.
    engine, seed
        Where to compute; what everything hangs on.
    """
    view = lake.view()
    sources = {name: view.get(name, as_of) for name in ("subscription", "account")}
    query = parse_one(_LEAVE_LOGIT, dialect="duckdb")
    rows = engine.query(query, sources)  # type: ignore[arg-type] # a SELECT parses to a Query
    logit = rows["leave_logit"].to_numpy().astype(np.float64)
    return draw_truth(rows["customer_id"].to_pylist(), logit, offer_ids, seed=seed)


def publish_next_month(
    lake: Lake, left: pa.Table, as_of: date, next_as_of: date, *, clock: Clock
) -> None:
    """Publish next month's ``subscription``: who was still there, with who has left since.

    Parameters
    ----------
    lake
        Holds ``subscription`` at ``as_of``.
    left
        ``customer_id`` and ``left_in_month``, from :func:`next_month`.
    as_of, next_as_of
        Dates of the two snapshots.
    clock
        Moment of publication.
    """
    before = lake.view().get("subscription", as_of)
    rows = before.read()
    fate = dict(
        zip(left["customer_id"].to_pylist(), left["left_in_month"].to_pylist(), strict=True)
    )
    stays = [customer in fate for customer in rows["customer_id"].to_pylist()]
    rows = rows.filter(pa.array(stays))
    gone = pa.array([fate[customer] for customer in rows["customer_id"].to_pylist()])
    status = pc.if_else(gone, "disconnected", rows["status"])
    for name, column in (("left_in_month", gone), ("status", status)):
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), column)
    with lake.publication(clock) as publication:
        publication.add(
            "subscription", next_as_of, rows, lineage={"source": "twin", "after": before.id}
        )


def next_month_end(day: date) -> date:
    """Return the last day of the month after the one of ``day``."""
    return (day.replace(day=1) + timedelta(days=63)).replace(day=1) - timedelta(days=1)


def _months_before(day: date, months: int) -> date:
    for _ in range(months):
        day = day.replace(day=1) - timedelta(days=1)
    return day


def _add_lists(
    publication: Publication,
    ids: pa.Array,
    as_of: date,
    contracts: Mapping[str, TableContract],
    rng: np.random.Generator,
    lineage: Mapping[str, object],
) -> None:
    listed = np.flatnonzero(rng.random(len(ids)) < 0.02)
    refused = np.flatnonzero(rng.random(len(ids)) < 0.03)
    kinds = np.where(rng.random(len(listed)) < 0.4, "red", "black").tolist()
    tables = {
        "customer_list": {
            "customer_id": ids.take(pa.array(listed)),
            "list_kind": kinds,
            "since": [as_of] * len(listed),
        },
        "opt_out": {
            "customer_id": ids.take(pa.array(refused)),
            "kind": ["no_marketing"] * len(refused),
            "channel": ["all"] * len(refused),
            "since": [as_of] * len(refused),
            "source": ["sms_reply"] * len(refused),
        },
    }
    for name, columns in tables.items():
        publication.add(name, as_of, in_contract(contracts[name], columns), lineage=lineage)


def _add_contacts(
    publication: Publication,
    ids: pa.Array,
    as_of: date,
    contracts: Mapping[str, TableContract],
    rng: np.random.Generator,
    lineage: Mapping[str, object],
) -> None:
    noon = datetime(as_of.year, as_of.month, 15, 4, tzinfo=UTC)
    contacted = np.flatnonzero(rng.random(len(ids)) < 0.06)
    complaining = np.flatnonzero(rng.random(len(ids)) < 0.04)
    success = rng.random(len(contacted)) < 0.15
    who, complainers = ids.take(pa.array(contacted)), ids.take(pa.array(complaining))
    tables = {
        "contact": {
            "contact_id": pc.binary_join_element_wise(f"k{as_of:%Y%m}", who, "-"),
            "customer_id": who,
            "campaign_id": [f"routine-{as_of:%Y-%m}"] * len(who),
            "channel": ["outbound"] * len(who),
            "contacted_at": [noon] * len(who),
            "result": np.where(success, "accepted", "refused").tolist(),
            "is_success": success,
        },
        "ticket": {
            "ticket_id": pc.binary_join_element_wise(f"t{as_of:%Y%m}", complainers, "-"),
            "customer_id": complainers,
            "kind": ["complaint"] * len(complainers),
            "severity": rng.integers(1, 6, len(complainers)),
            "opened_at": [noon] * len(complainers),
        },
    }
    for name, columns in tables.items():
        publication.add(name, as_of, in_contract(contracts[name], columns), lineage=lineage)
