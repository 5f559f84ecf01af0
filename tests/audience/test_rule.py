"""Experience rules: who matches, where rules collide, which one wins, how often it was right."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from bihuan.audience import (
    ExperienceRule,
    NotEstimable,
    UnknownTagError,
    apply_rules,
    load_rules,
    parse,
)
from bihuan.audience.rule import RuleError, wilson
from bihuan.kernel.document import DocumentError

TITLE = {"zh": "规则", "en": "Rule"}


def rule(name, condition, *, priority=1, score=0.0):
    return ExperienceRule(name, TITLE, parse(condition), f"offer_{name}", priority, score)


MMS = rule("mms", "mms_count > 0 and not has_contract", priority=2, score=0.3)
RICH = rule("rich", "brand = '全球通' and arpu > 300 and not has_contract", priority=1)
OTHER = rule("also_mms", "mms_count > 1", priority=2, score=0.3)
BEST = rule("best_mms", "mms_count > 2", priority=2, score=0.9)


@pytest.fixture(scope="module")
def tags(harness, lake):
    rows = [
        {"customer_id": "a", "mms_count": 1, "has_contract": False},
        {"customer_id": "b", "mms_count": 2, "has_contract": False},
        {"customer_id": "c", "mms_count": 3, "has_contract": False, "brand": "全球通", "arpu": 320},
        {"customer_id": "d", "mms_count": 3, "has_contract": True},
        {"customer_id": "e", "mms_count": 0, "brand": "全球通", "arpu": 300},
        {"customer_id": "f", "mms_count": 0, "brand": "全球通", "arpu": 301},
    ]
    return harness.store_tags(lake, harness.FIELDS, rows)


class TestApplyRules:
    def test_counts_overlaps_and_winners(self, tags, engine):
        report = apply_rules([MMS, RICH, OTHER, BEST], tags, engine=engine)
        assert report.base == 6
        assert [c.rule.name for c in report.counts] == ["rich", "best_mms", "also_mms", "mms"]
        assert [c.matched for c in report.counts] == [2, 2, 3, 3]
        assert [c.won for c in report.counts] == [2, 1, 1, 1]
        assert report.overlap.counts.tolist() == [
            [2, 1, 1, 1], [1, 2, 2, 1], [1, 2, 3, 2], [1, 1, 2, 3],
        ]  # fmt: skip
        assert report.several_share == pytest.approx(3 / 5)
        assert report.winners.to_pylist() == [
            {"customer_id": c, "rule": r, "offer_id": f"offer_{r}", "priority": p, "score": s,
             "n_matched": n}
            for c, r, p, s, n in [
                ("a", "mms", 2, 0.3, 1),
                ("b", "also_mms", 2, 0.3, 2),
                ("c", "rich", 1, 0.0, 4),
                ("d", "best_mms", 2, 0.9, 2),
                ("f", "rich", 1, 0.0, 1),
            ]
        ]  # fmt: skip

    def test_the_order_in_which_rules_are_given_does_not_matter(self, tags, engine):
        one = apply_rules([MMS, RICH, OTHER, BEST], tags, engine=engine)
        other = apply_rules([BEST, OTHER, RICH, MMS], tags, engine=engine)
        assert one.winners == other.winners
        assert one.counts == other.counts

    def test_within_an_audience(self, tags, engine):
        report = apply_rules([MMS, BEST], tags, engine=engine, within=parse("has_contract"))
        assert (report.base, report.counts[0].matched, report.counts[1].matched) == (1, 1, 0)

    def test_nobody_matches(self, tags, engine):
        report = apply_rules([rule("none", "nobody")], tags, engine=engine)
        assert report.winners.num_rows == 0
        assert isinstance(report.several_share, NotEstimable)

    def test_precision_from_known_responses(self, tags, engine):
        answers = pa.table(
            {
                "customer_id": ["a", "b", "c", "f", "x"],
                "response": pa.array([True, False, True, None, True]),
            }
        )
        report = apply_rules([MMS, RICH, OTHER, BEST], tags, engine=engine, responses=answers)
        found = {c.rule.name: c.precision for c in report.counts}
        assert (found["mms"].known, found["mms"].hits) == (3, 2)
        assert found["mms"].rate == pytest.approx(2 / 3)
        assert (found["mms"].low, found["mms"].high) == wilson(2, 3)
        assert (found["rich"].known, found["rich"].hits) == (1, 1)
        nothing = apply_rules([MMS], tags, engine=engine).counts[0].precision
        assert isinstance(nothing, NotEstimable)
        assert "known" in nothing.reason["en"]

    def test_numeric_responses_above_zero_count(self, tags, engine):
        answers = pa.table({"customer_id": ["a", "b", "c"], "response": [0.0, 12.5, -1.0]})
        report = apply_rules([MMS], tags, engine=engine, responses=answers)
        assert (report.counts[0].precision.known, report.counts[0].precision.hits) == (3, 1)

    def test_refuses_what_is_not_whole(self, tags, engine):
        with pytest.raises(RuleError, match="no rule"):
            apply_rules([], tags, engine=engine)
        with pytest.raises(RuleError, match="two rules are named 'mms'"):
            apply_rules([MMS, MMS], tags, engine=engine)
        twice = pa.table({"customer_id": ["a", "a"], "response": [True, False]})
        with pytest.raises(RuleError, match="each once"):
            apply_rules([MMS], tags, engine=engine, responses=twice)
        with pytest.raises(RuleError, match="response"):
            apply_rules([MMS], tags, engine=engine, responses=pa.table({"customer_id": ["a"]}))
        with pytest.raises(UnknownTagError):
            apply_rules([rule("x", "nonsense")], tags, engine=engine)
        with pytest.raises(RuleError, match="priority"):
            rule("x", "nobody", priority=0)
        with pytest.raises(RuleError, match="finite"):
            rule("x", "nobody", score=float("nan"))


class TestWilson:
    def test_agrees_with_scipy(self):
        for hits, known in [(0, 1), (1, 1), (0, 50), (7, 20), (999, 1000), (3, 10_000)]:
            interval = stats.binomtest(hits, known).proportion_ci(method="wilson")
            assert wilson(hits, known) == pytest.approx((interval.low, interval.high), abs=1e-12)

    def test_covers_the_truth(self):
        draws = np.random.default_rng(7).binomial(40, 0.1, size=4_000)
        ends = [wilson(int(hits), 40) for hits in draws]
        coverage = np.mean([low <= 0.1 <= high for low, high in ends])
        assert 0.93 < coverage < 0.98


class TestLoadRules:
    def write(self, tmp_path, text):
        path = tmp_path / "rules.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    def test_reads_rules(self, tmp_path):
        path = self.write(
            tmp_path,
            """
            rules:
              - name: mobile_newspaper
                title: {zh: 手机报, en: Mobile newspaper}
                condition: mms_count > 0 and not has_contract
                offer_id: mobile_newspaper
                priority: 2
                score: 0.5
              - {name: b, title: {zh: b, en: b}, condition: 有合约, offer_id: b}
            """,
        )
        first, second = load_rules(path)
        assert first == ExperienceRule(
            "mobile_newspaper", {"zh": "手机报", "en": "Mobile newspaper"},
            parse("mms_count > 0 and not has_contract"), "mobile_newspaper", 2, 0.5,
        )  # fmt: skip
        assert (second.priority, second.score) == (1, 0.0)

    @pytest.mark.parametrize(
        ("text", "error", "word"),
        [
            ("rules:\n  - {name: a}", DocumentError, r"rules\[0\].title"),
            ("rules:\n  - {nmae: a}", DocumentError, "nmae"),
            ("rulez: []", DocumentError, "rulez"),
            (
                "rules:\n  - {name: a, title: {zh: a, en: a}, condition: 'arpu >', offer_id: a}",
                RuleError,
                r"rules.yaml.*rules\[0\].condition: Line 1, column 7",
            ),
            (
                "rules:\n"
                "  - &r {name: a, title: {zh: a, en: a}, condition: a, offer_id: a}\n"
                "  - *r",
                RuleError,
                "two rules are named 'a'",
            ),
        ],
    )
    def test_names_file_and_field(self, tmp_path, text, error, word):
        with pytest.raises(error, match=word):
            load_rules(self.write(tmp_path, text))
