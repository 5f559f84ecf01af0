"""A workspace answers from planes, and never from planes of other values than the lake's."""

import shutil
from datetime import date
from pathlib import Path

import pytest

import bihuan as bh
from bihuan.audience import ProgramReader
from bihuan.pack import PACKS
from bihuan.tag import IndexNotBuiltError, open_index

AS_OF = "2026-10-31"
RULE = "tenure_months <= 6 and monthly_fee > 80 and not (value_band = 'basic')"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ws = bh.open_workspace(tmp_path_factory.mktemp("planes") / "ws")
    ws.install(PACKS["retention"])
    ws.ingest(PACKS["retention"] / "telco_customer_churn.csv.gz", "telco_customer_churn", AS_OF)
    ws.refresh_tags(AS_OF)
    return ws.layout.root


@pytest.fixture
def ws(filled: Path) -> bh.Workspace:
    return bh.open_workspace(filled)


class TestReader:
    def test_planes_and_lake_give_one_count(self, ws: bh.Workspace) -> None:
        by_sql = ws.count(RULE, AS_OF)
        assert by_sql.members == ws.reader(AS_OF).count(RULE) == ws.count(RULE, AS_OF).members > 0

    def test_count_asks_the_planes_where_they_are_current(
        self, ws: bh.Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ws.index_tags(AS_OF)
        monkeypatch.setattr(ProgramReader, "count", lambda *_: -1)
        assert ws.count(RULE, AS_OF).members == -1

    def test_every_profile_is_the_lakes(self, ws: bh.Workspace) -> None:
        ids = ws.tags(AS_OF).read(ws.engine, [])["customer_id"].to_pylist()
        reader = ws.reader(AS_OF)
        for customer in (ids[0], ids[3_500], ids[-1]):
            assert reader.profile(customer) == ws.tags(AS_OF).profile(customer)

    def test_exploring_answers_what_the_lake_answers(self, ws: bh.Workspace) -> None:
        assert ws.explore(AS_OF).count(RULE).members == ws.count(RULE, AS_OF).members


class TestRefresh:
    def test_a_changed_tag_is_rebuilt_and_no_other(self, filled: Path, tmp_path: Path) -> None:
        shutil.copytree(filled, tmp_path / "ws")
        ws = bh.open_workspace(tmp_path / "ws")
        ws.index_tags(AS_OF)
        before = ws.reader(AS_OF).count("value_band = 'basic'")
        change_value_band(ws)
        ws = bh.open_workspace(tmp_path / "ws")
        ws.refresh_tags(AS_OF)
        assert ws.count("value_band = 'basic'", AS_OF).members != before, "stale planes answered"
        report = ws.index_tags(AS_OF)
        assert "value_band" in report.built
        changed = {"value_band", *ws.dictionary.lineage("value_band").users}
        assert set(report.built) <= changed
        assert (
            ws.reader(AS_OF).count("value_band = 'basic'")
            == ws.count("value_band = 'basic'", AS_OF).members
        )

    def test_another_date_has_no_planes_until_it_is_asked(self, ws: bh.Workspace) -> None:
        with pytest.raises(IndexNotBuiltError):
            open_index(ws.layout.index, "customer", date(2026, 9, 30))


def change_value_band(ws: bh.Workspace) -> None:
    """Raise the fee from which a customer is no longer basic, as a new version of the tag."""
    path = ws.layout.definitions("tags") / "customer.yaml"
    before, mark, after = path.read_text(encoding="utf-8").partition("  - name: value_band\n")
    after = after.replace("monthly_fee >= 50 then", "monthly_fee >= 60 then", 1)
    after = after.replace("version: 1", "version: 2", 1)
    path.write_text(before + mark + after, encoding="utf-8")
