from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from bihuan.decision import (
    Candidate,
    Case,
    Override,
    OverrideError,
    OverrideLog,
    Recommender,
    Situation,
    Stage,
    decide,
    override_masks,
)

AT = datetime(2026, 11, 1, 3, tzinfo=UTC)


def laid(
    customer, action, offer="", channel="", campaign="retention_2026_11", by="经理", why="约定"
):
    return Override(customer, campaign, action, by, why, AT, offer, channel)


class TestOverride:
    @pytest.mark.parametrize(
        "bad",
        [
            {"action": "push"}, {"by": " "}, {"why": ""}, {"action": "force"},
            {"action": "replace"}, {"customer": ""}, {"campaign": ""},
        ],
    )  # fmt: skip
    def test_says_who_what_and_why(self, bad):
        with pytest.raises(OverrideError, match="cannot be taken"):
            laid(**({"customer": "c1", "action": "forbid"} | bad))


class TestOverrideLog:
    def test_keeps_everything_and_knows_what_holds(self, tmp_path):
        log = OverrideLog(tmp_path / "folder" / "overrides.jsonl")
        assert log.read() == ()
        rows = [laid("c1", "forbid"), laid("c2", "force", "o"), laid("c1", "lift"),
                laid("c2", "replace", "o", "sms")]  # fmt: skip
        for row in rows:
            log.add(row)
        assert log.read() == tuple(rows)
        assert log.in_force() == (rows[3],)

    def test_the_half_line_of_a_killed_writer_is_dropped(self, tmp_path):
        path = tmp_path / "overrides.jsonl"
        log = OverrideLog(path)
        log.add(laid("c1", "forbid"))
        path.write_bytes(path.read_bytes() + b'{"customer_id": "c2", "cam')
        log.add(laid("c3", "forbid"))
        assert [o.customer_id for o in log.read()] == ["c1", "c3"]


class TestOverrideMasks:
    PAIRS = (Candidate("a", "sms"), Candidate("a", "app"), Candidate("b", "sms"))
    IDS = pa.array(["c1", "c2", "c3", "c4"])

    def test_force_forbid_replace(self):
        rows = [laid("c1", "force", "a"), laid("c2", "forbid", "b"), laid("c3", "forbid"),
                laid("c9", "forbid"), laid("c4", "forbid", campaign="other")]  # fmt: skip
        masks = override_masks(rows, "retention_2026_11", self.IDS, self.PAIRS)
        assert masks.keep.tolist() == [
            [True, True, False], [True, True, False], [False] * 3, [True] * 3,
        ]  # fmt: skip
        assert masks.forced.tolist() == [True, False, False, False]

    def test_what_the_campaign_does_not_do_is_refused(self):
        with pytest.raises(OverrideError, match="names 'b · app', which campaign"):
            override_masks([laid("c1", "force", "b", "app")], "retention_2026_11", self.IDS,
                           self.PAIRS)  # fmt: skip


def masks_for(inputs, rows):
    return override_masks(rows, inputs.campaign_id, inputs.customer_id, inputs.candidates)


def row_of(plan, customer):
    return next(r for r in plan.decisions.to_pylist() if r["customer_id"] == customer)


class TestDecideWithOverrides:
    def test_a_forced_contact_is_made_without_a_lot_and_says_so(self, make_inputs, clock):
        inputs = make_inputs(n=600, control_share=0.3)
        plan = decide(inputs, seed=1, clock=clock)
        left_out = [r["customer_id"] for r in plan.decisions.to_pylist()
                    if r["reason"] in ("over_limit", "no_value")][:12]  # fmt: skip
        rows = [laid(c, "force", "data_pack", "sms") for c in left_out]
        forced = make_inputs(n=600, control_share=0.3, overrides=masks_for(inputs, rows))
        after = decide(forced, seed=1, clock=clock)
        for customer in left_out:
            row = row_of(after, customer)
            assert (row["arm"], row["reason"], row["treatment_probability"]) == (
                "treatment", "forced_by_hand", 1.0,
            )  # fmt: skip
            assert (row["offer_id"], row["channel"], row["stratum"]) == (
                "data_pack", "sms", "by_hand",
            )  # fmt: skip
        usage = after.real_usage()
        assert all(usage[limit.name] <= limit.bound * (1 + 1e-9) for limit in inputs.limits)

    def test_hard_limits_bind_people_too(self, make_inputs, clock):
        inputs = make_inputs(n=600)
        everybody = inputs.customer_id.to_pylist()
        rows = [laid(c, "force", "data_pack") for c in everybody]  # 60 packs at most
        plan = decide(make_inputs(n=600, overrides=masks_for(inputs, rows)), seed=1, clock=clock)
        arms = plan.decisions.to_pylist()
        assert sum(r["arm"] == "treatment" for r in arms) <= 60
        assert {r["reason"] for r in arms if r["arm"] == "none"} == {"over_limit"}
        assert plan.real_usage()["packs"] <= 60

    def test_opt_outs_bind_people_too_and_value_does_not(self, make_inputs, clock):
        inputs = make_inputs(n=100)
        a, b = inputs.customer_id.to_pylist()[:2]
        rows = [laid(a, "force", "contract_12", "sms"), laid(b, "force", "contract_12", "sms")]
        opted_out = Stage("opted_out", {"en": "x"}, np.array([True] + [False] + [True] * 98))
        unfit = Stage("affordable", {"en": "x"}, np.zeros(100, dtype=bool), "suitability")
        plan = decide(
            make_inputs(n=100, overrides=masks_for(inputs, rows), stages=(opted_out, unfit)),
            seed=1, clock=clock,
        )  # fmt: skip
        assert row_of(plan, a)["reason"] == "forced_by_hand"
        assert (row_of(plan, b)["arm"], row_of(plan, b)["reason"]) == ("none", "opted_out")
        assert {r["reason"] for r in plan.decisions.to_pylist()[2:]} == {"affordable"}

    def test_forbidden_and_replaced(self, make_inputs, clock):
        inputs = make_inputs(n=300, control_share=0.0)
        before = decide(inputs, seed=1, clock=clock)
        called = [r["customer_id"] for r in before.decisions.to_pylist()
                  if r["channel"] == "outbound"]  # fmt: skip
        a, b = called[:2]
        rows = [laid(a, "forbid"), laid(b, "replace", "data_pack", "sms")]
        after = decide(
            make_inputs(n=300, control_share=0.0, overrides=masks_for(inputs, rows)),
            seed=1, clock=clock,
        )  # fmt: skip
        assert (row_of(after, a)["arm"], row_of(after, a)["reason"]) == ("none", "by_hand")
        assert row_of(after, b)["channel"] in ("sms", None)
        assert row_of(after, b)["offer_id"] in ("data_pack", None)

    def test_forced_contacts_beyond_the_limits_are_noticed(self, make_inputs, clock, monkeypatch):
        """Seeded defect: forced contacts are placed without a look at the limits."""
        import importlib

        from bihuan.kernel import DefectError

        module = importlib.import_module("bihuan.decision.override_plan")

        def place_all(order, forced, value, keep, allocate):
            first = np.where(keep.any(axis=1), keep.argmax(axis=1), -1)
            return np.where(forced, first, -1).astype(np.int32)

        monkeypatch.setattr(module, "_place_forced", place_all)
        inputs = make_inputs(n=600)
        rows = [laid(c, "force", "data_pack") for c in inputs.customer_id.to_pylist()]
        with pytest.raises(DefectError, match="Real contacts use"):
            decide(make_inputs(n=600, overrides=masks_for(inputs, rows)), seed=1, clock=clock)


class TestRecommendWithOverrides:
    def answer(self, shop, *rows, case=None, **changes):
        made = Recommender(shop.board(), shop.words, Situation(shop.books, rows))
        return made.for_profile(
            shop.good_profile(**changes), case=case or Case("c1"), top=3
        )  # fmt: skip

    def test_forced_comes_first_and_shows_its_true_worth(self, shop):
        free = self.answer(shop)
        assert free[0].offer_id != "pack"
        found = self.answer(shop, laid("c1", "force", "pack", "sms", campaign="keep"))
        assert (found[0].offer_id, found[0].channel, found[0].by_hand) == ("pack", "sms", True)
        assert found[0].value == pytest.approx(0.15 * 35 - 0.05)

    def test_forced_skips_fit_but_not_the_opt_out(self, shop):
        row = laid("c1", "force", "home", "app", campaign="grow")
        poor = {"arpu": 70}
        assert "home" not in {i.offer_id for i in self.answer(shop, **poor)}
        assert self.answer(shop, row, **poor)[0].offer_id == "home"
        shut = Case("c1", closed=frozenset({"app"}))
        assert "home" not in {i.offer_id for i in self.answer(shop, row, case=shut, **poor)}

    def test_others_are_not_touched(self, shop):
        row = laid("c2", "forbid", campaign="keep")
        assert self.answer(shop, row) == self.answer(shop)
        mine = self.answer(shop, laid("c1", "forbid", campaign="grow"))
        assert {i.campaign_id for i in mine} == {"keep"}
