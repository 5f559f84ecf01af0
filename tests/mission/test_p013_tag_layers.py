"""P013: what a tag is, and the three layers: base, portrait, marketing, also by a model."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from types import SimpleNamespace

import pytest

import bihuan as bh
from bihuan.tag import TagDefinitionError, TagNotDerivedError

HALF_A_CENT = Decimal("0.005") + Decimal("1e-9")
GOOD = """
tags:
  - name: {name}
    title: {{zh: 试验, en: Trial}}
    layer: {layer}
    subject: customer
    means: {means}
    type: boolean
    {source}
    expression: "{expression}"
    category: 试验/试验
    owner: test
    state: live
    meaning: {{zh: 试验, en: trial}}
    definition: {{zh: 试验, en: trial}}
"""


def monthly_bills(operator, tools) -> dict[str, list[Decimal]]:
    """Return each customer's bill per month, newest first; a month without a bill is left out."""
    bills: dict[str, list[Decimal]] = defaultdict(list)
    for month in reversed(operator.months[-3:]):
        total: dict[str, Decimal] = defaultdict(Decimal)
        for row in tools.read(operator.ws, "bill", month):
            total[row["customer_id"]] += row["amount"]
        for customer, amount in total.items():
            bills[customer].append(amount)
    return bills


def tag_values(operator, *names: str) -> dict[str, dict[str, object]]:
    """Return tag values by customer."""
    ws: bh.Workspace = operator.ws
    rows = ws.tags(operator.last).read(ws.engine, names).to_pylist()
    return {row.pop("customer_id"): row for row in rows}


@pytest.mark.mission("P013")
class TestBaseLayer:
    """A-03: one single, objective attribute, or one indicator that can be counted."""

    def test_a03_an_attribute_is_what_the_record_says(self, operator, tools) -> None:
        record = {
            row["customer_id"]: (row["gender"], operator.last.year - row["birth_year"])
            for row in tools.read(operator.ws, "customer", operator.last)
        }
        found = tag_values(operator, "gender", "age")
        assert {c: (v["gender"], v["age"]) for c, v in found.items()} == record

    def test_a03_an_indicator_is_counted_from_the_rows(self, operator, tools) -> None:
        bills = monthly_bills(operator, tools)
        found = {c: v["arpu"] for c, v in tag_values(operator, "arpu").items()}
        assert found.keys() == bills.keys()
        apart = {c: found[c] - sum(months) / len(months) for c, months in bills.items()}
        assert max(abs(difference) for difference in apart.values()) <= HALF_A_CENT

    def test_a03_who_has_no_bill_has_no_mean_bill_rather_than_nought(self, town) -> None:
        profile = town.ws.tags("2026-10-31").profile("C007")
        assert profile["arpu"] is None
        assert profile["subscription_count"] == 0  # what can be counted is 0

    def test_a03_a_base_tag_may_not_judge(self, operator, tools, tmp_path) -> None:
        with pytest.raises(TagDefinitionError, match="a base tag is objective"):
            one_tag(tmp_path, tools, layer="base", means="experience",
                    source="source: customer", expression="is_senior")  # fmt: skip

    def test_a03_a_base_tag_may_not_stand_on_a_later_layer(self, tools, tmp_path) -> None:
        with pytest.raises(TagDefinitionError, match="data_heavy"):
            one_tag(tmp_path, tools, layer="base", means="statistics", expression="data_heavy")


@pytest.mark.mission("P013")
class TestPortraitLayer:
    """A-04: one facet of the customer, by rules over base tags, by statistics or by a model."""

    def test_a04_a_band_by_rule_over_a_base_tag(self, operator, tools) -> None:
        bills = monthly_bills(operator, tools)

        def band(customer: str) -> str:
            arpu = sum(bills[customer]) / len(bills[customer])
            bands = (("top", 200), ("high", 100), ("middle", 50))
            return next((name for name, limit in bands if arpu >= limit), "low")

        found = {c: v["value_band"] for c, v in tag_values(operator, "value_band").items()}
        assert found == {customer: band(customer) for customer in found}
        assert set(found.values()) == {"top", "high", "middle", "low"}

    def test_a04_it_may_not_read_a_table_itself(self, tools, tmp_path) -> None:
        with pytest.raises(TagDefinitionError, match="made from other tags or a model"):
            one_tag(tmp_path, tools, layer="portrait", means="statistics",
                    source="source: customer", expression="is_senior")  # fmt: skip

    def test_a04_it_may_not_stand_on_a_marketing_tag(self, tools, tmp_path) -> None:
        with pytest.raises(TagDefinitionError, match="retention_focus"):
            one_tag(tmp_path, tools, layer="portrait", means="statistics",
                    expression="retention_focus")  # fmt: skip


@pytest.mark.mission("P013")
class TestMarketingLayer:
    """A-05: concrete segments for a scene, combined from base and portrait tags."""

    def test_a05_a_segment_is_the_combination_of_its_parts(self, operator) -> None:
        parts = ("value_band", "contract_stage", "life_cycle_stage", "price_sensitive")
        values = tag_values(operator, "retention_focus", *parts)

        def focus(v: dict[str, object]) -> bool:
            sign = v["contract_stage"] == "ending" or v["life_cycle_stage"] == "declining"
            return v["value_band"] in ("high", "top") and (sign or bool(v["price_sensitive"]))

        known = {c: v for c, v in values.items() if v["value_band"] is not None}
        assert {c: bool(v["retention_focus"]) for c, v in known.items()} == {
            c: focus(v) for c, v in known.items()
        }
        assert 0 < sum(map(focus, known.values())) < len(known)

    def test_a05_its_lineage_runs_through_the_layers_down_to_the_columns(self, operator) -> None:
        lineage = operator.ws.dictionary.lineage("retention_focus")
        layer = {name: operator.ws.dictionary.get(name).layer.value for name in lineage.all_tags}
        assert set(layer.values()) == {"base", "portrait"}
        assert {"bill.amount", "subscription.contract_ends_on"} <= set(lineage.all_columns)


@pytest.mark.mission("P013")
class TestMarketingTagByModel:
    """A-06: 或者建模输出: a marketing tag may be what a model says."""

    def test_a06_before_the_model_has_spoken_the_tag_refuses_and_says_why(self, operator) -> None:
        with pytest.raises(TagNotDerivedError, match=r"[Mm]odel 'churn'"):
            operator.ws.members("churn_score >= 0.5", operator.last)

    def test_a06_the_tag_is_the_models_score_and_the_segment_its_cut(self, scored, tools) -> None:
        dictionary = scored.ws.dictionary
        rows = tools.read(scored.ws, "score__churn", scored.last)
        scores = {row["customer_id"]: row["score"] for row in rows}
        values = tag_values(scored, "churn_score", "churn_risk_high", "is_disconnected")
        assert {c: v["churn_score"] for c, v in values.items() if c in scores} == scores
        assert all(v["is_disconnected"] for c, v in values.items() if c not in scores)
        cut = dictionary.get("churn_risk_high").thresholds["score"]
        assert {c: v["churn_risk_high"] for c, v in values.items() if c in scores} == {
            c: score >= cut for c, score in scores.items()
        }
        assert dictionary.get("churn_score").layer.value == "marketing"


@pytest.mark.mission("P013")
class TestWhatATagIs:
    """B-34: a qualitative business mark on an object, given because of a business need."""

    def test_b34_every_tag_has_an_object_a_meaning_and_an_owner(self, operator) -> None:
        tags = list(operator.ws.dictionary)
        objects = {"customer", "subscription", "enterprise", "leased_line", "power_line"}
        objects |= {"org_unit", "staff", "outlet", "crew", "area"}
        assert {tag.subject.value for tag in tags} == objects
        for tag in tags:
            assert tag.meaning["zh"], tag.name
            assert tag.meaning["en"], tag.name
            assert tag.owner, tag.name

    def test_b34_a_mark_is_qualitative_its_values_are_named(self, operator) -> None:
        tag = operator.ws.dictionary.get("life_cycle_stage")
        values = tag_values(operator, "life_cycle_stage").values()
        assert {v["life_cycle_stage"] for v in values} - {None} <= set(tag.codes or ())
        assert all(title["zh"] and title["en"] for title in (tag.codes or {}).values())

    def test_b34_our_own_units_and_staff_are_marked_as_well(self, own_operator, tools) -> None:
        ws, last = own_operator.ws, own_operator.last
        ws.refresh_tags(last, subject="org_unit")
        rows = (
            ws.tags(last, subject="org_unit").read(ws.engine, ["unit_customer_count"]).to_pylist()
        )
        counted: dict[str, int] = defaultdict(int)
        for row in tools.read(ws, "customer", last):
            counted[row["org_unit_id"]] += 1
        assert {
            r["org_unit_id"]: r["unit_customer_count"] for r in rows if r["unit_customer_count"]
        } == counted

    def test_b34_a_mark_without_meaning_is_refused_with_file_and_line(
        self, tools, tmp_path
    ) -> None:
        with pytest.raises(TagDefinitionError, match=r"trial.yaml:3.*meaning"):
            one_tag(tmp_path, tools, layer="portrait", means="statistics", expression="arpu >= 80",
                    leave_out="    meaning: {zh: 试验, en: trial}\n")  # fmt: skip


def one_tag(
    folder, tools, *, layer: str, means: str, expression: str, source: str = "", leave_out: str = ""
) -> SimpleNamespace:
    """Put one more tag beside the library's and load the dictionary."""
    ws = tools.open_at(folder / "ws")
    tools.with_library(ws)
    text = GOOD.format(name="trial", layer=layer, means=means, source=source, expression=expression)
    tools.define(ws, "tags", "trial", text.replace(leave_out, "") if leave_out else text)
    return ws.dictionary
