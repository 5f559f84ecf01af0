"""The way in which each customer likes to be contacted (客户喜好的接触方式).

Few customers have enough contacts to speak for themselves: one success out of one is not a chance
of one. Success per customer and way is therefore taken as binomial with a chance that varies
between customers by a Beta distribution, whose mean is the segment's and whose strength is fitted
by maximum likelihood (the beta-binomial model; Skellam 1948; as an empirical Bayes prior Casella
1985). Each customer's own contacts then draw the estimate away from the segment as far as their
number warrants.

Calls that customers make (inbound) are not contacts of ours. Their chance is the chance that the
customer calls within a month, estimated in the same way from months with and without a call, times
the success of the conversations by telephone that did take place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.audience import Everyone, Node, predicate, tag_columns, tags_of
from bihuan.data import Engine, LakeView, Source
from bihuan.kernel import UserError
from bihuan.strategy.cube import read_rule
from bihuan.strategy.preferred_ways import Mode, PreferredWays
from bihuan.tag import TagTable

INBOUND = "inbound"
"""The way of calls that the customer makes."""
MONTHS = 12
SEGMENT_CONTACTS = 200.0
"""Contacts that the mean of all customers is worth beside those of a segment."""
_WEAKEST, _STRONGEST = 1.0, 10_000.0


class PreferenceError(UserError):
    """There is no history of contacts, or a question that does not fit it."""


@dataclass(frozen=True, slots=True)
class WayPrior:
    """What is known of a way before a customer's own contacts.

    Parameters
    ----------
    way
        Channel kind, or ``inbound``.
    mean
        Success per contact over all customers, 0..1.
    strength
        Contacts that the prior is worth, > 0: large where customers are alike.
    by_segment
        Mean by segment, drawn towards ``mean`` where there are few contacts.
    scale
        Factor from the estimated chance to that of success; 1 but for ``inbound``.
    contacts
        On which it rests.
    """

    way: str
    mean: float
    strength: float
    by_segment: Mapping[str, float]
    scale: float
    contacts: int


@dataclass(frozen=True, slots=True)
class PreferenceRequest:
    """Whose preference is asked for, and from what it is told.

    Parameters
    ----------
    tags
        Tag values at one date.
    segment
        A coded or text tag whose values are the segments; None for a single one.
    within
        Customers asked about.
    months
        Months of history up to the date of the tags, >= 1.
    stated
        What customers have said themselves: ``customer_id``, ``channel``; it stands above any
        estimate.
    """

    tags: TagTable
    segment: str | None = "age_band"
    within: Node = field(default_factory=Everyone)
    months: int = MONTHS
    stated: pa.Table | None = None


def fit_ways(request: PreferenceRequest, view: LakeView, *, engine: Engine) -> tuple[WayPrior, ...]:
    """Learn from the history of contacts how each way succeeds in each segment.

    Parameters
    ----------
    request
        Segments and months.
    view
        With the table ``contact``, and ``voice_usage`` for calls that customers make.
    engine
        Runs one query; the fit is over counts of equal histories, not over customers.

    Returns
    -------
    tuple[WayPrior, ...]
        One per way with any contact, by name.

    Raises
    ------
    PreferenceError
        If there is no contact in those months.
    """
    query, sources = _histories(request, view)
    counted = sqlglot.parse_one(
        "SELECT way, segment, tried, success, COUNT(*) AS customers, "
        "CAST(SUM(talks) AS BIGINT) AS talks, CAST(SUM(sales) AS BIGINT) AS sales FROM history "
        "GROUP BY way, segment, tried, success ORDER BY way, segment, tried, success",
        into=exp.Select,
    ).with_("history", as_=query)
    rows = engine.query(counted, sources)
    ways = sorted(set(rows["way"].to_pylist()))
    talks, sales = (int(pc.sum(rows[name]).as_py() or 0) for name in ("talks", "sales"))
    return tuple(_fit(way, rows.filter(pc.equal(rows["way"], way)), (sales, talks)) for way in ways)


def preferred_channel(
    request: PreferenceRequest,
    view: LakeView,
    *,
    engine: Engine,
    priors: Sequence[WayPrior] | None = None,
) -> pa.Table:
    """Rank the ways of contact for each customer.

    Parameters
    ----------
    request
        Whose preference.
    view
        As in :func:`fit_ways`; the table ``opt_out`` is honoured where there is one.
    engine
        Runs one query over all customers.
    priors
        From :func:`fit_ways`; None: fitted now.

    Returns
    -------
    pyarrow.Table
        ``customer_id``, ``channel``, ``rank`` (1 = liked best), ``chance`` (of success by one
        contact, 0..1), ``contacts`` (of the customer by that way; months for ``inbound``),
        ``basis`` (``stated``, ``own`` history, ``segment`` or ``everyone``); by customer and
        rank. A way that the customer refuses has no row; who refuses profiling has none at all.

    Raises
    ------
    PreferenceError
        If there is no contact in those months.
    """
    known = fit_ways(request, view, engine=engine) if priors is None else priors
    histories, sources = _histories(request, view)
    opt_out = view.find("opt_out", request.tags.as_of)
    sources |= {
        "prior": _prior_table(known),
        "stated": _NOT_STATED if request.stated is None else request.stated,
        "refusal": _NO_REFUSAL if opt_out is None else opt_out,
    }
    body = sqlglot.parse_one(_RANKED, into=exp.Select)
    query = body.with_("history", as_=histories).with_("member", as_=_members(request))
    return engine.query(query, sources).cast(PREFERENCE)


def channel_preference_matrix(
    preference: pa.Table,
    customer_id: pa.Array,
    channels: Sequence[str],
    *,
    mode: Mode = "factor",
    most: float = 4.0,
    keep: int = 2,
) -> NDArray[np.float64] | NDArray[np.bool_]:
    """Return what preferences mean for a decision, per customer and channel.

    Parameters
    ----------
    preference
        From :func:`preferred_channel`.
    customer_id
        Rows of the result, length n.
    channels
        Channel kinds of its columns, length m.
    mode
        ``factor``: the customer's chance by the mean chance of that channel, at most ``most`` and
        at least its inverse, 1 where nothing is known, 0 for a channel that he refuses.
        ``filter``: whether the channel is among the first ``keep`` of these channels that he
        likes best; all of them where nothing is known.
    most, keep
        See ``mode``.

    Returns
    -------
    numpy.ndarray
        Shape ``(n, m)``; float64 or bool.
    """
    ways = PreferredWays(preference, most=most, keep=keep)
    return ways.matrix(customer_id, channels, mode)


PREFERENCE = pa.schema(
    [("customer_id", pa.string()), ("channel", pa.string()), ("rank", pa.int64()),
     ("chance", pa.float64()), ("contacts", pa.int64()), ("basis", pa.string())]
)  # fmt: skip
_NOT_STATED = pa.table(
    {"customer_id": pa.array([], pa.string()), "channel": pa.array([], pa.string())}
)
_NO_REFUSAL = _NOT_STATED.append_column("kind", pa.array([], pa.string()))
_CONTACTS = """
SELECT contact.customer_id AS id, contact.channel AS way, COUNT(*) AS tried,
    SUM(CASE WHEN contact.is_success THEN 1 ELSE 0 END) AS success,
    SUM(CASE WHEN contact.channel = 'outbound'
        AND contact.result IN ('refused', 'interested', 'accepted') THEN 1 ELSE 0 END) AS talks,
    SUM(CASE WHEN contact.channel = 'outbound' AND contact.is_success
        AND contact.result IN ('refused', 'interested', 'accepted') THEN 1 ELSE 0 END) AS sales
FROM contact GROUP BY contact.customer_id, contact.channel
"""
_CALLS = """
SELECT month.id, 'inbound' AS way, COUNT(*) AS tried,
    SUM(CASE WHEN month.calls > 0 THEN 1 ELSE 0 END) AS success, 0 AS talks, 0 AS sales
FROM (
    SELECT voice_usage.customer_id AS id, voice_usage.as_of, SUM(voice_usage.own_service_calls)
        AS calls
    FROM voice_usage GROUP BY voice_usage.customer_id, voice_usage.as_of
) AS month GROUP BY month.id
"""
_RANKED = """
SELECT id AS customer_id, way AS channel,
    ROW_NUMBER() OVER (
        PARTITION BY id ORDER BY said DESC, chance DESC, way
    ) AS rank,
    chance, tried AS contacts,
    CASE WHEN said = 1 THEN 'stated' WHEN tried > 0 THEN 'own'
        WHEN segment <> '' THEN 'segment' ELSE 'everyone' END AS basis
FROM (
    SELECT member.id, member.segment, prior.way, COALESCE(history.tried, 0) AS tried,
        (prior.mean * prior.strength + COALESCE(history.success, 0))
            / (prior.strength + COALESCE(history.tried, 0)) * prior.scale AS chance,
        CASE WHEN stated.customer_id IS NULL THEN 0 ELSE 1 END AS said
    FROM member
    JOIN prior ON member.segment = prior.segment
    LEFT JOIN history ON member.id = history.id AND prior.way = history.way
    LEFT JOIN (SELECT DISTINCT customer_id, channel FROM stated) AS stated
        ON member.id = stated.customer_id AND prior.way = stated.channel
    LEFT JOIN (
        SELECT DISTINCT customer_id, CASE WHEN kind = 'no_profiling' THEN 'all' ELSE channel END
            AS channel
        FROM refusal
    ) AS none ON member.id = none.customer_id AND none.channel = 'all'
    LEFT JOIN (SELECT DISTINCT customer_id, channel FROM refusal) AS one
        ON member.id = one.customer_id AND one.channel = prior.way
    WHERE none.customer_id IS NULL AND one.customer_id IS NULL
) AS judged
ORDER BY customer_id, rank
"""


def _histories(request: PreferenceRequest, view: LakeView) -> tuple[exp.Select, dict[str, Source]]:
    """Build the query of one row per customer and way that was tried."""
    as_of = request.tags.as_of
    contacts = view.upto("contact", as_of, months=request.months)
    if not any(snapshot.rows for snapshot in contacts):
        raise PreferenceError(
            f"There is no contact in the {request.months} months up to {as_of}.",
            remedy="Take the contact history in first, or ask for more months.",
            zh=f"截至 {as_of} 的 {request.months} 个月没有任何接触记录，请先导入接触历史。",
        )
    sources: dict[str, Source] = {"contact": contacts}
    evidence: exp.Query = sqlglot.parse_one(_CONTACTS, into=exp.Select)
    calls = view.upto("voice_usage", as_of, months=request.months)
    if calls:
        sources["voice_usage"] = calls
        inbound = sqlglot.parse_one(_CALLS, into=exp.Select)
        evidence = exp.Union(this=evidence, expression=inbound, distinct=False)
    relation, tables = request.tags.relation(_tags_used(request))
    sources |= tables
    member = _member_query(request, relation)
    columns = [
        exp.column(n, table="evidence") for n in ("way", "tried", "success", "talks", "sales")
    ]
    query = (
        exp.select("member.id", "member.segment", *columns)
        .from_(member.subquery("member"))
        .join(evidence.subquery("evidence"), on="member.id = evidence.id")
    )
    return query, sources


def _members(request: PreferenceRequest) -> exp.Select:
    return _member_query(request, request.tags.relation(_tags_used(request))[0])


def _tags_used(request: PreferenceRequest) -> list[str]:
    used = set(tags_of(read_rule(request.within, request.tags).node))
    return sorted(used | ({request.segment} if request.segment else set()))


def _member_query(request: PreferenceRequest, relation: exp.Query) -> exp.Select:
    tags = request.tags
    segment: exp.Expr = exp.Literal.string("")
    if request.segment:
        text = exp.cast(exp.column(request.segment, quoted=True), "VARCHAR")
        segment = exp.Coalesce(this=text, expressions=[segment])
    who = predicate(read_rule(request.within, tags).node, tag_columns(tags.fields))
    identity = exp.column(tags.id_column, quoted=True).as_("id")
    return (
        exp.select(identity, segment.as_("segment")).from_(relation.subquery("tagged")).where(who)
    )


def _fit(way: str, rows: pa.Table, talked: tuple[int, int]) -> WayPrior:
    tried, success, weight = (
        rows[name].cast(pa.float64()).to_numpy() for name in ("tried", "success", "customers")
    )
    n, k = float((tried * weight).sum()), float((success * weight).sum())
    mean, strength = _beta_binomial(tried, success, weight)
    segments: dict[str, float] = {}
    names = np.asarray(rows["segment"].to_pylist(), dtype=object)
    for segment in sorted(set(names)):
        at = names == segment
        n_here, k_here = (tried[at] * weight[at]).sum(), (success[at] * weight[at]).sum()
        overall = k / n
        shrunk = (k_here + SEGMENT_CONTACTS * overall) / (n_here + SEGMENT_CONTACTS)
        segments[segment] = float(np.clip(shrunk + mean - overall, 1e-6, 1 - 1e-6))
    sales, talks = talked
    scale = 1.0 if way != INBOUND else (sales + 1) / (talks + 2)
    return WayPrior(way, mean, strength, segments, scale, int(n))


def _beta_binomial(
    tried: NDArray[np.float64], success: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Fit mean and strength by maximum likelihood over counted histories."""
    # imported here because the optimiser takes longer to load than most commands run
    from scipy.optimize import minimize
    from scipy.special import betaln, expit, logit

    overall = (success * weight).sum() / (tried * weight).sum()
    start = float(np.clip(overall, 1e-4, 1 - 1e-4))

    def loss(parameters: NDArray[np.float64]) -> float:
        m, s = expit(parameters[0]), np.exp(parameters[1])
        a, b = m * s, (1 - m) * s
        terms = betaln(success + a, tried - success + b) - betaln(a, b)
        return -float((weight * terms).sum())

    found = minimize(
        loss,
        np.array([logit(start), np.log(20.0)]),
        method="L-BFGS-B",
        bounds=[(-14, 14), (np.log(_WEAKEST), np.log(_STRONGEST))],
    )
    return float(expit(found.x[0])), float(np.exp(found.x[1]))


def _prior_table(priors: Sequence[WayPrior]) -> pa.Table:
    segments = sorted({segment for prior in priors for segment in prior.by_segment} | {""})
    rows = [
        {"way": prior.way, "segment": segment, "scale": prior.scale, "strength": prior.strength,
         "mean": prior.by_segment.get(segment, prior.mean)}
        for prior in priors
        for segment in segments
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)
