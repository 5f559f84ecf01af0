"""Plan lists that users load, matched with the plans and products that numbers hold.

A tag reads one source, and a plan list says something of products, not of customers. The match
between the two is stored as a table of its own, ``listed_plan``, from which tags are derived.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from sqlglot import exp, parse_one

from bihuan.data import Engine, Lake, LakeView, Snapshot, Source, TableContract
from bihuan.kernel import Clock, hash_id

_MAIN = """
select s.subscription_id, l.list_kind, l.product_id, s.customer_id, true as is_main_plan
from subscription s join plan_list l on l.product_id = s.product_id
where s.status <> 'disconnected'
"""
_HELD = """
select h.subscription_id, l.list_kind, l.product_id, h.customer_id, false as is_main_plan
from holding h join plan_list l on l.product_id = h.product_id
where h.status = 'active'
"""


def match_plan_lists(
    lake: Lake,
    as_of: date,
    *,
    engine: Engine,
    clock: Clock,
    contracts: Mapping[str, TableContract],
) -> Snapshot | None:
    """Publish which numbers stand on which plan list at a date, as ``listed_plan``.

    A number is on a list if its main plan or a product that it holds is; a number that has left is
    on none. The lists in force are the newest up to ``as_of``. Where neither the lists nor the
    numbers have changed since the last match, nothing is published.

    Parameters
    ----------
    lake
        Holds ``subscription`` at ``as_of``, perhaps ``holding``, and ``plan_list`` of any date up
        to it.
    as_of
        For when.
    engine
        Runs the match.
    clock
        Stamps the publication.
    contracts
        By table name.

    Returns
    -------
    Snapshot or None
        The match; None if there is no plan list up to ``as_of`` or no ``subscription`` at it.
    """
    view = lake.view()
    sources = _sources(view, as_of)
    if sources is None:
        return None
    lineage: dict[str, Any] = {
        "kind": "match",
        "fingerprint": hash_id("listed_plan", 1, sorted(s.id for s in sources.values())),
        "sources": {name: snapshot.id for name, snapshot in sources.items()},
    }
    current = view.find("listed_plan", as_of)
    if current is not None and current.lineage.get("fingerprint") == lineage["fingerprint"]:
        return current
    given: dict[str, Source] = dict(sources)
    with lake.publication(clock) as publication:
        rows = engine.query(_query("holding" in sources), given)
        table = rows.cast(contracts["listed_plan"].schema)
        publication.add("listed_plan", as_of, table, lineage=lineage)
    return lake.view().get("listed_plan", as_of)


def _sources(view: LakeView, as_of: date) -> dict[str, Snapshot] | None:
    lists, numbers = view.upto("plan_list", as_of), view.find("subscription", as_of)
    if not lists or numbers is None:
        return None
    sources = {"plan_list": lists[-1], "subscription": numbers}
    if holding := view.find("holding", as_of):
        sources["holding"] = holding
    return sources


def _query(with_holding: bool) -> exp.Query:
    """Match main plans, and held products if there are any; a plan that is both counts once."""
    parts = [_MAIN, _HELD] if with_holding else [_MAIN]
    tree = parse_one(
        "select subscription_id, list_kind, product_id, min(customer_id) as customer_id, "
        "bool_or(is_main_plan) as is_main_plan from matched "
        "group by subscription_id, list_kind, product_id "
        "order by subscription_id, list_kind, product_id",
        dialect="duckdb",
    )
    matched = parse_one(" union all ".join(parts), dialect="duckdb")
    return tree.with_("matched", as_=matched)  # type: ignore[no-any-return,attr-defined]
