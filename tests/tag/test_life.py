"""A tag's life and its history."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bihuan.data import load_contracts
from bihuan.kernel import FixedClock
from bihuan.tag import (
    TagDefinitionError,
    TagDictionary,
    TagHistory,
    TagTransitionError,
    Transition,
    TrialReport,
    UnknownTagError,
    transition,
)

CONTRACTS = load_contracts()
STATES = ("draft", "review", "test", "live", "retired")
ALLOWED = {
    ("draft", "review"), ("draft", "retired"), ("review", "test"), ("review", "draft"),
    ("review", "retired"), ("test", "live"), ("test", "draft"), ("test", "retired"),
    ("live", "retired"),
}  # fmt: skip
HANDED_IN = [Transition("arpu", 1, "draft", "review", "数据组 乙", "需求", "2026-10-30", "c")]

HANDED_IN_BY_C = [replace(HANDED_IN[0], who="数据组 丙")]


def trial_of(tag, **fields) -> TrialReport:
    figures = {
        "subjects": 10, "missing": 1, "distribution": {}, "distinct": 3, "outside_codes": 0,
        "seconds": 0.1, "who": "甲", "at": "2026-10-31", "as_of": "2026-10-31",
    }  # fmt: skip
    return TrialReport(tag.name, tag.version, tag.calculation_id, **{**figures, **fields})


def move(dictionary, name, to, who="数据组 甲", why="口径评审通过", clock=None, **rests_on):
    clock = clock or FixedClock(datetime(2026, 11, 1, tzinfo=UTC))
    if name in dictionary:
        rests_on = {"history": HANDED_IN, "trial": trial_of(dictionary.get(name)), **rests_on}
    return transition(dictionary, name, to, who=who, why=why, clock=clock, **rests_on)


class TestTransition:
    @pytest.mark.parametrize(("before", "after"), list(itertools.product(STATES, STATES)))
    def test_only_the_steps_of_the_life_are_taken(self, define, before, after):
        dictionary = TagDictionary([define("arpu", state=before)], CONTRACTS)
        if (before, after) in ALLOWED:
            changed, record = move(dictionary, "arpu", after)
            assert changed == replace(dictionary.get("arpu"), state=after)
            assert (record.before, record.after, record.version) == (before, after, 1)
            assert record.at == "2026-11-01T00:00:00+00:00"
            assert (record.who, record.why) == ("数据组 甲", "口径评审通过")
        else:
            with pytest.raises(TagTransitionError, match=f"in state {before} and cannot go to"):
                move(dictionary, "arpu", after)

    def test_a_tag_that_live_tags_use_cannot_retire(self, define):
        dictionary = TagDictionary(
            [
                define("arpu"),
                define("rich", layer="portrait", expression="arpu > 1", type="boolean"),
                define(
                    "poor", layer="portrait", expression="arpu < 1", type="boolean", state="test"
                ),
            ],
            CONTRACTS,
        )
        with pytest.raises(TagTransitionError, match="live tags use it: rich") as caught:
            move(dictionary, "arpu", "retired")
        assert "poor" not in str(caught.value)
        assert "rich" in caught.value.zh
        retired, _ = move(dictionary, "rich", "retired")
        assert move(dictionary.with_definition(retired), "arpu", "retired")[0].state == "retired"

    def test_a_tag_goes_live_only_on_live_tags(self, define):
        dictionary = TagDictionary(
            [define("arpu", state="test"),
             define("rich", layer="portrait", expression="arpu > 1", type="boolean", state="test")],
            CONTRACTS,
        )  # fmt: skip
        with pytest.raises(TagDefinitionError, match="cannot use 'arpu', which is in state test"):
            move(dictionary, "rich", "live")

    @pytest.mark.parametrize(("who", "why"), [("", "good"), ("a", " ")])
    def test_a_step_without_name_or_reason_is_refused(self, define, who, why):
        dictionary = TagDictionary([define("arpu", state="draft")], CONTRACTS)
        with pytest.raises(TagTransitionError, match="no name or no reason"):
            move(dictionary, "arpu", "review", who=who, why=why)

    @pytest.mark.parametrize("to", ["test", "draft"])
    def test_who_handed_a_tag_in_does_not_judge_it(self, define, to):
        dictionary = TagDictionary([define("arpu", state="review")], CONTRACTS)
        with pytest.raises(TagTransitionError, match="数据组 乙 handed in 'arpu'"):
            move(dictionary, "arpu", to, who=" 数据组 乙 ")
        with pytest.raises(TagTransitionError, match="Nobody is recorded"):
            move(dictionary, "arpu", to, history=[])
        # who handed in an earlier version may judge this one
        older = [replace(HANDED_IN[0], version=7)]
        assert move(dictionary, "arpu", to, who="数据组 乙", history=[*older, *HANDED_IN_BY_C])

    def test_a_tag_goes_live_only_on_a_trial_of_what_it_says_now(self, define):
        tag = define("arpu", state="test")
        dictionary = TagDictionary([tag], CONTRACTS)
        other = trial_of(define("arpu", expression="max(amount)"))
        for trial in (None, other):
            with pytest.raises(TagTransitionError, match="has not been tried out as it is written"):
                move(dictionary, "arpu", "live", trial=trial)
        with pytest.raises(TagTransitionError, match="3 values outside its codes"):
            move(dictionary, "arpu", "live", trial=trial_of(tag, outside_codes=3))
        with pytest.raises(TagTransitionError, match="no value for any of 10 subjects"):
            move(dictionary, "arpu", "live", trial=trial_of(tag, missing=10))
        _, step = move(dictionary, "arpu", "live")
        assert step.trial_id == trial_of(tag).trial_id

    def test_an_unknown_tag_is_told(self, define):
        with pytest.raises(UnknownTagError):
            move(TagDictionary([define("arpu")], CONTRACTS), "arp", "retired")


def record(
    number: int, tag: str = "arpu", after: str = "live", calculation: str = "c"
) -> Transition:
    return Transition(
        tag, number, "test", after, "甲", "因为", f"2026-11-01T00:00:{number:02d}", calculation
    )


def append_some(folder: Path, writer: int) -> None:
    history = TagHistory(folder)
    for number in range(20):
        history.append(record(number, tag=f"tag_{writer}"))


class TestHistory:
    def test_records_come_back_oldest_first(self, tmp_path):
        history = TagHistory(tmp_path / "history")
        assert history.read() == ()
        for number, tag in enumerate(["arpu", "dou", "arpu"], start=1):
            history.append(record(number, tag))
        assert [r.version for r in history.read()] == [1, 2, 3]
        assert [r.version for r in TagHistory(tmp_path / "history").read("arpu")] == [1, 3]

    def test_lines_are_only_ever_added(self, tmp_path):
        history, path = TagHistory(tmp_path), tmp_path / "transitions.jsonl"
        before = b""
        for number in range(1, 6):
            history.append(record(number))
            content = path.read_bytes()
            assert content.startswith(before)
            assert len(content.splitlines()) == number
            before = content

    def test_the_half_line_of_a_killed_writer_is_neither_read_nor_kept(self, tmp_path):
        history, path = TagHistory(tmp_path), tmp_path / "transitions.jsonl"
        history.append(record(1))
        whole = path.read_bytes()
        for cut in range(1, len(whole)):
            path.write_bytes(whole + whole[:cut].rstrip(b"\n"))
            assert [r.version for r in history.read()] == [1]
        history.append(record(2))
        assert [r.version for r in history.read()] == [1, 2]
        assert [json.loads(line)["version"] for line in path.read_text().splitlines()] == [1, 2]

    def test_writers_side_by_side_lose_nothing(self, tmp_path):
        # each append opens its own files, so threads meet at the lock as processes do
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(append_some, [tmp_path] * 3, range(3)))
        for w in range(3):
            assert [r.version for r in TagHistory(tmp_path).read(f"tag_{w}")] == list(range(20))

    def test_a_live_tag_that_was_changed_in_its_file_without_a_version_is_found(
        self, tmp_path, define
    ):
        history = TagHistory(tmp_path)
        dictionary = TagDictionary([define("arpu", state="test")], CONTRACTS)
        live, step = move(dictionary, "arpu", "live")
        history.append(step)
        history.check(TagDictionary([live], CONTRACTS))
        changed = define("arpu", expression="max(amount)")
        with pytest.raises(TagDefinitionError, match=r"live as version 1.*Write version: 2"):
            history.check(TagDictionary([changed], CONTRACTS))
        assert history.changed_unrecorded(TagDictionary([changed], CONTRACTS)) == ("arpu",)
        history.check(TagDictionary([replace(changed, version=2)], CONTRACTS))
        history.check(TagDictionary([replace(changed, state="draft")], CONTRACTS))
