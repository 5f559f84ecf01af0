"""Noise removal: who is left out, why, and what each exclusion costs."""

from __future__ import annotations

import pytest

from bihuan.audience import (
    Everyone,
    Exclusion,
    Flag,
    Suppression,
    apply_suppression,
    bind,
    count_members,
    parse,
    standard_suppression,
    to_text,
)
from bihuan.audience.suppression import SuppressionError
from bihuan.tag import LIBRARY_FOLDER, TagDictionary

ALL = (
    "opted_out",
    "disconnected",
    "suspended",
    "black_list",
    "red_list",
    "complaint_sensitive",
    "recent_contact",
)
FLAGS = ("has_opted_out", "is_disconnected", "is_suspended", "on_black_list", "on_red_list",
         "complaint_sensitive")  # fmt: skip


@pytest.fixture(scope="module")
def fields(harness):
    flags = {name: harness.field(name, "boolean", name) for name in FLAGS}
    failed = harness.field("failed_contact_count_3m", "integer", "近三月未成功接触次数")
    return {**flags, failed.name: failed, "arpu": harness.FIELDS["arpu"]}


def person(name, *, failed=0, arpu=100, **flags):
    return {
        "customer_id": name, "arpu": arpu, "failed_contact_count_3m": failed,
        **dict.fromkeys(FLAGS, False), **flags,
    }  # fmt: skip


@pytest.fixture(scope="module")
def tags(harness, lake, fields):
    rows = [
        person("good"),
        person("poor", arpu=5, on_red_list=True),
        person("called_once", failed=1),
        person("called_thrice", failed=3),
        person("red", on_red_list=True),
        person("red_and_black", on_red_list=True, on_black_list=True),
        person("complains", complaint_sensitive=True, failed=2),
        person("gone", is_disconnected=True, is_suspended=True, has_opted_out=True),
        person("stopped", is_suspended=True),
        {"customer_id": "unknown", "arpu": 100},
    ]
    return harness.store_tags(lake, fields, rows)


@pytest.fixture(scope="module")
def apply(tags, engine):
    def applied(suppression=None, text="arpu >= 50"):
        return apply_suppression(
            parse(text), suppression or standard_suppression(), tags, engine=engine
        )

    return applied


class TestStandardSuppression:
    def test_holds_the_four_noises_and_opting_out(self):
        assert standard_suppression().names == ALL
        assert all(set(e.title) == {"zh", "en"} for e in standard_suppression().exclusions)

    def test_each_exclusion_can_be_switched_off(self):
        for name in ALL:
            assert name not in standard_suppression(keep=[name]).names
        assert standard_suppression(keep=ALL).names == ()

    def test_the_minimum_of_failed_contacts_is_a_parameter(self):
        contacted = standard_suppression(minimum_failed_contacts=3).exclusions[-1]
        assert to_text(contacted.who) == "failed_contact_count_3m >= 3"
        with pytest.raises(SuppressionError, match="minimum of failed contacts is 0"):
            standard_suppression(minimum_failed_contacts=0)

    def test_an_unknown_name_is_refused_with_the_nearest(self):
        with pytest.raises(SuppressionError, match="red_list"):
            standard_suppression(keep=["redlist"])

    def test_every_exclusion_binds_to_the_tag_library(self):
        fields = TagDictionary.load(LIBRARY_FOLDER).schema("customer")
        for exclusion in standard_suppression().exclusions:
            assert bind(exclusion.who, fields) == exclusion.who

    def test_names_are_unique(self):
        one = Exclusion("x", {"zh": "x", "en": "x"}, Flag("on_red_list"))
        with pytest.raises(SuppressionError, match="one name"):
            Suppression((one, one))


class TestApplySuppression:
    def test_counts_hits_the_waterfall_and_what_each_alone_removes(self, apply):
        report = apply()
        counts = {c.name: (c.hits, c.removed, c.removed_only_by_this, c.remaining)
                  for c in report.counts}  # fmt: skip
        assert counts == {
            "opted_out": (1, 1, 0, 8),
            "disconnected": (1, 0, 0, 8),
            "suspended": (2, 1, 1, 7),
            "black_list": (1, 1, 0, 6),
            "red_list": (2, 1, 1, 5),
            "complaint_sensitive": (1, 1, 0, 4),
            "recent_contact": (3, 2, 2, 2),
        }
        assert tuple(counts) == ALL

    def test_every_customer_is_either_kept_or_removed_with_reasons(self, apply):
        report = apply()
        assert report.kept["customer_id"].to_pylist() == ["good", "unknown"]
        reasons = {row["customer_id"]: (row["reason"], row["reasons"])
                   for row in report.removed.to_pylist()}  # fmt: skip
        assert reasons == {
            "called_once": ("recent_contact", ["recent_contact"]),
            "called_thrice": ("recent_contact", ["recent_contact"]),
            "complains": ("complaint_sensitive", ["complaint_sensitive", "recent_contact"]),
            "gone": ("opted_out", ["opted_out", "disconnected", "suspended"]),
            "red": ("red_list", ["red_list"]),
            "red_and_black": ("black_list", ["black_list", "red_list"]),
            "stopped": ("suspended", ["suspended"]),
        }
        assert report.size == report.remaining + report.removed.num_rows == 9
        assert report.remaining == report.counts[-1].remaining == report.kept.num_rows
        assert sum(c.removed for c in report.counts) == report.removed.num_rows

    def test_parameters_change_who_is_left(self, apply):
        softer = apply(standard_suppression(minimum_failed_contacts=3))
        assert softer.kept["customer_id"].to_pylist() == ["called_once", "good", "unknown"]
        kept = apply(standard_suppression(keep=["red_list", "black_list"]))
        assert {"red", "red_and_black"} <= set(kept.kept["customer_id"].to_pylist())
        red_only = apply(standard_suppression(keep=["black_list"]))
        assert "red_and_black" not in red_only.kept["customer_id"].to_pylist()

    def test_no_exclusion_keeps_everybody(self, apply):
        report = apply(Suppression(()))
        assert (report.size, report.remaining, report.removed.num_rows) == (9, 9, 0)
        assert report.removed.column_names == ["customer_id", "reason", "reasons"]

    def test_nobody_to_suppress(self, apply):
        report = apply(text="nobody")
        assert (report.size, report.remaining) == (0, 0)
        assert [c.hits for c in report.counts] == [0] * 7

    def test_everybody_suppressed(self, apply):
        all_out = Suppression((Exclusion("all", {"zh": "全部", "en": "all"}, Everyone()),))
        report = apply(all_out)
        assert (report.remaining, report.removed.num_rows) == (0, 9)

    def test_the_tree_of_those_allowed_says_the_same(self, apply, tags, engine):
        allowed = standard_suppression().allowed(parse("arpu >= 50"))
        assert count_members(allowed, tags, engine=engine).members == apply().remaining
        assert Suppression(()).allowed(Everyone()) == Everyone()

    def test_an_absent_tag_names_its_exclusion(self, harness, lake, fields, engine):
        some = {name: field for name, field in fields.items() if name != "on_red_list"}
        tags = harness.store_tags(lake, some, [person("a")])
        with pytest.raises(SuppressionError, match=r"(?s)'red_list' cannot be applied.*keep"):
            apply_suppression(Everyone(), standard_suppression(), tags, engine=engine)
        report = apply_suppression(
            Everyone(), standard_suppression(keep=["red_list"]), tags, engine=engine
        )
        assert report.remaining == 1


def test_many_customers_are_counted_without_a_loop(harness, lake, fields, engine):
    rows = [person(f"c{i:06d}", failed=i % 3, on_red_list=i % 5 == 0) for i in range(20_000)]
    tags = harness.store_tags(lake, fields, rows)
    report = apply_suppression(Everyone(), standard_suppression(), tags, engine=engine)
    assert report.remaining == sum(i % 3 == 0 and i % 5 != 0 for i in range(20_000))
    both = [row for row in report.removed.to_pylist() if len(row["reasons"]) == 2]
    assert len(both) == sum(i % 3 != 0 and i % 5 == 0 for i in range(20_000))
    assert {row["reason"] for row in both} == {"red_list"}
