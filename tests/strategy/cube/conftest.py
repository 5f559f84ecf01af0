"""A made crowd with decisions of two campaigns, and the plain counts of any cell of its cube."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bihuan.audience import parse
from bihuan.kernel import random_stream
from bihuan.offer import Catalogue
from bihuan.strategy.cube import Axis, Band, CubeDefinition, CubeSources, build_cube

AS_OF = date(2026, 10, 31)
KINDS = {
    "dou": "number", "value_band": "string", "preferred": "string", "stage": "string",
    "needs_data": "boolean", "visits": "integer", "calls": "integer", "on_red_list": "boolean",
}  # fmt: skip
CODES = {"value_band": ("low", "high"), "stage": ("new", "old", "leaving"), "preferred": ("a", "b")}
OFFERS = """
offers:
  - {offer_id: pack, title: {zh: 包, en: Pack}, kind: addon, category: data, products: [p1],
     price: 10, margin: 5, eligibility: "dou >= 30", channels: [sms, app]}
  - {offer_id: line, title: {zh: 宽带, en: Line}, kind: plan, category: broadband, products: [p2],
     price: 90, margin: 50, eligibility: "value_band = 'high'", channels: [outbound, sms]}
  - {offer_id: gone, title: {zh: 旧, en: Old}, kind: addon, category: data, products: [p3],
     price: 1, margin: 1, channels: [mail], status: retired}
"""
PAIRS = {"pack": ("sms", "app"), "line": ("outbound", "sms")}
CATEGORY = {"pack": "data", "line": "broadband"}


def titled(text: str) -> dict[str, str]:
    return {"zh": text, "en": text}


def bands(*rules: tuple[str, str]) -> tuple[Band, ...]:
    return tuple(Band(code, titled(code), parse(rule)) for code, rule in rules)


AXES = (
    Axis("use", titled("use"), "behaviour", bands(("heavy", "dou >= 60"), ("light", "dou >= 20"))),
    Axis("need", titled("need"), "need", bands(("data", "needs_data"))),
    Axis("liking", titled("liking"), "preference",
         bands(("a", "preferred = 'a'"), ("b", "preferred = 'b'")), apart=True),
    Axis("value", titled("value"), "value",
         bands(("low", "value_band = 'low'"), ("high", "value_band = 'high'")), apart=True),
    Axis("stage", titled("stage"), "life_cycle",
         bands(*((code, f"stage = '{code}'") for code in ("new", "old", "leaving")))),
    Axis("scene", titled("scene"), "scene",
         bands(("online", "visits >= 2"), ("phone", "calls >= 1")), shared=True),
)  # fmt: skip


def crowd(n: int, seed: int) -> list[dict[str, Any]]:
    rng = random_stream(seed, "cube crowd")
    return [
        {
            "customer_id": f"c{i:05d}",
            "dou": float(np.round(rng.uniform(0, 100), 1)) if rng.random() > 0.1 else None,
            "value_band": [None, "low", "high"][rng.integers(3)],
            "preferred": [None, "a", "b"][rng.integers(3)],
            "stage": ["new", "old", "leaving"][rng.integers(3)],
            "needs_data": bool(rng.random() < 0.3),
            "visits": int(rng.integers(0, 4)),
            "calls": int(rng.integers(0, 3)),
            "on_red_list": bool(rng.random() < 0.1),
        }
        for i in range(n)
    ]


def can(row: dict[str, Any]) -> set[tuple[str, str]]:
    """Say by hand which business can be offered through which channel."""
    found = set()
    if row["dou"] is not None and row["dou"] >= 30:
        found |= {("data", "sms"), ("data", "app")}
    if row["value_band"] == "high":
        found |= {("broadband", "outbound"), ("broadband", "sms")}
    return found


def decide(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Decide two campaigns at random; the second looks at other customers than the first."""
    rng = random_stream(seed, "cube decisions")
    decisions = []
    for campaign, share in (("spring", 0.6), ("autumn", 0.5)):
        for row in rows:
            if row["on_red_list"] or rng.random() > share:
                continue
            offers = [o for o in PAIRS if any(b == CATEGORY[o] for b, _ in can(row))]
            base = {"decision_id": f"{campaign}-{row['customer_id']}", "campaign_id": campaign,
                    "customer_id": row["customer_id"], "step": None}  # fmt: skip
            if not offers or rng.random() < 0.4:
                reason = ["not_eligible", "opted_out", "no_value"][rng.integers(3)]
                reason = reason if offers else "not_eligible"
                decisions.append(base | {"arm": "none", "reason": reason})
                continue
            offer = offers[rng.integers(len(offers))]
            channel = PAIRS[offer][rng.integers(2)]
            arm = "control" if rng.random() < 0.25 else "treatment"
            decisions.append(
                base
                | {"arm": arm, "offer_id": offer, "channel": channel, "step": 1,
                   "propensity": float(rng.uniform(0.05, 0.3)),
                   "expected_value": float(rng.uniform(1, 9)),
                   "reason": "held_out" if arm == "control" else None}
            )  # fmt: skip
    return decisions


DECISION = pa.schema(
    [(name, pa.string()) for name in ("decision_id", "campaign_id", "customer_id", "arm",
                                      "offer_id", "channel", "reason")]
    + [("step", pa.int64()), ("propensity", pa.float64()), ("expected_value", pa.float64())]
)  # fmt: skip
STAGES = {name: titled(name) for name in ("not_eligible", "opted_out", "no_value")}


class World:
    """A crowd, its decisions, the cube, and the same counts by hand."""

    def __init__(self, make_tags: Any, engine: Any, folder: Path, *, n: int, seed: int) -> None:
        (folder / "offers.yaml").write_text(OFFERS, encoding="utf-8")
        self.catalogue = Catalogue.load(folder / "offers.yaml")
        self.rows = crowd(n, seed)
        self.decisions = decide(self.rows, seed)
        self.audience = [row["customer_id"] for row in self.rows if row["visits"] >= 1]
        self.tags = make_tags(KINDS, self.rows, codes=CODES)
        self.definition = CubeDefinition("made", titled("made"), AXES)
        self.engine = engine
        self.cube = self.build()

    def sources(self, **changes: Any) -> CubeSources:
        given = {
            "tags": self.tags,
            "catalogue": self.catalogue,
            "decisions": pa.Table.from_pylist(self.decisions, schema=DECISION),
            "stages": STAGES,
            "audiences": pa.table({"customer_id": pa.array(self.audience, pa.string())}),
            "gates": {"red_list": parse("on_red_list")},
        }
        return CubeSources(**(given | changes))

    def build(self, definition: CubeDefinition | None = None, **changes: Any) -> Any:
        return build_cube(
            definition or self.definition, self.sources(**changes), engine=self.engine
        )

    # by hand

    def places(self, row: dict[str, Any]) -> dict[str, list[str]]:
        dou = row["dou"]
        use = "none" if dou is None or dou < 20 else "heavy" if dou >= 60 else "light"
        scenes = ["online"] * (row["visits"] >= 2) + ["phone"] * (row["calls"] >= 1)
        return {
            "use": [use],
            "need": ["data" if row["needs_data"] else "none"],
            "liking": [row["preferred"] or "none"],
            "value": [row["value_band"] or "none"],
            "stage": [row["stage"]],
            "scene": scenes or ["none"],
        }

    def planned(self, customer: str) -> set[tuple[str, str]]:
        return {(CATEGORY[d["offer_id"]], d["channel"]) for d in self.decisions
                if d["customer_id"] == customer and d["arm"] != "none"}  # fmt: skip

    def fell(self, row: dict[str, Any]) -> str:
        mine = [d["reason"] for d in self.decisions if d["customer_id"] == row["customer_id"]]
        if mine:
            return max(mine, key=list(STAGES).index)
        if row["customer_id"] not in self.audience:
            return "outside_audience"
        return "red_list" if row["on_red_list"] else "suppressed"

    def count(self, axes: Sequence[str], within: Callable[..., bool] = lambda *_: True) -> dict:
        """Count every cell in the plainest way: customer by customer."""
        cells: dict[tuple[str, ...], Counter[str]] = {}
        for row in self.rows:
            places, may, plan = self.places(row), can(row), self.planned(row["customer_id"])
            if not within(places):
                continue
            for place in self._cells(axes, places, may | plan):
                here = {
                    (b, c) for b, c in plan
                    if place.get("business", b) == b and place.get("channel", c) == c
                }  # fmt: skip
                cell = cells.setdefault(tuple(place[a] for a in axes), Counter())
                cell["size"] += 1
                cell["covered"] += bool(here)
                if not here:
                    cell["planned_elsewhere" if plan else self.fell(row)] += 1
        return cells

    def _cells(self, axes: Sequence[str], places: dict, pairs: set) -> list[dict[str, str]]:
        found: list[dict[str, str]] = [{}]
        for axis in axes:
            if axis in ("business", "channel"):
                continue
            found = [place | {axis: code} for place in found for code in places[axis]]
        wanted = [axis for axis in ("business", "channel") if axis in axes]
        if not wanted:
            return found
        names = {("business", "channel"): lambda p: p, ("business",): lambda p: (p[0],),
                 ("channel",): lambda p: (p[1],)}[tuple(wanted)]  # fmt: skip
        spots = {names(pair) for pair in pairs}
        return [place | dict(zip(wanted, spot, strict=True)) for place in found for spot in spots]


@pytest.fixture(scope="session")
def make_world(make_tags: Any, engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return lambda n, seed: World(make_tags, engine, tmp_path_factory.mktemp("cube"), n=n, seed=seed)


@pytest.fixture(scope="session")
def world(make_world: Any) -> World:
    return make_world(600, 3)


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    return SimpleNamespace(titled=titled, bands=bands, axes=AXES, decision=DECISION, as_of=AS_OF)
