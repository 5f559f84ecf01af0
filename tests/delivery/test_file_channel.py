"""The file channel: whole lists, the same bytes again, nobody on two lists."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from bihuan.delivery import RECEIPT_SCHEMA, FileChannel, ListLayout, file_channel
from bihuan.delivery.channel import UnknownChannelError
from bihuan.delivery.file_channel import DamagedListError, list_name
from bihuan.delivery.target_list import ListLayoutError
from bihuan.kernel import DefectError


def tree(folder: Path) -> dict[str, bytes]:
    """Return every visible file with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def manifests(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_bytes()) for path in sorted(folder.rglob("manifest.json"))]


def read_list(path: Path) -> list[dict[str, str]]:
    """Read a list as a strict RFC 4180 reader would."""
    data = path.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    text = data.decode("utf-8-sig")
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def details_for(rows: pa.Table, **columns: object) -> pa.Table:
    return pa.table({"customer_id": rows["customer_id"], **columns})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def channel(out, clock, engine) -> Callable[..., FileChannel]:
    def make(folder: Path = out, **options: object) -> FileChannel:
        return FileChannel(folder, clock=clock, engine=engine, **options)

    return make


@pytest.fixture
def few(assignments) -> pa.Table:
    """Text messages of one unit: one list."""
    rows = assignments.filter(
        (pc.field("channel") == "sms") & (pc.field("org_unit_id") == "grid-01")
    )
    assert rows.num_rows > 5
    return rows


def the_list(folder: Path, ending: str = "csv") -> Path:
    (found,) = folder.rglob(f"*.{ending}")
    return found


class TestLists:
    def test_one_per_channel_and_unit_with_all_rows_in_order(self, channel, out, assignments):
        channel().send(assignments)
        seen = []
        for path in out.rglob("*.csv"):
            rows = read_list(path)
            assert {(row["渠道"], row["执行单位"]) for row in rows} == {
                tuple(path.stem.split("__"))
            }
            assert [int(row["优先级"]) for row in rows] == sorted(int(r["优先级"]) for r in rows)
            seen += [row["派发编号"] for row in rows]
        assert sorted(seen) == sorted(assignments["assignment_id"].to_pylist())
        assert len(list(out.rglob("*.csv"))) == 24

    def test_parquet_says_the_same_typed(self, channel, out, few):
        channel().send(few)
        rows = pq.read_table(the_list(out, "parquet"))
        assert rows.schema.field("valid_from").type == pa.date32()
        assert rows["assignment_id"].to_pylist() == [
            r["派发编号"] for r in read_list(the_list(out))
        ]

    def test_manifest_tells_every_file(self, channel, out, assignments):
        channel(with_xlsx=True).send(assignments)
        (manifest,) = manifests(out)
        folder = next(out.rglob("manifest.json")).parent
        assert manifest["rows"] == assignments.num_rows
        for ending in ("csv", "parquet", "xlsx"):
            of_kind = [e for e in manifest["files"] if e["format"] == ending]
            assert sum(entry["rows"] for entry in of_kind) == assignments.num_rows
        for entry in manifest["files"]:
            data = (folder / entry["name"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (
                entry["bytes"],
                entry["sha256"],
            )

    def test_texts_details_and_titles(self, channel, out, few):
        n = few.num_rows
        layout = ListLayout(
            details=details_for(
                few,
                name=["=cmd()"] * n,
                number=["13812348000"] * n,
                arpu=pa.array([-5.5] * n),
                heavy=pa.array([True] * (n - 1) + [None]),
            ),
            titles={"name": {"zh": "姓名"}, "number": {"zh": "=号码"}, "heavy": {"zh": "重度"}},
            scripts={f"script-{i}": f'您好,\r\n这是"第{i}号"推荐' for i in range(3)},
        )
        channel(layout=layout).send(few)
        rows = read_list(the_list(out))
        assert len(rows) == n
        for row in rows:
            assert row["姓名"] == "'=cmd()"
            assert row["'=号码"] == "138****8000"
            assert row["arpu"] == "-5.5"
            number = row["话术编号"][-1]
            assert row["话术"] == f'您好,\r\n这是"第{number}号"推荐'
        assert sorted({row["重度"] for row in rows}) == ["", "是"]

    def test_masked_in_every_format_unless_asked(self, channel, tmp_path, few):
        details = details_for(few, number=["13812348000"] * few.num_rows)
        for unmasked in (False, True):
            folder = tmp_path / f"unmasked-{unmasked}"
            layout = ListLayout(details=details, unmasked=unmasked)
            channel(folder, layout=layout, with_xlsx=True).send(few)
            sheet = CalamineWorkbook.from_path(the_list(folder, "xlsx")).get_sheet_by_index(0)
            csv_text = the_list(folder).read_text(encoding="utf-8-sig")
            shown = pq.read_table(the_list(folder, "parquet"))["number"].to_pylist()
            wanted = "13812348000" if unmasked else "138****8000"
            assert set(shown) == {wanted}
            assert wanted in csv_text
            assert wanted in sheet.to_python()[1]
            assert ("13812348000" in csv_text) == unmasked

    def test_two_rows_of_details_for_a_customer_are_refused(self, channel, out, few):
        details = details_for(few)
        layout = ListLayout(details=pa.concat_tables([details, details]))
        with pytest.raises(ListLayoutError, match="several rows"):
            channel(layout=layout).send(few)
        assert tree(out) == {}

    def test_customers_without_details_have_empty_cells(self, channel, out, few):
        details = details_for(few, name=["x"] * few.num_rows).slice(1)
        channel(layout=ListLayout(details=details)).send(few)
        assert sorted({row["name"] for row in read_list(the_list(out))}) == ["", "x"]

    def test_in_pieces_the_files_are_the_same(self, channel, tmp_path, assignments, monkeypatch):
        channel(tmp_path / "whole").send(assignments)
        monkeypatch.setattr(file_channel, "CHUNK_ROWS", 150)
        channel(tmp_path / "pieces").send(assignments)
        assert tree(tmp_path / "whole") == tree(tmp_path / "pieces")

    def test_unknown_channel_and_two_deployments_are_refused(self, channel, few):
        at = few.schema.get_field_index("channel")
        with pytest.raises(UnknownChannelError):
            channel().send(few.set_column(at, "channel", pa.array(["pigeon"] * few.num_rows)))
        ids = [f"d{i % 2}" for i in range(few.num_rows)]
        with pytest.raises(DefectError, match="one deployment"):
            channel().send(
                few.set_column(few.schema.get_field_index("deployment_id"), "deployment_id", [ids])
            )

    def test_nothing_to_send(self, channel, out, few):
        assert channel().send(few.slice(0, 0)).num_rows == 0
        assert not out.exists()


class TestReceipts:
    def test_a_list_is_not_a_delivery(self, channel, few):
        receipts = channel().send(few)
        assert receipts.schema.equals(RECEIPT_SCHEMA)
        assert set(receipts["stage"].to_pylist()) == {"unknown"}
        assert set(receipts["reason"].to_pylist()) == {"listed"}
        assert sorted(receipts["assignment_id"].to_pylist()) == sorted(
            few["assignment_id"].to_pylist()
        )


class TestSendAgain:
    def test_gives_the_same_bytes_and_the_same_receipts(self, channel, out, assignments, clock):
        first = channel(with_xlsx=True).send(assignments)
        before = tree(out)
        clock.advance(timedelta(hours=5))
        shuffled = assignments.take(np.random.default_rng(2).permutation(assignments.num_rows))
        again = channel(with_xlsx=True).send(shuffled)
        assert tree(out) == before
        assert sorted(again["outcome_id"].to_pylist()) == sorted(first["outcome_id"].to_pylist())

    def test_another_folder_gets_the_same_bytes(self, channel, tmp_path, assignments):
        channel(tmp_path / "a").send(assignments)
        channel(tmp_path / "b").send(assignments)
        assert tree(tmp_path / "a") == tree(tmp_path / "b")

    def test_mends_a_damaged_batch(self, channel, out, few):
        channel().send(few)
        before = tree(out)
        the_list(out).write_bytes(b"half a li")
        the_list(out, "parquet").unlink()
        # without its Parquet the batch is found by its set of assignments
        channel().send(few)
        assert tree(out) == before

    def test_a_changed_layout_takes_effect_without_a_second_list(self, channel, out, few, clock):
        first = channel().send(few)
        clock.advance(timedelta(hours=1))
        layout = ListLayout(details=details_for(few, name=["x"] * few.num_rows))
        again = channel(layout=layout).send(few)
        assert "name" in read_list(the_list(out))[0]
        assert again == first

    def test_nobody_stands_on_two_lists(self, channel, out, assignments, clock):
        part = assignments.filter(pc.field("priority") <= 10)
        first = channel().send(part)
        clock.advance(timedelta(hours=1))
        both = channel().send(assignments)
        listed = [row["派发编号"] for path in out.rglob("*.csv") for row in read_list(path)]
        assert sorted(listed) == sorted(assignments["assignment_id"].to_pylist())
        assert len(manifests(out)) == 2
        old = set(first["outcome_id"].to_pylist())
        assert old < set(both["outcome_id"].to_pylist())
        assert both.num_rows == assignments.num_rows

    def test_an_earlier_list_that_cannot_be_read_stops_the_sending(
        self, channel, out, assignments, few
    ):
        channel().send(few)
        the_list(out, "parquet").unlink()
        with pytest.raises(DamagedListError, match="nobody can say"):
            channel().send(assignments)
        assert len(manifests(out)) == 1

    def test_without_the_look_back_people_would_be_listed_twice(
        self, channel, out, assignments, monkeypatch
    ):
        """The seeded defect: a channel that does not look at its earlier batches."""
        channel().send(assignments.filter(pc.field("priority") <= 10))
        monkeypatch.setattr(FileChannel, "_listed_before", lambda *_: [])
        channel().send(assignments)
        listed = [row["派发编号"] for path in out.rglob("*.csv") for row in read_list(path)]
        assert len(listed) > len(set(listed))


class TestListName:
    @pytest.mark.parametrize(
        "unit",
        ["../../etc/passwd", "/etc", "..", ".", "a/b", "a\\b", "C:x", "nul\x00", "x" * 300, "", " ",
         "A1", "a1 ", "é", "e\u0301", "con.txt", "_unassigned", "-rf", "石家庄/长安"],
    )  # fmt: skip
    def test_is_one_harmless_name(self, unit):
        name = list_name("sms", unit)
        assert not set(name) & set('/\\:*?"<>|\x00. ')
        assert name.startswith("sms__")
        assert len(name.encode()) < 200

    def test_plain_units_stay_readable(self):
        assert list_name("sms", "grid-07") == "sms__grid-07"
        assert list_name("sms", "石家庄") == "sms__石家庄"

    @given(st.lists(st.text(max_size=12), unique=True, min_size=2, max_size=8))
    @settings(max_examples=200)
    def test_two_units_never_share_a_file_on_any_file_system(self, units):
        names = [list_name("sms", unit).casefold() for unit in [*units, None]]
        assert len(names) == len(set(names))

    def test_hostile_units_stay_in_the_folder(self, channel, out, few, tmp_path):
        at = few.schema.get_field_index("org_unit_id")
        hostile = ["../../../escape", "/abs", None, "A", "a"]
        units = [hostile[i % 5] for i in range(few.num_rows)]
        channel().send(few.set_column(at, "org_unit_id", pa.array(units)))
        assert len(list(out.rglob("*.csv"))) == 5
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
class TestCrash:
    @pytest.mark.parametrize("scenario", ["lists", "lists_again"])
    def test_killed_at_any_step_shows_whole_lists_or_none(self, crash, tmp_path, scenario):
        report = json.loads(crash(scenario, tmp_path))
        assert report["crashed"] >= 5
        assert report["completed"]
        assert report["broken"] == []
