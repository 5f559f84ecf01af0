"""Snapshots: the same question to the same data is one snapshot."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bihuan.audience import (
    Everyone,
    Member,
    Nobody,
    UnknownTagError,
    bind,
    combine,
    count_members,
    find_snapshot,
    get_snapshot,
    match,
    normalise,
    parse,
    select_members,
    take_snapshot,
    to_text,
)
from bihuan.audience.snapshot import SnapshotMismatchError, UnknownSnapshotError
from bihuan.kernel import FixedClock, random_stream
from bihuan.tag import TagNotDerivedError

LATER = FixedClock(datetime(2026, 11, 2, tzinfo=UTC))


@pytest.fixture(scope="module")
def people(harness):
    profiles = harness.random_profiles(random_stream(41, "people"), 60)
    return [{"customer_id": f"c{i:03d}", **profile} for i, profile in enumerate(profiles)]


@pytest.fixture(scope="module")
def tags(harness, lake, people):
    return harness.store_tags(lake, harness.FIELDS, people)


@pytest.fixture(scope="module")
def take(tags, lake, engine, clock):
    def taken(text, table=tags, **more):
        return take_snapshot(parse(text), table, lake=lake, engine=engine, clock=clock, **more)

    return taken


def ids(snapshot):
    return snapshot.members()["customer_id"].to_pylist()


class TestTakeSnapshot:
    def test_members_are_those_whose_profile_matches(self, harness, take, people):
        for text in ("arpu >= 58.37 and not has_contract", "not (churn_score > 0.4)",
                     "city is missing or mms_count > 9007199254740992"):  # fmt: skip
            snapshot = take(text)
            tree = bind(parse(text), harness.FIELDS)
            expected = [row["customer_id"] for row in people if match(tree, row)]
            assert ids(snapshot) == expected
            assert (snapshot.size, snapshot.count.base) == (len(expected), 60)
            assert 0 < len(expected) < 60

    def test_everyone_and_nobody(self, take):
        assert len(ids(take("everyone"))) == 60
        assert ids(take("nobody")) == []
        assert take("nobody").members().schema.names == ["customer_id"]

    def test_the_same_question_in_other_words_is_found_not_computed(self, take, engine):
        first = take("arpu >= 58.37 and city in ('保定', '石家庄')")
        asked = engine.asked
        second = take("not (not (月均收入 >= 58.370) or city not in ('石家庄', '保定', '石家庄'))")
        assert second == first
        assert engine.asked == asked

    def test_other_data_another_date_or_another_meaning_is_another_snapshot(
        self, harness, take, lake, people
    ):
        first = take("arpu >= 58.37")
        newer = harness.store_tags(lake, harness.FIELDS, people[:50])
        later = harness.store_tags(lake, harness.FIELDS, people, as_of=date(2026, 11, 30))
        others = [take("arpu >= 58.37", newer), take("arpu >= 58.37", later), take("arpu > 58.37")]
        assert len({first.id, *(other.id for other in others)}) == 4
        assert others[0].count.base == 50
        assert others[1].as_of == date(2026, 11, 30)

    def test_only_the_versions_of_tags_that_are_read_count(self, harness, take, tags, lake, people):
        newer = harness.store_tags(lake, harness.FIELDS, people[::-1], clock=LATER)

        def anew(table):
            """The tags with one of their two tables derived anew."""
            changed = {n for n, v in tags.versions.items() if v == tags.snapshots[table].id}
            return replace(
                tags,
                versions={n: (newer if n in changed else tags).versions[n] for n in tags.versions},
                snapshots={**tags.snapshots, table: newer.snapshots[table]},
            )

        other, own = anew("tag__customer__second"), anew("tag__customer__first")
        assert take("arpu >= 58.37", other).id == take("arpu >= 58.37").id
        assert take("arpu >= 58.37", own).id != take("arpu >= 58.37").id
        # an audience that reads no tag depends on who is in the base
        assert take("everyone", other).id != take("everyone").id

    def test_a_nan_in_a_file_is_missing(self, harness, take, lake):
        rows = [{"customer_id": str(i), "churn_score": v}
                for i, v in enumerate([0.2, 0.4, math.nan])]  # fmt: skip
        tags = harness.store_tags(lake, harness.FIELDS, rows)
        assert ids(take("churn_score > 0.3", tags)) == ["1"]
        assert ids(take("churn_score != 0.3", tags)) == ["0", "1"]
        assert ids(take("churn_score is missing", tags)) == ["2"]
        assert ids(take("not (churn_score < 0.3)", tags)) == ["1", "2"]

    def test_is_stored_in_its_own_table_with_its_lineage(self, take, lake):
        snapshot = take("arpu >= 80")
        stored = lake.view().get(f"audience__{snapshot.id[:16]}", snapshot.as_of)
        assert stored.lineage["audience_snapshot"] == snapshot.id
        assert list(stored.lineage["versions"]) == ["arpu"]
        assert to_text(snapshot.tree) == "arpu >= 80"

    def test_saved_audiences_are_part_of_the_question(self, take):
        saved = {"rich": parse("arpu >= 80")}
        assert take("audience('rich')", saved=saved).id == take("arpu >= 80").id

    def test_a_wrong_audience_stores_nothing(self, take, lake):
        before = lake.view().version
        with pytest.raises(UnknownTagError):
            take("arppu >= 80")
        assert lake.view().version == before

    def test_a_tag_without_values_says_why(self, take, tags):
        fields = {name: field for name, field in tags.fields.items() if name != "churn_score"}
        reason = {"en": "there is no score.", "zh": "没有评分。"}
        waiting = replace(tags, fields=fields, pending={"churn_score": reason})
        with pytest.raises(TagNotDerivedError, match="there is no score"):
            take("arpu > 5 and churn_score > 0.5", waiting)
        with pytest.raises(TagNotDerivedError, match="there is no score"):
            take("audience('risky')", waiting, saved={"risky": parse("churn_score > 0.5")})


class TestFindSnapshot:
    def test_finds_what_was_taken(self, take, lake):
        snapshot = take("arpu >= 80")
        assert find_snapshot(lake.view(), snapshot.id) == snapshot
        assert get_snapshot(lake.view(), snapshot.id).size == snapshot.size

    def test_an_unknown_id(self, lake):
        assert find_snapshot(lake.view(), "0" * 20) is None
        with pytest.raises(UnknownSnapshotError, match="0000"):
            get_snapshot(lake.view(), "0" * 20)


class TestCountMembers:
    def test_counts_like_a_snapshot_and_stores_nothing(self, take, tags, lake, engine):
        before = lake.view().version
        count = count_members(parse("arpu >= 58.37"), tags, engine=engine)
        assert lake.view().version == before
        snapshot = take("arpu >= 58.37")
        assert count == snapshot.count
        assert count.share == snapshot.size / 60
        assert count_members(Nobody(), tags, engine=engine).members == 0
        assert count_members(Everyone(), tags, engine=engine).members == 60

    def test_an_empty_base_has_no_share(self, harness, lake, engine):
        empty = harness.store_tags(lake, harness.FIELDS, [])
        count = count_members(parse("arpu >= 80"), empty, engine=engine)
        assert (count.members, count.base, count.share) == (0, 0, None)


class TestMembers:
    def test_brings_tags_alongside(self, take, tags, engine, people):
        snapshot = take("has_contract")
        table = snapshot.members(["city", "arpu"], tags=tags, engine=engine)
        assert table.column_names == ["customer_id", "city", "arpu"]
        by_id = {row["customer_id"]: row for row in people}
        assert table.num_rows == snapshot.size
        for row in table.to_pylist():
            assert row["city"] == by_id[row["customer_id"]].get("city")
            assert row["arpu"] == by_id[row["customer_id"]].get("arpu")
        assert table["customer_id"].to_pylist() == ids(snapshot)

    def test_who_left_the_base_keeps_a_row(self, harness, take, lake, people, engine):
        snapshot = take("everyone")
        later = harness.store_tags(lake, harness.FIELDS, people[:40], as_of=date(2026, 11, 30))
        table = snapshot.members(["city"], tags=later, engine=engine)
        assert table.num_rows == 60
        assert table["city"].to_pylist()[40:] == [None] * 20

    def test_refuses_unknown_tags_and_other_subjects(self, take, tags, engine):
        snapshot = take("has_contract")
        with pytest.raises(UnknownTagError, match="city"):
            snapshot.members(["citty"], tags=tags, engine=engine)
        with pytest.raises(SnapshotMismatchError, match="customer ids does not go with line"):
            snapshot.members(["city"], tags=replace(tags, subject="line"), engine=engine)


class TestCombine:
    def test_is_set_algebra_on_members(self, take, lake, engine, clock):
        rich, bound = take("arpu >= 58.37"), take("has_contract")
        expected = {
            "and": set(ids(rich)) & set(ids(bound)),
            "or": set(ids(rich)) | set(ids(bound)),
            "but_not": set(ids(rich)) - set(ids(bound)),
        }
        for operation, members in expected.items():
            joined = combine(operation, rich, bound, lake=lake, engine=engine, clock=clock)
            assert ids(joined) == sorted(members)
            assert joined.size == len(members)
            assert Member(rich.id) in joined.tree.parts
            asked = engine.asked
            again = combine(operation, rich, bound, lake=lake, engine=engine, clock=clock)
            assert again == joined
            assert engine.asked == asked

    def test_takes_the_later_date(self, harness, take, lake, engine, clock, people):
        later = harness.store_tags(lake, harness.FIELDS, people[:40], as_of=date(2026, 11, 30))
        both = combine(
            "and", take("everyone"), take("everyone", later), lake=lake, engine=engine, clock=clock
        )
        assert both.size == 40
        assert (both.as_of, both.count.base) == (date(2026, 11, 30), 40)

    def test_refuses_two_kinds_of_subject(self, take, lake, engine, clock):
        one = take("everyone")
        with pytest.raises(SnapshotMismatchError):
            combine(
                "and", one, replace(one, subject="staff"), lake=lake, engine=engine, clock=clock
            )


class TestSelectMembers:
    def test_reads_only_the_tables_needed(self, tags):
        _, sources = select_members(bind(parse("arpu > 5"), tags.fields), tags)
        assert list(sources) == ["tag__customer__first"]

    def test_every_tree_selects_whom_it_matches(self, harness, tags, people, engine):
        for tree in harness.random_trees(42, 25):
            node = normalise(bind(tree, harness.FIELDS))
            query, sources = select_members(node, tags)
            found = engine.query(query, sources)["customer_id"].to_pylist()
            assert found == [row["customer_id"] for row in people if match(node, row)]


def test_members_are_written_in_a_form_that_others_read(take):
    snapshot = take("everyone")
    (path,) = snapshot.stored.files
    table = pq.read_table(path)
    assert table.schema.field("customer_id").type == pa.string()
    assert table["customer_id"].to_pylist() == sorted(table["customer_id"].to_pylist())
