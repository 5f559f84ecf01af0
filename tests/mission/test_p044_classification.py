"""P044: customers parted by matrix (矩阵), by cluster (聚类), and classified automatically."""

from __future__ import annotations

import shutil
import statistics
from decimal import Decimal
from types import SimpleNamespace

import pytest

from bihuan.audience import Axis
from bihuan.kernel import UserError

TITLE = {"zh": "价值需求矩阵", "en": "Value and need"}
VALUE = Axis("arpu", cuts=(Decimal(50), Decimal(100)))
NEED = Axis("dou", cuts=(1000.0, 5000.0))


@pytest.fixture(scope="module")
def world(operator, tmp_path_factory, tools) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("classes") / "operator"
    shutil.copytree(operator.folder, folder)
    ws = tools.open_at(folder / "ws")
    months = operator.months
    names = ("arpu", "dou", "mou", "tenure_months")
    rows = ws.tags(operator.last).read(ws.engine, names).to_pylist()
    return SimpleNamespace(ws=ws, before=months[-2], last=operator.last, rows=rows)


@pytest.fixture(scope="module")
def saved(world) -> SimpleNamespace:
    """The matrix kept as a classifier and applied to two months."""
    ws = world.ws
    found = ws.segments.matrix(VALUE, NEED, world.before).named({"r3c3": "stars"})
    version = ws.segments.save("value_need", found, title=TITLE, who="analyst", why="campaigns")
    return SimpleNamespace(
        version=version,
        first=ws.segments.classify("value_need", world.before),
        second=ws.segments.classify("value_need", world.last),
    )


def band(value, cuts) -> int:
    return len(cuts) + 1 if value is None else sum(value >= cut for cut in cuts)


def cell(row) -> str:
    i, j = band(row["arpu"], (50, 100)), band(row["dou"], (1000, 5000))
    return "stars" if (i, j) == (2, 2) else f"r{i + 1}c{j + 1}"


@pytest.mark.mission("P044")
class TestMatrix:
    """F-43: 矩阵分析 along tags and value needs."""

    def test_f43_every_customer_is_in_one_cell_and_each_cell_is_an_audience(self, world) -> None:
        ws = world.ws
        found = ws.segments.matrix(VALUE, NEED, world.last, means=["tenure_months"])
        assert found.size == len(world.rows)
        for one in found.cells:
            assert ws.count(one.text, world.last).members == one.size
        top = found["r3c3"]
        inside = [
            r for r in world.rows
            if (r["arpu"] or 0) >= 100 and r["dou"] is not None and r["dou"] >= 5000
        ]  # fmt: skip
        assert top.size == len(inside) > 0
        tenure = [r["tenure_months"] for r in inside if r["tenure_months"] is not None]
        assert top.means["tenure_months"] == pytest.approx(statistics.mean(tenure))
        assert ws.members(top.text, world.last).num_rows == top.size

    def test_f43_cut_points_found_by_share(self, world) -> None:
        found = world.ws.segments.matrix("arpu", "dou", world.last)
        known = sum(row["arpu"] is not None for row in world.rows)
        for name in (b.name for b in found.rows if b.name != "missing"):
            size = sum(c.size for c in found.cells if c.row == name)
            assert size == pytest.approx(known / 3, rel=0.1)


@pytest.mark.mission("P044")
class TestCluster:
    """F-44: 聚类分析, with the features of each class shown."""

    TAGS = ("arpu", "dou", "mou")

    def test_f44_classes_with_their_features(self, world) -> None:
        found = world.ws.segments.cluster(self.TAGS, world.last, within="not is_disconnected")
        assert 2 <= len(found.classes) <= 8
        assert found.silhouette[len(found.classes)] > 0.2
        assert found.agreement > 0.8
        assert sum(one.size for one in found.classes) == found.rows
        assert all(one.said["zh"] and one.said["en"] for one in found.classes)
        again = world.ws.segments.cluster(self.TAGS, world.last, within="not is_disconnected")
        assert again.classes == found.classes

    def test_f44_classes_differ_where_they_are_said_to(self, world) -> None:
        ws = world.ws
        found = ws.segments.cluster(self.TAGS, world.last, count=3)
        ws.segments.save("usage", found, title={"zh": "使用类型", "en": "Usage"}, who="a", why="b")
        ws.segments.classify("usage", world.last)
        classes = {
            row["customer_id"]: row["class"]
            for row in ws.view.get("class__usage", world.last).read().to_pylist()
        }
        for one in found.classes:
            inside = [r for r in world.rows if classes[r["customer_id"]] == one.name]
            assert len(inside) == one.size
            for feature in one.features:
                known = [float(r[feature.tag]) for r in inside if r[feature.tag] is not None]
                assert feature.mean == pytest.approx(statistics.mean(known))
        for customer in list(classes)[::300]:
            assert ws.segments.class_of("usage", customer, world.last) == classes[customer]


@pytest.mark.mission("P044")
class TestAutomaticClassification:
    """F-45: 通过客户画像,实现客户自动分类: at any later date, and for a single profile."""

    def test_f45_every_customer_at_a_later_date(self, world, saved) -> None:
        stored = world.ws.view.get("class__value_need", world.last).read().to_pylist()
        assert {r["customer_id"]: r["class"] for r in stored} == {
            row["customer_id"]: cell(row) for row in world.rows
        }
        assert saved.second.counts["stars"] == sum(cell(row) == "stars" for row in world.rows)
        assert sum(saved.second.counts.values()) == len(world.rows)

    def test_f45_the_same_for_a_single_profile(self, world, saved) -> None:
        for row in world.rows[::250]:
            told = world.ws.segments.class_of("value_need", row["customer_id"], world.last)
            assert told == cell(row)

    def test_f45_who_moved_between_classes_is_told(self, world, saved) -> None:
        assert saved.first.moved == {}
        names = ("arpu", "dou")
        rows = world.ws.tags(world.before).read(world.ws.engine, names).to_pylist()
        before = {row["customer_id"]: cell(row) for row in rows}
        both = [row for row in world.rows if row["customer_id"] in before]
        rose = sum(cell(row) == "stars" != before[row["customer_id"]] for row in both)
        told = sum(n for (old, new), n in saved.second.moved.items() if new == "stars" != old)
        assert told == rose
        assert sum(saved.second.moved.values()) == len(both)

    def test_f45_the_class_becomes_a_tag_that_audiences_use(self, world, saved, tools) -> None:
        ws = tools.open_at(world.ws.layout.root)
        ws.refresh_tags(world.last)
        stars = [row["customer_id"] for row in world.rows if cell(row) == "stars"]
        found = ws.members("class_value_need = 'stars'", world.last)
        assert found["customer_id"].to_pylist() == stars
        assert ws.dictionary.get("class_value_need").title["zh"] == "价值需求矩阵"
        with pytest.raises(UserError, match="starz"):
            ws.count("class_value_need = 'starz'", world.last)

    def test_f45_versions_are_kept_and_an_old_one_can_be_asked(self, world, saved) -> None:
        ws = world.ws
        again = ws.segments.matrix(VALUE, NEED, world.before).named({"r3c3": "stars"})
        assert ws.segments.save(
            "value_need", again, title=TITLE, who="analyst", why="campaigns"
        ).version == saved.version.version  # fmt: skip
        other = ws.segments.rules([("rich", "arpu >= 300"), ("some", "arpu >= 10")])
        newer = ws.segments.save("value_need", other, title=TITLE, who="analyst", why="simpler")
        assert [v.version for v in ws.segments.versions("value_need")] == [1, 2]
        assert newer.why == "simpler"
        row = next(row for row in world.rows if cell(row) == "stars")
        ask = ws.segments.class_of
        assert ask("value_need", row["customer_id"], world.last, version=1) == "stars"
        assert ask("value_need", row["customer_id"], world.last) in ("rich", "some")

    def test_f45_a_classifier_changed_behind_the_back_is_refused(self, world, saved) -> None:
        file = world.ws.layout.root / "classifiers" / "value_need" / "0001.json"
        whole = file.read_text(encoding="utf-8")
        file.write_text(whole.replace('"stars"', '"stair"'), encoding="utf-8")
        try:
            with pytest.raises(UserError, match="has been changed"):
                world.ws.segments.versions("value_need")
        finally:
            file.write_text(whole, encoding="utf-8")
