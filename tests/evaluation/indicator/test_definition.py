"""Definitions: what a formula may say, what is the same, which version holds when."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from bihuan.data import load_contracts
from bihuan.evaluation.indicator import (
    Indicator,
    IndicatorCatalogue,
    IndicatorConflictError,
    IndicatorError,
    Input,
    UnknownIndicatorError,
    check_binding,
    find_conflicts,
    indicator_document,
    parse_indicator,
)
from bihuan.kernel.document import Document

CONTRACTS = load_contracts()


def make(name: str = "revenue", formula: str = "sum(amount)", **more: object) -> Indicator:
    given: dict[str, object] = {
        "title": {"zh": f"指标{name}", "en": name}, "meaning": {"zh": "口径", "en": "meaning"},
        "unit": "currency", "owner": "组", "version": 1, "effective_from": date(2026, 1, 1),
        "source": "bill", "unit_through": "customer_id",
    }  # fmt: skip
    return Indicator(name=name, formula=formula, **(given | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "formula",
    [
        "sum(amount); drop table bill",
        "(select max(amount) from bill)",
        "amount",
        "sum(amount) over ()",
        "sum(sum(amount))",
        "read_csv('/etc/passwd')",
        "sum(amount) + now()",
        "count(*) + overdue_amount",
    ],
)
def test_a_formula_is_an_aggregate_of_rows_and_nothing_else(formula: str) -> None:
    with pytest.raises(IndicatorError) as error:
        make(formula=formula)
    assert error.value.text("zh")
    assert error.value.remedy


@pytest.mark.parametrize(
    "more",
    [
        {"source": ""},
        {"inputs": {"a": Input("a")}},
        {"name": "Revenue"},
        {"version": 0},
        {"effective_from": date(2026, 1, 2)},
        {"direction": "up"},
        {"months": 0},
        {"source": "", "unit_through": "", "inputs": {"a": Input("a")}, "formula": "sum(a)"},
        {"source": "", "unit_through": "", "inputs": {"a": Input("a"), "b": Input("b")},
         "formula": "a"},
        {"source": "", "unit_through": "", "inputs": {"a": Input("a", -1)}, "formula": "a"},
    ],
)  # fmt: skip
def test_a_definition_that_is_not_whole_is_refused(more: dict[str, object]) -> None:
    name = str(more.pop("name", "revenue"))
    formula = str(more.pop("formula", "sum(amount)"))
    with pytest.raises(IndicatorError):
        make(name, formula, **more)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"source": "bil"}, "no table"),
        ({"formula": "sum(amout)"}, "amount"),
        ({"dimensions": ("colour",)}, "colour"),
        ({"source": "contact", "formula": "count(*)", "unit_through": ""}, "unit_through"),
        ({"unit_through": "amount"}, "unit_through"),
    ],
)
def test_a_definition_is_held_against_the_tables(more: dict[str, object], told: str) -> None:
    formula = str(more.pop("formula", "sum(amount)"))
    with pytest.raises(IndicatorError, match=told):
        check_binding(make(formula=formula, **more), CONTRACTS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sum(amount) + count(*)", "COUNT(*)+ ( SUM( Amount ))"),
        ("count_if(amount > 5)", "count(*) filter (where amount > 5)"),
        ("sum(amount) / 2 -- half", "sum(amount) / 2.0"),
        ("count_if(amount > 5 and overdue_amount > 0)",
         "count_if((overdue_amount > 0) and amount > 5)"),
    ],
)  # fmt: skip
def test_the_same_formula_under_another_name_is_refused(one: str, other: str) -> None:
    with pytest.raises(IndicatorConflictError, match="same as 'a'"):
        IndicatorCatalogue([make("a", one), make("b", other)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sum(amount) - count(*)", "count(*) - sum(amount)"),
        ("sum(amount)", "sum(overdue_amount)"),
        ("sum(amount) / 1000001", "sum(amount) / 1000002"),
        ("count(distinct account_id)", "count(account_id)"),
    ],
)
def test_formulas_that_differ_stand_side_by_side(one: str, other: str) -> None:
    assert len(IndicatorCatalogue([make("a", one), make("b", other)])) == 2


def test_the_same_quotient_over_inputs_of_other_names_is_found() -> None:
    base = [make("a"), make("b", "count(*)")]
    plain = {"source": "", "unit_through": ""}
    one = make("mean_a", "x / y", inputs={"x": Input("a"), "y": Input("b")}, **plain)
    two = make("mean_b", "p / q", inputs={"q": Input("b"), "p": Input("a")}, **plain)
    turned = make("turned", "q / p", inputs={"q": Input("b"), "p": Input("a")}, **plain)
    assert [c.kind for c in find_conflicts([*base, one, two])] == ["same_formula"]
    assert not find_conflicts([*base, one, turned])


def test_a_second_definition_of_a_name_and_a_shared_title_are_refused() -> None:
    with pytest.raises(IndicatorConflictError, match="second, other definition"):
        IndicatorCatalogue([make(), make(formula="sum(overdue_amount)")])
    with pytest.raises(IndicatorConflictError, match="both called"):
        IndicatorCatalogue(
            [make(), make("other", "count(*)", title={"zh": "指标revenue", "en": "Other"})]
        )
    with pytest.raises(IndicatorConflictError, match="both take effect"):
        IndicatorCatalogue([make(), replace(make(formula="count(*)"), version=2)])


def test_old_months_keep_the_definition_of_before() -> None:
    old = make()
    new = old.next_version(date(2026, 6, 1), formula="sum(amount - discount_amount)")
    catalogue = IndicatorCatalogue([new, old])
    assert catalogue.at("revenue", date(2026, 5, 31)).version == 1
    assert catalogue.at("revenue", date(2026, 6, 30)).version == 2
    with pytest.raises(UnknownIndicatorError, match="begins 2026-01"):
        catalogue.at("revenue", date(2025, 12, 31))
    with pytest.raises(UnknownIndicatorError, match="revenue"):
        catalogue.at("revenu", date(2026, 6, 30))


def test_rings_and_unknown_inputs_are_refused() -> None:
    plain = {"source": "", "unit_through": ""}
    a = make("a", "b + 1", inputs={"b": Input("b")}, **plain)
    b = make("b", "a + 1", inputs={"a": Input("a")}, **plain)
    with pytest.raises(IndicatorError, match="ring"):
        IndicatorCatalogue([a, b])
    with pytest.raises(IndicatorError, match="not there"):
        IndicatorCatalogue([a])


def test_a_document_says_all_of_a_definition(operator) -> None:
    for indicator in operator.catalogue:
        document = Document(indicator_document(indicator), "again")
        assert parse_indicator(document) == indicator


def test_the_sample_catalogue_fits_the_tables(operator) -> None:
    operator.catalogue.check(CONTRACTS)
    assert len(operator.catalogue) >= 25
