"""The dictionary: finding tags, what they stand on, and its export."""

from __future__ import annotations

import json

import pytest

from bihuan.data import load_contracts
from bihuan.tag import TagDefinitionError, TagDictionary, UnknownTagError

CONTRACTS = load_contracts()


@pytest.fixture
def dictionary(define) -> TagDictionary:
    """Five customer tags in three layers, one line tag, one staff tag; given in reverse order."""
    return TagDictionary(
        [
            define("target", layer="marketing", type="boolean", category="营销/升级",
                   expression="rich and not coalesce(is_senior, false)"),
            define("rich", layer="portrait", expression="arpu >= $x", thresholds={"x": 80},
                   means="experience", type="boolean", category="画像/价值"),
            define("risk", layer="marketing", means="mining", model="churn", category="营销/维系"),
            define("arpu", expression="sum(amount) / count(distinct months_ago)", type="money",
                   window_months=3, unit="currency", category="消费/账单"),
            define("is_senior", means="direct", source="customer", expression="is_senior",
                   type="boolean", category="基本属性"),
            define("line_fee", subject="subscription", means="direct", source="subscription",
                   expression="monthly_fee", type="money", state="test", category="线路"),
            define("contacts", subject="staff", source="contact", expression="count(*)",
                   type="integer", category="员工"),
        ],
        CONTRACTS,
    )  # fmt: skip


class TestGet:
    def test_it_finds_by_name_or_helps_with_the_nearest(self, dictionary):
        assert dictionary.get("arpu").type == "money"
        assert dictionary.find("arp") is None
        with pytest.raises(UnknownTagError, match=r"no tag 'arp'\. Did you mean 'arpu'") as caught:
            dictionary.get("arp")
        assert "arpu" in caught.value.zh
        assert "rich" in dictionary
        assert len(dictionary) == 7


class TestNames:
    def test_two_tags_of_one_name_are_refused(self, define):
        with pytest.raises(TagDefinitionError, match="this name is taken"):
            TagDictionary([define("arpu"), define("arpu", version=2)], CONTRACTS)

    def test_a_later_folder_replaces_a_tag_of_an_earlier_one(self, tmp_path):
        for folder, title in (("shared", "Ours"), ("workspace", "Theirs")):
            (tmp_path / folder).mkdir()
            text = TEMPLATE.replace("TITLE", title)
            (tmp_path / folder / "tags.yaml").write_text(text, encoding="utf-8")
        folders = [tmp_path / "shared", tmp_path / "workspace"]
        assert TagDictionary.load(*folders, contracts=CONTRACTS).get("city").title["en"] == "Theirs"


TEMPLATE = """
tags:
  - {name: city, title: {zh: 地市, en: TITLE}, layer: base, subject: customer, means: direct,
     type: string, source: customer, expression: city_code, category: 地域, owner: tests,
     meaning: {zh: 地市, en: City}, definition: {zh: 地市编码, en: City code}}
"""


class TestOrder:
    def test_each_tag_comes_after_those_it_is_made_from(self, dictionary):
        names = dictionary.names
        assert names.index("arpu") < names.index("rich") < names.index("target")
        assert [t.name for t in dictionary.live("customer")] == [n for n in names if n in
            {"arpu", "rich", "target", "risk", "is_senior"}]  # fmt: skip


class TestSelect:
    def test_it_keeps_what_fits_all(self, dictionary):
        def names(**given):
            return {tag.name for tag in dictionary.select(**given)}

        assert names(layer="marketing") == {"target", "risk"}
        assert names(library="management") == {"contacts"}
        assert names(subject="subscription", state="live") == set()
        assert names(category="营销") == {"target", "risk"}
        assert names(category="营销/升级") == {"target"}
        assert names(category="营销/升") == set()

    def test_the_tree_counts_every_level(self, dictionary):
        counts = dictionary.categories()
        assert (counts["营销"], counts["营销/升级"], counts["基本属性"]) == (2, 1, 1)


class TestSchema:
    def test_it_tells_type_codes_and_title_of_live_tags(self, dictionary):
        schema = dictionary.schema("customer")
        assert set(schema) == {"arpu", "rich", "target", "risk", "is_senior"}
        assert (schema["arpu"].type, schema["arpu"].codes) == ("money", None)
        assert dictionary.schema("subscription") == {}


class TestLineage:
    def test_columns_and_tags_come_from_the_sql(self, dictionary):
        found = dictionary.lineage("target")
        assert found.columns == ()
        assert found.tags == ("is_senior", "rich")
        assert found.all_tags == ("arpu", "is_senior", "rich")
        assert found.all_columns == ("bill.amount", "customer.is_senior")
        assert dictionary.lineage("risk").columns == ("score__churn.score",)

    def test_a_count_of_rows_stands_on_the_column_by_which_they_are_counted(self, dictionary):
        assert dictionary.lineage("contacts").columns == ("contact.staff_id",)
        assert dictionary.tags_on("contact") == ("contacts",)

    def test_it_tells_who_uses_a_tag(self, dictionary):
        found = dictionary.lineage("arpu")
        assert (found.users, found.all_users) == (("rich",), ("rich", "target"))

    def test_it_tells_which_tags_a_change_of_a_table_touches(self, dictionary):
        assert dictionary.tags_on("bill") == ("arpu", "rich", "target")
        assert dictionary.tags_on("customer", "is_senior") == ("is_senior", "target")
        assert dictionary.tags_on("customer", "is") == ()
        assert dictionary.tags_on("bil") == ()


class TestGroup:
    def test_groups_are_source_tables_and_levels(self, dictionary, define):
        assert dictionary.group("arpu") == "bill"
        assert dictionary.group("risk") == "score__churn"
        assert dictionary.group("rich") == "portrait_1"
        assert dictionary.group("target") == "marketing_1"
        deeper = dictionary.with_definition(
            define("target_2", layer="marketing", expression="target and rich", type="boolean")
        )
        assert deeper.group("target_2") == "marketing_2"
        assert deeper.rank("target_2") > deeper.rank("target") > deeper.rank("rich")


class TestWithDefinition:
    def test_a_live_tag_changes_only_by_a_new_version(self, dictionary, define):
        def changed(**fields):
            return define("arpu", type="money", unit="currency", category="消费/账单", **fields)

        with pytest.raises(TagDefinitionError, match=r"live as version 1.*version: 2"):
            dictionary.with_definition(changed(expression="max(amount)"))
        newer = dictionary.with_definition(changed(expression="max(amount)", version=2))
        assert newer.get("arpu").version == 2
        assert dictionary.get("arpu").version == 1  # the old dictionary is as it was

    def test_titles_owner_and_blanks_are_not_a_change_of_values(self, dictionary, define):
        same = define("arpu", expression="SUM(amount)/count(DISTINCT months_ago)", type="money",
                      window_months=3, title={"zh": "新名", "en": "New"}, owner="他人")  # fmt: skip
        assert dictionary.with_definition(same).get("arpu").owner == "他人"

    def test_a_tag_that_is_not_live_changes_freely(self, dictionary, define):
        other = define("line_fee", subject="subscription", means="direct", source="subscription",
                       expression="tenure_months", type="integer", state="test")  # fmt: skip
        assert dictionary.with_definition(other).get("line_fee").type == "integer"

    def test_the_whole_dictionary_is_checked_again(self, dictionary, define):
        with pytest.raises(TagDefinitionError, match="state draft"):
            dictionary.with_definition(
                define("arpu", type="money", version=2, state="draft", window_months=3)
            )


class TestExport:
    def test_the_table_says_meaning_source_level_owner_and_state(self, dictionary):
        rows = {row["name"]: row for row in dictionary.to_table().to_pylist()}
        arpu = rows["arpu"]
        assert arpu["meaning_zh"] == "arpu 的说明"
        assert arpu["definition_en"] == "About arpu"
        assert arpu["sources"] == ["bill.amount"]
        assert (arpu["level"], arpu["owner"], arpu["refresh"]) == ("customer", "tests", "monthly")
        assert (arpu["version"], arpu["state"], arpu["window_months"]) == (1, "live", 3)
        assert rows["line_fee"]["level"] == "subscription"
        assert rows["rich"]["thresholds"] == '{"x":80}'
        assert rows["target"]["all_sources"] == ["bill.amount", "customer.is_senior"]
        assert [row["layer"] for row in rows.values()] == sorted(
            (row["layer"] for row in rows.values()), key=["base", "portrait", "marketing"].index
        )

    def test_json_is_the_table(self, dictionary):
        assert json.loads(dictionary.to_json()) == dictionary.to_table().to_pylist()

    @pytest.mark.parametrize(("language", "head"), [("zh", "统计口径"), ("en", "Definition")])
    def test_markdown_has_a_row_for_each_tag_in_whole_columns(
        self, dictionary, define, language, head
    ):
        text = {"zh": "甲|乙\n丙", "en": "a|b\nc"}
        odd = dictionary.with_definition(define("odd", meaning=text))
        page = odd.to_markdown(language)
        assert head in page
        rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
        assert len(rows) == len(odd) + 3  # a head for each layer
        columns = {len(row.replace("\\|", "").split("|")) for row in rows}
        assert len(columns) == 1

    def test_an_empty_dictionary_has_the_same_columns(self):
        empty = TagDictionary([], CONTRACTS)
        assert empty.to_table().num_rows == 0
        assert "definition_zh" in empty.to_table().column_names
        assert empty.to_markdown() == "\n"
