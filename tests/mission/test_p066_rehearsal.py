"""P066 in part: a scheme is rehearsed on a sample and judged before anybody is contacted.

Steps two to four of the scheme workflow: planning (B-44), rehearsal (B-45), assessment (B-46).
Analysis, filing and approval (B-42, B-47, B-48) belong to the workflow itself.
"""

from __future__ import annotations

import itertools
import json
import shutil
from datetime import date, timedelta
from types import SimpleNamespace

import pytest

import bihuan as bh
from bihuan.decision.rehearsal import Rehearsal, judgement_text
from bihuan.delivery import GatePolicy
from bihuan.kernel import Cancelled, CancelToken, SilentProgress
from bihuan.offer import RetiredOfferError
from bihuan.twin import SimulatedChannels

OCTOBER = date(2026, 10, 31)
JUDGED = ("feasibility", "reasonableness", "soundness", "effect")


@pytest.fixture(scope="module")
def desk(operator, tools, campaign_file, tmp_path_factory) -> SimpleNamespace:
    """The operator with one campaign in its file, not decided."""
    folder = tmp_path_factory.mktemp("rehearsal") / "operator"
    shutil.copytree(operator.folder, folder)
    ws = tools.open_at(folder / "ws")
    tools.define(ws, "offers", "offers", tools.offers)
    tools.define(ws, "campaigns", "orders-2026-11", campaign_file())
    ws = tools.open_at(folder / "ws")
    return SimpleNamespace(ws=ws, folder=folder, truth=operator.truth, tools=tools)


@pytest.fixture
def own_desk(desk, tmp_path) -> SimpleNamespace:
    """A copy that a test may change."""
    shutil.copytree(desk.folder, tmp_path / "operator")
    shutil.rmtree(tmp_path / "operator" / "ws" / "rehearsals", ignore_errors=True)
    ws = desk.tools.open_at(tmp_path / "operator" / "ws")
    return SimpleNamespace(ws=ws, folder=tmp_path / "operator", truth=desk.truth, tools=desk.tools)


def draft(tmp_path, campaign_file, old: str = "", new: str = "", **changes):
    """Write a version of the scheme that stands in no folder of the workspace."""
    text = campaign_file(**changes)
    assert old in text
    path = tmp_path / "draft.yaml"
    path.write_text(text.replace(old, new) if old else text, encoding="utf-8")
    return path


class TestRehearsal:
    """B-44 marketing rules configured as a scheme; B-45 rehearsed on a sample customer group."""

    def test_b44_b45_a_draft_is_matched_with_a_sample_and_nobody_is_contacted(
        self, desk, tmp_path, campaign_file
    ) -> None:
        path = draft(tmp_path, campaign_file, audience="arpu >= 40 and not is_disconnected")
        found = desk.ws.rehearsals.run(path, OCTOBER, sample=600)
        assert found.sample.size == 600 < found.sample.population
        steps = found.findings.reach
        whole = desk.ws.count("arpu >= 40 and not is_disconnected", OCTOBER).members
        assert steps[0].left == whole
        assert [s.left for s in steps[1:]] == [
            a.left - b.dropped for a, b in itertools.pairwise(steps)
        ]
        assert {"suppression", "applicability", "value", "allocation"} <= {s.phase for s in steps}
        assert steps[-1].error > 0
        for table in ("decision", "deployment"):
            assert table not in desk.ws.view.tables
        with pytest.raises(bh.UserError, match="has not been decided"):
            desk.ws.decisions("orders-2026-11", OCTOBER)

    def test_b45_the_sample_speaks_for_what_is_then_decided(self, own_desk) -> None:
        ws = own_desk.ws
        sample = ws.rehearsals.run("orders-2026-11", OCTOBER, sample=0.5)
        whole = ws.rehearsals.run("orders-2026-11", OCTOBER)
        plan = ws.decide("orders-2026-11", OCTOBER)
        contacts = plan.decisions["arm"].to_pylist().count("treatment")
        assert whole.findings.reach[-1].left == contacts
        last = sample.findings.reach[-1]
        assert abs(last.left - contacts) <= 4 * last.error

    def test_b45_what_it_foretells_comes_true_on_the_twin(self, own_desk, campaign_file) -> None:
        ws = own_desk.ws
        ws.decide("orders-2026-11", OCTOBER)
        ws.deploy("orders-2026-11", OCTOBER)
        channels = SimulatedChannels(own_desk.truth, {}, {}, seed=3, clock=ws.clock)
        hours = dict.fromkeys(("outbound", "sms", "app"))
        ws.send("orders-2026-11", channels, policy=GatePolicy(hours=hours))
        ws.clock.advance(timedelta(days=30))
        second = campaign_file(
            campaign_id="orders-2026-12", starts_on="2026-12-03", ends_on="2026-12-31"
        )
        own_desk.tools.define(ws, "campaigns", "orders-2026-12", second)
        found = ws.rehearsals.run("orders-2026-12", OCTOBER, truth=own_desk.truth)
        played, expected = found.findings.simulation, found.findings.forecast
        assert expected.backing > 0.95  # every offer and channel has been tried by now
        assert expected.conversions.contains(played.accepted)
        # and propensities twice as high are not believed
        doubled = {(c.offer_id, c.channel): min(2 * c.claimed / c.contacts, 1)
                   for c in expected.cells}  # fmt: skip
        for item, channel in ws.campaign("orders-2026-12").candidates():
            doubled.setdefault((item.offer_id, channel), 2 * item.acceptance[channel])
        sound = ws.rehearsals.run(
            "orders-2026-12", OCTOBER, acceptance=doubled, truth=own_desk.truth
        ).judgement("soundness")
        assert sound.verdict == "fail"
        assert sound.fact("misclaim").verdict == "fail"


class TestAssessment:
    """B-46 feasibility, reasonableness, scientific soundness and expected effect are judged."""

    def test_b46_each_judgement_has_a_score_and_the_facts_behind_it(self, desk) -> None:
        found = desk.ws.rehearsals.run("orders-2026-11", OCTOBER, truth=desk.truth)
        assert tuple(j.name for j in found.judgements) == JUDGED
        assert [j.title["zh"] for j in found.judgements] == ["可行性", "合理性", "科学性", "成效"]
        for judgement in found.judgements:
            assert 0 <= judgement.score <= 100
            assert judgement.facts
            assert all(fact.title["zh"] and fact.title["en"] for fact in judgement.facts)
            text = judgement_text(judgement, "zh")
            assert text.startswith(f"{judgement.title['zh']} {round(judgement.score)} 分")
            for fact in judgement.facts:
                assert (fact.title["zh"] in text) == (fact.verdict != "pass")
        assert found.verdict == max(
            (j.verdict for j in found.judgements), key=("pass", "warn", "fail").index
        )

    @pytest.mark.parametrize(
        ("old", "new", "judgement", "fact"),
        [
            ("    value: 300", "    value: 90000", "feasibility", "unmet"),
            ("control_share: 0.3", "control_share: 0.001", "soundness", "power"),
            ("unit_cost: 2.0", "unit_cost: 14", "reasonableness", "cost_share"),
            ("target: 0.01", "target: 0.3", "effect", "goal_chance"),
        ],
        ids=["precondition", "control", "cost", "goal"],
    )
    def test_b46_a_fault_of_the_scheme_lowers_its_own_judgement(
        self, desk, tmp_path, campaign_file, old, new, judgement, fact
    ) -> None:
        def judged(old: str, new: str):
            if fact != "power":
                path = draft(tmp_path, campaign_file, old, new, metric="accepted")
            else:
                path = draft(tmp_path, campaign_file, old, new, metric="retained")
                text = path.read_text(encoding="utf-8")
                path.write_text(text.replace("target: 0.01", "target: 0.022"), encoding="utf-8")
            return desk.ws.rehearsals.run(path, OCTOBER).judgement(judgement)

        good, bad = judged("", ""), judged(old, new)
        assert bad.fact(fact).score < good.fact(fact).score
        assert bad.score < good.score

    def test_b46_thresholds_are_those_of_the_workspace(self, own_desk) -> None:
        (own_desk.ws.layout.root / "rehearsal.yaml").write_text(
            "criteria: {data_age: {pass_at: 1, fail_at: 2}}\n", encoding="utf-8"
        )
        found = own_desk.ws.rehearsals.run("orders-2026-11", OCTOBER)
        assert found.judgement("feasibility").fact("data_age").verdict == "fail"

    def test_b46_two_versions_stand_side_by_side(self, desk, tmp_path, campaign_file) -> None:
        dear = draft(tmp_path, campaign_file, "unit_cost: 2.0", "unit_cost: 9.0")
        a, b = desk.ws.rehearsals.run_many(["orders-2026-11", dear], OCTOBER)
        assert a.content_id != b.content_id
        both = desk.ws.rehearsals.compare(a.rehearsal_id, b.rehearsal_id)
        assert both.line("profit").better == "a"
        assert "profit_score" not in {line.name for line in both.lines}
        assert set(both.table()["better"].to_pylist()) <= {"a", "b", "same", ""}
        assert "loss_chance" in both.better_on("a")


class TestOnFile:
    """B-47 needs the result on record beside the scheme: filed, found again, the same."""

    def test_b47_it_is_filed_under_the_content_of_the_scheme(self, own_desk) -> None:
        ws = own_desk.ws
        found = ws.rehearsals.run("orders-2026-11", OCTOBER, sample=500)
        again = ws.rehearsals.run("orders-2026-11", OCTOBER, sample=500)
        assert again.rehearsal_id == found.rehearsal_id
        content = ws.campaign("orders-2026-11").content_id
        (file,) = (ws.layout.root / "rehearsals" / content).iterdir()
        assert Rehearsal.from_json(file.read_text(encoding="utf-8")) == found
        (entry,) = ws.rehearsals.list("orders-2026-11")
        assert (entry.rehearsal_id, entry.verdict) == (found.rehearsal_id, found.verdict)
        assert ws.rehearsals.get(entry.rehearsal_id) == found
        document = ws.rehearsals.text(entry.rehearsal_id, "zh")
        assert content in document
        assert all(title in document for title in ("可行性", "合理性", "科学性", "成效"))
        assert ws.rehearsals.list("another") == ()
        with pytest.raises(bh.UserError, match="no rehearsal 'nothing'"):
            ws.rehearsals.get("nothing")
        with pytest.raises(bh.UserError, match="no rehearsal"):
            ws.rehearsals.get("../../bihuan")

    def test_several_at_once_are_what_each_is_alone(self, desk, tmp_path, campaign_file) -> None:
        path = draft(tmp_path, campaign_file, audience="arpu >= 60 and not is_disconnected")
        together = desk.ws.rehearsals.run_many(
            ["orders-2026-11", path, "orders-2026-11"], OCTOBER, workers=3
        )
        alone = [desk.ws.rehearsals.run(plan, OCTOBER) for plan in ("orders-2026-11", path)]
        assert [r.rehearsal_id for r in together] == [
            alone[0].rehearsal_id, alone[1].rehearsal_id, alone[0].rehearsal_id,
        ]  # fmt: skip

    def test_one_that_is_refused_stops_the_others_and_files_nothing(
        self, own_desk, tmp_path, campaign_file
    ) -> None:
        empty = draft(tmp_path, campaign_file, audience="arpu >= 1000000")
        with pytest.raises(bh.UserError, match="Nobody is left"):
            own_desk.ws.rehearsals.run_many(["orders-2026-11", empty], OCTOBER)
        assert own_desk.ws.rehearsals.list() == ()

    def test_a_stop_reaches_all(self, own_desk) -> None:
        token = CancelToken()
        token.cancel()
        ws = bh.open_workspace(
            own_desk.folder / "ws", clock=own_desk.ws.clock, progress=SilentProgress(token)
        )
        with pytest.raises(Cancelled):
            ws.rehearsals.run_many(["orders-2026-11"] * 2, OCTOBER)
        assert ws.rehearsals.list() == ()


class TestRefusal:
    """A scheme with a retired offer or a policy not approved cannot be rehearsed and says why."""

    def test_a_retired_offer(self, own_desk) -> None:
        text = own_desk.tools.offers.replace("kind: addon", "kind: addon\n    status: retired")
        own_desk.tools.define(own_desk.ws, "offers", "offers", text)
        ws = own_desk.tools.open_at(own_desk.folder / "ws")
        with pytest.raises(RetiredOfferError, match="'data_pack' is retired") as told:
            ws.rehearsals.run("orders-2026-11", OCTOBER)
        assert "data_pack" in told.value.zh

    @pytest.mark.parametrize("status", ["draft", "approved"])
    def test_a_policy_that_is_not_approved(self, own_desk, status) -> None:
        policy = f"""
policies:
  - {{policy_id: calls, unit: province, kind: contract, status: {status}, channels: [sms, app, outbound]}}
"""
        own_desk.tools.define(own_desk.ws, "policies", "province", policy)
        ws = own_desk.tools.open_at(own_desk.folder / "ws")
        if status == "approved":
            assert ws.rehearsals.run("orders-2026-11", OCTOBER).findings.forecast.contacts > 0
            return
        with pytest.raises(bh.UserError, match="may not be rehearsed") as told:
            ws.rehearsals.run("orders-2026-11", OCTOBER)
        assert "calls" in str(told.value)
        assert "province" in str(told.value)


class TestShell:
    def test_run_and_compare(self, own_desk, tmp_path, campaign_file, shell) -> None:
        path = draft(tmp_path, campaign_file, "unit_cost: 2.0", "unit_cost: 9.0")
        ws = own_desk.folder / "ws"
        ran = shell("rehearsal", "run", "orders-2026-11", str(path), "--as-of", "2026-10-31",
                    "--sample", "40%", workspace=ws)  # fmt: skip
        assert ran.code == 0, ran.err
        ids = [rehearsal["rehearsal_id"] for rehearsal in ran.result]
        compared = shell("rehearsal", "compare", *ids, workspace=ws)
        assert {line["name"] for line in compared.result["lines"]} >= {"profit", "effect_score"}
        filed = list((ws / "rehearsals").glob("*/*.json"))
        assert {
            json.loads(file.read_text(encoding="utf-8"))["rehearsal_id"] for file in filed
        } == set(ids)
