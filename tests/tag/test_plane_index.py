"""An index on disk: whole, current, checked, and safe beside other processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bihuan.audience import ProgramReader
from bihuan.data import ColumnType, Lake
from bihuan.kernel import FixedClock, UserError
from bihuan.tag import (
    DamagedIndexError,
    IndexNotBuiltError,
    Subject,
    TagField,
    TagNotIndexedError,
    TagTable,
    UnknownSubjectError,
    UnknownTagError,
    build_index,
    open_index,
)
from bihuan.tag.plane import index as plane_index

AS_OF = date(2026, 10, 31)
CLOCK = FixedClock(datetime(2026, 11, 1, tzinfo=UTC))
TYPES = {
    "arpu": ColumnType.MONEY, "city": ColumnType.STRING, "has_contract": ColumnType.BOOLEAN,
    "tenure": ColumnType.INTEGER, "score": ColumnType.NUMBER, "joined_on": ColumnType.DATE,
}  # fmt: skip


def make_tags(
    lake: Lake, rows: int, *, ids=None, fingerprints=None, universe="u1", values=None
) -> TagTable:
    """Publish tags of some subjects, as derivation would, and return their table."""
    names = ids or [f"c{i:07d}" for i in range(rows)]
    columns = {
        "arpu": [None if i % 7 == 0 else Decimal(i % 900) / 100 for i in range(rows)],
        "city": [f"city{i % 11}" for i in range(rows)],
        "has_contract": [i % 3 == 0 for i in range(rows)],
        "tenure": [i % 120 for i in range(rows)],
        "score": [None if i % 5 == 0 else (i % 97) / 97 for i in range(rows)],
        "joined_on": [date(2020, 1, 1 + i % 28) for i in range(rows)],
    } | (values or {})
    data = {name: pa.array(column, TYPES[name].arrow) for name, column in columns.items()}
    lineage = {
        "universe": universe,
        "tags": {name: {"fingerprint": (fingerprints or {}).get(name, name)} for name in TYPES},
    }
    with lake.publication(CLOCK) as publication:
        table = pa.table({"customer_id": pa.array(names, pa.string()), **data})
        publication.add("tag__customer__x", AS_OF, table, lineage=lineage)
    snapshot = lake.view().get("tag__customer__x", AS_OF)
    fields = {
        name: TagField(name, kind, None, {"zh": name, "en": name}) for name, kind in TYPES.items()
    }
    return TagTable(
        subject=Subject.CUSTOMER, as_of=AS_OF, id_column="customer_id", fields=fields,
        versions=dict.fromkeys(fields, snapshot.id), pending={},
        snapshots={"tag__customer__x": snapshot}, rows=rows,
    )  # fmt: skip


@pytest.fixture
def tags(tmp_path) -> TagTable:
    return make_tags(Lake(tmp_path / "lake"), 1_000)


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "index"


def planes_file(root: Path, tag: str) -> Path:
    return next((root / "customer" / AS_OF.isoformat()).glob(f"{tag}-*.planes"))


def flip_bit(path: Path, byte: int) -> None:
    with path.open("r+b") as file:
        file.seek(byte)
        was = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([was ^ 4]))


class TestBuild:
    def test_every_tag_is_built_once(self, tags, root):
        assert set(build_index(tags, root).built) == set(TYPES)
        again = build_index(tags, root)
        assert again.built == ()
        assert set(again.unchanged) == set(TYPES)

    def test_only_the_changed_tag_is_rebuilt(self, tags, root, tmp_path):
        build_index(tags, root)
        before = {p: p.stat().st_mtime_ns for p in root.rglob("*.planes")}
        changed = make_tags(
            Lake(tmp_path / "lake"), 1_000, fingerprints={"tenure": "v2"},
            values={"tenure": [500] * 1_000},
        )  # fmt: skip
        assert open_index(root, "customer", AS_OF).stale(changed) == ("tenure",)
        assert build_index(changed, root).built == ("tenure",)
        kept = {p for p in root.rglob("*.planes") if before.get(p) == p.stat().st_mtime_ns}
        assert len(kept) >= len(TYPES) - 1
        assert ProgramReader(open_index(root, "customer", AS_OF)).count("tenure = 500") == 1_000

    def test_other_subjects_rebuild_everything(self, tags, root, tmp_path):
        build_index(tags, root)
        grown = make_tags(Lake(tmp_path / "lake"), 1_001, universe="u2")
        assert set(build_index(grown, root).built) == set(TYPES)
        assert open_index(root, "customer", AS_OF).rows == 1_001

    def test_a_reader_of_before_keeps_its_answers(self, tags, root, tmp_path):
        build_index(tags, root)
        reader = ProgramReader(open_index(root, "customer", AS_OF))
        before = reader.count("tenure >= 60")
        changed = make_tags(
            Lake(tmp_path / "lake"), 1_000, fingerprints={"tenure": "v2"},
            values={"tenure": [500] * 1_000},
        )  # fmt: skip
        build_index(changed, root)
        assert reader.count("tenure >= 60") == before
        assert reader.count("city = 'city3'") == 91

    def test_a_tag_of_names_is_left_out_with_the_reason(self, root, tmp_path, monkeypatch):
        monkeypatch.setattr("bihuan.tag.plane.column.MAX_TEXTS", 10)
        tags = make_tags(Lake(tmp_path / "lake"), 100)
        report = build_index(tags, root)
        assert set(report.left_out) == {"city"}
        with pytest.raises(TagNotIndexedError, match="'city' has no planes"):
            open_index(root, "customer", AS_OF).planes("city")

    def test_building_what_is_there_reads_and_writes_nothing(self, root, tmp_path, monkeypatch):
        monkeypatch.setattr("bihuan.tag.plane.column.MAX_TEXTS", 10)
        tags = make_tags(Lake(tmp_path / "lake"), 100)
        first = build_index(tags, root)
        assert open_index(root, "customer", AS_OF).stale(tags) == ()
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
        monkeypatch.setattr("bihuan.tag.plane.build.ColumnReader", None)  # reading would fail
        again = build_index(tags, root)
        assert set(again.left_out) == set(first.left_out) == {"city"}
        assert {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()} == before

    def test_files_of_before_outlive_runs_that_change_nothing(self, tags, root, tmp_path):
        build_index(tags, root)
        reader = ProgramReader(open_index(root, "customer", AS_OF))
        changed = make_tags(Lake(tmp_path / "lake"), 1_000, fingerprints={"tenure": "v2"})
        for _ in range(3):
            build_index(changed, root)
        assert reader.count("tenure >= 0") == 1_000

    def test_cancelling_publishes_nothing(self, tags, root):
        from bihuan.kernel import Cancelled, CancelToken, SilentProgress

        token = CancelToken()
        token.cancel()
        with pytest.raises(Cancelled):
            build_index(tags, root, progress=SilentProgress(token))
        with pytest.raises(IndexNotBuiltError):
            open_index(root, "customer", AS_OF)


class TestIds:
    @pytest.mark.parametrize(
        ("ids", "kind"),
        [
            ([f"C{i:05d}" for i in range(300)], "numbered"),
            ([f"C{i * 3:05d}" for i in range(300)], "fixed"),
            (sorted({f"客户{i}" for i in range(300)}), "text"),
            (sorted({f"{i:x}" for i in range(300)}), "text"),
        ],
    )
    def test_rows_and_ids_find_each_other(self, ids, kind, root, tmp_path):
        build_index(make_tags(Lake(tmp_path / "lake"), 300, ids=ids), root)
        index = open_index(root, "customer", AS_OF)
        assert index.ids._how["kind"] == kind
        rows = np.array([0, 7, 299])
        assert index.take_ids(rows).to_pylist() == [ids[0], ids[7], ids[299]]
        assert [index.ids.find(name) for name in ids] == list(range(300))
        for stranger in ("", "zzz", "C00001x", "C99999", "客户", "C0000１"):
            assert index.ids.find(stranger) == (ids.index(stranger) if stranger in ids else None)


class TestProfile:
    def test_is_the_one_that_the_lake_holds(self, tags, root):
        build_index(tags, root)
        index = open_index(root, "customer", AS_OF)
        for subject in ("c0000000", "c0000035", "c0000999"):
            assert index.profile(subject) == tags.profile(subject)

    def test_an_unknown_subject_is_named(self, tags, root):
        build_index(tags, root)
        with pytest.raises(UnknownSubjectError, match="c9"):
            open_index(root, "customer", AS_OF).profile("c9")

    def test_an_unknown_tag_suggests_the_nearest(self, tags, root):
        build_index(tags, root)
        with pytest.raises(UnknownTagError) as caught:
            open_index(root, "customer", AS_OF).planes("tenur")
        assert "tenure" in caught.value.remedy


class TestDamage:
    def test_a_flipped_bit_is_named_and_never_answered_from(self, tags, root):
        build_index(tags, root)
        path = planes_file(root, "tenure")
        flip_bit(path, 4096 + 8)
        with pytest.raises(DamagedIndexError, match=r"tenure.*plane 1"):
            ProgramReader(open_index(root, "customer", AS_OF)).count("tenure > 5")

    def test_damage_after_the_first_answer_is_found_too(self, tags, root):
        build_index(tags, root)
        reader = ProgramReader(open_index(root, "customer", AS_OF))
        assert reader.count("tenure > 5") > 0
        flip_bit(planes_file(root, "tenure"), 3)
        with pytest.raises(DamagedIndexError):
            reader.count("tenure > 5")

    def test_a_profile_looks_at_the_files_again_after_a_second(self, tags, root, monkeypatch):
        build_index(tags, root)
        index = open_index(root, "customer", AS_OF)
        assert index.profile("c0000035") == tags.profile("c0000035")
        flip_bit(planes_file(root, "tenure"), 3)
        monkeypatch.setattr(plane_index, "_LOOK_SECONDS", 0.0)
        with pytest.raises(DamagedIndexError, match="tenure"):
            index.profile("c0000035")

    def test_without_the_check_the_answer_would_be_wrong(self, tags, root, monkeypatch):
        build_index(tags, root)
        right = ProgramReader(open_index(root, "customer", AS_OF)).count("has_contract")
        flip_bit(planes_file(root, "has_contract"), 3)
        monkeypatch.setattr(
            plane_index, "checksums", lambda planes: ["?"] * len(planes)
        )  # a reader that takes any checksum for right
        monkeypatch.setattr(plane_index, "zip", lambda *a, strict: [], raising=False)
        assert ProgramReader(open_index(root, "customer", AS_OF)).count("has_contract") != right

    @pytest.mark.parametrize("cut", [1, 4096, 0])
    def test_a_truncated_file_is_named(self, tags, root, cut):
        build_index(tags, root)
        path = planes_file(root, "tenure")
        os.truncate(path, path.stat().st_size - cut if cut else 0)
        with pytest.raises(DamagedIndexError, match="tenure"):
            ProgramReader(open_index(root, "customer", AS_OF)).count("tenure > 5")

    @pytest.mark.parametrize("name", ["HEAD", "tenure-*.how", "ids-*"])
    def test_other_files_are_checked_as_well(self, root, tmp_path, name):
        ids = [f"C{i * 3:05d}" for i in range(100)]
        build_index(make_tags(Lake(tmp_path / "lake"), 100, ids=ids), root)
        path = next((root / "customer" / AS_OF.isoformat()).glob(name))
        flip_bit(path, path.stat().st_size // 2)
        with pytest.raises(DamagedIndexError, match=path.name):
            ProgramReader(open_index(root, "customer", AS_OF)).members("tenure > 5")

    def test_verify_names_what_is_damaged_and_building_again_mends_it(self, tags, root):
        build_index(tags, root)
        flip_bit(planes_file(root, "city"), 11)
        problems = open_index(root, "customer", AS_OF).verify()
        assert len(problems) == 1
        assert "city" in problems[0]
        changed = replace(tags, versions=dict(tags.versions))
        (root / "customer" / AS_OF.isoformat() / "HEAD").unlink()
        build_index(changed, root)
        assert open_index(root, "customer", AS_OF).verify() == []

    @pytest.mark.parametrize("name", ["HEAD", "tenure-*.how", "tenure-*.planes"])
    def test_the_remedy_named_mends_what_building_alone_would_not_look_at(self, tags, root, name):
        build_index(tags, root)
        right = ProgramReader(open_index(root, "customer", AS_OF)).count("tenure > 5")
        flip_bit(next((root / "customer" / AS_OF.isoformat()).glob(name)), 40)
        with pytest.raises(DamagedIndexError) as caught:
            ProgramReader(open_index(root, "customer", AS_OF)).count("tenure > 5")
        assert "--afresh" in caught.value.remedy
        assert set(build_index(tags, root, afresh=True).built) == set(TYPES)
        assert ProgramReader(open_index(root, "customer", AS_OF)).count("tenure > 5") == right


BUILDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import importlib.util
spec = importlib.util.spec_from_file_location("plane_tests", {file!r})
tests = importlib.util.module_from_spec(spec); spec.loader.exec_module(tests)
from bihuan.data import Lake
tags = tests.make_tags(Lake(Path({lake!r})), 300_000, universe=sys.argv[1])
print("ready", flush=True)
while True:
    from bihuan.tag import build_index
    build_index(tags, Path({root!r}))
    print("built", flush=True)
    (Path({root!r}) / "customer" / "2026-10-31" / "HEAD").unlink(missing_ok=True)
"""


def start_builder(tmp_path: Path, root: Path) -> subprocess.Popen:
    script = BUILDER.format(
        here=str(Path(__file__).parent),
        file=__file__,
        lake=str(tmp_path / "lake-b"),
        root=str(root),
    )
    return subprocess.Popen([sys.executable, "-c", script, "u9"], stdout=subprocess.PIPE, text=True)


class TestTwoProcesses:
    @pytest.mark.slow
    def test_a_killed_builder_leaves_the_old_or_the_new(self, tags, root, tmp_path):
        build_index(tags, root)
        for wait in (0.0, 0.05, 0.15):
            builder = start_builder(tmp_path, root)
            assert builder.stdout.readline() == "ready\n"
            time.sleep(wait)
            builder.send_signal(signal.SIGKILL)
            builder.wait()
            builder.stdout.close()
            try:
                index = open_index(root, "customer", AS_OF)
            except IndexNotBuiltError:
                continue
            assert index.rows in (1_000, 300_000)
            assert index.verify() == []
        build_index(tags, root)
        assert not list(root.rglob("*.tmp"))
        assert ProgramReader(open_index(root, "customer", AS_OF)).count("tenure >= 0") == 1_000

    def test_building_and_reading_at_once_does_no_harm(self, root, tmp_path):
        lake = Lake(tmp_path / "lake")
        tags = make_tags(lake, 20_000)
        build_index(tags, root)
        right = ProgramReader(open_index(root, "customer", AS_OF)).count("tenure > 5 and arpu > 2")
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            builders = pool.starmap_async(rebuild, [(tmp_path, root, i) for i in range(6)])
            answers = []
            while not builders.ready():
                try:
                    reader = ProgramReader(open_index(root, "customer", AS_OF))
                    answers.append(reader.count("tenure > 5 and arpu > 2"))
                except IndexNotBuiltError:
                    continue
            builders.get()
        assert set(answers) == {right}


def rebuild(tmp_path: Path, root: Path, number: int) -> None:
    """Build under changing fingerprints, so that files are written and removed all the time."""
    lake = Lake(tmp_path / f"lake-{number}")
    prints = {name: f"{name}{number}" for name in TYPES}
    build_index(make_tags(lake, 20_000, fingerprints=prints), root)


class TestErrors:
    def test_no_index_lists_the_dates_there_are(self, tags, root):
        build_index(tags, root)
        with pytest.raises(IndexNotBuiltError, match="2026-10-31"):
            open_index(root, "customer", date(2026, 9, 30))

    def test_every_error_says_what_to_do_in_both_languages(self, tags, root):
        build_index(tags, root)
        flip_bit(planes_file(root, "city"), 0)
        with pytest.raises(UserError) as caught:
            open_index(root, "customer", AS_OF).planes("city")
        assert "Build the index" in caught.value.text("en")
        assert "重新构建" in caught.value.text("zh")
