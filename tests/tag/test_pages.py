"""Changing one tag in a file that people keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bihuan.tag import LIBRARY_FOLDER, load_definitions
from bihuan.tag.desk.pages import NEW_PAGE, Page, TagPageError, to_yaml
from bihuan.tag.load import parse_definitions

FILE = """# Kept by the data team.
defaults: {subject: customer, layer: base, means: statistics, type: number, source: bill, owner: 甲,
           state: live, category: 消费/账单/月}
tags:
  # the first of all
  - name: arpu   # known to everybody
    title: {zh: 月均消费, en: Revenue}
    expression: avg(amount)
    meaning: {zh: 甲, en: A}
    definition: {zh: 甲, en: A}

  # about the highest
  - name: peak
    title: {zh: 最高, en: Peak}
    category: 消费/账单/峰值
    expression: >-
      max(amount)
    meaning: {zh: 乙, en: B}
    definition: {zh: 乙, en: B}
  - {name: low, title: {zh: 低, en: Low}, expression: min(amount),
     meaning: {zh: 丙, en: C}, definition: {zh: 丙, en: C}}
# the end
"""


@pytest.fixture
def page() -> Page:
    return Page(Path("tags.yaml"), FILE)


class TestFields:
    def test_only_the_field_changes(self, page):
        changed = page.with_fields({"peak": {"category": "收入/账单/峰值"}})
        assert changed.text == FILE.replace("消费/账单/峰值", "收入/账单/峰值")

    def test_a_field_that_came_from_the_defaults_is_written_at_the_tag(self, page):
        changed = page.with_fields({"arpu": {"state": "retired"}, "low": {"state": "retired"}})
        tags = changed.tags()
        assert [t.state.value for t in tags.values()] == ["retired", "live", "retired"]
        assert "- name: arpu\n    state: retired   # known to everybody\n" in changed.text
        assert "{name: low, state: retired, title" in changed.text
        assert changed.text.count("\n") == FILE.count("\n") + 1

    def test_a_text_that_yaml_would_read_otherwise_is_quoted(self, page):
        assert page.with_fields({"peak": {"category": "no"}}).tags()["peak"].category == "no"


class TestTag:
    @pytest.mark.parametrize("name", ["arpu", "peak", "low"])
    def test_an_item_is_replaced_and_nothing_else(self, page, name):
        new = replace(page.tags()[name], version=2, window_months=3, unit="元")
        changed = page.with_tag(new)
        assert changed.tags() == {**page.tags(), name: new}
        kept = [line for line in FILE.splitlines() if line.lstrip().startswith("#")]
        assert [x for x in changed.text.splitlines() if x.lstrip().startswith("#")] == kept

    def test_a_new_tag_goes_to_the_end(self, page):
        new = replace(page.tags()["arpu"], name="spread")
        changed = page.with_tag(new)
        assert list(changed.tags()) == ["arpu", "peak", "low", "spread"]
        assert changed.text.endswith("# the end\n")

    def test_what_the_defaults_say_is_contradicted(self, page):
        new = replace(page.tags()["arpu"], source=None, expression="peak > 1", state="test")
        assert page.with_tag(new).tags()["arpu"].source is None

    def test_a_layout_that_cannot_be_changed_safely_is_refused(self):
        one = "tags: [{name: a, title: {zh: a, en: a}, subject: customer, layer: base, means: " \
              "statistics, type: number, source: bill, owner: a, category: a, expression: " \
              "sum(amount), meaning: {zh: a, en: a}, definition: {zh: a, en: a}}]\n"  # fmt: skip
        page = Page(Path("one.yaml"), one)
        with pytest.raises(TagPageError, match=r"one\.yaml is laid out"):
            page.with_tag(replace(page.tags()["a"], unit="元"))
        assert page.with_fields({"a": {"owner": "乙"}}).tags()["a"].owner == "乙"

    def test_an_edit_that_would_hit_another_tag_is_seen(self, page):
        class Clumsy(Page):
            def with_tag(self, tag):
                return self._checked(self.text.replace("max(amount)", "sum(amount)"), {tag.name})

        with pytest.raises(TagPageError, match="'peak' cannot be changed"):
            Clumsy(page.path, page.text).with_tag(page.tags()["arpu"])

    @pytest.mark.parametrize("file", sorted(LIBRARY_FOLDER.glob("customer_*.yaml"))[:4])
    def test_every_sample_tag_survives_being_written(self, file):
        for tag in load_definitions(file):
            (again,) = parse_definitions(to_yaml(tag), file)
            assert again == tag
            assert Page(file, NEW_PAGE).with_tag(tag).tags() == {tag.name: tag}
