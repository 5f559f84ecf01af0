"""The tag desk: candidates, decisions that happen whole, trials, and what is sorted out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bihuan.kernel import FixedClock, SilentProgress
from bihuan.tag import (
    LIBRARY_FOLDER,
    Desk,
    DeskStore,
    SortingRules,
    Stock,
    TagDefinitionError,
    TagDictionary,
    TagTransitionError,
    UnknownTagError,
    sort_out,
    take_stock,
)
from bihuan.tag.desk import store as store_module
from bihuan.tag.desk.pages import to_yaml
from bihuan.tag.desk.store import DeskConflictError

NOW = FixedClock(datetime(2026, 11, 2, 8, tzinfo=UTC))
FILE = """# kept by hand
defaults: {subject: customer, layer: base, means: statistics, type: number, source: bill,
           owner: 数据组, state: live}
tags:
  - name: arpu
    title: {zh: 月均消费, en: Revenue}
    expression: avg(amount)
    window_months: 3
    category: 消费/账单/均值
    meaning: {zh: 甲, en: A}
    definition: {zh: 甲, en: A}
  - name: peak
    title: {zh: 最高, en: Peak}
    expression: max(amount)
    category: 消费/账单/峰值
    meaning: {zh: 乙, en: B}
    definition: {zh: 乙, en: B}
"""
RICH = """
name: rich
title: {zh: 高消费, en: Rich}
layer: portrait
subject: customer
means: experience
type: boolean
expression: arpu >= $amount
thresholds: {amount: 100}
category: 消费/账单/均值
owner: 数据组
meaning: {zh: 丙, en: C}
definition: {zh: 丙, en: C}
"""


class Place:
    """A folder with tag files and a desk."""

    def __init__(self, root: Path, contracts) -> None:
        self.root, self.contracts = root, contracts
        self.uses: dict[str, list[str]] = {}
        (root / "tags").mkdir(parents=True, exist_ok=True)
        self.store = DeskStore(root / "desk", root / "tags", LIBRARY_FOLDER)
        self.desk = Desk(self.store, self.load, lambda name: self.uses.get(name, []), NOW)

    def load(self) -> TagDictionary:
        return TagDictionary.load(self.store.in_force, contracts=self.contracts)

    def accept(self, text: str = RICH, name: str = "rich") -> None:
        self.desk.propose(text, who="甲", why="需求")
        self.desk.review(name, "accept", who="乙", comment="口径清楚")


@pytest.fixture
def place(tmp_path, contracts) -> Place:
    found = Place(tmp_path / "ws", contracts)
    (found.root / "tags" / "bills.yaml").write_text(FILE, encoding="utf-8")
    return found


@pytest.fixture
def trial(place, lake, engine, operator_of, clock):
    """Try a candidate out on the rows of the small operator."""
    as_of = operator_of(lake, clock)

    def run(name: str):
        return place.desk.try_out(
            name, lake, as_of, who="甲", engine=engine, progress=SilentProgress()
        )

    return run


@pytest.fixture(scope="session")
def operator_of(contracts):
    from .conftest import AS_OF, MONTH_ENDS, Operator

    def publish(lake, clock):
        operator = Operator(contracts, seed=3, customers=60)
        with lake.publication(clock) as publication:
            for day in MONTH_ENDS:
                publication.add("customer", day, operator.customer(day), lineage={})
                publication.add("bill", day, operator.bill(day), lineage={})
        return AS_OF

    return publish


class TestPropose:
    def test_a_new_tag_is_reviewed_and_the_tags_in_force_do_not_change(self, place):
        before = (place.root / "tags" / "bills.yaml").read_bytes()
        tag = place.desk.propose(RICH, who="甲", why="大客户关怀")
        assert (tag.state, tag.version) == ("review", 1)
        assert place.load().find("rich") is None
        assert (place.root / "tags" / "bills.yaml").read_bytes() == before
        steps = [(s.before, s.after, s.who, s.why) for s in place.desk.history("rich")]
        assert steps == [("", "draft", "甲", "大客户关怀"), ("draft", "review", "甲", "大客户关怀")]

    def test_a_new_version_says_what_is_different(self, place):
        text = FILE.replace("window_months: 3", "window_months: 6")
        tag = place.desk.propose(
            to_yaml(replace(place.load().get("arpu"), window_months=6)), who="甲", why="更稳"
        )
        assert tag.version == 2
        assert place.desk.history("arpu")[0].changes == {"window_months": [3, 6]}
        assert "6" in text

    def test_the_same_again_is_refused(self, place):
        with pytest.raises(TagDefinitionError, match="says the same as version 1"):
            place.desk.propose(place.load().get("arpu"), who="甲", why="x")
        assert place.desk.candidates() == {}

    def test_a_tag_that_does_not_hold_is_refused(self, place):
        with pytest.raises(TagDefinitionError, match="arpoo"):
            place.desk.propose(RICH.replace("arpu", "arpoo"), who="甲", why="x")
        with pytest.raises(TagDefinitionError, match="is not YAML"):
            place.desk.propose("name: [", who="甲", why="x")
        with pytest.raises(TagDefinitionError, match="about one tag"):
            place.desk.propose(FILE, who="甲", why="x")
        assert place.desk.history() == ()

    def test_a_candidate_may_stand_on_another_candidate(self, place):
        place.desk.propose(RICH, who="甲", why="x")
        richer = RICH.replace("name: rich", "name: richer").replace("arpu >= $amount", "rich")
        richer = richer.replace("thresholds: {amount: 100}\n", "")
        richer = richer.replace("layer: portrait", "layer: marketing")
        assert place.desk.propose(richer, who="甲", why="x").state == "review"

    def test_what_is_under_review_is_not_overwritten(self, place):
        place.desk.propose(RICH, who="甲", why="x")
        with pytest.raises(TagTransitionError, match="in state review"):
            place.desk.propose(RICH.replace("100", "90"), who="丙", why="x")
        place.desk.review("rich", "return", who="乙", comment="阈值说明不足")
        assert place.desk.propose(RICH.replace("100", "90"), who="甲", why="已补充").version == 1
        changes = [step.changes for step in place.desk.history("rich") if step.changes]
        assert changes == [{"thresholds": [{"amount": 100}, {"amount": 90}]}]


class TestGoLive:
    def test_it_goes_the_whole_way(self, place, trial):
        place.accept()
        with pytest.raises(TagTransitionError, match="has not been tried out"):
            place.desk.go_live("rich", who="乙", why="上线")
        report = trial("rich")
        place.desk.go_live("rich", who="乙", why="上线")
        assert place.load().get("rich").state == "live"
        assert place.desk.candidates() == {}
        last = place.desk.history("rich")[-1]
        assert (last.before, last.after, last.trial_id) == ("test", "live", report.trial_id)
        assert place.desk.trials("rich") == (report,)
        assert (place.root / "tags" / "bills.yaml").read_text() == FILE

    def test_a_new_version_takes_the_place_of_the_old_in_its_file(self, place, trial):
        new = replace(place.load().get("arpu"), window_months=2)
        place.accept(to_yaml(new), "arpu")
        trial("arpu")
        place.desk.go_live("arpu", who="乙", why="上线")
        text = (place.root / "tags" / "bills.yaml").read_text()
        assert text.startswith("# kept by hand\n")
        assert (place.load().get("arpu").version, place.load().get("arpu").window_months) == (2, 2)
        assert place.load().get("peak").version == 1

    def test_a_trial_of_another_threshold_does_not_count(self, place, trial):
        place.accept()
        trial("rich")
        place.desk.withdraw("rich", who="甲", why="改阈值")
        place.accept(RICH.replace("100", "90"))
        with pytest.raises(TagTransitionError, match="has not been tried out"):
            place.desk.go_live("rich", who="乙", why="上线")

    def test_a_version_that_would_break_its_users_is_refused(self, place, trial):
        kind = replace(place.load().get("arpu"), type="string", expression="max(account_id)")
        place.accept(to_yaml(kind), "arpu")
        trial("arpu")
        # meanwhile somebody stands a tag on it
        path = place.root / "tags" / "rich.yaml"
        path.write_text(
            "tags:\n- " + RICH.strip().replace("\n", "\n  ") + "\n  state: live\n", "utf-8"
        )
        before = (place.root / "tags" / "bills.yaml").read_bytes()
        with pytest.raises(TagDefinitionError, match="rich"):
            place.desk.go_live("arpu", who="乙", why="上线")
        assert (place.root / "tags" / "bills.yaml").read_bytes() == before
        place.desk.withdraw("arpu", who="甲", why="重写")
        with pytest.raises(TagDefinitionError, match="rich"):  # and so is proposing it
            place.desk.propose(to_yaml(kind), who="甲", why="x")

    def test_the_samples_are_taken_over_before_the_first_change(self, tmp_path, contracts):
        place = Place(tmp_path / "ws", contracts)
        names = set(place.load().names)
        (moved, *_) = place.desk.move_category(
            place.load().get("arpu").category, "甲/" * 2 + "乙"
            if place.load().get("arpu").category.count("/") == 2 else "甲/乙",
            who="甲", why="重整", tags=["arpu"],
        )  # fmt: skip
        assert moved == "arpu"
        assert set(place.load().names) == names
        files = {file.name for file in LIBRARY_FOLDER.glob("*.yaml")}
        assert {file.name for file in (place.root / "tags").glob("*.yaml")} == files


class TestRetire:
    def test_what_is_used_stays_and_the_users_are_named(self, place, trial):
        place.accept()
        trial("rich")
        place.desk.go_live("rich", who="乙", why="上线")
        place.uses["arpu"] = ["campaigns/spring.yaml", "scenes/daily.yaml"]
        with pytest.raises(TagTransitionError) as caught:
            place.desk.retire("arpu", who="乙", why="不再需要")
        for user in ("tag rich", "campaigns/spring.yaml", "scenes/daily.yaml"):
            assert user in caught.value.message
            assert user in caught.value.zh
        assert place.load().get("arpu").state == "live"

    def test_what_nobody_uses_goes_and_its_history_stays(self, place):
        place.desk.retire("peak", who="乙", why="不再需要")
        assert place.load().get("peak").state == "retired"
        assert [(s.before, s.after, s.why) for s in place.desk.history("peak")] == [
            ("live", "retired", "不再需要")
        ]
        with pytest.raises(TagTransitionError, match="in state retired"):
            place.desk.retire("peak", who="乙", why="再次")
        with pytest.raises(UnknownTagError):
            place.desk.retire("peek", who="乙", why="x")


class TestMoveCategory:
    def test_a_branch_moves_with_all_its_tags_and_candidates(self, place):
        place.accept()
        place.desk.propose(
            to_yaml(replace(place.load().get("arpu"), window_months=2)), who="甲", why="x"
        )
        moved = place.desk.move_category("消费/账单", "价值/出账", who="丙", why="统一命名")
        assert set(moved) == {"arpu", "peak"}
        assert place.load().get("peak").category == "价值/出账/峰值"
        assert place.desk.candidates()["arpu"].category == "价值/出账/均值"
        step = place.desk.history("peak")[-1]
        assert step.changes == {"category": ["消费/账单/峰值", "价值/出账/峰值"]}
        assert (step.who, step.before, step.after) == ("丙", "live", "live")
        # values stay as they are: a category is no part of the calculation
        place.store.history.check(place.load())

    @pytest.mark.parametrize(("old", "new"), [
        ("消费/账单", "价值"), ("消费", "消费"), ("消费/账单", "价值/"), ("没有/这个", "价值/出账"),
    ])  # fmt: skip
    def test_a_move_that_makes_no_sense_is_refused(self, place, old, new):
        with pytest.raises(TagDefinitionError):
            place.desk.move_category(old, new, who="丙", why="x")
        assert place.desk.history() == ()


class Broken(Exception):
    """Stands for the end of the process."""


def fail_at(monkeypatch, step: int) -> None:
    """Let the process end just before its n-th change on disk."""
    count = {"n": 0}

    def counted(real):
        def call(*args, **kwargs):
            if count["n"] == step:
                raise Broken
            count["n"] += 1
            return real(*args, **kwargs)

        return call

    write = counted(store_module.write_atomically)
    monkeypatch.setattr(store_module, "write_atomically", write)
    monkeypatch.setattr(store_module.TagHistory, "extend", counted(store_module.TagHistory.extend))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))


def story(place: Place) -> tuple[str, str]:
    """Say what the files and what the record tell of ``peak`` and ``arpu``."""
    files = place.load().get("peak").category + place.load().get("arpu").category
    last = {s.tag: s.changes["category"][1] for s in place.desk.history()}
    return files, last.get("peak", "消费/账单/峰值") + last.get("arpu", "消费/账单/均值")


class TestWhole:
    def move(self, place: Place) -> None:
        place.desk.move_category("消费/账单", "价值/出账", who="丙", why="统一命名")

    @pytest.mark.parametrize("step", range(5))
    def test_files_and_record_agree_wherever_the_process_ends(self, place, monkeypatch, step):
        second = FILE.replace("arpu", "mean").replace("peak", "top")
        (place.root / "tags" / "more.yaml").write_text(second, encoding="utf-8")
        with monkeypatch.context() as patch:
            fail_at(patch, step)
            with pytest.raises(Broken):
                self.move(place)
        with place.store.locked():
            pass  # whoever comes next
        files, record = story(place)
        assert files == record
        done = files.startswith("价值")
        assert done == (step > 0)
        assert len(place.desk.history()) == (4 if done else 0)

    def test_the_check_sees_a_store_that_does_not_finish(self, place, monkeypatch):
        monkeypatch.setattr(
            DeskStore, "write", lambda self, files, records: [
                *(p.write_text(t, encoding="utf-8") for p, t in files.items()),
                self.history.extend(records),
            ],
        )  # fmt: skip
        with monkeypatch.context() as patch:
            fail_at(patch, 0)  # the record is the only counted step
            with pytest.raises(Broken):
                self.move(place)
        files, record = story(place)
        assert files != record

    def test_a_file_changed_by_hand_in_between_is_not_overwritten(self, place, monkeypatch):
        with monkeypatch.context() as patch:
            fail_at(patch, 1)
            with pytest.raises(Broken):
                self.move(place)
        path = place.root / "tags" / "bills.yaml"
        path.write_text(FILE + "# by hand\n", encoding="utf-8")
        with pytest.raises(DeskConflictError, match=r"bills\.yaml was changed"):
            self.move(place)
        assert path.read_text().endswith("# by hand\n")


class TestTryOut:
    def test_figures_are_those_of_the_rows(self, place, trial, lake, engine, derived):
        place.accept()
        report = trial("rich")
        assert report.subjects == 60
        rows = derived(place, lake)
        known = [row["arpu"] for row in rows if row["arpu"] is not None]
        assert report.missing == 60 - len(known)
        assert report.distribution.get("true", 0) == sum(v >= 100 for v in known)
        assert report.distinct == 2
        assert [t for t in lake.view().tables if "portrait" in t] == []
        assert report.change is None

    def test_the_change_against_the_live_version_is_counted(self, place, trial, lake, derived):
        before = {row["customer_id"]: row["peak"] for row in derived(place, lake)}
        new = replace(place.load().get("peak"), expression="max(amount) FILTER (amount > 200)")
        place.accept(to_yaml(new), "peak")
        report = trial("peak")
        gone = sum(v is not None and v <= 200 for v in before.values())
        assert gone > 0
        assert report.change is not None
        assert (report.change.subjects, report.change.changed) == (60, gone)
        assert (report.change.became_missing, report.change.became_known) == (gone, 0)
        low, high = float(report.distribution["min"]), float(report.distribution["max"])
        assert 200 < low <= high == max(v for v in before.values() if v is not None)

    def test_only_what_was_accepted_is_tried(self, place, trial):
        place.desk.propose(RICH, who="甲", why="x")
        with pytest.raises(TagTransitionError, match="in state review and cannot be tried"):
            trial("rich")
        with pytest.raises(TagTransitionError, match="no new version on the desk"):
            trial("arpu")


@pytest.fixture
def derived(engine, clock):
    """Derive what is in force and read it."""
    from bihuan.tag import derive, read_tags

    from .conftest import AS_OF

    def run(place: Place, lake):
        derive(place.load(), lake, AS_OF, engine=engine, clock=clock, progress=SilentProgress())
        tags = read_tags(lake.view(), place.load(), "customer", AS_OF)
        return tags.read(engine, list(tags.fields)).to_pylist()

    return run


class TestSorting:
    def stock(self, place, lake, engine, **rules) -> Stock:
        return Stock(
            place.load(), lake.view(), engine, lambda name: place.uses.get(name, []),
            rules=SortingRules(**rules),
        )  # fmt: skip

    def test_seeded_defects_are_found_and_a_sound_tag_is_not(
        self, place, lake, engine, trial, derived
    ):
        from .conftest import AS_OF

        extra = """
  - {name: peak_cents, title: {zh: 分, en: Cents}, expression: max(amount) * 100, unit: 分}
  - {name: peak_again, title: {zh: 又, en: Again}, expression: max(amount)}
  - {name: same, title: {zh: 同, en: Same}, expression: count(amount) * 0, default: 0}
  - {name: empty, title: {zh: 空, en: Empty}, expression: max(amount) filter (amount > 1e9)}
  - {name: lonely, title: {zh: 独, en: Lonely}, expression: min(amount), category: 甲/乙/丙,
     owner: sample}
"""
        rest = ", meaning: {zh: 甲, en: A}, definition: {zh: 甲, en: A}"
        extra = extra.replace("}\n", f"{rest}}}\n").replace("\n     owner", " owner")
        text = FILE.replace("state: live}", "state: live, category: 消费/账单/均值}")
        (place.root / "tags" / "bills.yaml").write_text(text + extra, encoding="utf-8")
        place.uses["lonely"] = ["rules/r.yaml"]
        derived(place, lake)
        found = {(f.kind, f.tags) for f in sort_out(self.stock(place, lake, engine), AS_OF)}
        assert ("same_calculation", ("peak", "peak_again")) in found
        assert ("same_values", ("peak", "peak_cents")) in found
        assert ("same_values", ("peak", "peak_again")) not in found  # told already
        assert ("poor", ("same",)) in found
        assert ("poor", ("empty",)) in found
        assert ("no_owner", ("lonely",)) in found
        assert ("thin_category", ("lonely",)) in found
        assert ("unused", ("lonely",)) not in found
        assert ("unused", ("arpu",)) in found
        kinds = {kind for kind, tags in found if "arpu" in tags}
        assert kinds == {"unused"}
        assert all(f.action["zh"] and f.evidence["en"] for f in sort_out(
            self.stock(place, lake, engine), AS_OF))  # fmt: skip

    def test_tags_of_an_old_extract_are_stale(self, place, lake, engine, operator_of, clock):
        from datetime import date

        from bihuan.tag import derive

        from .conftest import Operator

        operator_of(lake, clock)
        later = date(2026, 12, 31)
        with lake.publication(clock) as publication:
            publication.add(
                "customer", later, Operator(place.contracts, 3, 60).customer(later), lineage={}
            )
        derive(place.load(), lake, later, engine=engine, clock=clock, progress=SilentProgress())
        found = [f for f in sort_out(self.stock(place, lake, engine), later) if f.kind == "stale"]
        assert [f.tags for f in found] == [("arpu",)]
        assert "2026-10-31, 61 days" in found[0].evidence["en"]

    def test_a_file_changed_without_a_version_is_found(self, place, lake, engine, trial):
        from .conftest import AS_OF

        place.accept()
        trial("rich")
        place.desk.go_live("rich", who="乙", why="上线")
        path = place.root / "tags" / "desk.yaml"
        path.write_text(path.read_text().replace("amount: 100", "amount: 1"), encoding="utf-8")
        changed = place.store.history.changed_unrecorded(place.load())
        stock = replace(self.stock(place, lake, engine), changed=changed)
        assert sort_out(stock, AS_OF)[0].kind == "changed_unrecorded"
        assert sort_out(stock, AS_OF)[0].tags == ("rich",)


class TestStock:
    def test_counts_add_up(self, library):
        stock = take_stock(library)
        assert stock.total == stock.table.num_rows == len(library)
        for kind in ("subject", "layer", "state", "category_1"):
            assert sum(stock.by(kind).values()) == len(library)
        assert stock.by("subject", "layer")["customer", "base"] == len(
            library.select(subject="customer", layer="base")
        )
        assert stock.live == len(library.select(state="live"))

    def test_candidates_are_counted_apart(self, place):
        place.desk.propose(RICH, who="甲", why="x")
        stock = take_stock(place.load(), place.desk.candidates().values())
        assert (stock.total, stock.live, stock.candidates) == (2, 2, 1)
        assert stock.by("state") == {("live",): 2, ("review",): 1}


def test_the_desk_works_on_a_copy_of_the_folder(place, tmp_path):
    """Paths in what is pending are relative: a workspace may be moved."""
    place.accept()
    shutil.copytree(place.root, tmp_path / "moved")
    moved = Place(tmp_path / "moved", place.contracts)
    assert moved.desk.candidates()["rich"].state == "test"
