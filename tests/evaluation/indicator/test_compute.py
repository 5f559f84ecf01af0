"""Values: added up over the tree from rows, with the list behind each."""

from __future__ import annotations

import importlib
import math
from datetime import date
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sqlglot import exp

from bihuan.evaluation.indicator import (
    Indicator,
    IndicatorCatalogue,
    IndicatorError,
    UnitTree,
    Wanted,
    compute,
    list_behind,
)
from bihuan.evaluation.indicator import formula as formulas
from bihuan.evaluation.indicator import query as queries


def run(operator: SimpleNamespace, *names: str, **more: object):
    wanted = Wanted(names, operator.month, **more)  # type: ignore[arg-type]
    return compute(
        operator.catalogue, wanted, operator.world, engine=operator.engine, tree=operator.tree
    )


@pytest.fixture(scope="module")
def everything(operator: SimpleNamespace):
    return run(operator, *operator.catalogue.names)


def sums_wrong(operator: SimpleNamespace, values: object) -> list[str]:
    """Return the additive indicators of which some parent is not the sum of its children."""
    rows = {row["unit_id"]: row for row in values.rows.to_pylist()}  # type: ignore[attr-defined]
    own = {}
    for name in operator.catalogue.names:
        if not operator.catalogue.is_additive(name, operator.month):
            continue
        for unit in rows:
            children = operator.tree.children(unit)
            if children and operator.tree.tier[unit] in ("province", "city", "county"):
                total = sum(rows[child][name] for child in children)
                if not math.isclose(total, rows[unit][name], rel_tol=1e-9, abs_tol=1e-6):
                    own.setdefault(name, unit)
    return sorted(own)


def test_a_parent_is_the_sum_of_its_children_where_things_add_up(operator, everything) -> None:
    additive = [n for n in operator.catalogue.names
                if operator.catalogue.is_additive(n, operator.month)]  # fmt: skip
    assert {"customers", "revenue", "contacts", "unit_actual", "staff_sales"} <= set(additive)
    assert not {"churn_rate", "billed_accounts", "median_bill", "mean_tenure"} & set(additive)
    assert sums_wrong(operator, everything) == []


def test_the_check_of_sums_finds_a_roll_up_that_leaves_units_out(operator, monkeypatch) -> None:
    whole = UnitTree.closure

    def short(self: UnitTree, wanted: object = None) -> pa.Table:
        pairs = whole(self, wanted)  # type: ignore[arg-type]
        lost = pc.and_(
            pc.equal(pairs["ancestor"], "province"),
            pc.starts_with(pairs["descendant"], "grid-1302"),
        )
        return pairs.filter(pc.invert(lost))

    monkeypatch.setattr(UnitTree, "closure", short)
    assert "revenue" in sums_wrong(operator, run(operator, *operator.catalogue.names))


def test_a_rate_is_taken_of_all_members_never_of_their_rates(operator, everything) -> None:
    rows = {row["unit_id"]: row for row in everything.rows.to_pylist()}
    cities = operator.tree.children("province")
    for name, above, below in (
        ("churn_rate", "left_lines", "lines_at_risk"),
        ("success_rate", "contact_successes", "contacts"),
        ("target_reached", "unit_actual", "unit_target"),
    ):
        whole = rows["province"]
        assert whole[name] == pytest.approx(whole[above] / whole[below])
        summed = sum(rows[c][above] for c in cities) / sum(rows[c][below] for c in cities)
        assert whole[name] == pytest.approx(summed)
        plain = sum(rows[c][name] or 0 for c in cities) / len(cities)
        assert whole[name] != pytest.approx(plain, rel=1e-6)


def test_a_mean_is_split_so_that_members_merge(operator, everything, monkeypatch) -> None:
    lines = operator.world.view.get("subscription", operator.month).read()
    active = lines.filter(pc.equal(lines["status"], "active"))
    exact = pc.mean(active["tenure_months"]).as_py()
    assert everything.value("mean_tenure", "province") == pytest.approx(exact)
    # the defect: a mean that is "merged" by taking the mean of the members' means
    monkeypatch.setattr(
        "bihuan.evaluation.indicator.definition.with_means_split", lambda tree: tree
    )
    monkeypatch.setitem(formulas.MERGED_BY, exp.Avg, exp.Avg)
    wrong = run(operator, "mean_tenure").value("mean_tenure", "province")
    assert wrong != pytest.approx(exact, rel=1e-6)


def test_parts_added_up_agree_with_all_rows_at_once(operator, everything, monkeypatch) -> None:
    module = importlib.import_module("bihuan.evaluation.indicator.compute")
    monkeypatch.setattr(module, "merge_of", lambda part: None)
    at_once = run(operator, *operator.catalogue.names)
    for name in operator.catalogue.names:
        for one, other in zip(
            everything.rows[name].to_pylist(), at_once.rows[name].to_pylist(), strict=True
        ):
            assert (one is None) == (other is None), name
            assert one is None or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9), name


def test_different_things_are_counted_once_however_many_units_there_are(operator) -> None:
    contacts = operator.world.view.get("contact", operator.month).read()
    exact = pc.count_distinct(contacts["customer_id"]).as_py()
    assert run(operator, "contacted_customers").value("contacted_customers", "province") == exact


def test_a_unit_without_rows_has_nought_and_a_rate_has_no_value(operator) -> None:
    found = run(operator, "contacts", "success_rate", "median_bill", units=("seller-130101-1",))
    assert found.rows.to_pylist() == [
        {"unit_id": "seller-130101-1", "contacts": 0.0, "success_rate": None, "median_bill": None}
    ]


def test_values_are_split_by_dimensions_that_add_up_too(operator) -> None:
    whole = run(operator, "contacts", "success_rate", units=("province",))
    split = run(operator, "contacts", "success_rate", units=("province",), by=("channel",))
    assert pc.sum(split.rows["contacts"]).as_py() == whole.value("contacts", "province")
    assert split.value("contacts", "province", channel="sms") > 0
    with pytest.raises(IndicatorError, match="cannot be split"):
        run(operator, "revenue", by=("channel",))


def test_the_version_in_force_in_the_month_is_used_and_named(operator) -> None:
    old = operator.catalogue.at("revenue", operator.month)
    new = old.next_version(date(2026, 10, 1), formula="sum(amount) / 2")
    later = old.next_version(date(2026, 11, 1), formula="sum(amount) / 3")
    for changed, version, factor in ((new, 2, 0.5), (later, 1, 1.0)):
        catalogue = IndicatorCatalogue([*operator.catalogue, changed])
        found = compute(
            catalogue, Wanted(("revenue",), operator.month), operator.world,
            engine=operator.engine,
        )  # fmt: skip
        plain = run(operator, "revenue").value("revenue", "province")
        assert found.versions == {"revenue": version}
        assert found.value("revenue", "province") == pytest.approx(plain * factor)


def test_growth_reads_the_month_before(operator) -> None:
    view, month = operator.world.view, operator.month
    now, before = (
        float(pc.sum(view.get("bill", day).read()["amount"]).as_py())
        for day in (month, date(2026, 9, 30))
    )
    found = run(operator, "revenue_growth").value("revenue_growth", "province")
    # customers keep their grid, and those who have left are counted where they were
    assert found == pytest.approx((now - before) / before, rel=1e-6)


def test_what_the_lake_does_not_have_is_missing_with_the_reason(operator) -> None:
    wanted = Wanted(("revenue_growth", "revenue"), date(2026, 9, 30))
    found = compute(operator.catalogue, wanted, operator.world, engine=operator.engine)
    assert "2026-08-31" in found.missing["revenue_growth"]["en"]
    assert found.missing["revenue_growth"]["zh"]
    assert found.value("revenue_growth", "province") is None
    assert found.value("revenue", "province") > 0


def test_rows_of_units_that_are_not_in_the_tree_are_told(operator) -> None:
    rows = operator.world.view.get("org_unit", operator.month).read()
    short = UnitTree.of_rows(rows.filter(pc.not_equal(rows["org_unit_id"], "grid-130101-1")))
    found = compute(
        operator.catalogue, Wanted(("customers",), operator.month, ("province",)), operator.world,
        engine=operator.engine, tree=short,
    )  # fmt: skip
    whole = run(operator, "customers").value("customers", "province")
    assert found.unplaced["customer"] > 0
    assert found.value("customers", "province") + found.unplaced["customer"] == whole


def test_the_list_behind_a_number_gives_the_number(operator, everything) -> None:
    for name in operator.catalogue.names:
        indicator = operator.catalogue.at(name, operator.month)
        if indicator.inputs or any(not formulas.adds(part) for part in indicator.parts):
            continue
        listed = list_behind(
            operator.catalogue, name, "city-1301", operator.world, month=operator.month,
            engine=operator.engine, limit=100_000, tree=operator.tree,
        )  # fmt: skip
        assert listed.rows.num_rows == listed.total
        sums = {
            f"part_{n}": pc.sum(listed.rows[f"part_{n}"].cast(pa.float64())).as_py() or 0.0
            for n in range(1, len(indicator.parts) + 1)
        }
        columns = dict(zip((p.sql("duckdb") for p in indicator.parts), sums.values(), strict=True))
        tree = formulas.replace_parts(
            indicator.tree, {text: exp.convert(value) for text, value in columns.items()}
        )
        row = operator.engine.query(exp.select(exp.cast(tree, "DOUBLE").as_("v")), {})
        value = everything.value(name, "city-1301")
        again = row["v"][0].as_py()
        assert (value is None and again is None) or again == pytest.approx(value or 0.0), name


def test_the_check_of_lists_finds_a_list_that_shows_other_rows(operator, monkeypatch) -> None:
    plain = queries.contribution
    monkeypatch.setattr(
        queries, "contribution", lambda part: exp.Literal.number(1) if plain(part) else part
    )
    listed = list_behind(
        operator.catalogue, "contact_successes", "province", operator.world, month=operator.month,
        engine=operator.engine, tree=operator.tree,
    )  # fmt: skip
    assert listed.total != run(operator, "contact_successes").value("contact_successes", "province")


def test_a_list_comes_in_pages_and_by_dimension(operator) -> None:
    def page(**more: object):
        return list_behind(
            operator.catalogue, "contacts", "province", operator.world, month=operator.month,
            engine=operator.engine, tree=operator.tree, **more,
        )  # fmt: skip

    first, second = page(limit=10), page(limit=10, offset=10)
    keys = first.rows["contact_id"].to_pylist() + second.rows["contact_id"].to_pylist()
    assert keys == sorted(set(keys))
    assert len(keys) == 20
    by_sms = run(operator, "contacts", by=("channel",)).value("contacts", "province", channel="sms")
    assert page(where={"channel": "sms"}).total == by_sms
    with pytest.raises(IndicatorError, match="made of others"):
        list_behind(
            operator.catalogue, "churn_rate", "province", operator.world, month=operator.month,
            engine=operator.engine,
        )  # fmt: skip


def test_indicators_over_one_source_take_one_query(operator, monkeypatch) -> None:
    asked: list[str] = []
    plain = operator.engine.query

    def count(query: exp.Query, sources: object):
        asked.append(query.sql("duckdb"))
        return plain(query, sources)

    monkeypatch.setattr(operator.engine, "query", count)
    run(operator, "active_lines", "left_lines", "g5_lines", "contracted_lines", "churn_rate")
    assert len([text for text in asked if "parts" in text]) == 1


def test_an_org_tree_in_a_ring_is_refused() -> None:
    rows = pa.table({"org_unit_id": ["a", "b"], "parent_id": ["b", "a"], "tier": ["city", "city"]})
    with pytest.raises(IndicatorError, match="ring"):
        UnitTree.of_rows(rows)


def test_a_value_in_quotes_is_a_value(operator) -> None:
    odd = Indicator(
        name="odd", title={"zh": "怪", "en": "odd"}, meaning={"zh": "", "en": ""},
        formula="count_if(channel = 'sms''; drop table contact --')", unit="contact", owner="",
        version=1, effective_from=date(2020, 1, 1), source="contact",
        unit_through="customer_id",
    )  # fmt: skip
    found = compute(
        IndicatorCatalogue([odd]), Wanted(("odd",), operator.month, ("province",)),
        operator.world, engine=operator.engine,
    )  # fmt: skip
    assert found.value("odd", "province") == 0
