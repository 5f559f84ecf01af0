"""Devices, places, families, orders, payments and dealings with service of consumers."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.kernel import random_stream

if TYPE_CHECKING:
    from bihuan.twin.consumer import People

Ints: TypeAlias = NDArray[np.int64]
Columns: TypeAlias = dict[str, object]
BRANDS = np.array(["brand_a", "brand_b", "brand_c", "brand_d", "brand_e"])
_PRICES = np.array([900.0, 1600.0, 2600.0, 4200.0, 7200.0])
_SYSTEMS = np.array(["android", "android", "harmony", "android", "ios"])
_CHANNELS = np.array(["app", "hall", "sms", "outbound", "wechat", "web"])
_CATEGORIES = np.array(
    ["data_pack", "video", "plan", "voice_pack", "music", "device", "cloud", "roaming", "broadband"]
)
PRODUCTS = (
    ("data_pack_10", "流量包 10 元", "Data pack 10", "data_pack", "addon", 10.0),
    ("data_pack_30", "流量包 30 元", "Data pack 30", "data_pack", "addon", 30.0),
    ("voice_pack_10", "语音包 10 元", "Voice pack 10", "voice_pack", "addon", 10.0),
    ("video_vip", "视频会员", "Video membership", "video", "vas", 15.0),
    ("music_vip", "音乐会员", "Music membership", "music", "vas", 8.0),
    ("cloud_200", "云盘 200 GB", "Cloud storage 200 GB", "cloud", "vas", 9.0),
    ("roaming_day", "漫游日包", "Roaming day", "roaming", "addon", 25.0),
    ("caller_tune", "彩铃", "Caller tune", "music", "vas", 5.0),
    ("device_plan", "终端合约", "Device with contract", "device", "contract", 60.0),
    ("broadband_300", "宽带 300M", "Broadband 300", "broadband", "plan", 30.0),
    ("broadband_500", "宽带 500M", "Broadband 500", "broadband", "plan", 50.0),
    ("broadband_1000", "宽带 1000M", "Broadband 1000", "broadband", "plan", 80.0),
    ("iptv_basic", "互联网电视", "IPTV", "iptv", "plan", 15.0),
    ("line_basic", "互联网专线", "Internet leased line", "leased_line", "plan", 600.0),
    ("fixed_basic", "固定电话", "Fixed voice", "fixed_voice", "plan", 10.0),
)
_BY_CATEGORY = {
    **{category: product for product, _, _, category, *_ in reversed(PRODUCTS)},
    "plan": "plan_99",
}


def products() -> Columns:
    """Return the rows of ``product`` beside the mobile plans."""
    names = ("product_id", "name_zh", "name_en", "category", "kind", "monthly_price")
    columns = dict(zip(names, map(list, zip(*PRODUCTS, strict=True)), strict=True))
    return {**columns, "status": ["on_sale"] * len(PRODUCTS)}


def devices(people: People, lines: pa.Table, as_of: date) -> Columns:
    """Return ``terminal``: each mobile line's device, changed every year and a half to four.

    Parameters
    ----------
    people
        Who has the lines.
    lines
        Rows of ``subscription``: mobile lines.
    as_of
        Snapshot date.
    """
    rng, n = random_stream(people.seed, "devices"), len(people.ids)
    who = people.of(lines["customer_id"])
    cycle, phase = rng.integers(14, 48, n)[who], rng.integers(0, 48, n)[who]
    tier = np.clip(np.round(1.7 + 0.9 * people.money + 0.5 * rng.standard_normal(n)), 0, 4)
    loyal, contract = (rng.random(n) < 0.6)[who], (rng.random(n) < 0.3)[who]
    second = rng.choice(3, n, p=[0.6, 0.12, 0.28])[who]
    month = as_of.year * 12 + as_of.month + phase
    turn, held = month // cycle, month % cycle
    home = tier.astype(np.int64)[who]
    brand = np.where(loyal, home, (home + turn) % 5)
    before = np.where(loyal, home, (home + turn - 1) % 5)
    generation = pc.coalesce(lines["terminal_generation"], pa.scalar("4g"))
    day = np.datetime64(as_of, "M") - held
    return {
        "subscription_id": lines["subscription_id"],
        "customer_id": lines["customer_id"],
        "brand": BRANDS[brand].tolist(),
        "price": np.round(_PRICES[brand] * (0.85 + 0.3 * (cycle % 7) / 7), 0),
        "os": _SYSTEMS[brand].tolist(),
        "generation": generation,
        "used_since": pa.array(day.astype("datetime64[D]") + (phase % 25)),
        "changes_24m": turn - (month - 24) // cycle,
        "previous_brand": BRANDS[before].tolist(),
        "is_contract_phone": contract,
        "second_sim": np.array(["none", "own", "rival"])[second].tolist(),
        "storage_gb": np.array([64, 128, 256, 256, 512])[brand],
        "supports_volte": np.array(generation.to_pylist()) >= "4g",
    }


def movements(people: People, usage: pa.Table, as_of: date) -> Columns:
    """Return ``mobility``; who lives away from home does so every month.

    Parameters
    ----------
    people, usage, as_of
        Customers, the month's rows of ``usage``, the month's end.
    """
    rng = random_stream(people.seed, f"mobility {as_of}")
    who, days = people.of(usage["customer_id"]), as_of.day
    k = len(who)
    away = people.migrant[who]
    travels = np.exp(-1.2 + 0.5 * people.money[who])
    province = np.where(away, rng.binomial(days, 0.55, k), rng.binomial(days, 0.02 * travels))
    other = rng.binomial(days - province, np.where(away, 0.3, np.clip(0.03 * travels, 0, 0.4)))
    cities = 1 + np.minimum(other, rng.poisson(1 + travels)) * (other > 0)
    commuter = (random_stream(people.seed, "commuters").random(len(people.ids)) < 0.2)[who]
    county = people.county[who]
    neighbour = np.roll(people.county, 1)[who]
    young = (people.age[who] >= 18) & (people.age[who] <= 24)
    return {
        "subscription_id": usage["subscription_id"],
        "customer_id": usage["customer_id"],
        "home_county": np.where(away, neighbour, county).tolist(),
        "work_county": np.where(commuter, neighbour, county).tolist(),
        "nights_home_city": days - province - other,
        "nights_other_city": other,
        "nights_other_province": province,
        "city_count": cities,
        "province_count": 1 + np.minimum(province, rng.poisson(0.8, k)) * (province > 0),
        "commute_km": np.round(rng.gamma(2, 3, k) * (1 + 2 * commuter), 1),
        "cell_count": 3 + rng.poisson(25 + 12 * travels),
        "transport_days": np.minimum(days, rng.poisson(0.5 + 0.25 * (other + province > 3))),
        "scenic_days": np.minimum(days, rng.poisson(0.5 * travels)),
        "campus_days": np.where(young, rng.binomial(days, 0.5, k), rng.binomial(days, 0.01, k)),
        "g5_area_days": rng.binomial(days, np.clip(0.6 + 0.1 * people.money[who], 0.05, 0.95)),
    }


def families(people: People) -> dict[str, Columns]:
    """Return ``family`` and ``customer_group``; the same every month.

    Parameters
    ----------
    people
        The customers; those of one household are neighbours.
    """
    rng, n = random_stream(people.seed, "families"), len(people.ids)
    order = np.lexsort((-people.age, people.family))
    household = people.family[order]
    is_first = np.r_[True, household[1:] != household[:-1]] if n else np.zeros(0, dtype=np.bool_)
    start = np.maximum.accumulate(np.where(is_first, np.arange(n), 0))
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n) - start
    _, inverse, size = np.unique(people.family, return_inverse=True, return_counts=True)
    per_house = len(size)
    off = rng.poisson(0.7, per_house)[inverse]
    children = rng.binomial(2, 0.3, per_house)[inverse]
    on = size[inverse]
    kinds = rng.choice(3, per_house, p=[0.68, 0.27, 0.05])[inverse]
    heads = order[is_first]
    return {
        "customer_group": {
            "group_id": np.char.add("h", people.family[heads].astype(str)).tolist(),
            "kind": ["household"] * len(heads),
            "head_customer_id": people.ids.take(pa.array(heads)),
        },
        "family": {
            "customer_id": people.ids,
            "group_id": np.char.add("h", people.family.astype(str)).tolist(),
            "role": np.array(["head", "partner", "child", "parent"])[np.minimum(place, 3)].tolist(),
            "member_count": on + off + children,
            "on_net_member_count": on,
            "off_net_member_count": off,
            "child_count": children,
            "elder_count": rng.binomial(2, 0.2, per_house)[inverse],
            "student_count": rng.binomial(children + 1, 0.3),
            "shares_plan": (on > 1) & (rng.random(per_house) < 0.5)[inverse],
            "home_kind": np.array(["owned", "rented", "dormitory"])[kinds].tolist(),
            "has_rival_broadband": ~people.fixed["broadband"] & (rng.random(n) < 0.35),
            "family_fee": np.round(60 * on * np.exp(0.4 * rng.standard_normal(per_house))[inverse]),
            "smart_device_count": rng.poisson(np.exp(0.2 + 0.4 * people.digital)),
        },
    }


def deals(people: People, lines: pa.Table, as_of: date) -> dict[str, Columns]:
    """Return ``product_order``, ``payment`` and ``holding`` of a month.

    Parameters
    ----------
    people
        The customers.
    lines
        Their mobile lines at the month's end.
    as_of
        The month's end.
    """
    lines = lines.filter(pc.not_equal(lines["status"], "disconnected"))
    return {
        "product_order": _orders(people, lines, as_of),
        "payment": _payments(people, lines, as_of),
        "holding": _holdings(people, lines, as_of),
    }


def _orders(people: People, lines: pa.Table, as_of: date) -> Columns:
    rng = random_stream(people.seed, f"product_order {as_of}")
    owner = people.of(lines["customer_id"])
    row = np.repeat(np.arange(len(owner)), rng.poisson(0.35 * np.exp(0.25 * people.social[owner])))
    who, k = owner[row], len(row)
    taste = random_stream(people.seed, "order_tastes").gumbel(size=(len(people.ids), 9))[who]
    base = np.array([1.5, 1.0, 0.8, 0.2, 0.3, 0.3, -0.2, -0.4, -0.2])
    category = _CATEGORIES[np.argmax(base + taste + 0.9 * rng.gumbel(size=(k, 9)), axis=1)]
    channel = _CHANNELS[_channel(people, who, rng)]
    kind = rng.choice(["new", "renew", "upgrade", "downgrade", "cancel"], k,
                      p=[0.55, 0.2, 0.1, 0.05, 0.1])  # fmt: skip
    index = pa.array(row)
    return {
        "order_id": _numbered("o", as_of, k),
        "customer_id": lines["customer_id"].take(index),
        "subscription_id": lines["subscription_id"].take(index),
        "product_id": [_BY_CATEGORY[name] for name in category.tolist()],
        "category": category.tolist(),
        "kind": kind.tolist(),
        "channel": channel.tolist(),
        "ordered_at": _moments(as_of, k, rng),
        "amount": np.round(rng.choice([8.0, 10.0, 15.0, 30.0, 60.0], k), 2),
        "status": rng.choice(["done", "failed", "withdrawn"], k, p=[0.9, 0.04, 0.06]).tolist(),
    }


def _channel(people: People, who: Ints, rng: np.random.Generator) -> Ints:
    """Choose a channel for each deal: the digital by app, the others in halls and on the phone."""
    own = random_stream(people.seed, "channel_tastes").gumbel(size=(len(people.ids), 6))[who]
    digital = people.digital[who]
    base = np.stack([0.9 * digital + 0.6, -0.5 * digital + 0.4, -0.2 - 0.1 * digital,
                     -0.4 - 0.4 * digital, 0.5 * digital, 0.2 * digital - 0.6], axis=1)  # fmt: skip
    return np.asarray(np.argmax(base + own + 0.8 * rng.gumbel(size=own.shape), axis=1))


def _payments(people: People, lines: pa.Table, as_of: date) -> Columns:
    rng = random_stream(people.seed, f"payment {as_of}")
    habit = random_stream(people.seed, "payment_habits")
    n = len(people.ids)
    own, auto, slow = habit.gumbel(size=(n, 4)), habit.random(n) < 0.3, habit.random(n) < 0.1
    lines = lines.filter(pa.array(rng.random(lines.num_rows) < 0.94))
    who = people.of(lines["customer_id"])
    base = np.stack([0.8 + people.digital[who], np.full(len(who), 0.2),
                     0.2 - people.digital[who], 0.4 * people.money[who] - 0.6], axis=1)  # fmt: skip
    method = np.argmax(base + own[who] + 0.5 * rng.gumbel(size=base.shape), axis=1)
    # an e-wallet pays in the app, cash in the hall
    channel = np.where(method == 2, "hall", np.where(rng.random(len(who)) < 0.8, "app", "wechat"))
    late = (rng.random(len(who)) < np.where(slow[who], 0.5, 0.05)) & ~auto[who]
    fee = np.nan_to_num(lines["monthly_fee"].cast(pa.float64()).to_numpy())
    return {
        "payment_id": _numbered("p", as_of, len(who)),
        "account_id": lines["account_id"],
        "customer_id": lines["customer_id"],
        "paid_at": _moments(as_of, len(who), rng),
        "method": np.array(["e_wallet", "bank_transfer", "cash", "credit_card"])[method].tolist(),
        "channel": channel.tolist(),
        "amount": np.round(fee + rng.choice([0.0, 10.0, 20.0], len(who)), 2),
        "is_auto": auto[who],
        "days_late": np.where(late, 1 + rng.poisson(8, len(who)), 0),
    }


def _holdings(people: People, lines: pa.Table, as_of: date) -> Columns:
    """Each customer's products: most are kept for long, some ended."""
    held = [product for product, *_, kind, _ in PRODUCTS if kind in ("addon", "vas", "contract")]
    habit = random_stream(people.seed, "holdings")
    n = len(people.ids)
    has = habit.random((n, len(held))) < 0.16
    phase = habit.integers(1, 36, (n, len(held)))
    who = people.of(lines["customer_id"])
    row, product = np.nonzero(has[who])
    age = (as_of.year * 12 + as_of.month + phase[who[row], product]) % 36
    index, ended = pa.array(row), age > 30
    day = np.datetime64(as_of, "D")
    return {
        "subscription_id": lines["subscription_id"].take(index),
        "product_id": np.array(held)[product].tolist(),
        "customer_id": lines["customer_id"].take(index),
        "started_on": pa.array(day - (30 * age).astype("timedelta64[D]")),
        "ends_on": pa.array(
            day + ((30 - age) * 30).astype("timedelta64[D]"), pa.date32(), mask=(product % 2 == 0)
        ),
        "status": np.where(ended, "ended", "active").tolist(),
    }


def service_records(people: People, lines: pa.Table, as_of: date) -> dict[str, Columns]:
    """Return further rows of ``ticket``, ``contact`` and ``opt_out`` of a month.

    Parameters
    ----------
    people, lines, as_of
        As in :func:`deals`.
    """
    lines = lines.filter(pc.not_equal(lines["status"], "disconnected"))
    rng = random_stream(people.seed, f"service_records {as_of}")
    owner = people.of(lines["customer_id"])
    faulty = (random_stream(people.seed, "faulty_lines").random(len(people.ids)) < 0.015)[owner]
    row = np.flatnonzero((rng.random(len(owner)) < 0.12) | faulty)
    asked, k = pa.array(row), len(row)
    kind = rng.choice(["complaint", "fault", "inquiry"], k, p=[0.12, 0.28, 0.6])
    opened = _moments(as_of, k, rng)
    took = pa.array((rng.gamma(1.5, 20, k) * 3_600_000_000).astype(np.int64)).cast(
        pa.duration("us")
    )
    closed = pc.if_else(pa.array(rng.random(k) < 0.93), pc.add(opened, took), None)
    touched = np.flatnonzero(rng.random(lines.num_rows) < 0.25)
    who = owner[touched]
    m = len(who)
    channel = _CHANNELS[_channel(people, who, rng)]
    results = np.array(["not_delivered", "no_answer", "refused", "interested", "accepted"])
    result = results[rng.choice(5, m, p=[0.08, 0.37, 0.3, 0.13, 0.12])]
    city = np.array([unit[5:9] if unit.startswith("grid-") else "" for unit in people.unit])[who]
    private = np.flatnonzero(random_stream(people.seed, "private").random(len(people.ids)) < 0.012)
    seat = [
        f"seat-{code}-{number}" if code and kind == "outbound" else None
        for code, number, kind in zip(
            city.tolist(), rng.integers(0, 20, m).tolist(), channel.tolist(), strict=True
        )
    ]
    return {
        "ticket": {
            "ticket_id": _numbered("q", as_of, k),
            "customer_id": lines["customer_id"].take(asked),
            "subscription_id": lines["subscription_id"].take(asked),
            "kind": np.where(faulty[row], "fault", kind).tolist(),
            "severity": rng.integers(1, 6, k),
            "opened_at": opened,
            "closed_at": closed,
            "channel_id": rng.choice(["app", "hall", "outbound"], k, p=[0.4, 0.3, 0.3]).tolist(),
        },
        "contact": {
            "contact_id": _numbered("n", as_of, m),
            "customer_id": lines["customer_id"].take(pa.array(touched)),
            "campaign_id": [f"routine-{as_of:%Y-%m}"] * m,
            "channel": channel.tolist(),
            "staff_id": seat,
            "contacted_at": _moments(as_of, m, rng),
            "result": result.tolist(),
            "is_success": result == "accepted",
        },
        "opt_out": {
            "customer_id": people.ids.take(pa.array(private)),
            "kind": ["no_profiling"] * len(private),
            "channel": ["all"] * len(private),
            "since": [date(as_of.year - 1, 6, 1)] * len(private),
            "source": ["app"] * len(private),
        },
    }


def _numbered(prefix: str, as_of: date, count: int) -> list[str]:
    return [f"{prefix}{as_of:%Y%m}-{number:08d}" for number in range(count)]


def _moments(as_of: date, count: int, rng: np.random.Generator) -> pa.Array:
    """Return moments between 09:00 and 20:00 (UTC+8) within the month of ``as_of``."""
    first = int(datetime(as_of.year, as_of.month, 1, 1, tzinfo=UTC).timestamp())
    seconds = rng.integers(0, as_of.day, count) * 86_400 + rng.integers(0, 11 * 3_600, count)
    return pa.array((first + seconds) * 1_000_000, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
