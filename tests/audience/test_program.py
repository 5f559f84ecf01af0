"""The program reader: every answer beside the same one counted by hand over the rows."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from bihuan.audience import (
    And,
    AudienceError,
    Compare,
    In,
    Missing,
    NotEstimable,
    Or,
    ProgramReader,
    UnknownTagError,
    bind,
    matcher,
    parse,
)
from bihuan.audience.bind import TagTypeError
from bihuan.audience.program import ProgramTooLargeError, TagRangeError
from bihuan.data import Lake
from bihuan.kernel import random_stream
from bihuan.tag import build_index, open_index

ROWS = 200_003  # more than one block, and a last word that is not full


@pytest.fixture(scope="module")
def world(harness, tmp_path_factory):
    """An index over rows with gaps, and the rows themselves."""
    folder = tmp_path_factory.mktemp("program")
    rng = random_stream(5, "rows")
    gap = rng.random((4, ROWS)) < 0.1
    cents = np.rint(np.exp(rng.normal(8.3, 0.8, ROWS))).astype(int) % 40_000
    score = rng.random(ROWS)
    columns = {
        "arpu": [
            None if g else Decimal(int(c)).scaleb(-2) for c, g in zip(cents, gap[0], strict=True)
        ],
        "tenure_months": rng.integers(0, 36, ROWS).tolist(),
        "mms_count": [
            None if g else int(v) for v, g in zip(rng.integers(-3, 4, ROWS), gap[1], strict=True)
        ],
        "churn_score": [None if g else float(v) for v, g in zip(score, gap[2], strict=True)],
        "has_contract": [
            None if g else bool(v) for v, g in zip(rng.random(ROWS) < 0.3, gap[3], strict=True)
        ],
        "city": [("石家庄", "保定", "唐山")[v] for v in rng.integers(0, 3, ROWS)],
        "brand": [f"b{v}" for v in rng.integers(0, 40, ROWS)],
        "joined_on": [date(2020, 1, 1 + int(v)) for v in rng.integers(0, 28, ROWS)],
    }
    columns["balance"] = [Decimal(1)] * ROWS
    fields = {name: harness.FIELDS[name] for name in columns}
    rows = [
        {"customer_id": f"c{i:06d}", **dict(zip(columns, values, strict=True))}
        for i, values in enumerate(zip(*columns.values(), strict=True))
    ]
    tags = harness.store_tags(Lake(folder / "lake"), fields, rows)
    build_index(tags, folder / "index")
    index = open_index(folder / "index", "customer", harness.AS_OF)
    return {"reader": ProgramReader(index), "rows": rows, "fields": fields}


WITHIN = "tenure_months >= 6 and not (city = '唐山') and (arpu is missing or arpu < 200)"


def chosen(world, text: str) -> list[dict]:
    test = matcher(bind(parse(text), world["fields"]))
    return [row for row in world["rows"] if test(row)]


class TestCountAndMembers:
    @pytest.mark.parametrize(
        "text",
        [
            WITHIN, "everyone", "nobody", "arpu is missing", "not (arpu is missing)",
            "arpu between 30 and 58.37", "brand in ('b1', 'b7', 'b8', 'b39', 'nosuch')",
            "brand != 'b3' and not has_contract", "has_contract = false or churn_score > 0.5",
            "joined_on >= '2020-01-15' and joined_on < '2020-01-20'", "mms_count != 0",
            "brand > 'b3' and brand <= 'b4'", "balance = 1", "balance != 1",
        ],
    )  # fmt: skip
    def test_as_counted_by_hand(self, world, text):
        rows = chosen(world, text)
        reader = world["reader"]
        assert reader.count(text) == len(rows)
        assert reader.members(text).to_pylist() == [row["customer_id"] for row in rows]

    def test_counts_of_several_are_those_of_each(self, world):
        texts = [WITHIN, "has_contract", "nobody", "arpu > 50"]
        expected = [len(chosen(world, text)) for text in texts]
        assert world["reader"].counts(texts).tolist() == expected

    @pytest.mark.parametrize("ending", [".parquet", ".csv", ".arrow"])
    def test_members_are_written(self, world, tmp_path, ending):
        path = tmp_path / f"members{ending}"
        size = world["reader"].write_members(WITHIN, path)
        read = {
            ".parquet": pq.read_table,
            ".csv": pacsv.read_csv,
            ".arrow": lambda p: pa.ipc.open_file(str(p)).read_all(),
        }[ending]
        ids = read(path)["customer_id"].to_pylist()
        assert ids == [row["customer_id"] for row in chosen(world, WITHIN)]
        assert size == len(ids)

    def test_row_numbers_stand_for_ids(self, world, tmp_path):
        world["reader"].write_members("has_contract", tmp_path / "rows.parquet", ids="row")
        rows = pq.read_table(tmp_path / "rows.parquet")["row"].to_pylist()
        assert rows == [i for i, row in enumerate(world["rows"]) if row["has_contract"]]

    def test_another_ending_is_refused(self, world, tmp_path):
        with pytest.raises(AudienceError, match=r"\.docx"):
            world["reader"].write_members("has_contract", tmp_path / "a.docx")


class TestCross:
    @pytest.mark.parametrize(
        "tags",
        [("city",), ("city", "has_contract"), ("mms_count", "city", "has_contract"),
         ("brand", "tenure_months", "mms_count")],
    )  # fmt: skip
    def test_as_counted_by_hand(self, world, tags):
        table = world["reader"].cross(tags, WITHIN)
        expected = Counter(tuple(row[tag] for tag in tags) for row in chosen(world, WITHIN))
        found = {
            tuple(values[i] for values, i in zip(table.values, cell, strict=True)): int(
                table.counts[tuple(cell)]
            )
            for cell in np.argwhere(table.counts)
        }
        assert found == expected
        assert table.table().num_rows == len(expected)

    def test_both_ways_of_counting_agree(self, world, monkeypatch):
        reader = world["reader"]
        by_program = reader.cross(["city", "mms_count"], WITHIN).counts
        monkeypatch.setattr("bihuan.audience.program.reader._BY_PROGRAM", 0)
        assert (reader.cross(["city", "mms_count"], WITHIN).counts == by_program).all()

    def test_too_many_values_or_tags_are_refused_with_the_way_out(self, world):
        with pytest.raises(AudienceError, match="at most 1,000") as caught:
            world["reader"].cross(["arpu", "city"])
        assert "histogram" in caught.value.remedy
        with pytest.raises(AudienceError, match="one, two or three"):
            world["reader"].cross(["city", "city"])


class TestDistribution:
    @pytest.mark.parametrize("tag", ["arpu", "tenure_months", "churn_score", "joined_on"])
    @pytest.mark.parametrize("bins", [1, 7, 50])
    def test_a_histogram_has_every_member_once(self, world, tag, bins):
        rows = chosen(world, WITHIN)
        found = world["reader"].histogram(tag, WITHIN, bins=bins)
        known = [row[tag] for row in rows if row[tag] is not None]
        edges = found.edges
        expected = [
            sum(low <= v < high or (v == high and high == edges[-1]) for v in known)
            for low, high in itertools.pairwise(edges)
        ]
        assert found.counts.tolist() == expected
        assert found.counts.sum() == len(known)
        assert (found.missing, found.outside) == (len(rows) - len(known), 0)

    def test_codes_that_count_from_nought_do_not_widen_the_range(self, harness, tmp_path):
        rows = [{"customer_id": f"c{i:03d}", "mms_count": i} for i in range(40, 121)]
        fields = {"mms_count": harness.FIELDS["mms_count"]}
        tags = harness.store_tags(Lake(tmp_path / "lake"), fields, rows)
        build_index(tags, tmp_path / "index")
        index = open_index(tmp_path / "index", "customer", harness.AS_OF)
        assert index.planes("mms_count").encoding.low == 0
        reader = ProgramReader(index)
        assert reader.histogram("mms_count", bins=4).edges == (40, 60, 80, 100, 120)
        assert reader.quantiles("mms_count", [0, 1]) == [40, 120]
        with pytest.raises(TagRangeError, match="from 40 to 120"):
            reader.count_from("mms_count", 39)

    def test_given_edges_may_leave_some_outside(self, world):
        edges = [10, Decimal("58.37"), 100]
        known = [r["arpu"] for r in world["rows"] if r["arpu"] is not None]
        found = world["reader"].histogram("arpu", edges=edges)
        assert found.counts.tolist() == [
            sum(10 <= v < edges[1] for v in known), sum(edges[1] <= v <= 100 for v in known),
        ]  # fmt: skip
        assert found.outside == sum(v < 10 or v > 100 for v in known)

    @pytest.mark.parametrize("tag", ["arpu", "churn_score", "joined_on", "mms_count"])
    def test_quantiles_are_values_that_occur(self, world, tag):
        known = sorted(r[tag] for r in chosen(world, WITHIN) if r[tag] is not None)
        shares = [0, 0.1, 0.5, 0.999, 1]
        expected = [known[max(math.ceil(share * len(known)), 1) - 1] for share in shares]
        assert world["reader"].quantiles(tag, shares, WITHIN) == expected

    def test_totals_and_means(self, world):
        rows, reader = chosen(world, WITHIN), world["reader"]
        money = [row["arpu"] for row in rows if row["arpu"] is not None]
        assert reader.total("arpu", WITHIN) == sum(money)
        assert reader.total("mms_count", WITHIN) == sum(r["mms_count"] or 0 for r in rows)
        scores = [row["churn_score"] for row in rows if row["churn_score"] is not None]
        assert reader.total("churn_score", WITHIN) == pytest.approx(math.fsum(scores), rel=1e-12)
        assert reader.mean("arpu", WITHIN) == pytest.approx(float(sum(money)) / len(money))
        assert reader.total("has_contract") == sum(bool(r["has_contract"]) for r in world["rows"])

    def test_the_mean_of_nobody_is_not_estimable(self, world):
        assert isinstance(world["reader"].mean("arpu", "nobody"), NotEstimable)
        assert world["reader"].quantiles("arpu", [0.5], "nobody") == [None]

    def test_a_text_has_no_mean_and_no_threshold(self, world):
        with pytest.raises(TagTypeError, match="city"):
            world["reader"].total("city")
        with pytest.raises(TagTypeError, match="city"):
            world["reader"].threshold("city", 5)


class TestThreshold:
    @pytest.mark.parametrize("tag", ["arpu", "churn_score", "mms_count", "joined_on"])
    @pytest.mark.parametrize("side", ["top", "bottom"])
    @pytest.mark.parametrize("size", [1, 777, 50_000])
    def test_leaves_the_wanted_number_and_counts_the_ties(self, world, tag, side, size):
        known = sorted(
            (r[tag] for r in chosen(world, WITHIN) if r[tag] is not None), reverse=side == "top"
        )
        found = world["reader"].threshold(tag, size, WITHIN, side=side)
        assert found.value == known[size - 1]
        assert found.ties == known.count(found.value)
        assert found.beyond == known.index(found.value)
        assert found.beyond < size <= found.size_with_ties
        assert found.is_exact == (found.size_with_ties == size)

    def test_agrees_with_counting_at_the_value(self, world):
        reader = world["reader"]
        found = reader.threshold("arpu", 10_000, WITHIN)
        assert reader.count_from("arpu", found.value, WITHIN) == found.size_with_ties
        assert reader.count(f"({WITHIN}) and arpu > {found.value}") == found.beyond

    def test_more_than_there_are_answers_with_the_number_and_the_range(self, world):
        known = [r["arpu"] for r in world["rows"] if r["arpu"] is not None]
        with pytest.raises(TagRangeError) as caught:
            world["reader"].threshold("arpu", ROWS + 1)
        assert f"{len(known):,}" in str(caught.value)
        assert str(max(known)) in str(caught.value)
        assert str(max(known)) in caught.value.text("zh")

    @pytest.mark.parametrize("value", ["-0.01", "1000000"])
    def test_a_value_outside_of_the_range_answers_with_the_range(self, world, value):
        known = [r["arpu"] for r in world["rows"] if r["arpu"] is not None]
        with pytest.raises(TagRangeError) as caught:
            world["reader"].count_from("arpu", Decimal(value))
        assert str(min(known)) in str(caught.value)
        assert str(max(known)) in str(caught.value)


class TestOverlap:
    def test_as_counted_by_hand(self, world):
        texts = {"a": WITHIN, "b": "has_contract", "c": "arpu > 80", "none": "nobody"}
        sets = {name: {r["customer_id"] for r in chosen(world, t)} for name, t in texts.items()}
        found = world["reader"].overlap(texts)
        expected = [[len(x & y) for y in sets.values()] for x in sets.values()]
        assert found.counts.tolist() == expected
        times = Counter(i for members in sets.values() for i in members)
        assert found.covered == len(times)
        assert found.shared == sum(n > 1 for n in times.values())


class TestSample:
    def test_the_same_seed_draws_the_same_members_of_the_audience(self, world):
        reader = world["reader"]
        first = reader.sample(500, WITHIN, seed=3).to_pylist()
        assert first == reader.sample(500, WITHIN, seed=3).to_pylist()
        assert first != reader.sample(500, WITHIN, seed=4).to_pylist()
        members = {row["customer_id"] for row in chosen(world, WITHIN)}
        assert len(set(first)) == 500
        assert set(first) <= members

    def test_every_member_is_as_likely(self, world):
        rows = [row["customer_id"] for row in chosen(world, WITHIN)]
        place = {name: i for i, name in enumerate(rows)}
        drawn = [place[i] for i in world["reader"].sample(20_000, WITHIN, seed=1).to_pylist()]
        tenths = np.histogram(drawn, bins=10, range=(0, len(rows)))[0]
        assert (abs(tenths - 2_000) < 5 * math.sqrt(2_000 * 0.9)).all()

    def test_strata_have_their_shares_to_one_member(self, world):
        rows = {row["customer_id"]: row for row in chosen(world, WITHIN)}
        drawn = world["reader"].stratified_sample(1_001, "mms_count", WITHIN, seed=9).to_pylist()
        assert len(set(drawn)) == 1_001
        sizes = Counter(row["mms_count"] for row in rows.values())
        found = Counter(rows[i]["mms_count"] for i in drawn)
        for value, size in sizes.items():
            assert abs(found[value] - 1_001 * size / len(rows)) < 1

    def test_asking_for_more_than_there_are_gives_all(self, world):
        everybody = len(chosen(world, WITHIN))
        assert len(world["reader"].sample(10**9, WITHIN, seed=1)) == everybody
        assert len(world["reader"].stratified_sample(10**9, "city", WITHIN, seed=1)) == everybody


class TestLimits:
    def test_ten_thousand_nodes_are_answered(self, world):
        parts = tuple(
            And((Compare("tenure_months", "=", i % 36), Compare("brand", "!=", f"b{i % 41}")))
            for i in range(3_400)
        )
        tree = Or(parts)
        assert tree.size > 10_000
        pairs = {(i % 36, f"b{i % 41}") for i in range(3_400)}
        assert world["reader"].count(tree) == sum(
            any((r["tenure_months"], f"b{k}") in pairs and r["brand"] != f"b{k}" for k in range(41))
            for r in world["rows"]
        )

    def test_a_list_of_500_values_is_answered(self, world):
        wanted = [Decimal(n).scaleb(-2) for n in range(0, 40_000, 80)]
        assert len(wanted) == 500
        found = world["reader"].count(In("arpu", tuple(wanted)))
        assert found == sum(row["arpu"] in set(wanted) for row in world["rows"])

    def test_a_program_beyond_the_limit_is_refused_with_a_way_out(self, world, monkeypatch):
        monkeypatch.setattr("bihuan.audience.program.compile.MAX_OPERATIONS", 50)
        wanted = tuple(Decimal(n).scaleb(-2) for n in range(0, 9_000, 80))
        with pytest.raises(ProgramTooLargeError, match="operations") as caught:
            world["reader"].count(In("arpu", wanted))
        assert "SQL" in caught.value.remedy

    def test_an_unknown_tag_is_named_with_the_nearest(self, world):
        with pytest.raises(UnknownTagError) as caught:
            world["reader"].count("tenure_month > 3")
        assert "tenure_months" in caught.value.text("en")

    def test_an_index_of_nobody(self, harness, tmp_path):
        tags = harness.store_tags(Lake(tmp_path / "lake"), {"city": harness.FIELDS["city"]}, [])
        build_index(tags, tmp_path / "index")
        reader = ProgramReader(open_index(tmp_path / "index", "customer", harness.AS_OF))
        assert reader.count("everyone") == 0
        assert reader.members(Missing("city")).to_pylist() == []
        assert reader.cross(["city"]).counts.sum() == 0


class TestManyUsers:
    def test_threads_get_their_own_answers(self, world):
        texts = [f"tenure_months >= {i} and arpu > {2 * i}" for i in range(24)]
        expected = [world["reader"].count(text) for text in texts]
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                assert list(pool.map(world["reader"].count, texts)) == expected

    def test_a_forked_process_answers_too(self, world):
        expected = world["reader"].count(WITHIN)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, str(world["reader"].count(WITHIN)).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert int(os.read(read, 20)) == expected


class TestAgainstDefects:
    """Readers with one defect each, which the truth table must catch."""

    @pytest.mark.parametrize(
        ("place", "defect"),
        [
            ("_first_above", lambda encoding, value: encoding.first_at_least(value)),
            ("_complement", lambda cuts: cuts),
            ("_negated", lambda steps: steps),
        ],
    )
    def test_is_caught(self, harness, monkeypatch, place, defect):
        monkeypatch.setattr(f"bihuan.audience.program.compile.{place}", defect)
        assert harness.wrong_cases(harness.READERS["planes"])
