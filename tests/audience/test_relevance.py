"""Which tags matter: figures against plain counting, chance against signal, leaks named."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chi2_contingency
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import mutual_info_score, roc_auc_score

from bihuan.audience import NotEstimable, UnknownTagError, match, parse, profile_of
from bihuan.audience.segment.binning import pool_monotone
from bihuan.audience.segment.leak import Goal, GoalError
from bihuan.audience.segment.relevance import rank_tags
from bihuan.data import Lake, load_contracts
from bihuan.tag import TagDictionary

from .crowd import crowd

ROWS = crowd(6000)
RED = Goal(parse("on_red_list"))
NAMES = [
    "balance",
    "arpu",
    "tenure_months",
    "city",
    "mms_count",
    "has_contract",
    "brand",
    "churn_score",
]


@pytest.fixture(scope="module")
def tags(harness, tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("crowd"))
    return harness.store_tags(lake, harness.FIELDS, ROWS)


@pytest.fixture(scope="module")
def ranked(tags, engine):
    return rank_tags(RED, tags, NAMES, engine=engine)


@pytest.fixture(scope="module")
def profiles(harness):
    return [profile_of(row, harness.FIELDS) for row in ROWS]


class TestRankTags:
    def test_what_makes_the_goal_comes_before_noise(self, ranked):
        order = [tag.tag for tag in ranked.tags]
        assert order[:2] == ["churn_score", "arpu"]
        assert order.index("city") < order.index("tenure_months")
        assert ranked["arpu"].figures.by_chance < 1e-12
        assert ranked["has_contract"].figures.by_chance > 0.001
        assert ranked["has_contract"].figures.information_value < 0.02

    def test_every_bin_is_an_audience_that_counts_the_same(self, ranked, profiles):
        for name in ("arpu", "balance", "churn_score", "city", "has_contract", "mms_count"):
            found = ranked[name]
            assert sum(b.rows for b in found.bins) == len(ROWS)
            for part in found.bins:
                inside = [p for p in profiles if match(part.condition, p)]
                assert part.rows == len(inside)
                assert part.events == sum(p["on_red_list"] for p in inside)

    def test_the_figures_by_hand(self, ranked):
        found = ranked["arpu"]
        events = [b.events for b in found.bins]
        others = [b.rows - b.events for b in found.bins]
        p = [(e + 0.5) / (sum(events) + len(events) / 2) for e in events]
        q = [(o + 0.5) / (sum(others) + len(others) / 2) for o in others]
        by_hand = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert found.figures.information_value == pytest.approx(by_hand)
        place = np.repeat(np.arange(len(events)), [b.rows for b in found.bins])
        label = np.concatenate(
            [np.r_[np.ones(e), np.zeros(o)] for e, o in zip(events, others, strict=True)]
        )
        bias = (len(events) - 1) / (2 * len(ROWS) * math.log(2))
        plain = mutual_info_score(place, label) / math.log(2)
        assert found.figures.mutual_information == pytest.approx(plain - bias)
        rate = np.array([b.rate for b in found.bins])
        assert found.figures.area == pytest.approx(roc_auc_score(label, rate[place]))
        best = max(b.rate for b in found.bins if b.rows >= 30)
        cells = np.array([events, others])
        assert found.figures.by_chance == pytest.approx(chi2_contingency(cells).pvalue)
        assert found.figures.lift == pytest.approx(best / (sum(events) / len(ROWS)))

    def test_counts_and_missing(self, ranked):
        gone = sum("arpu" not in row for row in ROWS)
        found = ranked["arpu"]
        assert (found.known, found.events) == (len(ROWS) - gone, ranked.events)
        assert found.missing_share == pytest.approx(gone / len(ROWS))
        assert ranked.events == sum(row["on_red_list"] for row in ROWS)

    def test_names_are_no_categories(self, ranked):
        assert isinstance(ranked["brand"].figures, NotEstimable)
        assert "6000" in ranked["brand"].figures.reason["en"]

    def test_too_few_events_are_not_estimated(self, tags, engine):
        few = rank_tags(RED, tags, ["arpu"], engine=engine, within=parse("arpu > 300"))
        assert few.events < 30
        assert isinstance(few["arpu"].figures, NotEstimable)
        assert few.to_table()["information_value"].null_count == 1

    def test_pinned_by_experience_comes_first(self, tags, engine):
        found = rank_tags(
            RED, tags, NAMES, engine=engine, pinned={"has_contract": "asked for by the scheme"}
        )
        assert found.tags[0].tag == "has_contract"
        assert found.tags[0].pinned == "asked for by the scheme"
        assert found.key_tags(2)[1].tag == "churn_score"
        plain = rank_tags(RED, tags, NAMES, engine=engine).key_tags(2)
        assert "has_contract" not in [tag.tag for tag in plain]

    def test_monotone_bins_only_rise(self, tags, engine, ranked):
        found = rank_tags(RED, tags, ["arpu"], engine=engine, monotone=True)["arpu"]
        known = [b.rate for b in found.bins[:-1]]
        assert found.binning == "monotone"
        assert known == sorted(known)
        assert ranked["arpu"].binning == "equal_frequency"
        assert sum(b.rows for b in found.bins) == len(ROWS)

    def test_noise_is_rarely_taken_for_signal(self, harness, tmp_path, engine):
        """60 tags that have nothing to do with the goal; the figures say so."""
        rng = np.random.default_rng(3)
        fields = {f"n{i}": harness.field(f"n{i}", "number", f"n{i}") for i in range(60)}
        fields["goal"] = harness.field("goal", "boolean", "目标")
        values = rng.normal(size=(1500, 60))
        rows = [
            {"customer_id": f"{i:05d}", "goal": bool(rng.random() < 0.2)}
            | {f"n{j}": float(values[i, j]) for j in range(60)}
            for i in range(1500)
        ]
        tags = harness.store_tags(Lake(tmp_path / "lake"), fields, rows)
        found = rank_tags(Goal(parse("goal")), tags, [f"n{j}" for j in range(60)], engine=engine)
        chances = [tag.figures.by_chance for tag in found.tags]
        assert 0 <= sum(c < 0.05 for c in chances) <= 9
        information = np.mean([tag.figures.mutual_information for tag in found.tags])
        assert information < 0.001
        # the defect: without the correction noise tells something on average
        assert information < 9 / (2 * 1500 * math.log(2))


class TestGoals:
    def test_rows_of_responses(self, tags, engine):
        answered = ROWS[:3000]
        rows = pa.table(
            {
                "customer_id": [r["customer_id"] for r in answered],
                "response": [float(r["on_red_list"]) for r in answered],
            }
        )
        found = rank_tags(Goal(rows), tags, ["arpu"], engine=engine)
        assert (found.rows, found.unknown) == (3000, 3000)
        assert found.events == sum(r["on_red_list"] for r in answered)
        with pytest.raises(GoalError, match="response"):
            rank_tags(Goal(rows.select(["customer_id"])), tags, ["arpu"], engine=engine)
        twice = pa.concat_tables([rows, rows])
        with pytest.raises(GoalError, match="each once"):
            rank_tags(Goal(twice), tags, ["arpu"], engine=engine)

    def test_unknown_tags(self, tags, engine):
        with pytest.raises(UnknownTagError):
            rank_tags(RED, tags, ["arpuu"], engine=engine)


class TestLeaks:
    def test_the_goal_itself_and_near_perfect_separation(self, tags, engine):
        found = rank_tags(RED, tags, ["on_red_list", "arpu"], engine=engine)
        assert [leak.kind for leak in found["on_red_list"].leaks] == ["goal", "separated"]
        assert found["arpu"].leaks == ()
        assert found.key_tags()[0].tag == "arpu"

    def test_values_dated_after_the_answer(self, harness, tags, tmp_path, engine):
        earlier = harness.store_tags(
            Lake(tmp_path / "lake"), harness.FIELDS, ROWS, as_of=date(2026, 9, 30)
        )
        late = rank_tags(Goal(parse("on_red_list"), earlier), tags, ["arpu"], engine=engine)
        assert [leak.kind for leak in late["arpu"].leaks] == ["later"]
        # a tag as it was before may foretell the same tag: no leak
        fair = rank_tags(Goal(parse("on_red_list"), tags), earlier, ["mms_count"], engine=engine)
        assert fair["mms_count"].leaks == ()

    def test_descent_from_the_dictionary(self, harness, tmp_path, engine):
        dictionary = TagDictionary.load(_write(tmp_path), contracts=load_contracts())
        fields = {
            name: harness.field(name, kind, name)
            for name, kind in [
                ("left", "boolean"), ("is_lost", "boolean"), ("quiet_lines", "integer"),
                ("lines", "integer"),
            ]
        }  # fmt: skip
        rng = np.random.default_rng(5)
        rows = [
            {"customer_id": f"{i:04d}", "left": bool(rng.random() < 0.3),
             "is_lost": bool(rng.random() < 0.3), "quiet_lines": int(rng.integers(0, 5)),
             "lines": int(rng.integers(0, 5))}
            for i in range(800)
        ]  # fmt: skip
        tags = harness.store_tags(Lake(tmp_path / "lake"), fields, rows)
        goal, names = Goal(parse("left")), ["left", "is_lost", "quiet_lines", "lines"]
        found = rank_tags(goal, tags, names, engine=engine, dictionary=dictionary)
        kinds = {tag.tag: [leak.kind for leak in tag.leaks if leak.kind != "separated"]
                 for tag in found.tags}  # fmt: skip
        assert kinds == {
            "left": ["goal"], "is_lost": ["goal"], "quiet_lines": ["source"], "lines": []
        }  # fmt: skip
        # the defect: without the dictionary only the goal itself is caught
        blind = rank_tags(goal, tags, names, engine=engine)
        assert [leak.kind for leak in blind["is_lost"].leaks] == []


class TestPoolMonotone:
    @pytest.mark.parametrize("seed", range(20))
    def test_agrees_with_isotonic_regression(self, seed):
        rng = np.random.default_rng(seed)
        rows = rng.integers(1, 50, 12).astype(float)
        events = np.floor(rows * rng.random(12))
        for rising in (True, False):
            pools = pool_monotone(events, rows, rising=rising)
            total, n = np.bincount(pools, events), np.bincount(pools, rows)
            fitted = IsotonicRegression(increasing=rising).fit_transform(
                np.arange(12), events / rows, sample_weight=rows
            )
            assert np.allclose((total / n)[pools], fitted)


def _write(folder: Path) -> Path:
    texts = """
defaults: {layer: base, library: customer, subject: customer, means: statistics, owner: t,
           state: live, category: a/b/c, source: subscription}
tags:
"""
    for name, kind, expression in [
        ("left", "boolean", "bool_or(left_in_month)"),
        ("quiet_lines", "integer", "count(*) filter (where left_in_month and tenure_months > 3)"),
        ("lines", "integer", "sum(tenure_months)"),
    ]:
        texts += f"""
  - {{name: {name}, title: {{zh: {name}甲, en: {name} a}}, type: {kind}, expression: "{expression}",
     meaning: {{zh: 甲, en: a}}, definition: {{zh: 甲, en: a}}}}
"""
    texts += """
  - {name: is_lost, title: {zh: 乙, en: lost}, layer: portrait, means: experience, type: boolean,
     source: null, expression: left and lines > 0, meaning: {zh: 甲, en: a},
     definition: {zh: 甲, en: a}}
"""
    path = folder / "tags.yaml"
    path.write_text(texts, encoding="utf-8")
    return path
