"""A crowd of customers with ties, gaps and a goal that hangs on known tags."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from bihuan.kernel import random_stream

CITIES = ("石家庄", "保定", "唐山")


def crowd(size: int, seed: int = 7) -> list[dict[str, Any]]:
    """Customers in whom ``on_red_list`` hangs on arpu (rising), city, and nothing else."""
    rng = random_stream(seed, "crowd")
    arpu = np.round(rng.gamma(2.0, 40.0, size) * 2) / 2  # halves: many ties
    city = rng.integers(0, 3, size)
    chance = np.clip(0.03 + arpu / 600 + 0.08 * (city == 1), 0, 0.9)
    event = rng.random(size) < chance
    tenure = rng.integers(0, 120, size)
    gaps = rng.random((size, 4)) < (0.1, 0.2, 0.05, 0.3)
    score = np.clip(chance + rng.normal(0, 0.02, size), 0, 1)
    rows: list[dict[str, Any]] = []
    for i in range(size):
        row: dict[str, Any] = {
            "customer_id": f"C{i:06d}",
            "arpu": None if gaps[i, 0] else Decimal(str(arpu[i])),
            "tenure_months": None if gaps[i, 1] else int(tenure[i]),
            "city": None if gaps[i, 2] else CITIES[city[i]],
            "churn_score": None if gaps[i, 3] else float(score[i]),
            "mms_count": int(rng.integers(0, 5)),
            "has_contract": bool(rng.random() < 0.4),
            "on_red_list": bool(event[i]),
            "brand": f"brand {i}",
            "balance": Decimal(int(tenure[i]) * 37 + 448) / 100,
        }
        rows.append({name: value for name, value in row.items() if value is not None})
    return rows
