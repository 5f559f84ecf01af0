"""Limits of a campaign from its file to the log: counted by hand, missed by name, priced once."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from bihuan.cli import main
from bihuan.decision import explain
from bihuan.decision.rehearsal import judge_findings, rehearsal_text
from bihuan.step.limits import LimitUnitError

from .limited import AS_OF, CAMPAIGN, define, limited

OUTBOUND = "minimum outbound in city-1305"
PACK = "minimum video_pass · outbound in county-130201"
SALES = "sales at least sms"


@pytest.fixture(scope="module")
def op(tmp_path_factory):
    return limited(tmp_path_factory)


def contacts(op, name: str) -> list[dict]:
    return [r for r in op.plans[name].decisions.to_pylist() if r["arm"] == "treatment"]


def by_hand(op, name: str) -> dict[str, float]:
    """Count what the real contacts use of the six limits, from the rows and the tree alone."""
    rows = contacts(op, name)

    def inside(unit: str) -> list[dict]:
        return [r for r in rows if unit in op.tree.path(r["org_unit_id"])]

    return {
        OUTBOUND: sum(r["channel"] == "outbound" for r in inside("city-1305")),
        PACK: sum(
            (r["offer_id"], r["channel"]) == ("video_pass", "outbound")
            for r in inside("county-130201")
        ),
        "maximum app + sms in city-1302": sum(
            r["channel"] in ("sms", "app") for r in inside("city-1302")
        ),
        "sales at most keep_12": sum(r["propensity"] for r in rows if r["offer_id"] == "keep_12"),
        SALES: sum(r["propensity"] for r in rows if r["channel"] == "sms"),
        "budget outbound in city-1301": sum(
            r["cost"] + r["propensity"] * {"keep_12": 5.0}.get(r["offer_id"], 0.0)
            for r in inside("city-1301") if r["channel"] == "outbound"
        ),
    }  # fmt: skip


class TestDecided:
    def test_usage_of_every_limit_is_what_one_counts_by_hand(self, op):
        logged = {row["name"]: row for row in op.ws.decisions("limited", AS_OF).limits}
        counted = by_hand(op, "limited")
        assert set(counted) < set(logged)
        for name, usage in counted.items():
            assert logged[name]["usage"] == pytest.approx(usage), name
        kinds = {name: logged[name]["kind"] for name in counted}
        assert list(kinds.values()) == [
            "minimum", "minimum", "maximum", "sales", "minimum", "budget",
        ]  # fmt: skip

    def test_maxima_hold_and_the_plain_plan_would_break_them(self, op):
        found, plain = by_hand(op, "limited"), by_hand(op, "plain")
        bounds = {"maximum app + sms in city-1302": 20.0, "sales at most keep_12": 14.0,
                  "budget outbound in city-1301": 60.0}  # fmt: skip
        for name, bound in bounds.items():
            assert found[name] <= bound * (1 + 1e-9)
        broken = [name for name, bound in bounds.items() if plain[name] > bound]
        assert len(broken) >= 2

    def test_minima_draw_contacts_and_what_is_missing_is_named(self, op):
        found, plain = by_hand(op, "limited"), by_hand(op, "plain")
        assert plain[OUTBOUND] < found[OUTBOUND]
        record = op.ws.decisions("limited", AS_OF)
        prices = {row["name"]: row["price"] for row in record.limits}
        assert min(prices[name] for name in (OUTBOUND, PACK, SALES)) > 0
        assert found[SALES] == pytest.approx(2.4, rel=0.15)
        wanted = {OUTBOUND: 16.0, PACK: 500.0, SALES: 2.4}
        missing = {n: b - found[n] for n, b in wanted.items() if found[n] < b * (1 - 1e-9)}
        assert record.shortfall == pytest.approx(missing)
        assert PACK in missing
        assert all(row["shortfall"] == 0 for row in record.limits if row["kind"] != "minimum")

    def test_an_unreachable_minimum_takes_everybody_it_can(self, op):
        plan = op.plans["limited"]
        column = [c.name for c in plan.inputs.candidates].index("video_pass · outbound · 1")
        there = [
            i for i, unit in enumerate(plan.inputs.org_unit_id.to_pylist())
            if "county-130201" in op.tree.path(unit) and plan.value[i, column] > 0
        ]  # fmt: skip
        assert there
        assert (plan.allocation.choice[there] == column).all()

    def test_the_shortfall_is_that_of_the_real_contacts_not_of_the_plan_with_control(self, op):
        """Seeded defect: a certificate from the allocation forgets the held-out customers."""
        plan = op.plans["limited"]
        bounds = {use.name: use.bound for use in plan.allocation.limits}
        assert bounds[OUTBOUND] == pytest.approx(16 / 0.8)  # the floor was raised for the lot
        honest = op.ws.decisions("limited", AS_OF).shortfall
        assert honest[PACK] != pytest.approx(plan.allocation.shortfall[PACK])

    def test_a_unit_without_its_subtree_would_count_nobody(self, op, monkeypatch):
        """Seeded defect: members are those of the very unit, and customers sit in grids."""
        module = importlib.import_module("bihuan.step.limits")

        def bare(rooms, campaign, as_of):
            return {unit: frozenset({unit}) for unit, _ in module._named_units(campaign)}

        monkeypatch.setattr(module, "_subtrees", bare)
        decide = importlib.import_module("bihuan.step.decide")
        ws = op.ws
        inputs = decide.prepare_decision(
            ws.rooms, ws.campaign("limited"), ws.target("limited", AS_OF)
        )
        members = {limit.name: limit.members for limit in inputs.limits}
        assert not members[OUTBOUND].any()
        honest = {limit.name: limit.members for limit in op.plans["limited"].inputs.limits}
        assert honest[OUTBOUND].sum() > 20


class TestExpectedSales:
    def test_are_weighed_per_pair_where_the_chance_differs(self, op):
        more = "preferred_ways: factor\nlimits:\n  - {kind: sales_at_most, bound: 9}\n"
        define(op.ws, "campaigns", "both", CAMPAIGN % {"name": "both"} + more)
        plan = op.ws.decide("both", AS_OF)
        limit = next(x for x in plan.inputs.limits if x.kind == "sales")
        chance = np.minimum(plan.inputs.propensity * plan.inputs.context, 1.0)
        assert np.array_equal(limit.weight, chance)
        rows = np.flatnonzero(plan.contacts >= 0)
        sold = chance[rows, plan.contacts[rows]].sum()
        assert plan.real_usage()["sales at most overall"] == pytest.approx(sold)
        assert sold <= 9 * (1 + 1e-9)
        told = op.ws.decisions("both", AS_OF).prices
        assert told.left_out["sales at most overall"]["en"].startswith("it weighs contacts")
        assert "sales at most overall" not in {limit.name for limit in told.limits}
        (op.ws.layout.root / "campaigns" / "both.yaml").unlink()


class TestUnknownUnit:
    @pytest.mark.parametrize(
        ("old", "new", "field"),
        [
            ("", "limits:\n  - {kind: minimum, unit: city-131, bound: 3}\n",
             r"odd\.yaml\.limits\[0\]\.unit names the org unit 'city-131'"),
            ("capacity: 90", "capacity: 90, capacity_by_unit: {grid-9: 3}",
             r"odd\.yaml\.channels\.outbound\.capacity_by_unit names the org unit 'grid-9'"),
        ],
    )  # fmt: skip
    def test_is_refused_with_the_field_of_the_file(self, op, old, new, field):
        text = CAMPAIGN % {"name": "odd"}
        text = text.replace(old, new, 1) if old else text + new
        path = define(op.ws, "campaigns", "odd", text)
        with pytest.raises(LimitUnitError, match=field) as told:
            op.ws.decide("odd", AS_OF)
        assert "Did you mean" in told.value.remedy
        assert "odd.yaml" in told.value.zh
        assert "不存在" in told.value.zh
        with pytest.raises(LimitUnitError, match=field):
            op.ws.rehearsals.run("odd", AS_OF)
        path.unlink()

    def test_seats_of_a_unit_bind_all_under_it(self, op):
        text = CAMPAIGN.replace("capacity: 90", "capacity: 90, capacity_by_unit: {city-1301: 2}")
        path = define(op.ws, "campaigns", "seats", text % {"name": "seats"})
        rows = op.ws.decide("seats", AS_OF).decisions.to_pylist()
        path.unlink()
        calls = [r for r in rows if r["arm"] == "treatment" and r["channel"] == "outbound"
                 and "city-1301" in op.tree.path(r["org_unit_id"])]  # fmt: skip
        assert len(calls) == 2


class TestPrices:
    def test_a_minimum_is_a_bonus_in_all_its_units(self, op):
        book = op.ws.decisions("limited", AS_OF).prices
        floor = next(limit for limit in book.limits if limit.name == OUTBOUND)
        assert floor.price < 0
        assert floor.units == set(op.tree.subtree("city-1305"))
        assert not book.left_out

    def test_batch_and_single_agree_and_no_bonus_buys_a_loss(self, op):
        rows: dict[str, list] = {}
        for row in op.ws.recommender.for_customers(AS_OF).to_pylist():
            rows.setdefault(row["customer_id"], []).append(row)
        assert any(r["charge"] < 0 for found in rows.values() for r in found)
        assert all(r["value"] > 0 for found in rows.values() for r in found)
        for customer in op.ids[::3]:
            single = op.ws.recommender.for_customer(customer, AS_OF).items
            assert [(i.campaign_id, i.offer_id, i.channel, i.net, i.charge) for i in single] == [
                (r["campaign_id"], r["offer_id"], r["channel"], r["net"], r["charge"])
                for r in rows.get(customer, [])
            ]


@pytest.fixture(scope="module")
def found(op):
    return op.ws.rehearsals.run("limited", AS_OF)


class TestTold:
    def test_a_bonus_is_called_one_in_both_explanations(self, op):
        plan = op.plans["limited"]
        column = [c.name for c in plan.inputs.candidates].index("video_pass · outbound · 1")
        units = plan.inputs.org_unit_id.to_pylist()
        row = next(i for i, j in enumerate(plan.allocation.choice) if j == column
                   and "county-130201" in op.tree.path(units[i]))  # fmt: skip
        customer = plan.inputs.customer_id[row].as_py()
        zh, en = (explain(plan, customer, language).text for language in ("zh", "en"))
        assert "满足最低要求加分" in zh
        assert f"有助于满足最低要求:{PACK}" in zh
        assert "for the minimums it helps to meet, leaves" in en
        told = op.ws.recommender.why("limited", customer, AS_OF)
        assert told.weighed[0].charges[PACK] < 0
        assert "the minimums it helps to meet add" in told.text["en"]


class TestRehearsed:
    def test_shortfalls_are_those_of_the_decision(self, op, found):
        missed = {fact.name: fact.shortfall for fact in found.findings.certificate.missed}
        assert missed == op.ws.decisions("limited", AS_OF).shortfall
        assert found.findings.certificate.missed[0].name == PACK

    def test_they_count_against_feasibility(self, op, found):
        fact = found.judgement("feasibility").fact("shortfall")
        share = op.ws.decisions("limited", AS_OF).shortfall[PACK] / 500
        assert fact.value == pytest.approx(share)
        assert fact.verdict == "fail"
        assert PACK in fact.note["zh"]
        plain = op.ws.rehearsals.run("plain", AS_OF).judgement("feasibility")
        assert "shortfall" not in {fact.name for fact in plain.facts}

    def test_a_rehearsal_that_forgets_them_would_pass(self, found):
        """Seeded defect: shortfalls left at 0."""
        limits = tuple(replace(limit, shortfall=0.0) for limit in found.findings.certificate.limits)
        certificate = replace(found.findings.certificate, limits=limits)
        careless = replace(found.findings, certificate=certificate)
        judged = {j.name: j for j in judge_findings(careless, found.sample)}
        assert judged["feasibility"].fact("shortfall").verdict == "pass"

    def test_the_document_names_them(self, op, found):
        zh, en = (rehearsal_text(found, language) for language in ("zh", "en"))
        lacks = op.ws.decisions("limited", AS_OF).shortfall[PACK]
        assert f"- {PACK} lacks {lacks:g} of 500" in en
        assert "## 未满足的最低要求" in zh
        assert f"{PACK} 缺 {lacks:g}/500" in zh

    def test_a_sample_speaks_of_the_whole_audience(self, op):
        part = op.ws.rehearsals.run("limited", AS_OF, sample=0.5)
        fact = part.judgement("feasibility").fact("shortfall")
        assert "of 500" in fact.note["en"]
        assert fact.value == pytest.approx(0.97, abs=0.03)

    def test_is_filed_and_compared(self, op, found):
        again = op.ws.rehearsals.get(found.rehearsal_id)
        assert again.findings.certificate == found.findings.certificate
        plain = op.ws.rehearsals.run("plain", AS_OF)
        assert op.ws.rehearsals.compare(plain, found).line("shortfall").better == "a"


class TestCommands:
    @pytest.fixture
    def run(self, op, capsys, monkeypatch):
        def call(*words, language="zh"):
            monkeypatch.setenv("BIHUAN_LANG", language)
            words = ["bihuan", *words, "--workspace", str(op.folder)]
            monkeypatch.setattr(sys, "argv", words)
            main()
            return capsys.readouterr().out

        return call

    def test_decide_says_which_minima_are_missed(self, op, run):
        lacks = op.ws.decisions("limited", AS_OF).shortfall[PACK]
        zh = run("campaign", "decide", "limited", "--as-of", str(AS_OF))
        assert f"未满足的最低要求：{PACK}，缺 {lacks:g} / 500 次接触" in zh
        en = run("campaign", "decide", "limited", "--as-of", str(AS_OF), language="en")
        assert f"Minimum missed: {PACK}, lacks {lacks:g} / 500 (contact)" in en
        plain = json.loads(run("campaign", "decide", "limited", "--as-of", str(AS_OF), "--json"))
        assert plain["shortfall"][PACK] == lacks

    def test_rehearsal_show_says_it_too(self, run, found):
        assert PACK in run("rehearsal", "show", found.rehearsal_id)
        assert "lacks" in run("rehearsal", "show", found.rehearsal_id, language="en")
