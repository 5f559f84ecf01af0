"""The demo's lists have something to show: teams, training, a process, knowledge, indicators."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from bihuan.demo.sample_work import OURS, install_sample_indicators, lay_out_sample_work
from bihuan.demo.service import lay_out_service
from bihuan.pack import PACKS
from bihuan.server.app.indicator import approved_catalogue
from bihuan.server.app.team import headcount
from bihuan.server.control import (
    Course,
    IndicatorVersion,
    KnowledgeEntry,
    OrgUnit,
    Process,
    Team,
    TeamMember,
)
from bihuan.server.node import open_service
from bihuan.server.settings import Settings
from bihuan.workspace import open_workspace
from bihuan.workspace.layout import DEFINITIONS


@pytest.fixture(scope="module")
def province(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The simulated province with its sample work."""
    folder = tmp_path_factory.mktemp("province") / "ws"
    open_workspace(folder)
    lay_out_service(folder, whole_province=True)
    service = open_service(Settings(workspace=folder, demo=True))
    first = lay_out_sample_work(service)
    yield SimpleNamespace(service=service, first=first)
    service.control.engine.dispose()


@pytest.mark.slow
class TestSampleWork:
    def rows(self, province: SimpleNamespace, table: type) -> list:
        with province.service.system_work(read_only=True) as work:
            return list(work.session.scalars(sa.select(table)))

    def test_planned_people_are_30_46_426_by_level(self, province):
        with province.service.system_work(read_only=True) as work:
            top = work.session.scalars(
                sa.select(OrgUnit.unit_id).where(OrgUnit.parent_id.is_(None))
            ).one()
            planned = {(one.kind, one.tier): one.planned for one in headcount(work, top)}
        assert planned == {
            ("touchpoint", "province"): 30,
            ("touchpoint", "city"): 46,
            ("touchpoint", "county"): 426,
            ("digital_support", "province"): 68,
        }
        assert province.first["planned"] == 30 + 46 + 426 + 68

    def test_the_digital_team_has_its_four_posts_filled(self, province):
        [team] = [row for row in self.rows(province, Team) if row.kind == "digital_support"]
        posts = {"process_management", "product_management", "product_configuration",
                 "touchpoint_support"}  # fmt: skip
        assert set(team.planned) == posts
        held = [m for m in self.rows(province, TeamMember) if m.team_id == team.team_id]
        assert {member.post for member in held} == posts
        assert len(held) == province.first["members"] == 8

    def test_courses_process_and_knowledge_are_labelled_in_both_languages(self, province):
        courses, [process] = self.rows(province, Course), self.rows(province, Process)
        assert len(courses) == 2
        for row in (*courses, process):
            assert "示例" in row.title_zh
            assert "sample" in row.title_en
        assert [step["post"] for step in process.steps] == [
            "process_management", "product_management", "product_configuration",
            "touchpoint_support",
        ]  # fmt: skip
        entries = self.rows(province, KnowledgeEntry)
        assert len(entries) == 3
        for entry in entries:
            assert entry.state == "published"
            assert OURS["zh"] in entry.solution
            assert OURS["en"] in entry.solution
            assert entry.reviewed_by != entry.author_id

    def test_indicators_are_approved_by_two(self, province):
        rows = self.rows(province, IndicatorVersion)
        assert len(rows) == province.first["indicators"] > 20
        assert all(row.made_by != row.reviewed_by for row in rows)
        with province.service.system_work(read_only=True) as work:
            assert "churn_rate" in approved_catalogue(work)

    def test_done_again_it_adds_nothing(self, province):
        assert set(lay_out_sample_work(province.service).values()) == {0}
        assert install_sample_indicators(province.service) == 0


def test_packs_install_their_indicators(tmp_path: Path):
    assert "indicators" in DEFINITIONS
    ws = open_workspace(tmp_path / "ws")
    assert "indicators/standard.yaml" in ws.install(PACKS["sample"])
    assert (ws.layout.definitions("indicators") / "standard.yaml").is_file()
