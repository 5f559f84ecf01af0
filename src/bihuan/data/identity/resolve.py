"""Find the links, group the customers, list what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.data.engine import Engine, Source
from bihuan.data.identity.index import IdentityError, IdentityIndex
from bihuan.data.identity.rule import STANDARD_RULES, LinkRule, conflicts
from bihuan.data.lake import Lake, LakeView
from bihuan.kernel import Clock

MAX_SHARE = 50
MAX_GROUP = 200


def resolve_identity(
    view: LakeView,
    as_of: date,
    engine: Engine,
    rules: Sequence[LinkRule] | None = None,
    max_share: int = MAX_SHARE,
    max_group: int = MAX_GROUP,
) -> IdentityIndex:
    """Find out who is who, and group the customers who belong together.

    Parameters
    ----------
    view
        The lake as seen by the caller; ``customer`` is needed, ``account`` and ``subscription``
        are used where they are there.
    as_of
        Snapshot date.
    engine
        Runs the queries.
    rules
        Reasons to group, from the most to the least trusted; None takes :data:`STANDARD_RULES`.
        The same rules over the same snapshots give the same groups, whatever was resolved before.
    max_share
        A value shared by more customers than this links nobody and is reported: a shop's address
        must not make a household of strangers.
    max_group
        Where links chain into a larger group, those of the least trusted rule in it are left out
        and reported, rule by rule, until it is small enough.

    Raises
    ------
    SnapshotNotFoundError
        If there is no ``customer`` snapshot at ``as_of``.
    IdentityError
        If two rules have one name.

    Notes
    -----
    Connected components of the graph that joins customers to the values they share, so the work
    grows with the links and not with the pairs.
    """
    chosen = STANDARD_RULES if rules is None else tuple(rules)
    if len({rule.name for rule in chosen}) != len(chosen):
        raise IdentityError(
            "Two link rules have one name.",
            remedy="Name every rule differently.",
            zh="关联规则重名，请使用不同的名称。",
        )
    snapshots = {"customer": view.get("customer", as_of)}
    for table in ("account", "subscription", *(t for rule in chosen for t in rule.tables)):
        found = view.find(table, as_of)
        if found is not None:
            snapshots[table] = found
    nothing = {table: _nothing(table) for table in _COLUMNS}
    sources: dict[str, Source] = {**nothing, **snapshots}
    ids = engine.query(_customers(), sources).column("customer_id").combine_chunks()
    links, too_many = _links(engine, sources, chosen, max_share)
    group, kept, too_large = _group(ids, links, [rule.name for rule in chosen], max_group)
    return IdentityIndex(
        as_of=as_of,
        subscriptions=engine.query(_subscriptions(), sources),
        accounts=engine.query(_accounts(), sources),
        groups=_group_table(engine, ids, group),
        links=kept,
        ignored=pa.concat_tables([too_many, too_large]),
        conflicts=engine.query(conflicts().order_by("number", "service"), sources),
        snapshot_ids=tuple(sorted({snapshot.id for snapshot in snapshots.values()})),
    )


def publish_identity(index: IdentityIndex, lake: Lake, clock: Clock) -> None:
    """Publish groups, links, ignored values and conflicts as lake tables, all together.

    The tables are ``identity__group``, ``identity__link``, ``identity__ignored`` and
    ``identity__conflict``.
    """
    lineage = {"snapshots": list(index.snapshot_ids)}
    with lake.publication(clock) as publication:
        for name, rows in (
            ("group", index.groups),
            ("link", index.links),
            ("ignored", index.ignored),
            ("conflict", index.conflicts),
        ):
            publication.add(f"identity__{name}", index.as_of, rows, lineage=lineage)


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "account": ("account_id", "customer_id"),
    "subscription": (
        "subscription_id", "number", "service", "status", "account_id", "customer_id", "address_id",
    ),
}  # fmt: skip


def _nothing(table: str) -> pa.Table:
    """Return a table without rows; made when it is needed, for pyarrow then looks for pandas."""
    return pa.schema([(name, pa.string()) for name in _COLUMNS[table]]).empty_table()


def _customers() -> exp.Query:
    one = [
        exp.select("customer_id").from_(table) for table in ("customer", "account", "subscription")
    ]
    everyone = exp.union(exp.union(one[0], one[1]), one[2])
    known = exp.not_(exp.Is(this=exp.column("customer_id"), expression=exp.null()))
    return (
        exp.select("customer_id").from_(everyone.subquery("e")).where(known).order_by("customer_id")
    )


def _accounts() -> exp.Select:
    return exp.select("account_id", "customer_id").from_("account").order_by("account_id")


def _subscriptions() -> exp.Select:
    own = ("subscription_id", "number", "service", "status", "account_id", "customer_id")
    return (
        exp.select(
            *(exp.column(name, table="s") for name in own),
            exp.column("customer_id", table="a").as_("payer_customer_id"),
        )
        .from_(exp.to_table("subscription").as_("s"))
        .join(
            exp.to_table("account").as_("a"),
            on=exp.column("account_id", table="s").eq(exp.column("account_id", table="a")),
            join_type="left",
        )
        .order_by(exp.column("subscription_id", table="s"))
    )


_LINKS = pa.schema([(name, pa.string()) for name in ("rule", "value", "customer_id")])
_IGNORED = pa.schema(
    [
        ("rule", pa.string()),
        ("value", pa.string()),
        ("customers", pa.int64()),
        ("reason", pa.string()),
    ]
)


def _links(
    engine: Engine, sources: Mapping[str, Source], rules: Sequence[LinkRule], max_share: int
) -> tuple[pa.Table, pa.Table]:
    """Run the rules; return the links of shared values, and the values that too many share."""
    links, ignored = [_LINKS.empty_table()], [_IGNORED.empty_table()]
    for rule in rules:
        if not set(rule.tables) <= set(sources):
            continue
        query = (
            exp.select(
                "value",
                "customer_id",
                exp.Window(this=exp.Count(this=exp.Star()), partition_by=[exp.column("value")]).as_(
                    "customers"
                ),
            )
            .from_(
                exp.select("value", "customer_id")
                .distinct()
                .from_(rule.query().subquery("found"))
                .subquery("pairs")
            )
            .where("value IS NOT NULL AND customer_id IS NOT NULL")
        )
        shared = exp.select("*").from_(query.subquery("counted")).where(exp.column("customers") > 1)
        rows = engine.query(shared.order_by("value", "customer_id"), sources)
        name = pa.array([rule.name] * rows.num_rows, pa.string())
        rows = rows.append_column("rule", name)
        few = pc.less_equal(rows.column("customers"), max_share)
        links.append(rows.filter(few).select(_LINKS.names).cast(_LINKS))
        many = rows.filter(pc.invert(few)).group_by(["rule", "value"])
        ignored.append(_ignored(many.aggregate([("customers", "max")]), "shared_by_too_many"))
    return pa.concat_tables(links), pa.concat_tables(ignored)


def _ignored(values: pa.Table, reason: str) -> pa.Table:
    values = values.rename_columns(["rule", "value", "customers"])
    reasons = pa.array([reason] * values.num_rows, pa.string())
    return values.append_column("reason", reasons).cast(_IGNORED)


def _group(
    ids: pa.Array, links: pa.Table, rules: Sequence[str], max_group: int
) -> tuple[NDArray[np.int64], pa.Table, pa.Table]:
    """Group customers by their links.

    Returns
    -------
    tuple
        Place of the smallest customer of each customer's group, shape ``(n_customers,)``; the
        links used; the values left out because their group grew too large.
    """
    left_out = [_IGNORED.empty_table()]
    names = pa.array(rules, pa.string())
    while True:
        customer = _places(links.column("customer_id"), ids)
        value = _codes(links, ["rule", "value"])
        label = _components(customer, value, len(ids))
        sizes = np.bincount(label, minlength=1)
        trust = _places(links.column("rule"), names)
        weakest = np.full(len(sizes), -1, dtype=np.int64)
        np.maximum.at(weakest, label[customer], trust)
        drop = (sizes[label[customer]] > max_group) & (trust == weakest[label[customer]])
        if not drop.any():
            first = np.unique(label, return_index=True)[1]
            return first[label], links, pa.concat_tables(left_out)
        lost = links.filter(pa.array(drop)).group_by(["rule", "value"])
        left_out.append(_ignored(lost.aggregate([("customer_id", "count")]), "group_too_large"))
        links = links.filter(pa.array(~drop))


def _components(
    customer: NDArray[np.int64], value: NDArray[np.int64], n_customers: int
) -> NDArray[np.int64]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_nodes = n_customers + (int(value.max()) + 1 if len(value) else 0)
    ones = np.ones(len(customer), dtype=np.int8)
    graph = coo_array((ones, (customer, value + n_customers)), shape=(n_nodes, n_nodes))
    _, label = connected_components(graph.tocsr(), directed=False)
    return np.asarray(label[:n_customers], dtype=np.int64)


def _places(values: pa.ChunkedArray, known: pa.Array) -> NDArray[np.int64]:
    places: NDArray[np.int64] = (
        pc.index_in(values, value_set=known).combine_chunks().to_numpy(zero_copy_only=False)
    ).astype(np.int64)
    return places


def _codes(table: pa.Table, names: Sequence[str]) -> NDArray[np.int64]:
    joined = pc.binary_join_element_wise(*(table.column(name) for name in names), "\x1f")
    codes: NDArray[np.int64] = (
        joined.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    )
    return codes


def _group_table(engine: Engine, ids: pa.Array, first: NDArray[np.int64]) -> pa.Table:
    sizes = np.bincount(first, minlength=max(len(ids), 1))[first]
    rows = pa.table(
        {"customer_id": ids, "smallest": pc.take(ids, pa.array(first)), "size": pa.array(sizes)}
    )
    digest = exp.SHA2(this=exp.column("smallest"), length=exp.convert(256))
    short = exp.Substring(this=digest, start=exp.convert(1), length=exp.convert(20))
    query = exp.select("customer_id", short.as_("group_id"), "size").from_("grouped")
    return engine.query(query.order_by("customer_id"), {"grouped": rows})
