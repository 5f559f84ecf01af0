"""Decisions and recommendations of a whole workspace with everything switched on."""

from __future__ import annotations

import importlib
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import bihuan as bh
from bihuan.data import DuckDBEngine, as_doubles
from bihuan.decision import ContactCap, LeverBook, Wish, load_triggers
from bihuan.kernel import FixedClock
from bihuan.pack import PACKS
from bihuan.step import DecisionRules, prepare_decision
from bihuan.step.facts import contacts_before, held_products
from bihuan.twin import TwinSettings, generate_operator

AS_OF = date(2026, 10, 31)
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)
OFFERS = """
offers:
  - {offer_id: keep_12, title: {zh: 话费合约, en: Bill-credit contract}, kind: contract,
     products: [contract_12], price: 0, months: 12, margin: {per_unit: 0.8, of: arpu}, cost: 5,
     eligibility: "not has_contract", channels: [outbound, sms, app]}
  - {offer_id: video_pass, title: {zh: 视频会员, en: Video pass}, kind: addon, category: data,
     products: [video], price: 15, months: 12, margin: {fixed: 15, per_unit: 0.005, of: dou},
     eligibility: "dou >= 1000", channels: [sms, app, outbound], traits: [light, scene],
     excludes: [plan_199]}
"""
CAMPAIGN = """
campaign_id: both
title: {zh: 组合活动, en: Both}
goal: {metric: ordered, target: 0.01, reason: {zh: 无, en: none}, needs: {zh: 无, en: none},
       starts_on: 2026-11-01, ends_on: 2026-11-30}
audience: "arpu >= 40"
control_share: 0.2
channels:
  outbound: {unit_cost: 2.0, capacity: 40, capacity_by_unit: {grid-130101-1: 0}}
  sms: {unit_cost: 0.05, capacity: 60}
  app: {unit_cost: 0.01, capacity: 50}
scripts: {call: {zh: 您好, en: Hello}}
mix:
  - offer: keep_12
    promotion: {zh: 返话费, en: credit}
    channels:
      outbound: {script: call, acceptance: 0.3}
      sms: {script: call, acceptance: 0.1}
  - offer: video_pass
    promotion: {zh: 首月免费, en: first month free}
    channels:
      outbound: {script: call, acceptance: 0.2}
      app: {script: call, acceptance: 0.14}
"""


def write(ws, kind, name, text):
    path = ws.layout.root / kind / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def open_at(folder):
    return bh.open_workspace(folder, clock=FixedClock(NOW), engine=DuckDBEngine(threads=1))


@pytest.fixture(scope="module")
def ws(tmp_path_factory):
    """Six hundred customers; sample policies, levers and moments; somebody stepped in."""
    made = open_at(tmp_path_factory.mktemp("operator"))
    generate_operator(
        TwinSettings(customers=600, months=4, seed=3), made.lake, made.contracts,
        offer_ids=("keep_12", "video_pass"), clock=made.clock, progress=made.progress,
    )  # fmt: skip
    for kind in ("policies", "levers", "moments", "offers"):
        for file in (PACKS["sample"] / kind).glob("*.yaml"):
            write(made, kind, file.stem, file.read_text(encoding="utf-8"))
    write(made, "offers", "own", OFFERS)
    write(made, "campaigns", "both", CAMPAIGN)
    made = open_at(made.layout.root)
    made.refresh_tags(AS_OF)
    ids = made.view.get("customer", AS_OF).read()["customer_id"].to_pylist()
    for i, customer in enumerate(ids[:40]):
        action = ("forbid", "force", "replace")[i % 3]
        offer = {"forbid": "", "force": "video_pass", "replace": "keep_12"}[action]
        made.recommender.override(customer, "both", action, by="经理", reason="约定",
                                  offer_id=offer)  # fmt: skip
    made.plan = made.decide("both", AS_OF)
    return made


@pytest.fixture(scope="module")
def ids(ws):
    return ws.view.get("customer", AS_OF).read()["customer_id"].to_pylist()


class TestEverythingSwitchedOn:
    def test_all_phases_have_taken_somebody(self, ws):
        stages = {c.name: c for c in ws.plan.funnel.counts}
        assert stages["cap_any_7d_3"].phase == "contact_policy"
        assert stages["cap_outbound_30d_1"].pairs_dropped > 0
        assert stages["policy"].phase == "applicability"
        assert stages["by_hand"].pairs_dropped > 0
        assert [p.name for p in ws.plan.funnel.by_phase()] == [
            "eligibility", "applicability", "suitability", "contact_policy", "value",
        ]  # fmt: skip
        assert ws.plan.funnel.by_phase()[0].customers_in == len(ws.plan.inputs.customer_id)
        assert np.ndim(ws.plan.inputs.context) == 2  # somebody is at a key moment
        assert ws.plan.inputs.lever.max() == 1.5

    def test_batch_and_single_agree(self, ws, ids):
        rows = {}
        for row in ws.recommender.for_customers(AS_OF).to_pylist():
            rows.setdefault(row["customer_id"], []).append(row)
        assert len(rows) > 100
        for customer in ids:
            single = ws.recommender.for_customer(customer, AS_OF).items
            assert [
                (i.offer_id, i.channel, i.net, i.charge, i.by_hand, i.reason["zh"], i.reason["en"])
                for i in single
            ] == [
                (r["offer_id"], r["channel"], r["net"], r["charge"], r["by_hand"], r["reason_zh"],
                 r["reason_en"])
                for r in rows.get(customer, [])
            ]  # fmt: skip

    def test_why_leads_where_the_log_says(self, ws, ids):
        reasons = set()
        for customer in ids:
            told = ws.recommender.why("both", customer, AS_OF)
            assert told.agrees, (customer, told.fell_at, told.logged)
            reasons.add(told.fell_at)
        assert {"", "by_hand", "not_eligible", "outside_audience"} <= reasons

    def test_nobody_called_last_month_is_called_again(self, ws):
        contact = pa.concat_tables(
            [ws.view.get("contact", d).read() for d in ws.view.dates("contact")]
        )
        on = pc.cast(contact["contacted_at"], pa.date32())
        recent = contact.filter(
            pc.and_(pc.equal(contact["channel"], "outbound"), pc.greater(on, date(2026, 10, 3)))
        )
        called = set(recent["customer_id"].to_pylist())
        now = {r["customer_id"] for r in ws.plan.decisions.to_pylist()
               if r["arm"] == "treatment" and r["channel"] == "outbound"}  # fmt: skip
        assert called
        assert now
        assert not called & now

    def test_a_policy_that_forbids_a_channel_is_kept(self, ws):
        class NoCalls:
            def allowed(self, unit_ids, candidates):
                open_ = [channel != "outbound" for _, channel in candidates]
                return np.tile(open_, (len(unit_ids), 1))

        rules = DecisionRules(policies=NoCalls())
        inputs = prepare_decision(
            ws.rooms, ws.campaign("both"), ws.target("both", AS_OF), rules=rules
        )
        stage = next(s for s in inputs.stages if s.name == "policy")
        calls = [c.channel == "outbound" for c in inputs.candidates]
        assert not stage.keep[:, calls].any()
        assert stage.keep[:, ~np.array(calls)].all()

    def test_without_rules_it_is_the_plain_decision(self, ws):
        inputs = prepare_decision(ws.rooms, ws.campaign("both"), ws.target("both", AS_OF))
        assert inputs.context == 1.0
        assert (inputs.lever == 1.0).all()
        assert inputs.overrides is None
        assert "policy" not in {s.name for s in inputs.stages}


class TestSeededDefects:
    def test_a_batch_with_prices_of_another_unit_is_noticed(self, ws, ids, monkeypatch):
        """Seeded defect: the batch forgets which unit a customer belongs to."""
        facts = importlib.import_module("bihuan.step.recommend")
        honest = facts.gather_cases

        def careless(*args, **kwargs):
            cases = honest(*args, **kwargs)
            return replace(cases, org_unit_id=pa.array(["grid-130101-1"] * len(ids)))

        monkeypatch.setattr(facts, "gather_cases", careless)
        assert ws.plan.allocation.prices["outbound @ grid-130101-1"] > 0
        wish = Wish(channel="outbound", top=1)
        rows = {r["customer_id"]: r for r in
                ws.recommender.for_customers(AS_OF, ids, wish=wish).to_pylist()}  # fmt: skip
        differ = 0
        for customer in ids:
            single = ws.recommender.for_customer(customer, AS_OF, channel="outbound", top=1).items
            charge = single[0].charge if single else None
            differ += charge != rows.get(customer, {"charge": None})["charge"]
        assert differ

    def test_a_contact_cap_counts_the_right_days(self, ws):
        rows = contacts_before(ws.view, date(2026, 11, 2), 30)
        days = rows["day"].to_pylist()
        assert days
        assert min(days) > date(2026, 10, 3)
        assert contacts_before(ws.view, date(2026, 11, 2), 0) is None
        cap = ContactCap("c", {}, 30, 1)
        assert not cap.allows([("sms", min(days))], date(2026, 11, 2))


class TestFacts:
    def test_main_plans_are_held_too(self, ws):
        held = held_products(ws.view, AS_OF)
        subscriptions = ws.view.get("subscription", AS_OF).read().to_pylist()
        expected = {
            (s["customer_id"], s["product_id"]) for s in subscriptions
            if s["status"] != "disconnected" and s["product_id"]
        }  # fmt: skip
        assert expected <= set(zip(*(held[c].to_pylist() for c in held.column_names), strict=True))
        assert expected

    def test_decimals_become_the_nearest_double(self):
        cents = np.random.default_rng(4).integers(-(10**9), 10**9, 20_000).tolist()
        exact = [Decimal(c) / 100 for c in cents]
        column = pa.chunked_array([pa.array([*exact, None], pa.decimal128(18, 2))])
        found = as_doubles(column)
        assert found[:-1].tolist() == [float(value) for value in exact]
        assert np.isnan(found[-1])
        by_arrow = column.cast(pa.float64()).to_numpy()  # seeded defect: Arrow's own cast
        assert (by_arrow[:-1] != found[:-1]).any()


class TestSamples:
    def test_sample_levers_and_triggers_are_readable_and_name_their_source(self):
        for kind, load in (("levers", LeverBook.load), ("triggers", lambda *p: load_triggers(p))):
            files = sorted((PACKS["sample"] / kind).glob("*.yaml"))
            assert files
            assert load(*files)
            assert all("本项目自拟" in file.read_text(encoding="utf-8") for file in files)
