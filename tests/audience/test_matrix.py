"""A matrix parts the customers: no gap, no overlap, and every cell can be marketed to."""

from __future__ import annotations

import statistics
from decimal import Decimal

import pytest

from bihuan.audience import (
    And,
    Axis,
    NotEstimable,
    RuleClassifier,
    analyse_matrix,
    bind,
    classify_base,
    classify_profile,
    count_members,
    match,
    parse,
    profile_of,
)
from bihuan.audience.bind import TagTypeError
from bihuan.audience.segment.matrix import MatrixError
from bihuan.data import Lake

from .crowd import crowd

ROWS = crowd(1200)


@pytest.fixture(scope="module")
def tags(harness, tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("crowd"))
    return harness.store_tags(lake, harness.FIELDS, ROWS)


@pytest.fixture(scope="module")
def found(tags, engine):
    means = ("churn_score",)
    return analyse_matrix(Axis("arpu", bands=4), Axis("city"), tags, engine=engine, means=means)


class TestAnalyseMatrix:
    def test_everyone_is_in_exactly_one_cell(self, found, harness):
        assert found.size == len(ROWS) == sum(cell.size for cell in found.cells)
        for row in ROWS:
            profile = profile_of(row, harness.FIELDS)
            assert sum(match(cell.audience, profile) for cell in found.cells) == 1

    def test_each_cell_counts_what_its_audience_selects(self, found, tags, engine):
        for cell in found.cells:
            assert count_members(parse(cell.text), tags, engine=engine).members == cell.size
            assert cell.share == pytest.approx(cell.size / len(ROWS))

    def test_means_of_a_cell(self, found, harness):
        cell = max(found.cells, key=lambda c: c.size)
        inside = [r for r in ROWS if match(cell.audience, profile_of(r, harness.FIELDS))]
        scores = [r["churn_score"] for r in inside if "churn_score" in r]
        assert cell.means["churn_score"] == pytest.approx(statistics.mean(scores))

    def test_quantiles_make_about_equal_bands(self, found):
        known = sum("arpu" in r for r in ROWS)
        for band in [b.name for b in found.rows if b.name != "missing"]:
            size = sum(cell.size for cell in found.cells if cell.row == band)
            assert 0.8 < size / (known / 4) < 1.2
        assert found.rows[-1].name == "missing"

    def test_given_and_even_cuts(self, tags, engine):
        given = analyse_matrix(
            Axis("arpu", cuts=(Decimal(50), Decimal(100))),
            Axis("has_contract"),
            tags,
            engine=engine,
        )
        assert [b.name for b in given.rows] == ["< 50", "50 .. 100", ">= 100", "missing"]
        assert [b.name for b in given.columns] == ["False", "True"]
        even = analyse_matrix(
            Axis("tenure_months", bands=3, how="even"), Axis("city"), tags, engine=engine
        )
        assert [b.name for b in even.rows] == ["< 40", "40 .. 80", ">= 80", "missing"]
        assert even.size == len(ROWS)

    def test_within_an_audience(self, tags, engine, harness):
        within = bind(parse("has_contract"), harness.FIELDS)
        inside = analyse_matrix(Axis("arpu"), Axis("city"), tags, engine=engine, within=within)
        assert inside.size == sum(r["has_contract"] for r in ROWS)
        assert all("has_contract" in cell.text for cell in inside.cells)

    def test_an_empty_cell_has_no_mean(self, tags, engine, harness):
        within = bind(parse("city = '保定' and churn_score is missing"), harness.FIELDS)
        inside = analyse_matrix(
            Axis("has_contract"), Axis("on_red_list"), tags, engine=engine, within=within,
            means=("churn_score",),
        )  # fmt: skip
        assert all(isinstance(c.means["churn_score"], NotEstimable) for c in inside.cells)

    def test_names(self, found):
        named = found.named({"r4c1": "stars"})
        assert named["stars"].audience == found["r4c1"].audience
        with pytest.raises(MatrixError, match="no cell 'r9c9'"):
            found.named({"r9c9": "x"})
        with pytest.raises(MatrixError, match="one name"):
            found.named({"r1c1": "x", "r1c2": "x"})

    def test_refuses_what_cannot_be_cut(self, tags, engine):
        with pytest.raises(MatrixError, match="do not rise"):
            analyse_matrix(Axis("arpu", cuts=(5, 5)), Axis("city"), tags, engine=engine)
        with pytest.raises(MatrixError, match="values"):
            analyse_matrix(Axis("brand"), Axis("city"), tags, engine=engine)
        with pytest.raises(TagTypeError, match="joined_on"):
            analyse_matrix(Axis("joined_on"), Axis("city"), tags, engine=engine)

    def test_bands_that_take_both_ends_would_count_twice(self, found, harness):
        """The defect: 50..100 and 100..150, both with 100."""
        rows = [band.condition for band in found.rows if isinstance(band.condition, And)]
        edge = rows[0].parts[1].value
        closed = parse(f"arpu >= {rows[0].parts[0].value} and arpu <= {edge}")
        on_edge = [r for r in ROWS if r.get("arpu") == edge]
        assert on_edge
        profile = profile_of(on_edge[0], harness.FIELDS)
        assert match(bind(closed, harness.FIELDS), profile)
        assert not match(rows[0], profile)


class TestRuleClassifier:
    def test_batch_and_single_profile_agree_with_the_cells(self, found, tags, engine):
        classifier = RuleClassifier(tuple((c.name, c.audience) for c in found.cells), engine)
        rows = classify_base(classifier, tags, engine=engine).to_pylist()
        sizes = {cell.name: cell.size for cell in found.cells}
        for name, size in sizes.items():
            assert sum(r["class"] == name for r in rows) == size
        for row, told in list(zip(sorted(ROWS, key=lambda r: r["customer_id"]), rows, strict=True))[
            :40
        ]:
            assert classify_profile(classifier, row, tags.fields) == told["class"]

    def test_the_first_rule_wins_and_the_rest_is_other(self, tags, engine):
        rules = (("rich", parse("arpu >= 100")), ("some", parse("arpu >= 50")))
        rows = classify_base(RuleClassifier(rules, engine), tags, engine=engine).to_pylist()
        by_id = {r["customer_id"]: r["class"] for r in rows}
        for row in ROWS:
            arpu = row.get("arpu", 0)
            expected = "rich" if arpu >= 100 else "some" if arpu >= 50 else "other"
            assert by_id[row["customer_id"]] == expected
