"""The campaign on which allocation is measured: 6 offers x 6 channels, up to tens of millions.

Capacities are scaled from 600 k calls, 8 M texts ... for 67 M customers; each offer has a budget
with its own cost; every city and channel has a maximum, and outbound, hall and account manager a
minimum per city as well. A quarter of the pairs is eligible, about eight per customer.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from bihuan.decision import ContactRules, Lag, Limit, Pairs
from bihuan.decision.allocation.pairs import open_pairs
from bihuan.kernel import random_stream
from bihuan.kernel.parallel import on_each_part

OFFERS, CHANNELS, CITIES = 6, 6, 11
OFFER = np.arange(OFFERS * CHANNELS) // CHANNELS
CHANNEL = np.arange(OFFERS * CHANNELS) % CHANNELS
CHANNEL_NAMES = ("outbound", "sms", "app", "hall", "manager", "wechat")
OPEN_CHANNEL = 2  # the app has no capacity to run out of
BY_PEOPLE = (0, 3, 4)  # every city wants its own people busy
CAPACITY = np.array([600e3, 8e6, np.inf, 1e6, 500e3, 3e6]) / 67e6
BUDGET = np.array([3e6, 4e6, 6e6, 7e6, 7e6, 5e6]) * 3 / 67e6
UNIT_COST = np.array([1.0, 1.5, 2, 3, 4, 6])
MARGIN = np.array([8.0, 12, 20, 30, 45, 60])
EFFECT = np.array([1.6, 0.35, 0.5, 1.8, 1.3, 0.55])
CONTACT_COST = np.array([2.0, 0.05, 0.01, 0.8, 2.5, 0.03])
CHUNK = 500_000
SHARE = np.arange(1, CITIES + 1) ** -0.6 / (np.arange(1, CITIES + 1) ** -0.6).sum()


@njit(cache=True, nogil=True)
def _fill(first, last, seed, city, wealth, margin, effect, contact_cost, value):
    np.random.seed(seed)
    fits, reached = np.empty(6, np.bool_), np.empty(6, np.bool_)
    for i in range(first, last):
        taste = 0.6 * np.random.randn()
        for o in range(6):
            fits[o] = np.random.random() < 0.55
            reached[o] = np.random.random() < 0.55
        for o in range(6):
            chance = 1 / (1 + math.exp(3.2 - taste - 0.8 * np.random.randn()))
            base = chance * margin[o] * wealth[city[i]]
            for c in range(6):
                worth = base * effect[c] * math.exp(0.2 * np.random.randn()) - contact_cost[c]
                value[i, o * 6 + c] = worth if fits[o] and reached[c] else np.nan


def campaign(n: int, seed: int = 1) -> tuple[Pairs, list[Limit]]:
    """Make the case for ``n`` customers; values are float32."""
    rng = random_stream(seed, "bench", "allocation")
    city = rng.choice(CITIES, n, p=SHARE).astype(np.uint8)
    wealth = rng.permutation(np.linspace(1.5, 0.6, CITIES))
    parts = []
    for at in range(0, n, CHUNK):
        block = city[at : at + CHUNK]
        value = np.empty((len(block), OFFERS * CHANNELS), dtype=np.float32)
        parts.append((block, value))
        on_each_part(
            lambda a, b, at=at, block=block, value=value: _fill(
                a, b, seed * 1_000_003 + at + a, block, wealth, MARGIN, EFFECT, CONTACT_COST, value
            ),
            len(block),
            parts=2,
        )
        parts[-1] = open_pairs(value, block, CITIES)
    return _joined(parts, city), limits_of(n)


def _joined(parts: list[Pairs], city: np.ndarray) -> Pairs:
    sizes = [part.n_pairs for part in parts]
    candidate = np.empty(sum(sizes), dtype=np.uint8)
    value = np.empty(sum(sizes), dtype=np.float32)
    start = np.empty(len(city) + 1, dtype=np.int64)
    start[0] = pair = customer = 0
    while parts:
        part = parts.pop(0)
        candidate[pair : pair + part.n_pairs] = part.candidate
        value[pair : pair + part.n_pairs] = part.value
        start[customer + 1 : customer + 1 + part.n_customers] = part.start[1:] + pair
        pair, customer = pair + part.n_pairs, customer + part.n_customers
    return Pairs(start, candidate, value, OFFERS * CHANNELS, city, CITIES)


def limits_of(n: int) -> list[Limit]:
    """Return the case's limits: 5 capacities, 6 budgets, 55 maxima and 33 minima."""
    on = [(channel == CHANNEL).astype(float) for channel in range(CHANNELS)]
    busy = [c for c in range(CHANNELS) if c != OPEN_CHANNEL]
    cities = np.eye(CITIES, dtype=np.bool_)
    limits = [Limit(CHANNEL_NAMES[c], "capacity", on[c], np.floor(CAPACITY[c] * n)) for c in busy]
    limits += [
        Limit(f"budget {o}", "budget", np.where(o == OFFER, UNIT_COST[o], 0), np.floor(b * n))
        for o, b in enumerate(BUDGET)
    ]
    for city in range(CITIES):
        for c in busy:
            most = 1.25 * SHARE[city] * CAPACITY[c] * n
            name = f"{CHANNEL_NAMES[c]} in city {city}"
            limits.append(Limit(name, "maximum", on[c], np.floor(most), cities[city]))
            if c in BY_PEOPLE:
                least = 0.6 * SHARE[city] * CAPACITY[c] * n
                limits.append(
                    Limit(f"{name}, least", "minimum", on[c], np.ceil(least), cities[city])
                )
    return limits


def spaced_rules() -> ContactRules:
    """Return the rules of the second case: two contacts each, and days between them.

    Offers take place 15 days after each other. No outbound call within 90 days of one, no text
    within 30 days of one, no hall or manager visit within 20 days of a call, and an offer once.
    """
    channel = {name: CHANNEL_NAMES.index(name) == CHANNEL for name in CHANNEL_NAMES}
    visit = channel["hall"] | channel["manager"]
    lags = [
        Lag(channel["outbound"], channel["outbound"], 90),
        Lag(channel["sms"], channel["sms"], 30),
        Lag(channel["outbound"], visit, 20),
        Lag(visit, channel["outbound"], 20),
    ]
    lags += [Lag(o == OFFER, o == OFFER, 0) for o in range(OFFERS)]
    return ContactRules.spaced((OFFER * 15).tolist(), lags, most=2)
