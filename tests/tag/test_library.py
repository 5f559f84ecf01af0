"""The sample tags that come with the package."""

from __future__ import annotations

import re
from datetime import date

import pytest

from bihuan.tag import LIBRARY_FOLDER, read_tags

AS_OF = date(2026, 10, 31)


class TestLibrary:
    def test_it_has_all_layers_libraries_subjects_and_means(self, library):
        assert len(library.select(subject="customer")) >= 60
        for given in (
            *({"layer": layer} for layer in ("base", "portrait", "marketing")),
            *({"library": name} for name in ("customer", "management")),
            *({"subject": s} for s in ("customer", "subscription", "org_unit", "staff")),
        ):
            assert library.select(**given), given
        assert {tag.means for tag in library} == {"direct", "statistics", "mining", "experience"}

    @pytest.mark.parametrize(
        ("name", "type_", "default"),
        [
            ("failed_contact_count_3m", "integer", 0),
            ("on_red_list", "boolean", False),
            ("on_black_list", "boolean", False),
            ("complaint_sensitive", "boolean", None),
            ("is_suspended", "boolean", False),
            ("is_disconnected", "boolean", False),
            ("has_opted_out", "boolean", False),
        ],
    )
    def test_the_tags_of_the_standard_suppression_are_there(self, library, name, type_, default):
        tag = library.get(name)
        assert (tag.type, tag.default, tag.subject, tag.state) == (
            type_,
            default,
            "customer",
            "live",
        )

    def test_every_text_is_in_both_languages_and_says_it_is_a_sample(self, library):
        chinese = re.compile("[\u4e00-\u9fff]")
        for tag in library:
            for text in (tag.title, tag.meaning, tag.definition):
                assert chinese.search(text["zh"]), tag.name
                assert not chinese.search(text["en"]), tag.name
            assert tag.owner == "sample"
        for path in LIBRARY_FOLDER.glob("*.yaml"):
            assert path.read_text(encoding="utf-8").startswith("# Sample tags of ours"), path.name

    def test_every_threshold_of_experience_stands_in_the_yaml_not_in_the_sql(self, library):
        for tag in library:
            if tag.means == "experience":
                assert tag.thresholds or tag.name == "upgrade_5g_candidate", tag.name

    def test_all_of_it_is_derived_but_what_waits_for_scores(
        self, operator, lake, library, derive_tags, engine
    ):
        report = derive_tags(library)
        assert set(report.pending) == {"churn_score", "churn_risk_high"}
        assert all(group.outside_codes == {} for group in report.groups)
        table = read_tags(lake.view(), library, "customer", AS_OF)
        rows = table.read(engine, list(table.fields)).to_pylist()
        assert len(rows) == 12
        for subject in ("subscription", "org_unit", "staff"):
            assert derive_tags(library, subject=subject).pending == {}


class TestFailedContacts:
    def test_one_success_in_the_window_makes_it_nought(
        self, operator, lake, library, derive_tags, engine
    ):
        derive_tags(library)
        contacts = [
            row
            for day in lake.view().dates("contact")[-3:]
            for row in lake.view().get("contact", day).read().to_pylist()
        ]
        table = read_tags(lake.view(), library, "customer", AS_OF)
        for row in table.read(engine, ["failed_contact_count_3m"]).to_pylist():
            mine = [c["is_success"] for c in contacts if c["customer_id"] == row["customer_id"]]
            expected = 0 if any(mine) else len(mine)
            assert row["failed_contact_count_3m"] == expected
