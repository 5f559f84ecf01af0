"""Tags read from YAML: what is wrong is named with file, line, tag and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from bihuan.tag import TagDefinition, TagDefinitionError, load_definitions, parse_definition

GOOD = """\
defaults: {layer: base, subject: customer, means: statistics, owner: 数据组, state: live}
tags:
  - name: arpu
    title: {zh: 月均消费, en: ARPU}
    type: money
    source: bill
    window_months: 3
    expression: avg(amount)
    default: 0
    category: 消费/账单
    meaning: {zh: 近三个月平均账单, en: Mean bill of three months}
    definition: {zh: 账单金额平均, en: Mean of the amounts}
"""


def write(folder: Path, text: str, name: str = "tags.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refuse(path: Path) -> TagDefinitionError:
    with pytest.raises(TagDefinitionError) as caught:
        load_definitions(path)
    return caught.value


class TestLoadDefinitions:
    def test_a_file_and_its_folder_give_the_same(self, tmp_path):
        path = write(tmp_path, GOOD)
        (tag,) = load_definitions(tmp_path)
        assert (tag,) == load_definitions(path)
        assert isinstance(tag, TagDefinition)
        assert (tag.window_months, tag.owner, tag.library) == (3, "数据组", "customer")
        assert tag.origin == f"{path}:3"

    def test_a_file_with_a_byte_order_mark_is_read(self, tmp_path):
        (tmp_path / "tags.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
        assert [tag.name for tag in load_definitions(tmp_path)] == ["arpu"]

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            (
                "window_months",
                "window_month",
                "unknown field 'window_month'. Did you mean 'window_",
            ),
            ("    title: {zh: 月均消费, en: ARPU}\n", "", "missing field 'title'"),
            ("{zh: 月均消费, en: ARPU}", "{en: ARPU}", "'title' must be a text in both zh and en"),
            ("{zh: 月均消费, en: ARPU}", "{zh: '', en: ARPU}", "'title' must be a text in both"),
            ("layer: base", "layer: basic", "unknown layer 'basic'. Choose one of: base, portrait"),
            ("means: statistics", "means: guess", "unknown means 'guess'"),
            ("type: money", "type: dollars", "unknown type 'dollars'"),
            ("state: live", "state: alive", "unknown state 'alive'"),
            ("window_months: 3", "window_months: 0", "'window_months' must be a whole number"),
            ("window_months: 3", "window_months: true", "'window_months' must be a whole number"),
            ("expression: avg(amount)", "expression: [1]", "'expression' must be a text"),
            ("default: 0", "codes: {yes: {zh: 是, en: y}}", "quote yes/no"),
            ("default: 0", "thresholds: {Bad Name: 1}", "'thresholds' must be a mapping"),
            ("default: 0", "thresholds: {x: .inf}", "'thresholds' must be a mapping"),
            ("default: 0", "thresholds: {x: []}", "'thresholds' must be a mapping"),
            ("default: 0", "type: number", "stands twice"),
            ("tags:", "tag:", "no list under 'tags:'"),
            ("defaults:", "default:", "other top-level fields"),
            ("- name: arpu", "- arpu", "not YAML"),
            ("avg(amount)", "'avg(amount)", "not YAML"),
        ],
    )
    def test_a_wrong_field_is_named(self, tmp_path, old, new, says):
        assert old in GOOD
        error = refuse(write(tmp_path, GOOD.replace(old, new, 1)))
        assert says in str(error)
        assert str(tmp_path / "tags.yaml") in str(error)
        assert error.zh
        assert error.zh != str(error)

    def test_all_problems_of_all_files_are_told_at_once(self, tmp_path):
        write(tmp_path, GOOD.replace("type: money", "type: dollars"), "a.yaml")
        write(tmp_path, GOOD.replace("layer: base", "layer: basic"), "b.yaml")
        error = refuse(tmp_path)
        assert len(error.problems) == 2
        assert "2 problems" in str(error)
        assert f"{tmp_path / 'a.yaml'}:3: tag 'arpu'" in str(error)
        assert "b.yaml" in error.text("zh")

    def test_a_name_that_is_taken_is_told_with_both_places(self, tmp_path):
        write(tmp_path, GOOD, "a.yaml")
        write(tmp_path, GOOD, "b.yaml")
        error = refuse(tmp_path)
        assert "b.yaml:3: tag 'arpu'" in str(error)
        assert "a.yaml:3" in str(error)

    def test_an_absent_folder_and_a_file_that_is_no_text_are_told(self, tmp_path):
        assert "no tag definitions at" in str(refuse(tmp_path / "nowhere"))
        (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00bad")
        assert "must be UTF-8" in str(refuse(tmp_path))

    def test_an_empty_file_is_told(self, tmp_path):
        assert "no list under 'tags:'" in str(refuse(write(tmp_path, "")))


class TestParseDefinition:
    def test_something_else_than_a_mapping_is_refused(self):
        with pytest.raises(TagDefinitionError, match="not a tag"):
            parse_definition(["arpu"], origin="x.yaml:1")

    def test_a_tag_without_library_belongs_to_that_of_its_subject(self, define):
        tag = define("n", subject="staff", source="contact", expression="count(*)", type="integer")
        assert tag.library == "management"
