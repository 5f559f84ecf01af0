"""P017: four means of setting a tag: direct, statistics, mining, experience."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from bihuan.model import evaluate_scores
from bihuan.tag import TagDefinitionError

MEANS = {
    "gender": "direct",
    "dou": "statistics",
    "churn_score": "mining",
    "data_heavy": "experience",
}
HEAVY = "thresholds: {mb: 20000}"


def values(ws, as_of, *names: str) -> dict[str, tuple[object, ...]]:
    """Return tag values by customer."""
    rows = ws.tags(as_of).read(ws.engine, names).to_pylist()
    return {row.pop("customer_id"): tuple(row.values()) for row in rows}


def mean_data(world, tools) -> dict[str, float]:
    """Return each customer's mean monthly data of three months, in MB."""
    total: dict[str, list[float]] = defaultdict(list)
    for month in world.months[-3:]:
        for row in tools.read(world.ws, "usage", month):
            total[row["customer_id"]].append(row["data_mb"])
    return {customer: sum(months) / len(months) for customer, months in total.items()}


@pytest.mark.mission("P017")
class TestFourMeans:
    """F-33 direct acquisition, F-34 statistics, F-35 data mining, F-36 experience."""

    def test_the_dictionary_says_by_which_means_a_tag_is_set(self, scored) -> None:
        rows = {row["name"]: row["means"] for row in scored.ws.dictionary.to_table().to_pylist()}
        assert {name: rows[name] for name in MEANS} == MEANS
        assert set(rows.values()) == {"direct", "statistics", "mining", "experience"}

    def test_f33_direct_is_the_source_as_it_is(self, scored, tools) -> None:
        rows = tools.read(scored.ws, "customer", scored.last)
        assert values(scored.ws, scored.last, "gender") == {
            row["customer_id"]: (row["gender"],) for row in rows
        }

    def test_f33_what_is_computed_may_not_be_called_direct(self, tools, tmp_path) -> None:
        ws = tools.open_at(tmp_path / "ws")
        tools.with_library(ws)
        path = ws.layout.root / "tags" / "customer_base.yaml"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("expression: gender", "expression: upper(gender)"), "utf-8")
        with pytest.raises(TagDefinitionError, match=r"gender.*direct acquisition"):
            len(ws.dictionary)

    def test_f34_statistics_are_counted_over_the_window(self, scored, tools) -> None:
        found = {c: v for c, (v,) in values(scored.ws, scored.last, "dou").items()}
        expected = mean_data(scored, tools)
        assert found.keys() == expected.keys()
        assert all(found[c] == pytest.approx(mean) for c, mean in expected.items())

    def test_f35_mining_finds_out_what_no_column_says(self, scored, tools) -> None:
        """Its score tells who leaves in the month to come, which the twin alone knows."""
        found = {c: s for c, (s,) in values(scored.ws, scored.last, "churn_score").items() if s}
        rows = scored.truth.rows_of(found)
        hidden = scored.truth.leave[rows]
        above = hidden >= sorted(hidden)[-len(hidden) // 5]  # the fifth most likely to leave
        metrics = evaluate_scores(above, np.array(list(found.values())))
        assert metrics.auc.low > 0.6

    def test_f36_experience_is_a_threshold_that_people_set(self, own_operator, tools) -> None:
        ws, last = own_operator.ws, own_operator.last
        data = mean_data(own_operator, tools)

        def heavy(limit: float) -> dict[str, tuple[bool]]:
            return {customer: (mean >= limit,) for customer, mean in data.items()}

        assert values(ws, last, "data_heavy") == heavy(20_000)
        path = ws.layout.root / "tags" / "customer_portrait.yaml"
        text = path.read_text(encoding="utf-8")
        assert HEAVY in text
        new = HEAVY.replace("20000", "5000") + "\n    version: 2"
        path.write_text(text.replace(HEAVY, new), encoding="utf-8")
        ws = tools.open_at(own_operator.folder / "ws")
        report = ws.refresh_tags(last)
        assert values(ws, last, "data_heavy") == heavy(5_000)
        unchanged = {group.group for group in report.groups if group.state == "unchanged"}
        assert {"bill", "usage", "customer"} <= unchanged  # only what hangs on it is made anew

    def test_all_four_stand_in_one_rule(self, scored, tools) -> None:
        rule = "gender = 'F' and dou >= 4000 and churn_score >= 0.03 and not data_heavy"
        got = values(scored.ws, scored.last, *MEANS)
        expected = [
            customer
            for customer, (gender, dou, score, heavy) in sorted(got.items())
            if gender == "F" and dou >= 4000 and score is not None and score >= 0.03 and not heavy
        ]
        assert scored.ws.members(rule, scored.last)["customer_id"].to_pylist() == expected
        assert expected
