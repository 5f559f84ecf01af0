"""Building a cube: two queries over tags and decisions, whatever the number of customers.

Customers who are alike in every axis, in what they may be offered and in what is planned for them
become one row with a number. A customer may be offered several businesses through several
channels, so these are kept as bits: one column per business, one bit per channel. Every question
about the cube is then answered exactly, without the customers and without counting any twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import sqlglot
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.audience import Node, tags_of
from bihuan.data import Engine, Snapshot, Source
from bihuan.offer import CATEGORIES, Catalogue, Offer
from bihuan.strategy.cube.axis import CubeError
from bihuan.strategy.cube.counts import Contacts, Groups, Reason
from bihuan.strategy.cube.cube import Cube
from bihuan.strategy.cube.definition import CubeDefinition
from bihuan.strategy.cube.reading import band_bits, band_number, read_rule
from bihuan.tag import TagTable

OUTSIDE, SUPPRESSED, UNKNOWN = "outside_audience", "suppressed", "unknown"
_OTHER: Mapping[str, str] = {"zh": "其他", "en": "Other"}
_MOST_CHANNELS = 60


@dataclass(frozen=True, slots=True, eq=False)
class CubeSources:
    """What a cube is counted from.

    Parameters
    ----------
    tags
        Tag values of all customers at one date.
    catalogue
        The offers; those on sale at that date make business and channel.
    decisions
        Rows of the ``decision`` contract; none if nothing was decided.
    stages
        Reasons that decisions give, with their titles, in the order of the funnel; a customer who
        fell in several campaigns counts where he came furthest.
    audiences
        Ids of the customers in the audience of some campaign (column ``customer_id``).
    gates
        Who is suppressed and why, by reason, strictest first; read for customers in an audience
        of whom no decision tells.
    gate_titles
        Titles of these reasons.
    responses
        What came of contacts: ``campaign_id``, ``customer_id``, ``step``, ``reached`` and
        ``converted`` (boolean), one row per contact.
    """

    tags: TagTable
    catalogue: Catalogue
    decisions: Sequence[Snapshot] | pa.Table | None = None
    stages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    audiences: Source | None = None
    gates: Mapping[str, Node] = field(default_factory=dict)
    gate_titles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    responses: Source | None = None


def build_cube(definition: CubeDefinition, sources: CubeSources, *, engine: Engine) -> Cube:
    """Count a cube.

    Parameters
    ----------
    definition
        Its axes and strategies.
    sources
        Tags, offers, decisions, responses.
    engine
        Runs the queries; nothing is looped over customers.

    Returns
    -------
    Cube
        Counted exactly; a rule on a tag that has no values takes nobody and is named in
        ``left_out``.

    Raises
    ------
    CubeError
        If there are more than 60 channels.
    """
    return _Builder(definition, sources, engine).cube()


class _Builder:
    def __init__(self, definition: CubeDefinition, sources: CubeSources, engine: Engine) -> None:
        self.definition, self.given, self.engine = definition, sources, engine
        self.tags = sources.tags
        self.left_out: dict[str, tuple[str, ...]] = {}
        self.offers = sources.catalogue.on_sale(self.tags.as_of)
        self.decided = _has_rows(sources.decisions)
        pairs = self._pairs_decided()
        self.businesses = _businesses(self.offers, sources.catalogue, pairs)
        self.channels = _channels(self.offers, pairs)
        self.reasons = self._reasons()

    def cube(self) -> Cube:
        relation, tables = self._base()
        groups = self._groups(relation, tables)
        contacts = self._contacts(relation, tables) if self.decided else Contacts.empty(
            [axis.name for axis in self.definition.axes]
        )  # fmt: skip
        return Cube(
            definition=self.definition,
            as_of=self.tags.as_of,
            businesses=self.businesses,
            channels=self.channels,
            reasons=self.reasons,
            groups=groups,
            contacts=contacts,
            left_out=self.left_out,
            versions=self._versions(),
        )

    # what there is to count

    def _pairs_decided(self) -> list[tuple[str, str]]:
        if not self.decided:
            return []
        rows = self._run(_PAIRS, {"decision": self.given.decisions})
        return [(row["offer_id"], row["channel"]) for row in rows.to_pylist()]

    def _reasons(self) -> tuple[Reason, ...]:
        found = [Reason(code, title) for code, title in self.given.stages.items()]
        names = {reason.code for reason in found}
        if self.decided:
            rows = self._run(
                sqlglot.parse_one("SELECT DISTINCT reason FROM decision WHERE reason IS NOT NULL"),
                {"decision": self.given.decisions},
            )
            extra = sorted(set(rows["reason"].to_pylist()) - names)
            found = [*(Reason(code, {"zh": code, "en": code}) for code in extra), *found]
        gates = [
            Reason(code, self.given.gate_titles.get(code, {"zh": code, "en": code}))
            for code in self.given.gates
            if code not in {reason.code for reason in found}
        ]
        last = [
            Reason(SUPPRESSED, {"zh": "降噪剔除", "en": "Suppressed"}),
            Reason(OUTSIDE, {"zh": "不在任何方案的目标群", "en": "In no campaign's audience"}),
            Reason(UNKNOWN, {"zh": "未说明原因", "en": "No reason given"}),
        ]
        return (*found, *gates, *(r for r in last if r.code not in {f.code for f in found}))

    def _base(self) -> tuple[exp.Select, dict[str, Source]]:
        """Build the query of one row per customer: bands, scenes, what may be offered, gate."""
        columns: list[exp.Expr] = []
        used: list[Node] = []
        for number, axis in enumerate(self.definition.axes):
            nodes = [self._read(f"{axis.name}.{band.code}", band.who) for band in axis.bands]
            used += nodes
            value = (
                band_bits([(node, 1 << i) for i, node in enumerate(nodes)], self.tags)
                if axis.shared
                else band_number(nodes, self.tags)
            )
            columns.append(exp.alias_(value, f"axis_{number}", copy=False))
        eligible = {
            offer.offer_id: self._read(f"offer {offer.offer_id}", offer.eligibility)
            for offer in self.offers
        }
        used += eligible.values()
        for number, business in enumerate(self.businesses):
            rules = [
                (eligible[offer.offer_id], self._bits(offer))
                for offer in self.offers
                if offer.category == business
            ]
            columns.append(exp.alias_(band_bits(rules, self.tags), f"can_{number}", copy=False))
        gates = [self._read(f"gate {name}", node) for name, node in self.given.gates.items()]
        used += gates
        columns.append(exp.alias_(band_number(gates, self.tags), "gate", copy=False))
        relation, tables = self.tags.relation(
            sorted({tag for node in used for tag in tags_of(node)})
        )
        identity = exp.column(self.tags.id_column, quoted=True).as_("id")
        return exp.select(identity, *columns).from_(relation.subquery("tagged")), dict(tables)

    def _read(self, what: str, rule: Node) -> Node:
        reading = read_rule(rule, self.tags)
        if reading.pending:
            self.left_out[what] = reading.pending
        return reading.node

    def _bits(self, offer: Offer) -> int:
        return sum(1 << i for i, channel in enumerate(self.channels) if channel in offer.channels)

    # the two queries

    def _groups(self, base: exp.Select, tables: dict[str, Source]) -> Groups:
        n_axes, n_business = len(self.definition.axes), len(self.businesses)
        names = [f"axis_{i}" for i in range(n_axes)] + [f"can_{i}" for i in range(n_business)]
        kept = [exp.column(name, table="base") for name in names]
        rows = exp.select(*kept).from_(base.subquery("base"))
        fell: exp.Expr = exp.Literal.number(self._reason(OUTSIDE))
        sources = dict(tables)
        if self.given.audiences is not None:
            rows = _left_join(rows, _CONSIDERED, "considered")
            sources["audience"] = self.given.audiences
            fell = self._unlucky(fell)
        if self.decided:
            rows = _left_join(rows, self._plans(), "plans")
            sources |= self._decision_tables()
            planned = [_nought(f"plan_{i}") for i in range(n_business)]
            sent = [_nought(f"sent_{i}") for i in range(n_business)]
            fell = (
                exp.case()
                .when(exp.column("is_planned", table="plans"), exp.Neg(this=_number(1)))
                .when(
                    exp.column("id", table="plans").is_(exp.null()).not_(),
                    exp.Coalesce(
                        this=exp.column("fell", table="plans"),
                        expressions=[_number(self._reason(UNKNOWN))],
                    ),
                )
                .else_(fell)
            )
        else:
            planned, sent = ([_number(0)] * n_business for _ in range(2))
        for label, values in (("plan", planned), ("sent", sent)):
            names += [f"{label}_{i}" for i in range(n_business)]
            rows = rows.select(
                *(exp.alias_(v, f"{label}_{i}") for i, v in enumerate(values)), copy=False
            )
        rows = rows.select(exp.alias_(fell, "fell"), copy=False)
        found = self._run(_counted(rows, [*names, "fell"]), sources)
        return Groups(
            axes={
                axis.name: _ints(found, f"axis_{i}") for i, axis in enumerate(self.definition.axes)
            },
            can=_matrix(found, "can", n_business),
            planned=_matrix(found, "plan", n_business),
            sent=_matrix(found, "sent", n_business),
            fell=_ints(found, "fell"),
            size=_ints(found, "size"),
        )

    def _unlucky(self, outside: exp.Expr) -> exp.Expr:
        """Say why a customer in some audience has no decision: the gate that holds him back."""
        case = exp.case()
        for number, name in enumerate(self.given.gates):
            at_gate = exp.column("gate", table="base").eq(_number(number))
            case = case.when(at_gate, _number(self._reason(name)), copy=False)
        held = (
            case.else_(_number(self._reason(SUPPRESSED)))
            if self.given.gates
            else _number(self._reason(SUPPRESSED))
        )
        is_in = exp.column("id", table="considered").is_(exp.null()).not_()
        return exp.case().when(is_in, held).else_(outside)

    def _plans(self) -> exp.Query:
        """Build the query of one row per customer considered: what is planned, where he fell."""
        columns = []
        for is_meant, label in ((_PLANNED, "plan"), (_TREATED, "sent")):
            for number in range(len(self.businesses)):
                here = exp.column("business", table="pair").eq(_number(number))
                bit = (
                    exp.case()
                    .when(exp.and_(is_meant, here), exp.column("bit", table="pair"))
                    .else_(exp.cast(_number(0), "BIGINT"))
                )
                columns.append(exp.alias_(exp.func("BIT_OR", bit), f"{label}_{number}"))
        return _PLANS.select(*columns)

    def _contacts(self, base: exp.Select, tables: dict[str, Source]) -> Contacts:
        n_axes = len(self.definition.axes)
        names = [f"axis_{i}" for i in range(n_axes)]
        keys = [exp.column(name, table="base") for name in names]
        body = sqlglot.parse_one(_CONTACTS, into=exp.Select)
        rows = body.select(*keys).from_(base.subquery("base"), copy=False)
        rows = rows.join("decision", on="base.id = decision.customer_id").join(
            "pair",
            on="decision.offer_id = pair.offer_id AND decision.channel = pair.channel",
            join_type="left",
        )
        rows = rows.join(
            "response",
            on="decision.campaign_id = response.campaign_id "
            "AND decision.customer_id = response.customer_id AND decision.step = response.step",
            join_type="left",
        ).where(_PLANNED.copy())
        groups = [*names, "campaign_id", "business", "channel"]
        query = sqlglot.parse_one(_CONTACT_SUMS, into=exp.Select).select(
            *(exp.column(name) for name in groups)
        )
        query = query.from_(rows.subquery("contact")).group_by(*groups).order_by(*groups)
        responses = self.given.responses
        sources = tables | self._decision_tables()
        sources["response"] = _no_response() if responses is None else responses
        found = self._run(query, sources)
        return Contacts(
            axes={
                axis.name: _ints(found, f"axis_{i}") for i, axis in enumerate(self.definition.axes)
            },
            campaign=np.asarray(found["campaign_id"].to_pylist(), dtype=np.str_),
            business=_ints(found, "business"),
            channel=_ints(found, "channel"),
            planned=_ints(found, "planned"),
            sent=_ints(found, "sent"),
            value=_floats(found, "expected_value"),
            reached=_ints(found, "reached"),
            expected=_floats(found, "expected"),
            variance=_floats(found, "variance"),
            converted=_ints(found, "converted"),
        )

    def _decision_tables(self) -> dict[str, Source]:
        pairs = self._pairs_decided()
        of = {offer.offer_id: offer.category for offer in self.given.catalogue}
        codes = list(self.businesses)
        business = [codes.index(of.get(offer, _UNLISTED)) for offer, _ in pairs]
        channel = [self.channels.index(kind) for _, kind in pairs]
        return {
            "decision": self.given.decisions if self.given.decisions is not None else [],
            "pair": pa.table(
                {
                    "offer_id": pa.array([offer for offer, _ in pairs], pa.string()),
                    "channel": pa.array([kind for _, kind in pairs], pa.string()),
                    "business": pa.array(business, pa.int64()),
                    "number": pa.array(channel, pa.int64()),
                    "bit": pa.array([1 << i for i in channel], pa.int64()),
                }
            ),
            "reason_rank": pa.table(
                {
                    "reason": pa.array([r.code for r in self.reasons], pa.string()),
                    "number": pa.array(range(len(self.reasons)), pa.int64()),
                }
            ),
        }

    def _reason(self, code: str) -> int:
        return [reason.code for reason in self.reasons].index(code)

    def _run(self, query: exp.Expr, sources: Mapping[str, Any]) -> pa.Table:
        assert isinstance(query, exp.Query)
        return self.engine.query(query, sources)

    def _versions(self) -> dict[str, str]:
        found = {table: snapshot.id for table, snapshot in self.tags.snapshots.items()}
        decisions = self.given.decisions
        if decisions is not None and not isinstance(decisions, pa.Table):
            found |= {f"decision {s.as_of.isoformat()}": s.id for s in decisions}
        return found


_UNLISTED = "other"
_PLANNED = sqlglot.parse_one("decision.arm <> 'none'")
_TREATED = sqlglot.parse_one("decision.arm = 'treatment'")
_PAIRS = sqlglot.parse_one(
    "SELECT DISTINCT offer_id, channel FROM decision "
    "WHERE arm <> 'none' AND offer_id IS NOT NULL AND channel IS NOT NULL"
)
_PLANS = sqlglot.parse_one(
    """
SELECT decision.customer_id AS id, BOOL_OR(decision.arm <> 'none') AS is_planned,
    MAX(reason_rank.number) AS fell
FROM decision
LEFT JOIN pair ON decision.offer_id = pair.offer_id AND decision.channel = pair.channel
LEFT JOIN reason_rank ON decision.reason = reason_rank.reason
GROUP BY decision.customer_id
""",
    into=exp.Select,
)
_CONSIDERED = sqlglot.parse_one("SELECT DISTINCT customer_id AS id FROM audience", into=exp.Select)
_CONTACTS = """
SELECT decision.campaign_id, COALESCE(pair.business, -1) AS business,
    COALESCE(pair.number, -1) AS channel, decision.arm, decision.propensity,
    decision.expected_value, response.reached, response.converted
"""
_CONTACT_SUMS = """
SELECT COUNT(*) AS planned,
    CAST(SUM(CASE WHEN arm = 'treatment' THEN 1 ELSE 0 END) AS BIGINT) AS sent,
    SUM(COALESCE(expected_value, 0)) AS expected_value,
    CAST(SUM(CASE WHEN reached THEN 1 ELSE 0 END) AS BIGINT) AS reached,
    SUM(CASE WHEN reached THEN COALESCE(propensity, 0) ELSE 0 END) AS expected,
    SUM(CASE WHEN reached THEN COALESCE(propensity * (1 - propensity), 0) ELSE 0 END) AS variance,
    CAST(SUM(CASE WHEN reached AND converted THEN 1 ELSE 0 END) AS BIGINT) AS converted
"""


def _businesses(
    offers: Catalogue, catalogue: Catalogue, pairs: Sequence[tuple[str, str]]
) -> Mapping[str, Mapping[str, str]]:
    """Return titles by business: the six categories, and ``other`` where anything is in it."""
    of = {offer.offer_id: offer.category for offer in catalogue}
    used = {offer.category for offer in offers} | {of.get(o, _UNLISTED) for o, _ in pairs}
    extra = {_UNLISTED: _OTHER} if _UNLISTED in used else {}
    return {**CATEGORIES, **extra}


def _channels(offers: Catalogue, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    found = {kind for offer in offers for kind in offer.channels} | {kind for _, kind in pairs}
    if len(found) > _MOST_CHANNELS:
        raise CubeError(
            f"A cube holds {_MOST_CHANNELS} channels; the offers name {len(found)}.",
            remedy="Give channels of one kind one name.",
            zh=f"魔方最多容纳 {_MOST_CHANNELS} 个渠道，商品中有 {len(found)} 个，请合并同类渠道。",
        )
    return tuple(sorted(found))


def _has_rows(decisions: Sequence[Snapshot] | pa.Table | None) -> bool:
    if decisions is None:
        return False
    if isinstance(decisions, pa.Table):
        return len(decisions) > 0
    return any(snapshot.rows > 0 for snapshot in decisions)


def _left_join(rows: exp.Select, query: exp.Query, name: str) -> exp.Select:
    on = exp.column("id", table="base").eq(exp.column("id", table=name))
    return rows.join(query.subquery(name), on=on, join_type="left")


def _counted(rows: exp.Select, names: Sequence[str]) -> exp.Select:
    columns = [exp.column(name) for name in names]
    size = exp.alias_(exp.Count(this=exp.Star()), "size")
    return (
        exp.select(*columns, size)
        .from_(rows.subquery("customer_row"))
        .group_by(*(column.copy() for column in columns))
        .order_by(*(column.copy() for column in columns))
    )


def _nought(name: str) -> exp.Expr:
    return exp.Coalesce(this=exp.column(name, table="plans"), expressions=[_number(0)])


def _number(value: int) -> exp.Expr:
    return exp.Literal.number(value)


def _ints(rows: pa.Table, name: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = rows[name].cast(pa.int64()).to_numpy()
    return values


def _floats(rows: pa.Table, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = rows[name].cast(pa.float64()).to_numpy()
    return values


def _matrix(rows: pa.Table, label: str, width: int) -> NDArray[np.int64]:
    if not width:
        return np.zeros((rows.num_rows, 0), dtype=np.int64)
    return np.column_stack([_ints(rows, f"{label}_{i}") for i in range(width)])


@cache
def _no_response() -> pa.Table:
    return pa.table(
        {
            "campaign_id": pa.array([], pa.string()),
            "customer_id": pa.array([], pa.string()),
            "step": pa.array([], pa.int64()),
            "reached": pa.array([], pa.bool_()),
            "converted": pa.array([], pa.bool_()),
        }
    )
