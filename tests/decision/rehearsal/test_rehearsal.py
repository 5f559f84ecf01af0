"""A rehearsal goes to JSON and comes back the same; two stand side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from bihuan.decision.rehearsal import (
    Certificate,
    Interval,
    Overlaps,
    Rehearsal,
    compare,
    judgement_text,
    rehearsal_text,
)
from bihuan.decision.rehearsal.codec import from_plain, to_plain
from bihuan.decision.rehearsal.load import ChannelLoad
from bihuan.kernel import DefectError, UserError


class TestFiling:
    def test_what_is_filed_comes_back_the_same(self, make_rehearsal, unknown):
        first = make_rehearsal()
        assert Rehearsal.from_json(first.to_json()) == first
        expected = replace(first.findings.forecast, effect=unknown, goal_chance=unknown)
        other = make_rehearsal(
            forecast=expected, simulation=None, load=ChannelLoad((), (), (), 0.0, float("inf"))
        )
        assert Rehearsal.from_json(other.to_json()) == other

    def test_the_document_is_plain_json_that_names_the_plan(self, make_rehearsal):
        plain = json.loads(make_rehearsal().to_json())
        assert (plain["campaign_id"], plain["content_id"]) == ("spring", "c0")
        assert [j["name"] for j in plain["judgements"]] == [
            "feasibility", "reasonableness", "soundness", "effect",
        ]  # fmt: skip

    def test_its_id_is_a_hash_of_what_was_found(self, make_rehearsal):
        assert make_rehearsal().rehearsal_id == make_rehearsal().rehearsal_id
        assert make_rehearsal().rehearsal_id != make_rehearsal(simulation=None).rehearsal_id

    @pytest.mark.parametrize(
        "damage",
        [lambda text: text[:-5], lambda text: text.replace('"format":1', '"format":9'),
         lambda text: text.replace('"campaign_id"', '"campain_id"'),
         lambda text: text.replace('"gap":0.0005', '"gap":"little"'),
         lambda text: text.replace("2026-10-31", "the last day"), lambda _: "[]"],
        ids=["cut", "format", "field", "number", "date", "list"],
    )  # fmt: skip
    def test_damage_is_refused_with_what_to_do(self, make_rehearsal, damage):
        text = damage(make_rehearsal().to_json())
        with pytest.raises(UserError, match="not a filed rehearsal") as told:
            Rehearsal.from_json(text)
        assert "预演" in told.value.zh

    def test_a_number_that_is_none_is_never_filed(self):
        with pytest.raises(DefectError, match="a number that is none"):
            to_plain(Interval(float("nan"), 0.0, 1.0))

    def test_what_json_cannot_say_is_never_filed(self):
        with pytest.raises(DefectError, match="cannot file a set"):
            to_plain({"a": {1, 2}})

    @pytest.mark.parametrize(
        ("kind", "value"),
        [(int, True), (float, True), (str, 3), (bool, 1), (date, 5), (int | None, "x")],
    )
    def test_a_wrong_kind_is_seen(self, kind, value):
        with pytest.raises(DefectError):
            from_plain(kind, value)


class TestWords:
    def test_a_judgement_without_fault_says_so(self, make_rehearsal):
        feasible = make_rehearsal().judgement("feasibility")
        assert judgement_text(feasible, "zh") == "可行性 100 分，通过：各项达标。"
        assert judgement_text(feasible, "en") == (
            "Feasibility: 100 points, pass: everything is as it should be."
        )

    def test_every_fact_that_does_not_pass_is_told_with_its_threshold(self, make_rehearsal):
        found = make_rehearsal(
            certificate=Certificate(9.0, 10.0, 0.1, ()), overlap=Overlaps((), 0.5, 0.1)
        )
        told = judgement_text(found.judgement("soundness"), "en")
        assert ", fail: " in told
        assert "Certified distance from the best plan 10.0% (passes at 0.5%)" in told
        assert "Control contacted by others 10.0% (passes at 2.0%)" in told
        assert "Power" not in told

    def test_what_is_not_known_is_told_with_the_reason(self, make_rehearsal, unknown):
        blind = replace(make_rehearsal().findings.forecast, goal_chance=unknown)
        told = judgement_text(make_rehearsal(forecast=blind).judgement("effect"), "zh")
        assert "达成目标的概率无法判断（不知道）" in told

    @pytest.mark.parametrize("language", ["zh", "en"])
    def test_the_document_holds_all_four_and_the_reach(self, make_rehearsal, language):
        found = make_rehearsal()
        text = rehearsal_text(found, language)
        for judgement in found.judgements:
            assert judgement_text(judgement, language) in text
        assert found.findings.reach[-1].title[language] in text
        assert "900" in text
        assert found.content_id in text

    def test_another_language_is_refused(self, make_rehearsal):
        with pytest.raises(UserError, match="'fr'"):
            rehearsal_text(make_rehearsal(), "fr")


class TestCompare:
    def test_the_same_plan_is_the_same_on_everything(self, make_rehearsal):
        found = compare(make_rehearsal(), make_rehearsal())
        assert {line.better for line in found.lines} <= {"same", ""}
        assert not any(line.is_clear for line in found.lines)
        assert found.better_on("a") == found.better_on("b") == ()

    def test_it_says_which_is_better_on_what(self, make_rehearsal):
        a = make_rehearsal()
        richer = replace(
            a.findings.forecast, profit=Interval(9e9, 8e9, 1e10), spend=Interval(9e8, 8e8, 1e9)
        )
        found = compare(a, make_rehearsal(forecast=richer))
        profit, spend = found.line("profit"), found.line("spend")
        assert (profit.better, profit.is_clear) == ("b", True)
        assert profit.difference == pytest.approx(9e9 - a.findings.forecast.profit.mean)
        assert (spend.better, spend.is_clear) == ("a", True)
        assert found.line("conversions").better == "same"
        assert "profit" in found.better_on("b")
        assert "spend" in found.better_on("a")

    def test_a_difference_within_the_doubt_is_not_clear(self, make_rehearsal):
        a = make_rehearsal()
        middle = a.findings.forecast.conversions
        near = replace(
            a.findings.forecast,
            conversions=Interval(middle.mean + 1, middle.low + 1, middle.high + 1),
        )
        line = compare(a, make_rehearsal(forecast=near)).line("conversions")
        assert (line.better, line.is_clear) == ("b", False)

    def test_more_contacts_are_neither_better_nor_worse(self, make_rehearsal):
        a = make_rehearsal()
        line = compare(a, make_rehearsal(forecast=replace(a.findings.forecast, contacts=9))).line(
            "contacts"
        )
        assert (line.better, line.is_clear) == ("", True)

    def test_what_one_cannot_tell_is_left_open(self, make_rehearsal, unknown):
        a = make_rehearsal()
        blind = replace(a.findings.forecast, effect=unknown)
        line = compare(a, make_rehearsal(forecast=blind)).line("effect")
        assert (line.b, line.difference, line.better) == (None, None, "")

    def test_scores_and_table(self, make_rehearsal):
        found = compare(make_rehearsal(), make_rehearsal(simulation=None))
        assert found.line("soundness_score").a > 0
        assert len({line.name for line in found.lines}) == len(found.lines)
        table = found.table("en")
        assert table.num_rows == len(found.lines)
        assert "Feasibility, score" in table["figure"].to_pylist()
        assert table.column_names == ["figure", "a", "b", "difference", "better", "is_clear"]
        assert "可行性得分" in found.table("zh")["figure"].to_pylist()

    def test_rehearsals_of_other_data_are_not_compared(self, make_rehearsal):
        a = make_rehearsal()
        for other in (replace(a, as_of=date(2026, 9, 30)), replace(a, currency="USD")):
            with pytest.raises(UserError, match="cannot be compared"):
                compare(a, other)

    def test_an_unknown_judgement_is_named(self, make_rehearsal):
        with pytest.raises(UserError, match="no judgement 'beauty'"):
            make_rehearsal().judgement("beauty")
