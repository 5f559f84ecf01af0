"""Experience rules: who matches, where rules collide, which one wins, how often it was right."""

from __future__ import annotations

import dataclasses

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
    what_would_move,
)
from bihuan.audience.bind import TagTypeError
from bihuan.audience.segment.rule import RuleError, wilson
from bihuan.audience.segment.rule_order import reorder
from bihuan.kernel.document import DocumentError

TITLE = {"zh": "规则", "en": "Rule"}
WORDS = ["rank", "reason_zh", "reason_en"]


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
        assert report.winners.drop_columns(WORDS).to_pylist() == [
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


class TestReasonsAndRanks:
    def test_each_winner_says_why(self, tags, engine):
        report = apply_rules([MMS, RICH, OTHER, BEST], tags, engine=engine)
        said = {r["customer_id"]: r["reason_en"] for r in report.winners.to_pylist()}
        assert said == {
            "a": "the only rule met",
            "b": "same priority and score, name before mms",
            "c": "priority 1 before 2 of best_mms",
            "d": "same priority, score 0.9 above 0.3 of also_mms",
            "f": "the only rule met",
        }
        zh = report.winners["reason_zh"].to_pylist()
        assert zh[2] == "优先级 1 先于 best_mms 的 2"

    def test_who_meets_one_rule_only(self, tags, engine):
        report = apply_rules([MMS, RICH, OTHER, BEST], tags, engine=engine)
        assert {c.rule.name: c.alone for c in report.counts} == {
            "rich": 1, "best_mms": 0, "also_mms": 0, "mms": 1
        }  # fmt: skip

    def test_a_tag_orders_those_whom_a_rule_won(self, tags, engine):
        ordered = dataclasses.replace(OTHER, rank_by="mms_count", priority=1)
        report = apply_rules([ordered, MMS], tags, engine=engine)
        ranks = {r["customer_id"]: (r["rule"], r["rank"]) for r in report.winners.to_pylist()}
        assert ranks == {
            "a": ("mms", None), "b": ("also_mms", 3), "c": ("also_mms", 1), "d": ("also_mms", 1)
        }  # fmt: skip

    def test_without_a_value_there_is_no_rank(self, tags, engine):
        ordered = dataclasses.replace(rule("all", "everyone"), rank_by="arpu")
        report = apply_rules([ordered], tags, engine=engine)
        assert report.winners["rank"].to_pylist() == [None, None, 1, None, 3, 2]

    def test_only_a_number_orders(self, tags, engine):
        with pytest.raises(TagTypeError, match="brand"):
            apply_rules([dataclasses.replace(MMS, rank_by="brand")], tags, engine=engine)


class TestWhatWouldMove:
    ANSWERS = pa.table(
        {"customer_id": ["a", "b", "c", "d", "f"], "response": [True, False, True, True, False]}
    )

    def test_only_those_who_meet_several_move(self, tags, engine):
        rules = [MMS, RICH, OTHER, BEST]
        effect = what_would_move(
            rules, ["mms", "also_mms", "best_mms", "rich"], tags, engine=engine,
            responses=self.ANSWERS,
        )  # fmt: skip
        moves = [(m.source, m.target, m.customers) for m in effect.moves]
        assert moves == [("also_mms", "mms", 1), ("best_mms", "also_mms", 1), ("rich", "mms", 1)]
        assert effect.moved == 3
        assert effect.won_before == {"rich": 2, "best_mms": 1, "also_mms": 1, "mms": 1}
        assert effect.won_after == {"rich": 1, "best_mms": 0, "also_mms": 1, "mms": 3}
        # rates: rich 1/2, best_mms 2/2, also_mms 2/3, mms 2/3
        assert effect.expected_before == pytest.approx(2 * 0.5 + 1 + 2 / 3 + 2 / 3)
        assert effect.expected_after == pytest.approx(0.5 + 2 / 3 + 3 * 2 / 3)

    def test_agrees_with_applying_the_other_order(self, tags, engine):
        rules, order = [MMS, RICH, OTHER, BEST], ["also_mms", "rich", "mms", "best_mms"]
        effect = what_would_move(rules, order, tags, engine=engine)
        changed = apply_rules(reorder(rules, order), tags, engine=engine)
        assert effect.won_after == {c.rule.name: c.won for c in changed.counts}
        before = {r["customer_id"]: r["rule"] for r in apply_rules(
            rules, tags, engine=engine).winners.to_pylist()}  # fmt: skip
        after = {r["customer_id"]: r["rule"] for r in changed.winners.to_pylist()}
        assert effect.moved == sum(before[c] != after[c] for c in before)

    def test_the_same_order_moves_nobody(self, tags, engine):
        effect = what_would_move([MMS, RICH], ["rich", "mms"], tags, engine=engine)
        assert effect.moves == ()
        assert isinstance(effect.expected_before, NotEstimable)

    def test_every_rule_must_be_named_once(self, tags, engine):
        for order in (["mms"], ["mms", "mms"], ["mms", "poor"]):
            with pytest.raises(RuleError, match="every rule once"):
                what_would_move([MMS, RICH], order, tags, engine=engine)


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
