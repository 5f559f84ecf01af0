"""What customers do on the digital channels: page trajectories as events, all simulated.

A session is a visit to the page of a business, begun by itself, by the click on a touchpoint or by
a link that another customer shared; the customer may go on to configure, to submit and to order.
How much a customer wants a business lasts from month to month, so that who browsed or turned back
half-way is likelier to order later, and who has ordered wants less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import Lake, TableContract
from bihuan.kernel import Clock, random_stream
from bihuan.twin.month import (
    Columns,
    Floats,
    Ints,
    add_tables,
    as_timestamps,
    moments,
    month_ends,
    numbered,
)

BUSINESSES = ("broadband", "plan_4g", "plan_5g", "data_pack")
TOUCHPOINTS = ("home_banner", "search", "push", "float_window", "bill_page")
CHANNELS = ("app", "wechat", "web", "hall_screen")
_PRICES = np.array([79.0, 59, 129, 20])
_BASE = np.array([-1.6, -1.9, -1.4, -0.9])  # log of sessions a month for average interest
_KINDS = np.array(["click", "share_visit", "visit", "configure", "submit", "order", "share"])
_MINUTE = 60 * 1_000_000


@dataclass(frozen=True)
class _Sessions:
    """The sessions of one month, one array entry each."""

    who: Ints
    business: Ints
    start: Ints  # microseconds
    wants: Floats


def surround_digital(
    lake: Lake,
    as_of: date,
    contracts: Mapping[str, TableContract],
    *,
    months: int = 12,
    seed: int,
    clock: Clock,
) -> dict[str, int]:
    """Publish simulated page trajectories of the customers as ``event``, month by month.

    Kinds of event: ``visit`` (product page), ``configure``, ``submit``, ``order``, ``share``,
    ``share_visit`` (came through a shared link, ``shared_by`` says whose) and ``click``
    (``touchpoint`` says on what). One visit in ten is by nobody who has signed in.

    Parameters
    ----------
    lake
        Holds ``customer`` at ``as_of``.
    as_of
        Newest month end.
    contracts
        The built-in table contracts.
    months
        Months up to ``as_of``, >= 1; events already there are replaced.
    seed
        The twin's seed.
    clock
        Moment of publication.

    Returns
    -------
    dict[str, int]
        Rows written, by table.
    """
    rng = random_stream(seed, "digital")
    customers = lake.view().get("customer", as_of)
    ids = customers.read(["customer_id"]).sort_by("customer_id")["customer_id"].combine_chunks()
    n = len(ids)
    habit = 0.8 * rng.standard_normal(n)
    wants = rng.standard_normal((n, len(BUSINESSES)))
    lineage = {"source": "twin", "seed": seed, "around": customers.id}
    written: dict[str, int] = {}
    for day in month_ends(as_of, months):
        rate = np.exp(_BASE + habit[:, None] + 0.7 * wants - 0.4)
        count = rng.poisson(rate).ravel()
        pair = np.repeat(np.arange(count.size), count)
        who, business = pair // len(BUSINESSES), pair % len(BUSINESSES)
        sessions = _Sessions(who, business, moments(rng, day, len(who)), wants[who, business])
        events, ordered = _trajectories(rng, sessions, ids, day)
        with lake.publication(clock) as publication:
            add_tables(publication, {"event": events}, day, contracts, written, lineage)
        wants = 0.8 * wants + 0.6 * rng.standard_normal(wants.shape)
        wants[who[ordered], business[ordered]] -= 2.5
    return written


def _trajectories(
    rng: np.random.Generator, sessions: _Sessions, ids: pa.Array, day: date
) -> tuple[Columns, Ints]:
    """Draw how far each session goes; return the events and the sessions that ordered."""
    k = len(sessions.who)
    origin = rng.random(k)
    clicked, led_in = origin < 0.28, origin > 0.9
    touched = rng.choice(len(TOUCHPOINTS), k, p=[0.35, 0.25, 0.2, 0.12, 0.08])
    friend = rng.integers(0, len(ids), k)
    led_in &= friend != sessions.who
    chance = 1 / (1 + np.exp(-0.9 * sessions.wants + 0.6 - 0.4 * led_in))
    configured = rng.random(k) < chance
    submitted = configured & (rng.random(k) < 0.55)
    ordered = submitted & (rng.random(k) < 0.2 + 0.6 * chance)
    shared = rng.random(k) < 0.03 + 0.1 * ordered
    happened = (clicked, led_in, np.ones(k, dtype=np.bool_), configured, submitted, ordered, shared)
    step, session = np.nonzero(np.array(happened))
    at = sessions.start[session] + step * 2 * _MINUTE
    order = np.lexsort((step, session, at))
    step, session, at = step[order], session[order], at[order]
    business = sessions.business[session]
    signed_in = (rng.random(k) > 0.1) | configured | shared
    business_names = pa.array(BUSINESSES).take(pa.array(business))
    kinds = pa.array(_KINDS.tolist()).take(pa.array(step))
    own = ids.take(pa.array(sessions.who[session]))
    channel = rng.choice(len(CHANNELS), k, p=[0.5, 0.25, 0.15, 0.1])[session]
    nobody = pa.scalar(None, pa.string())
    return {
        "event_id": numbered(f"d{day:%Y%m}", len(at)),
        "customer_id": pc.if_else(pa.array(signed_in[session]), own, nobody),
        "kind": kinds,
        "occurred_at": as_timestamps(at),
        "channel": pa.array(CHANNELS).take(pa.array(channel)),
        "page": pc.binary_join_element_wise(business_names, kinds, "/"),
        "amount": pc.if_else(
            pa.array(step == 5), pa.array(_PRICES[business]), pa.scalar(None, pa.float64())
        ),
        "business": business_names,
        "touchpoint": pc.if_else(
            pa.array(step == 0), pa.array(TOUCHPOINTS).take(pa.array(touched[session])), nobody
        ),
        "shared_by": pc.if_else(
            pa.array(step == 1), ids.take(pa.array(friend[session])), nobody
        ),
    }, np.flatnonzero(ordered)  # fmt: skip
