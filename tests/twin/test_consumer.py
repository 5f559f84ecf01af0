"""What surrounds the simulated customers keeps its contracts, repeats itself and hangs together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest
from sqlglot import parse_one

from bihuan.data import DuckDBEngine, Lake, load_contracts
from bihuan.data.quality import check_references
from bihuan.kernel import SilentProgress, SystemClock
from bihuan.twin import (
    TwinSettings,
    generate_operator,
    surround_consumers,
    surround_management,
)

SETTINGS = TwinSettings(customers=1_500, months=4, seed=5, off_net_share=0.3)
CONTRACTS = load_contracts()


def build(folder: Path, settings: TwinSettings = SETTINGS) -> Lake:
    lake = Lake(folder)
    generate_operator(settings, lake, CONTRACTS, clock=SystemClock(), progress=SilentProgress())
    for surround in (surround_consumers, surround_management):
        surround(lake, settings.month_ends(), CONTRACTS, seed=settings.seed, clock=SystemClock())
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return build(tmp_path_factory.mktemp("surrounded"))


def ask(lake: Lake, sql: str, *tables: str) -> dict[str, float]:
    view = lake.view()
    sources = {name: view.get(name, SETTINGS.last) for name in tables}
    return DuckDBEngine(threads=1).query(parse_one(sql, dialect="duckdb"), sources).to_pylist()[0]


class TestSurroundings:
    def test_every_table_is_there_every_month_and_keeps_its_contract(self, lake: Lake) -> None:
        view = lake.view()
        for table in view.tables:
            assert view.dates(table) == tuple(SETTINGS.month_ends()), table
            contract, rows = CONTRACTS[table], view.get(table, SETTINGS.last).read()
            assert set(rows.column_names) == set(contract.names), table
            for column in contract.columns:
                values = rows[column.name]
                assert column.nullable or values.null_count == 0, (table, column.name)
                found = set(values.drop_null().unique().to_pylist())
                assert column.codes is None or found <= set(column.codes), (table, column.name)
                if column.minimum is not None and len(found):
                    assert pc.min(values).as_py() >= column.minimum, (table, column.name)
                if column.maximum is not None and len(found):
                    assert pc.max(values).as_py() <= column.maximum, (table, column.name)
            keys = rows.select(list(contract.key)).group_by(list(contract.key)).aggregate([])
            assert keys.num_rows == rows.num_rows, table

    def test_every_reference_leads_somewhere(self, lake: Lake) -> None:
        engine = DuckDBEngine(threads=1)
        for table in lake.view().tables:
            for report in check_references(lake.view(), SETTINGS.last, CONTRACTS[table], engine):
                assert report.orphans == 0, (table, report.column, report.sample)

    def test_done_twice_it_is_as_done_once(self, lake: Lake, tmp_path: Path) -> None:
        other = build(tmp_path)
        for surround in (surround_consumers, surround_management):
            surround(other, SETTINGS.month_ends(), CONTRACTS, seed=5, clock=SystemClock())
        for table in lake.view().tables:
            key = [(name, "ascending") for name in CONTRACTS[table].key]
            once, twice = (x.view().get(table, SETTINGS.last).read() for x in (lake, other))
            assert once.sort_by(key) == twice.select(once.column_names).sort_by(key), table

    def test_another_seed_gives_another(self, lake: Lake, tmp_path: Path) -> None:
        other = build(tmp_path, TwinSettings(customers=300, months=1, seed=6))
        rows = [x.view().get("data_usage", SETTINGS.last).read() for x in (lake, other)]
        assert rows[0].slice(0, 100)["video_mb"] != rows[1].slice(0, 100)["video_mb"]


class TestHangsTogether:
    def test_parts_do_not_exceed_the_whole(self, lake: Lake) -> None:
        apps = ("video", "social", "game", "music", "reading", "shopping", "finance", "travel",
                "work")  # fmt: skip
        parts = " + ".join(f"d.{app}_mb" for app in apps)
        row = ask(
            lake,
            f"""select count(*) filter (where {parts} > u.data_mb + 1) as data,
                       count(*) filter (where abs(v.outgoing_minutes + v.incoming_minutes
                                                  - u.voice_minutes) > 0.2) as voice,
                       count(*) filter (where d.g5_days > 0 and u.g5_data_mb = 0) as g5
                from usage u join data_usage d using (subscription_id)
                join voice_usage v using (subscription_id)""",
            "usage", "data_usage", "voice_usage",
        )  # fmt: skip
        assert (row["data"], row["voice"], row["g5"]) == (0, 0, 0)

    def test_nights_are_those_of_the_month(self, lake: Lake) -> None:
        row = ask(
            lake,
            """select min(nights_home_city + nights_other_city + nights_other_province) as low,
                      max(nights_home_city + nights_other_city + nights_other_province) as high
               from mobility""",
            "mobility",
        )
        assert (row["low"], row["high"]) == (31, 31)

    def test_households_have_one_head_and_the_members_they_say(self, lake: Lake) -> None:
        rows = lake.view().get("family", SETTINGS.last).read().to_pylist()
        members = Counter(row["group_id"] for row in rows)
        heads = Counter(row["group_id"] for row in rows if row["role"] == "head")
        assert set(heads.values()) == {1}
        assert set(heads) == set(members)
        assert all(row["on_net_member_count"] == members[row["group_id"]] for row in rows)

    def test_devices_grow_older_until_they_are_changed(self, lake: Lake) -> None:
        first, last = (
            {r["subscription_id"]: r for r in lake.view().get("terminal", day).read().to_pylist()}
            for day in SETTINGS.month_ends()[-2:]
        )
        changed = [id_ for id_ in first if first[id_]["used_since"] != last[id_]["used_since"]]
        assert 0 < len(changed) < 0.15 * len(first)
        assert all(last[id_]["used_since"] > first[id_]["used_since"] for id_ in changed)

    def test_who_has_left_has_no_fixed_line_in_use(self, lake: Lake) -> None:
        row = ask(
            lake,
            """select count(*) as both_lines from subscription m
               join subscription f on f.customer_id = m.customer_id
               where m.service = 'mobile' and m.status = 'disconnected'
                 and f.service <> 'mobile' and f.status = 'active'""",
            "subscription",
        )
        assert row["both_lines"] == 0

    def test_areas_count_the_customers_who_live_there(self, lake: Lake) -> None:
        view = lake.view()
        lines = view.get("subscription", SETTINGS.last).read()
        here = lines.filter(pc.not_equal(lines["status"], "disconnected"))["customer_id"]
        areas = view.get("area_month", SETTINGS.last).read()
        assert pc.sum(areas["customer_count"]).as_py() == len(pc.unique(here))
        billed = pc.sum(view.get("bill", SETTINGS.last).read()["amount"])
        assert pc.sum(areas["revenue"]).as_py() == billed.as_py()

    def test_diligence_shows_in_several_figures(self, lake: Lake) -> None:
        row = ask(
            lake,
            """select corr(satisfaction, complaint_count) as outlet from outlet_month""",
            "outlet_month",
        )
        assert row["outlet"] < -0.2
