"""Customers of other networks, as far as an operator knows them from its own side.

They have no account and no bill here. Known are a number, where it is used, which operator it
belongs to, what its calls with this operator's customers are like, and what can be guessed from
that: fee, plan, end of contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import random_stream
from bihuan.twin.organisation import Territory
from bihuan.twin.truth import Floats

Ints: TypeAlias = NDArray[np.int64]
Columns: TypeAlias = Mapping[str, object]
COMPETITORS = np.array(["rival_1", "rival_2", "rival_3"])
_PLANS = np.array(["light", "data", "voice", "family"])
_SOURCES = np.array(["call_record", "hall_visit", "household", "survey"])
_DEVICES = np.array(["3g", "4g", "5g"])


@dataclass(frozen=True)
class OffNet:
    """Customers of other networks; arrays of one length.

    Parameters
    ----------
    ids
        Customer ids, which begin with ``x``.
    grid
        Index of the grid in which each lives.
    territory
        The grids.
    interest
        How near each is to coming over (hidden; shows in dealings), standard normal.
    seed
        The twin's seed.
    """

    ids: pa.Array
    grid: Ints
    territory: Territory
    interest: Floats
    seed: int


def draw_off_net(count: int, territory: Territory, seed: int) -> OffNet | None:
    """Draw customers of other networks; None for a count of 0."""
    if count == 0:
        return None
    rng = random_stream(seed, "off_net")
    ids = np.char.add("x", np.char.zfill(np.arange(count).astype(str), 9))
    grid = rng.choice(len(territory.grids), count, p=territory.weights)
    return OffNet(pa.array(ids.tolist()), grid, territory, rng.standard_normal(count), seed)


def add_off_net(
    tables: dict[str, dict[str, object]], off_net: OffNet | None, as_of: date
) -> dict[str, dict[str, object]]:
    """Return a month's tables with the customers of other networks among them.

    Parameters
    ----------
    tables
        Columns by table; has ``customer``.
    off_net
        The customers; None leaves the tables as they are.
    as_of
        Snapshot date.
    """
    if off_net is None:
        return tables
    ours, n = tables["customer"], len(off_net.ids)
    places = {
        "city_code": off_net.territory.city_codes,
        "county_code": off_net.territory.county_codes,
        "org_unit_id": off_net.territory.grids,
    }
    theirs: dict[str, object] = {
        "customer_id": off_net.ids,
        "kind": pa.repeat("individual", n),
        "network": pa.repeat("off_net", n),
    } | {name: np.array(codes)[off_net.grid].tolist() for name, codes in places.items()}
    customer = {name: _append(ours[name], theirs.get(name), n) for name in ours}
    return tables | {
        "customer": customer,
        "off_net_profile": _profile(off_net, as_of),
        "off_net_call": _calls(off_net, as_of),
    }


def _append(values: object, more: object | None, n: int) -> pa.Array:
    first = values if isinstance(values, pa.Array) else pa.array(values)
    second = pa.nulls(n, first.type) if more is None else pa.array(more).cast(first.type)
    return pa.concat_arrays([first, second])


def _profile(off_net: OffNet, as_of: date) -> dict[str, object]:
    """Return what is known at a date; all but the date itself is the same every month."""
    n = len(off_net.ids)
    rng = random_stream(off_net.seed, "off_net_profile")
    plan = rng.choice(len(_PLANS), n, p=[0.35, 0.35, 0.15, 0.15])
    fee = np.array([25.0, 65.0, 55.0, 110.0])[plan] * np.exp(0.35 * rng.standard_normal(n))
    months = rng.integers(0, 24, n)  # of a contract that is renewed every 24 months
    left = (months - (as_of.year * 12 + as_of.month)) % 24
    ends = np.datetime64(as_of, "M") + left + 1
    has_contract = rng.random(n) < 0.7
    known = np.datetime64(date(as_of.year - 1, 1, 1)) - rng.integers(0, 700, n)
    digits = np.char.zfill(np.arange(n).astype(str), 8)
    device = np.clip(np.round(1.3 + 0.6 * rng.standard_normal(n)), 0, 2).astype(np.int64)
    return {
        "customer_id": off_net.ids,
        "number": np.char.add("100", digits).tolist(),  # no network gives numbers like these
        "competitor": COMPETITORS[rng.choice(3, n, p=[0.55, 0.3, 0.15])].tolist(),
        "probable_fee": np.round(fee, 2),
        "probable_plan": _PLANS[plan].tolist(),
        "contract_ends_on": pa.array(
            ends.astype("datetime64[D]") - 1, pa.date32(), mask=~has_contract
        ),
        "terminal_generation": _DEVICES[device].tolist(),
        "known_since": pa.array(known),
        "source": _SOURCES[rng.choice(4, n, p=[0.7, 0.1, 0.12, 0.08])].tolist(),
        "is_second_sim": rng.random(n) < 0.08,
    }


def _calls(off_net: OffNet, as_of: date) -> dict[str, object]:
    """Return a month's dealings; who is near to coming over asks and visits more."""
    n = len(off_net.ids)
    rng = random_stream(off_net.seed, f"off_net_call {as_of}")
    calls = rng.poisson(np.exp(1.6 + 0.8 * rng.standard_normal(n)))
    near = np.exp(-2.6 + 1.1 * off_net.interest)
    return {
        "customer_id": off_net.ids,
        "calls_with_ours": calls,
        "minutes_with_ours": np.round(calls * rng.gamma(2, 1.1, n), 1),
        "our_contact_count": np.minimum(calls, 1 + rng.poisson(2, n)) * (calls > 0),
        "service_line_calls": rng.poisson(near),
        "sms_with_ours": rng.poisson(1.5, n),
        "site_visits": rng.poisson(2 * near),
        "hall_visits": rng.poisson(0.4 * near),
    }
