"""P097: every platform puts the products first that it is best at (D-48 to D-51)."""

from __future__ import annotations

import shutil
from collections import Counter
from types import SimpleNamespace

import pytest

import bihuan as bh
from bihuan.decision import Wish
from bihuan.pack import PACKS

from .by_hand import OCTOBER, define, open_at
from .live_campaigns import campaign

SAMPLE = PACKS["sample"] / "levers" / "platforms.yaml"
TRAITS = ("light", "finance", "terminal", "home_internet", "preference", "scene")
OFFER = """
  - {{offer_id: {name}, title: {{zh: {name}, en: {name}}}, kind: service, products: [{name}],
     price: 5, months: 12, margin: {{fixed: {fixed}, per_unit: 0.05, of: arpu}}, cost: 0,
     channels: [outbound, hall, app, sms], traits: [{trait}]}}
"""
CHANNELS = ("outbound", "hall", "app", "sms")
FIRST = [
    ("outbound", {"light"}),  # D-48 the smart outbound platform
    ("hall", {"finance", "terminal", "home_internet"}),  # D-49 the pop-up of the business hall
    ("app", {"preference"}),  # D-50 the Internet entrance
    ("sms", {"scene"}),  # D-51 interactive SMS
]


def open_world(folder, source, *, levers: str | None, seats: int | None = None):
    """Six offers of nearly equal worth, the plain one a little better, on four platforms."""
    shutil.copytree(source, folder)
    ws = open_at(folder / "ws")
    offers = "offers:" + "".join(
        OFFER.format(name=trait, trait=trait, fixed=20) for trait in TRAITS
    )
    offers += OFFER.format(name="plain", trait="none", fixed=22)
    define(ws, "offers", "offers", offers)
    mix = [(name, dict.fromkeys(CHANNELS, 0.1)) for name in (*TRAITS, "plain")]
    define(
        ws, "campaigns", "all",
        campaign(
            "all", ("全渠道", "All channels"), mix, audience="arpu >= 5",
            seats=dict.fromkeys(CHANNELS, (seats, 0.1)), control=0.1,
        ),
    )  # fmt: skip
    if levers is not None:
        define(ws, "levers", "platforms", levers)
    return SimpleNamespace(ws=ws, folder=folder)


@pytest.fixture(scope="module")
def levered(operator, tmp_path_factory):
    text = SAMPLE.read_text(encoding="utf-8")
    return open_world(tmp_path_factory.mktemp("lever") / "op", operator.folder, levers=text)


@pytest.fixture(scope="module")
def plain(operator, tmp_path_factory):
    return open_world(tmp_path_factory.mktemp("plain") / "op", operator.folder, levers=None)


def ranked(world, channel):
    """Offers by rank over all customers, on one platform."""
    wish = Wish(channel=channel, top=7)
    rows = world.ws.recommender.for_customers(OCTOBER, wish=wish).to_pylist()
    by_customer: dict[str, list[str]] = {}
    for row in rows:
        by_customer.setdefault(row["customer_id"], []).append(row["offer_id"])
    return by_customer


@pytest.mark.mission("P097")
class TestPlatformsPutTheirProductsFirst:
    """D-48 light on outbound; D-49 finance, terminal, home Internet in halls; D-50 preference on
    the Internet; D-51 scene by SMS."""

    @pytest.mark.parametrize(("channel", "first"), FIRST)
    def test_d48_to_d51(self, levered, plain, channel, first):
        found = ranked(levered, channel)
        assert len(found) > 1000
        for offers in found.values():
            assert set(offers[: len(first)]) == first
            assert set(offers) == {*TRAITS, "plain"}  # first, not only: the others follow
        without = ranked(plain, channel)
        assert {offers[0] for offers in without.values()} == {"plain"}

    def test_plan_of_scarce_seats_follows(self, operator, tmp_path):
        """In the batch the seats of each platform go to its products."""
        text = SAMPLE.read_text(encoding="utf-8")
        world = open_world(tmp_path / "op", operator.folder, levers=text, seats=150)
        plan = world.ws.decide("all", OCTOBER)
        used = Counter(
            (row["channel"], row["offer_id"])
            for row in plan.decisions.to_pylist()
            if row["arm"] == "treatment"
        )
        for channel, first in FIRST:
            mine = {offer: n for (kind, offer), n in used.items() if kind == channel}
            assert sum(mine.values()) > 100
            assert set(mine) <= first

    def test_factor_is_shown_in_why(self, levered):
        ws = levered.ws
        ws.decide("all", OCTOBER)
        customer = next(iter(ranked(levered, "hall")))
        told = ws.recommender.why("all", customer, OCTOBER)
        levers = {(w.candidate.offer_id, w.candidate.channel): w.lever for w in told.weighed}
        assert levers["light", "outbound"] == 1.5
        assert levers["light", "hall"] == 1.0
        assert levers["terminal", "hall"] == 1.5


@pytest.mark.mission("P097")
class TestPlannersMayChangeThem:
    """Priorities are weights that can be overruled, not orders."""

    def test_another_factor_another_order(self, levered, tmp_path):
        shutil.copytree(levered.folder, tmp_path / "op")
        ws = open_at(tmp_path / "op" / "ws")
        file = ws.layout.root / "levers" / "platforms.yaml"
        text = file.read_text("utf-8")
        file.write_text(text.replace("traits: [light]", "traits: [finance]"), "utf-8")
        found = ranked(SimpleNamespace(ws=ws), "outbound")
        assert {offers[0] for offers in found.values()} == {"finance"}

    def test_a_slip_of_the_keyboard_is_named(self, levered, tmp_path):
        shutil.copytree(levered.folder, tmp_path / "op")
        ws = open_at(tmp_path / "op" / "ws")
        file = ws.layout.root / "levers" / "platforms.yaml"
        file.write_text(file.read_text("utf-8").replace("factor: 1.5", "factor: 15000", 1), "utf-8")
        with pytest.raises(bh.UserError, match=r"platforms.yaml.levers\[0\].factor is 15000"):
            ws.recommender.for_customers(OCTOBER)
