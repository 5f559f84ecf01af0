"""A rehearsal on the twin's lake: nothing is carried out, and what is foretold comes true."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import bihuan as bh
from bihuan.data import DuckDBEngine
from bihuan.decision import Override
from bihuan.decision.rehearsal import Assumptions, DailyCapacity
from bihuan.delivery import GatePolicy
from bihuan.feedback import read_outcomes
from bihuan.kernel import (
    Cancelled,
    CancelToken,
    FixedClock,
    NotEstimable,
    SilentProgress,
    UserError,
)
from bihuan.kernel.document import DocumentError
from bihuan.offer import NotOnSaleError, RetiredOfferError, UnfairPriceError
from bihuan.step import DecisionRules
from bihuan.step.rehearse import Known, RehearsalRefusedError, rehearse
from bihuan.step.rehearse_lake import _bands, read_history, read_live
from bihuan.step.rehearse_terms import RehearsalTerms, Trait, load_terms
from bihuan.strategy import load_campaign
from bihuan.tag import LIBRARY_FOLDER
from bihuan.twin import SimulatedChannels, TwinSettings, generate_operator

OCTOBER = date(2026, 10, 31)
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)
LATER = datetime(2026, 12, 2, 6, tzinfo=UTC)
OFFERS = """
offers:
  - {offer_id: keep, title: {zh: 合约, en: Contract}, kind: contract, price: 10, months: 12,
     margin: 60, cost: 20, channels: [outbound, sms, app]}
  - {offer_id: pack, title: {zh: 流量包, en: Pack}, kind: addon, price: 20, months: 6,
     margin: 40, cost: 5, eligibility: "dou >= 2000", channels: [sms, app]}
"""
CAMPAIGN = """
campaign_id: %(id)s
title: {zh: 保有, en: Keep}
goal: {metric: %(metric)s, target: %(target)s, reason: {zh: 甲, en: A}, needs: {zh: 乙, en: B},
       starts_on: %(start)s, ends_on: %(end)s}
audience: "%(audience)s"
control_share: %(control)s
budget: %(budget)s
channels:
  outbound: {capacity: 250, unit_cost: 2.0}
  sms: {capacity: 500, unit_cost: 0.05}
  app: {capacity: 300, unit_cost: 0.01}
scripts: {s: {zh: 您好, en: Hello}}
mix:
  - offer: keep
    promotion: {zh: 返费, en: credit}
    channels: {outbound: {script: s, acceptance: %(call)s}, sms: {script: s, acceptance: %(text)s}}
  - offer: pack
    promotion: {zh: 半价, en: half price}
    channels: {sms: {script: s, acceptance: %(text)s}, app: {script: s, acceptance: %(push)s}}
action_plan:
  - {what: {zh: 培训, en: Brief}, post: planner, starts_on: %(start)s, ends_on: %(start)s}
  - {what: {zh: 执行, en: Carry out}, post: channel_operator, starts_on: %(open)s, ends_on: %(end)s}
requirements:
  - {text: {zh: 不少于三百户, en: At least 300}, check: audience_at_least, value: 300}
  - {text: {zh: 已培训, en: Seats are briefed}, check: by_hand}
"""
PLAIN = {
    "id": "first", "metric": "accepted", "target": 0.05, "start": "2026-11-01", "open":
    "2026-11-03", "end": "2026-11-30", "audience": "arpu >= 20 and not is_disconnected",
    "control": 0.2, "budget": 20000, "call": 0.2, "text": 0.08, "push": 0.1,
}  # fmt: skip
DECEMBER = {"id": "second", "start": "2026-12-03", "open": "2026-12-05", "end": "2026-12-31"}

NOVEMBER = {"id": "rival", "start": "2026-11-10", "open": "2026-11-10", "end": "2026-11-20"}


def open_at(folder, now=NOW):
    return bh.open_workspace(folder, clock=FixedClock(now), engine=DuckDBEngine(threads=1))


def define(ws, kind: str, name: str, text: str) -> None:
    (ws.layout.root / kind / f"{name}.yaml").write_text(text, encoding="utf-8")


def campaign(ws, **changes):
    """Return a campaign that stands in no file of the workspace."""
    path = ws.layout.root / "draft.yaml"
    path.write_text(CAMPAIGN % (PLAIN | changes), encoding="utf-8")
    return load_campaign(path, ws.catalogue)


@pytest.fixture(scope="module")
def operator(tmp_path_factory):
    """The simulated operator, nothing tried yet; read only but for content-addressed audiences."""
    folder = tmp_path_factory.mktemp("rehearse") / "ws"
    ws = open_at(folder)
    for file in LIBRARY_FOLDER.glob("*.yaml"):
        shutil.copy(file, folder / "tags" / file.name)
    ws = open_at(folder)
    twin = generate_operator(
        TwinSettings(customers=2500, months=2, seed=7), ws.lake, ws.contracts,
        offer_ids=("keep", "pack"), clock=ws.clock, progress=ws.progress,
    )  # fmt: skip
    ws.refresh_tags(OCTOBER)
    define(ws, "offers", "o", OFFERS)
    return SimpleNamespace(ws=open_at(folder), folder=folder, truth=twin.truth)


@pytest.fixture(scope="module")
def plain(operator):
    """The first campaign rehearsed by the defaults."""
    return rehearse(operator.ws.rooms, campaign(operator.ws), OCTOBER)


@pytest.fixture(scope="module")
def tried(operator, tmp_path_factory):
    """The operator a month later: the first campaign has been carried out and has ended."""
    folder = tmp_path_factory.mktemp("tried") / "ws"
    shutil.copytree(operator.folder, folder)
    ws = open_at(folder)
    define(ws, "campaigns", "first", CAMPAIGN % PLAIN)
    ws.decide("first", OCTOBER, confirmed=frozenset({"Seats are briefed"}))
    deployment = ws.deploy("first", OCTOBER)
    ws.clock.advance(timedelta(days=1))
    channels = SimulatedChannels(operator.truth, {}, {}, seed=5, clock=ws.clock)
    hours = dict.fromkeys(("outbound", "sms", "app"))
    ws.send("first", channels, policy=GatePolicy(hours=hours))
    return SimpleNamespace(
        ws=open_at(folder, LATER), folder=folder, truth=operator.truth, deployment=deployment
    )


def true_claims(tried, factor: float = 1.0) -> dict[tuple[str, str], float]:
    """Return the twin's mean rates, times a factor."""
    truth, rows = tried.truth, np.arange(len(tried.truth.customer_ids))
    return {
        (offer, channel): factor
        * truth.channels[channel].delivered
        * float((truth.connect(rows, channel) * truth.accept(rows, offer, channel)).mean())
        for offer, channel in (
            ("keep", "outbound"), ("keep", "sms"), ("pack", "sms"), ("pack", "app")
        )
    }  # fmt: skip


class TestNothingHappens:
    def test_no_decision_no_assignment_no_contact_is_written(self, operator):
        before = {t: operator.ws.view.heads[t] for t in operator.ws.view.tables}
        rehearse(operator.ws.rooms, campaign(operator.ws), OCTOBER)
        after = operator.ws.view.heads
        changed = {table for table in after if after[table] != before.get(table)}
        assert all(table.startswith("audience__") for table in changed)
        assert "decision" not in after
        assert "deployment" not in after

    def test_a_preparation_for_an_own_campaign_without_file(self, operator):
        assert operator.ws.list_campaigns() == []


class TestFacts:
    def test_the_same_is_found_again(self, operator, plain):
        again = rehearse(operator.ws.rooms, campaign(operator.ws), OCTOBER)
        assert again.rehearsal_id == plain.rehearsal_id
        assert again.findings == plain.findings

    def test_what_is_rehearsed_is_what_would_be_decided(self, tried, plain):
        found = plain.findings
        logged = tried.ws.decisions("first", OCTOBER)
        arms = logged.decisions["arm"].to_pylist()
        assert found.reach[-1].left == arms.count("treatment")
        assert found.reach[-1].dropped == arms.count("control")
        assert (found.certificate.value, found.certificate.gap) == (logged.value, logged.gap)
        assert found.design.treatment == arms.count("treatment")
        assert found.forecast.contacts == tried.deployment.planned
        for fact, limit in zip(found.certificate.limits, logged.limits, strict=True):
            assert (fact.name, fact.usage, fact.bound) == (
                limit["name"], limit["usage"], limit["bound"],
            )  # fmt: skip
        reasons = [stage["customers_dropped"] for stage in logged.stages]
        funnel = [s for s in found.reach if s.phase not in ("audience", "suppression")][:-2]
        assert [step.dropped for step in funnel] == reasons

    def test_load_stays_within_the_days_of_contact(self, plain):
        found = plain.findings
        days = {day.day for day in found.load.days}
        assert (min(days), max(days), len(days)) == (date(2026, 11, 3), date(2026, 11, 30), 28)
        planned = sum(day.planned for day in found.load.days)
        assert planned + found.load.overflow == pytest.approx(found.forecast.contacts)
        assert found.load.peak <= 1 + 1e-9
        calls = [day for day in found.load.days if day.channel == "outbound"]
        assert calls[0].capacity == pytest.approx(250 / 28)

    def test_fewer_seats_a_day_than_the_plan_needs_fail_it(self, operator):
        terms = RehearsalTerms(
            capacity=DailyCapacity({"outbound": 5.0}, {}), rest_days=frozenset({5, 6})
        )
        found = rehearse(operator.ws.rooms, campaign(operator.ws), OCTOBER, terms=terms)
        days = {day.day.weekday() for day in found.findings.load.days}
        assert days == {0, 1, 2, 3, 4}
        calls = sum(d.planned for d in found.findings.load.desks if d.channel == "outbound")
        assert found.findings.load.overflow == pytest.approx(calls - 5 * 20)
        feasible = found.judgement("feasibility")
        assert feasible.fact("overflow").verdict == "fail"
        assert feasible.fact("overflow").note["en"] == "Tightest: outbound"

    def test_preconditions_are_facts_until_somebody_confirms(self, operator, plain):
        plan = campaign(operator.ws)
        unmet = plain.judgement("feasibility").fact("unmet")
        assert (unmet.verdict, unmet.note["zh"]) == ("fail", "已培训")
        terms = RehearsalTerms(confirmed=frozenset({"Seats are briefed"}))
        met = rehearse(operator.ws.rooms, plan, OCTOBER, terms=terms)
        assert met.judgement("feasibility").fact("unmet").verdict == "pass"

    def test_a_control_group_too_small_to_show_the_goal_fails(self, operator):
        few = rehearse(operator.ws.rooms, campaign(operator.ws, control=0.005, target=0.001,
                                                   metric="retained"), OCTOBER)  # fmt: skip
        power = few.judgement("soundness").fact("power")
        assert (power.verdict, few.judgement("soundness").verdict) == ("fail", "fail")
        seen = few.findings.design.detectable
        assert isinstance(seen, NotEstimable) or seen > 0.001
        none = rehearse(operator.ws.rooms, campaign(operator.ws, control=0), OCTOBER)
        assert none.findings.design.control == 0
        assert none.findings.design.power == 0.0
        assert isinstance(none.findings.design.detectable, NotEstimable)

    @pytest.mark.parametrize("metric", ["retained", "revenue", "ordered", "accepted"])
    def test_every_goal_has_a_level_without_contact(self, operator, metric):
        found = rehearse(
            operator.ws.rooms, campaign(operator.ws, metric=metric, target=0.02), OCTOBER
        ).findings
        base = found.design.base
        assert not isinstance(base, NotEstimable)
        assert {"retained": 0.9 < base < 1, "revenue": base > 20}.get(metric, base == 0)
        # neither how many orders follow nor who would have left is known here
        is_known = not isinstance(found.forecast.effect, NotEstimable)
        assert is_known == (metric in ("revenue", "accepted"))

    def test_groups_are_compared_by_the_tags_named(self, operator):
        terms = RehearsalTerms(traits=(Trait("age", (30, 60)), Trait("gender"), Trait("nonsense")))
        plan = campaign(operator.ws, audience="age >= 18 and arpu >= 20 and not is_disconnected")
        found = rehearse(operator.ws.rooms, plan, OCTOBER, terms=terms).findings.fairness
        assert [trait.trait for trait in found] == ["age", "gender"]
        assert {g.value for g in found[0].groups} == {"<30", "30–60", "≥60"}
        considered = sum(group.considered for group in found[0].groups)
        assert considered == sum(group.considered for group in found[1].groups)

    def test_a_sample_foretells_the_whole(self, operator, plain):
        plan, whole = campaign(operator.ws), plain
        part = rehearse(operator.ws.rooms, plan, OCTOBER, terms=RehearsalTerms(sample=0.4))
        assert part.sample.size == round(0.4 * part.sample.population)
        assert part.findings.reach[0] == whole.findings.reach[0]
        for small, large in zip(part.findings.reach, whole.findings.reach, strict=True):
            assert abs(small.left - large.left) <= 4 * small.error + 1, small.name
        a, b = part.findings.forecast.conversions, whole.findings.forecast.conversions
        assert a.mean == pytest.approx(b.mean, rel=0.15)
        other = rehearse(
            operator.ws.rooms, plan, OCTOBER, terms=RehearsalTerms(sample=0.4, seed=99)
        )
        assert other.findings.fairness != part.findings.fairness


class TestRules:
    """Levers, policies and overrides of the workspace act as they would in the decision."""

    def test_what_people_laid_down_is_rehearsed_too(self, operator):
        plan = campaign(operator.ws, control=0)
        before = rehearse(operator.ws.rooms, plan, OCTOBER).findings
        rows = operator.ws.members("arpu >= 20 and not is_disconnected and dou >= 2000", OCTOBER)
        people = rows["customer_id"].to_pylist()[:40]
        laid = {"campaign_id": "first", "by": "planner", "reason": "asked for it", "at": NOW}
        forbidden = tuple(Override(customer, action="forbid", **laid) for customer in people)
        found = rehearse(
            operator.ws.rooms, plan, OCTOBER, known=Known(rules=DecisionRules(overrides=forbidden))
        ).findings
        by_hand = [step for step in found.reach if step.name == "by_hand"]
        assert 0 < by_hand[0].dropped <= 40
        assert found.forecast.contacts <= before.forecast.contacts
        forced = tuple(
            Override(customer, action="force", offer_id="pack", channel="sms", **laid)
            for customer in people
        )
        found = rehearse(
            operator.ws.rooms, plan, OCTOBER, known=Known(rules=DecisionRules(overrides=forced))
        ).findings
        cells = [{(c.offer_id, c.channel): c.contacts for c in f.forecast.cells}
                 for f in (before, found)]  # fmt: skip
        assert ("pack", "sms") not in cells[0]
        assert 0 < cells[1]["pack", "sms"] <= 40

    def test_nothing_of_it_stays(self, operator, plain):
        """A lever that makes calls worth nothing empties them here and nowhere else."""
        off = DecisionRules(off=("margin", "propensity"))
        odd = rehearse(operator.ws.rooms, campaign(operator.ws), OCTOBER, known=Known(rules=off))
        assert all(c.channel != "outbound" for c in odd.findings.forecast.cells)
        assert any(c.channel == "outbound" for c in plain.findings.forecast.cells)


class TestHistory:
    def test_what_earlier_contacts_brought_is_counted_by_offer_and_channel(self, tried):
        history = read_history(tried.ws.rooms, date(2026, 12, 3))
        own = [row for row in history if row.campaign_id == "first"]
        outcomes = read_outcomes(tried.ws.view, tried.deployment.deployment_id)
        for stage, name in (("accepted", "accepted"), ("ordered", "ordered")):
            of_stage = outcomes.filter(pc.equal(outcomes["stage"], stage))
            assert sum(getattr(row, name) for row in own) == of_stage.num_rows
        assert sum(row.contacts for row in own) == tried.deployment.planned
        assert {(row.offer_id, row.channel) for row in own} <= set(true_claims(tried))
        routine = [row for row in history if row.campaign_id != "first"]
        assert {row.offer_id for row in routine} == {""}
        assert {row.channel for row in routine} <= {"outbound", "sms"}

    def test_a_campaign_that_still_runs_teaches_nothing_yet(self, tried):
        early = open_at(tried.folder, datetime(2026, 11, 20, tzinfo=UTC))
        history = read_history(early.rooms, date(2026, 12, 3))
        assert not [row for row in history if row.campaign_id == "first"]

    def test_contacts_after_the_start_are_not_known_before_it(self, tried):
        history = read_history(tried.ws.rooms, date(2026, 10, 1))
        months = {row.campaign_id for row in history}
        assert months == {"routine-2026-09"}

    def test_orders_are_expected_once_history_shows_them(self, tried):
        plan = campaign(tried.ws, **DECEMBER, metric="ordered")
        found = rehearse(tried.ws.rooms, plan, OCTOBER).findings.forecast
        rows = [r for r in read_history(tried.ws.rooms, date(2026, 12, 3)) if r.offer_id]
        share = sum(r.ordered for r in rows) / sum(r.accepted for r in rows)
        assert found.effect.mean == pytest.approx(
            share * found.conversions.mean / found.contacts, rel=1e-6
        )
        assert 0.75 < share < 0.95  # the twin completes 85 %


class TestAgainstTheTwin:
    """The planted defect: propensities twice too high."""

    TERMS = RehearsalTerms(
        assumptions=Assumptions(drift=0.0), confirmed=frozenset({"Seats are briefed"})
    )

    def run(self, tried, factor: float, terms=TERMS):
        known = Known(truth=tried.truth, acceptance=true_claims(tried, factor))
        plan = campaign(tried.ws, **DECEMBER, audience="arpu >= 15 and not is_disconnected")
        return rehearse(tried.ws.rooms, plan, OCTOBER, terms=terms, known=known)

    def test_honest_claims_pass_and_the_twin_agrees(self, tried):
        found = self.run(tried, 1.0)
        sound = found.judgement("soundness")
        assert sound.fact("misclaim").verdict == "pass"
        assert sound.fact("twin_distance").verdict == "pass"
        played = found.findings.simulation
        assert played.contacts == found.findings.forecast.contacts
        assert found.findings.forecast.conversions.contains(played.accepted)
        assert sum(cell[3] for cell in played.by_cell) == played.accepted
        assert abs(played.accepted - played.expected) < 4 * played.expected**0.5

    def test_claims_twice_too_high_fail_soundness(self, tried):
        found = self.run(tried, 2.0)
        sound = found.judgement("soundness")
        assert (sound.verdict, sound.fact("misclaim").verdict) == ("fail", "fail")
        assert sound.fact("misclaim").value == pytest.approx(2.0, rel=0.25)
        assert sound.score < 60
        expected, played = found.findings.forecast, found.findings.simulation
        assert expected.conversions.contains(played.accepted)
        assert not expected.conversions.contains(expected.claimed)

    def test_without_history_the_twin_alone_finds_it(self, tried):
        terms = replace(
            self.TERMS, against=("twin",),
            assumptions=Assumptions(common=0.15, channel=0.1, offer=0.1, cell=0.05, drift=0.0),
        )  # fmt: skip
        sound = self.run(tried, 2.0, terms).judgement("soundness")
        assert sound.fact("misclaim").verdict == "pass"
        assert sound.fact("backing").verdict == "warn"
        assert sound.fact("twin_distance").verdict == "fail"

    def test_without_the_twin_nothing_is_simulated(self, tried):
        terms = replace(self.TERMS, against=("history",))
        found = self.run(tried, 1.0, terms)
        assert found.findings.simulation is None
        with pytest.raises(KeyError):
            found.judgement("soundness").fact("twin_distance")

    def test_an_offer_that_the_twin_does_not_know_is_named(self, tried):
        small = replace(tried.truth, offers={"keep": tried.truth.offers["keep"]})
        with pytest.raises(UserError, match="does not simulate offer_id 'pack'"):
            rehearse(tried.ws.rooms, campaign(tried.ws, **DECEMBER), OCTOBER,
                     known=Known(truth=small))  # fmt: skip


class TestOthers:
    """What else is going on: the first campaign is live while a second is rehearsed."""

    def test_overlap_and_load_of_a_live_campaign(self, tried):
        ws = open_at(tried.folder, datetime(2026, 11, 5, tzinfo=UTC))
        plan = campaign(ws, **NOVEMBER)
        live = read_live(ws.rooms, plan, OCTOBER)
        assert set(live.periods) == {"first"}
        found = rehearse(ws.rooms, plan, OCTOBER)
        first = ws.decisions("first", OCTOBER).decisions
        treated = first.filter(pc.equal(first["arm"], "treatment"))["customer_id"]
        (meeting,) = found.findings.overlap.campaigns
        assert meeting.campaign_id == "first"
        assert 0 < meeting.both <= len(treated)
        assert found.judgement("reasonableness").fact("overlap").verdict == "fail"
        assert found.judgement("soundness").fact("spoilt_control").verdict == "fail"
        first_days = tried.deployment.valid_until - tried.deployment.valid_from
        busy = sum(d.live for d in found.findings.load.days if d.day == date(2026, 11, 12))
        assert busy == pytest.approx(len(treated) / (first_days.days + 1))

    def test_contacts_already_made_count_once(self, tried):
        ws = open_at(tried.folder, datetime(2026, 11, 5, tzinfo=UTC))
        found = rehearse(ws.rooms, campaign(ws, **NOVEMBER), OCTOBER).findings
        month = found.fatigue[0]
        both = found.overlap.campaigns[0].both
        # met by the first campaign and by this one, and by the routine of October in a few cases
        assert both <= sum(month.customers[1:]) <= both + 0.1 * month.customers[0]
        assert sum(month.customers[3:]) == 0

    def test_after_its_end_it_is_live_no_more(self, tried):
        plan = campaign(tried.ws, **DECEMBER)
        live = read_live(tried.ws.rooms, plan, date(2026, 11, 30))
        assert (dict(live.periods), live.rows.num_rows) == ({}, 0)

    def test_a_campaign_is_not_in_its_own_way(self, tried):
        ws = open_at(tried.folder, datetime(2026, 11, 5, tzinfo=UTC))
        plan = campaign(ws, **NOVEMBER | {"id": "first"})
        assert read_live(ws.rooms, plan, OCTOBER).rows.num_rows == 0


class TestRefusal:
    def with_offers(self, operator, tmp_path, text: str):
        folder = tmp_path / "ws"
        shutil.copytree(operator.folder, folder)
        ws = open_at(folder)
        define(ws, "offers", "o", text)
        return open_at(folder)

    @pytest.mark.parametrize(
        ("line", "error"),
        [("status: retired", RetiredOfferError), ("status: draft", NotOnSaleError),
         ("valid_until: 2026-11-15", RetiredOfferError)],
    )  # fmt: skip
    def test_an_offer_that_cannot_be_sold(self, operator, tmp_path, line, error):
        ws = self.with_offers(
            operator, tmp_path, OFFERS.replace("kind: addon,", f"kind: addon, {line},")
        )
        with pytest.raises(error, match="'pack'"):
            rehearse(ws.rooms, campaign(ws), OCTOBER)

    def test_a_pack_that_costs_more_on_a_higher_tier(self, operator, tmp_path):
        more = """
  - {offer_id: p59, title: {zh: 甲, en: A}, kind: plan, price: 59, margin: 1, family: p, tier: 1,
     channels: [hall]}
  - {offer_id: p99, title: {zh: 乙, en: B}, kind: plan, price: 99, margin: 1, family: p, tier: 2,
     channels: [hall]}
"""
        priced = "kind: addon, data_mb: 1024, prices_by_plan: {p59: 10, p99: 15},"
        ws = self.with_offers(operator, tmp_path, OFFERS.replace("kind: addon,", priced) + more)
        with pytest.raises(UnfairPriceError, match="pack"):
            rehearse(ws.rooms, campaign(ws), OCTOBER)

    def test_nobody_left(self, operator):
        plan = campaign(operator.ws, audience="arpu >= 100000")
        with pytest.raises(RehearsalRefusedError, match="Nobody is left"):
            rehearse(operator.ws.rooms, plan, OCTOBER)

    def test_against_something_else(self):
        with pytest.raises(UserError, match="rehearsed against 'gut feeling'"):
            RehearsalTerms(against=("gut feeling",))

    def test_a_stop_is_a_stop(self, operator):
        token = CancelToken()
        token.cancel()
        rooms = replace(operator.ws.rooms, progress=SilentProgress(token))
        with pytest.raises(Cancelled):
            rehearse(rooms, campaign(operator.ws), OCTOBER)


class TestTerms:
    def test_they_are_read_from_yaml(self, tmp_path):
        path = tmp_path / "rehearsal.yaml"
        path.write_text(
            """
windows: [{days: 7, most: 1}]
traits: [{tag: age, edges: [30, 60]}, {tag: city}]
daily_capacity: {outbound: {all: 208, units: {u1: 20}}}
posts: [seat]
rest_days: [sat, sun]
assumptions: {level: 0.8, draws: 500}
criteria: {gap: {pass_at: 0.001, fail_at: 0.002}, fairness: off}
""",
            encoding="utf-8",
        )
        terms = load_terms(path)
        assert terms.windows == {7: 1}
        assert terms.traits == (Trait("age", (30.0, 60.0)), Trait("city"))
        assert terms.capacity == DailyCapacity({"outbound": 208.0}, {("outbound", "u1"): 20.0})
        assert (terms.posts, terms.rest_days) == (("seat",), frozenset({5, 6}))
        assert (terms.assumptions.level, terms.assumptions.draws) == (0.8, 500)
        assert terms.assumptions.drift == Assumptions().drift
        by_name = {c.name: c for c in terms.criteria}
        assert by_name["gap"].fail_at == 0.002
        assert "fairness" not in by_name

    @pytest.mark.parametrize(
        ("text", "where"),
        [("window: []", "window is not a known field"),
         ("windows: [{days: 0, most: 1}]", r"windows\[0\]\.days"),
         ("traits: [{tag: age, edges: [60, 30]}]", r"traits\[0\]\.edges do not ascend"),
         ("traits: [{tag: age, edges: [old]}]", r"traits\[0\]\.edges are not numbers"),
         ("rest_days: [someday]", "rest_days names 'someday'"),
         ("daily_capacity: {sms: {all: -3}}", r"daily_capacity\.sms\.all is -3"),
         ("assumptions: {spread: 1}", "spread is not a known field")],
    )  # fmt: skip
    def test_a_wrong_field_is_named(self, tmp_path, text, where):
        path = tmp_path / "rehearsal.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DocumentError, match=rf"rehearsal\.yaml.*{where}"):
            load_terms(path)


def test_groups_are_text_whatever_the_tag_is():
    ages = pa.array([None, 10, 30, 59.9, 60, 99])
    assert _bands(ages, (30.0, 60.0)).to_pylist() == [
        None, "<30", "30–60", "30–60", "≥60", "≥60",
    ]  # fmt: skip
