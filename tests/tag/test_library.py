"""The sample tags that come with the package."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from bihuan.data import DuckDBEngine, Lake
from bihuan.kernel import FixedClock, SilentProgress
from bihuan.tag import (
    LIBRARY_FOLDER,
    Subject,
    TagDictionary,
    build_index,
    derive,
    open_index,
    read_tags,
)
from bihuan.tag.expression import canonical_text
from bihuan.twin import (
    TwinSettings,
    generate_operator,
    surround_business,
    surround_consumers,
    surround_digital,
    surround_management,
    surround_power,
)

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


class TestCatalogueAtSize:
    """672 live tags in a three-level tree, none said twice."""

    def test_there_are_672_live_tags(self, library):
        assert len([tag for tag in library if tag.state == "live"]) == 672

    def test_every_category_has_exactly_three_levels(self, library):
        for tag in library:
            levels = tag.category.split("/")
            assert len(levels) == 3, (tag.name, tag.category)
            assert all(level.strip() == level and level for level in levels), tag.category

    @pytest.mark.parametrize("language", ["zh", "en"])
    def test_no_title_stands_twice(self, library, language):
        titles = Counter(tag.title[language].casefold() for tag in library)
        assert [title for title, times in titles.items() if times > 1] == []

    def test_no_calculation_stands_twice(self, library):
        assert [names for names in calculations(library).values() if len(names) > 1] == []

    def test_a_tag_said_twice_would_be_seen(self, library, contracts):
        twin = replace(library.get("arpu"), name="arpu_again", expression="SUM(amount)  / "
                       "count(DISTINCT months_ago)")  # fmt: skip
        found = calculations(TagDictionary([*library, twin], contracts))
        assert ["arpu", "arpu_again"] in [sorted(names) for names in found.values()]

    def test_units_stand_where_a_number_alone_says_nothing(self, library):
        for tag in library:
            if tag.type == "money":
                assert tag.unit == "currency", tag.name
            if tag.expression in ("sum(data_mb)", "avg(data_mb)", "sum(voice_minutes)"):
                assert tag.unit in ("MB", "minute"), tag.name


def calculations(library: TagDictionary) -> dict[object, list[str]]:
    """Put together the tags that come out the same by definition."""
    found: dict[object, list[str]] = {}
    for tag in library:
        key = (
            *(tag.subject, tag.table, tag.id_column, tag.window_months, tag.default),
            *(canonical_text(tag.expression or "score"), repr(sorted(tag.thresholds.items()))),
        )
        found.setdefault(key, []).append(tag.name)
    return found


# tags whose values may all be the same on the small twin, and why
CONSTANT = {"staff_low_success": "asks for fifty contacts per person; two thousand customers"}


class Catalogue:
    """A simulated operator of 2,000 customers and 1,333 off-net, with all that surrounds them."""

    def __init__(self, folder: Path, contracts, library) -> None:
        self.lake, self.clock = Lake(folder), FixedClock(datetime(2026, 11, 2, 8, tzinfo=UTC))
        twin = TwinSettings(customers=2_000, months=12, seed=7, off_net_share=0.4)
        generate_operator(twin, self.lake, contracts, clock=self.clock, progress=SilentProgress())
        surroundings = {"seed": 7, "clock": self.clock}
        surround_consumers(self.lake, twin.month_ends(), contracts, **surroundings)
        surround_management(self.lake, twin.month_ends(), contracts, **surroundings)
        for surround in (surround_business, surround_digital, surround_power):
            surround(self.lake, AS_OF, contracts, **surroundings)
        engine = DuckDBEngine(threads=1)
        self.reports, self.rows, self.fields = {}, {}, {}
        for subject in Subject:
            self.reports[subject] = derive(
                library, self.lake, AS_OF, contracts=contracts, engine=engine,
                clock=self.clock, progress=SilentProgress(), subject=subject,
            )  # fmt: skip
            table = read_tags(self.lake.view(), library, subject, AS_OF)
            self.fields[subject] = table.fields
            self.rows[subject] = table.read(engine, list(table.fields))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory, contracts, library) -> Catalogue:
    return Catalogue(tmp_path_factory.mktemp("catalogue") / "lake", contracts, library)


@pytest.mark.slow
class TestDerivedFromTheTwin:
    def test_every_tag_is_derived_but_what_waits_for_scores(self, catalogue):
        pending = {name for report in catalogue.reports.values() for name in report.pending}
        assert pending == {"churn_score", "churn_risk_high"}

    def test_no_value_is_outside_its_codes(self, catalogue):
        groups = [group for report in catalogue.reports.values() for group in report.groups]
        assert [group.outside_codes for group in groups if group.outside_codes] == []

    def test_every_tag_tells_subjects_apart_or_says_why_not(self, catalogue):
        same = {
            name
            for rows in catalogue.rows.values()
            for name in rows.column_names[1:]
            if len(pc.unique(rows[name].drop_null())) < 2
        }
        assert same <= set(CONSTANT)

    def test_shares_lie_between_nought_and_one(self, catalogue, library):
        rows = catalogue.rows["customer"]
        shares = [n for n in rows.column_names if "_share" in n or n.endswith("_rate_12m")]
        assert len(shares) > 20
        for name in shares:
            if library.get(name).type == "number" and name != "overage_share_3m":
                low, high = pc.min_max(rows[name]).as_py().values()
                assert low >= 0, name
                assert high <= 1, name

    def test_every_value_of_every_subject_comes_back_from_its_planes(
        self, catalogue, library, tmp_path
    ):
        for subject, rows in catalogue.rows.items():
            tags = read_tags(catalogue.lake.view(), library, subject, AS_OF)
            report = build_index(tags, tmp_path)
            index = open_index(tmp_path, subject, AS_OF)
            assert set(report.built) == set(index.fields) == set(rows.column_names[1:])
            names = rows.column_names[1:]
            codes, known = index.codes(np.arange(index.rows), names)
            assert index.take_ids(np.arange(index.rows)).equals(
                rows[tags.id_column].combine_chunks()
            )
            for i, name in enumerate(names):
                encoding = index.planes(name).encoding
                expected = rows[name].to_pylist()
                values = encoding.values(np.maximum(codes[i], encoding.first))
                found = [v if k else None for v, k in zip(values, known[i], strict=True)]
                assert found == [None if v != v else v for v in expected], (subject, name)

    def test_what_they_do_hangs_together(self, catalogue):
        rows = catalogue.rows["customer"]

        def mean(name: str, mask) -> float:
            return pc.mean(rows[name].filter(mask).cast("double")).as_py()

        young, old = pc.less(rows["age"], 30), pc.greater(rows["age"], 55)
        assert mean("game_share_3m", young) > 2 * mean("game_share_3m", old)
        assert mean("pay_cash_share_6m", old) > mean("pay_cash_share_6m", young)
        assert mean("is_paperless", young) > mean("is_paperless", old)  # the young are digital
        away = pc.equal(rows["floating"], True)
        assert mean("nights_home_share_3m", away) < 0.6 < mean("nights_home_share_3m", young)

    def test_customers_of_other_networks_have_only_what_can_be_known(self, catalogue):
        rows = catalogue.rows["customer"]
        theirs = rows.filter(pc.equal(rows["network"], "off_net"))
        assert theirs.num_rows == 1_333
        for name in ("arpu", "dou", "tenure_months", "payment_method", "device_brand"):
            assert theirs[name].null_count == theirs.num_rows, name
        for name in ("rival_operator", "rival_fee", "acquisition_potential", "county"):
            assert theirs[name].null_count == 0, name


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
