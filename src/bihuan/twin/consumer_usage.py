"""How calls, data and broadband of a month divide by kind, time and application."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import random_stream

if TYPE_CHECKING:
    from bihuan.twin.consumer import People

Floats: TypeAlias = NDArray[np.float64]
APPLICATIONS = (
    *("video", "social", "game", "music", "reading", "shopping", "finance", "travel", "work"),
)
# log weights: at age 40, per 15 years younger, per unit of social habit, per unit of money
_TASTES = np.array(
    [
        [1.6, 0.3, 0.1, 0.0],
        [1.2, 0.4, 0.6, 0.0],
        [-0.6, 1.1, 0.1, -0.1],
        [-0.9, 0.5, 0.1, 0.0],
        [-1.2, 0.0, -0.3, 0.1],
        [-0.3, 0.4, 0.1, 0.2],
        [-1.6, -0.1, 0.0, 0.5],
        [-1.1, 0.1, 0.0, 0.2],
        [-1.3, 0.1, 0.0, 0.4],
    ]
)


def call_detail(people: People, usage: pa.Table, as_of: date) -> dict[str, object]:
    """Return ``voice_usage``: the calls of each row of ``usage`` by kind.

    Parameters
    ----------
    people
        Who the rows are of.
    usage
        Rows of the month.
    as_of
        The month's end.
    """
    rng = random_stream(people.seed, f"voice_usage {as_of}")
    who, minutes = people.of(usage["customer_id"]), _numbers(usage, "voice_minutes")
    k = len(who)
    taste = random_stream(people.seed, "call_habits").standard_normal((5, len(people.ids)))[:, who]
    outgoing = minutes * _share(-0.1 + 0.4 * taste[0], rng)
    on_net = minutes * _share(0.3 + 0.6 * taste[1], rng)
    calls = rng.poisson(1 + minutes / 2.6)
    made = rng.binomial(calls, 0.48)
    contacts = np.minimum(calls, rng.poisson(4 + 0.12 * calls * np.exp(0.25 * people.social[who])))
    abroad = rng.random(k) < 0.02 + 0.03 * (people.money[who] > 1)
    away = people.migrant[who] | (rng.random(k) < 0.06)
    return {
        "subscription_id": usage["subscription_id"],
        "customer_id": usage["customer_id"],
        "outgoing_minutes": np.round(outgoing, 1),
        "incoming_minutes": np.round(minutes - outgoing, 1),
        "outgoing_calls": made,
        "incoming_calls": calls - made,
        "on_net_minutes": np.round(on_net, 1),
        "off_net_minutes": np.round(minutes - on_net, 1),
        "long_distance_minutes": np.round(
            minutes * _share(-1.8 + 1.6 * people.migrant[who] + 0.5 * taste[2], rng), 1
        ),
        "international_minutes": np.round(np.where(abroad, rng.gamma(1.5, 6, k), 0), 1),
        "roaming_minutes": np.round(np.where(away, minutes * _share(np.full(k, -1.5), rng), 0), 1),
        "night_minutes": np.round(minutes * _share(-2.8 + 0.6 * taste[3], rng), 1),
        "weekend_minutes": np.round(minutes * _share(-0.9 + 0.3 * taste[4], rng), 1),
        "family_minutes": np.round(minutes * _share(-1.6 + 0.02 * (people.age[who] - 40), rng), 1),
        "contact_count": contacts,
        "new_contact_count": rng.binomial(contacts, 0.18),
        "missed_calls": rng.poisson(2 + 0.06 * calls),
        "rival_service_calls": rng.poisson(0.06 + 0.12 * (people.money[who] < -1)),
        "own_service_calls": rng.poisson(0.25 + 0.1 * (people.digital[who] < 0)),
    }


def data_detail(people: People, usage: pa.Table, as_of: date) -> dict[str, object]:
    """Return ``data_usage``: the data of each row of ``usage`` by application and time.

    Parameters
    ----------
    people, usage, as_of
        As in :func:`call_detail`.
    """
    rng = random_stream(people.seed, f"data_usage {as_of}")
    who, data = people.of(usage["customer_id"]), _numbers(usage, "data_mb")
    k = len(who)
    own = random_stream(people.seed, "tastes").standard_normal((9, len(people.ids)))[:, who]
    young = (40 - people.age[who]) / 15
    traits = np.stack([np.ones(k), young, people.social[who], people.money[who]])
    weight = np.exp(_TASTES @ traits + 0.6 * own + 0.2 * rng.standard_normal((9, k)))
    shares = 0.94 * weight / weight.sum(axis=0)
    allowance = rng.choice([3000.0, 10_000.0, 20_000.0, 40_000.0], len(people.ids))[who]
    over = np.maximum(data - allowance, 0) * (rng.random(k) < 0.7)
    g5 = _numbers(usage, "g5_data_mb")
    roaming = _numbers(usage, "roaming_data_mb")
    return {
        "subscription_id": usage["subscription_id"],
        "customer_id": usage["customer_id"],
        **{f"{name}_mb": np.round(data * shares[i], 1) for i, name in enumerate(APPLICATIONS)},
        "night_mb": np.round(data * _share(-2.0 + 0.6 * young, rng), 1),
        "weekend_mb": np.round(data * _share(np.full(k, -0.8), rng), 1),
        "hotspot_mb": np.round(data * np.where(rng.random(k) < 0.2, rng.beta(1, 9, k), 0), 1),
        "allowance_mb": allowance,
        "overage_mb": np.round(over, 1),
        "throttled_days": np.where(over > 0, rng.integers(0, 12, k), 0),
        "g5_days": np.minimum(as_of.day, rng.poisson(22, k)) * (g5 > 0),
        "roaming_days": np.where(roaming > 0, rng.integers(1, 9, k), 0),
        "heavy_days": np.minimum(as_of.day, rng.poisson(data / 4000)),
    }


def broadband_use(people: People, lines: pa.Table, as_of: date) -> dict[str, object]:
    """Return ``broadband_usage`` of a month.

    Parameters
    ----------
    people
        Who has the lines.
    lines
        Rows of ``subscription``: broadband in use.
    as_of
        The month's end.
    """
    rng = random_stream(people.seed, f"broadband_usage {as_of}")
    who, k = people.of(lines["customer_id"]), lines.num_rows
    sold = np.array(
        [float(str(name).rsplit("_", 1)[-1]) for name in lines["product_id"].to_pylist()]
    )
    hours = np.minimum(24.0 * as_of.day, rng.gamma(6, 28, k))
    down = np.exp(11.2 + 0.3 * people.digital[who] + 0.5 * rng.standard_normal(k))
    young = people.age[who] < 30
    television = people.fixed["iptv"][who]
    quality = rng.beta(14, 2, k)
    return {
        "subscription_id": lines["subscription_id"],
        "customer_id": lines["customer_id"],
        "down_mb": np.round(down),
        "up_mb": np.round(down * rng.beta(2, 14, k)),
        "online_hours": np.round(hours, 1),
        "evening_hours": np.round(hours * rng.beta(4, 7, k), 1),
        "game_hours": np.round(np.where(young, rng.gamma(2, 12, k), rng.gamma(0.4, 5, k)), 1),
        "iptv_hours": np.round(np.where(television, rng.gamma(3, 18, k), 0.0), 1),
        "vod_orders": np.where(television, rng.poisson(0.7, k), 0),
        "online_days": np.minimum(as_of.day, 1 + rng.poisson(26, k)),
        "sold_mbps": sold,
        "measured_mbps": np.round(sold * quality, 1),
        "device_count": 1 + rng.poisson(4, k),
        "drop_count": rng.poisson(5 * (1 - quality)),
        "weak_wifi_hours": np.round(hours * rng.beta(1, 12, k), 1),
    }


def _numbers(rows: pa.Table, column: str) -> Floats:
    return np.asarray(np.nan_to_num(rows[column].to_numpy().astype(np.float64)))


def _share(logit: Floats, rng: np.random.Generator) -> Floats:
    """Return shares about the given logits, moved a little each month."""
    return np.asarray(1 / (1 + np.exp(-(logit + 0.25 * rng.standard_normal(len(logit))))))
