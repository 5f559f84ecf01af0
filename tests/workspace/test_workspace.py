"""A workspace is a folder; it is opened, filled and asked without knowing the rooms."""

from pathlib import Path

import pytest

import bihuan as bh
from bihuan.pack import PACKS


@pytest.fixture
def ws(tmp_path: Path) -> bh.Workspace:
    workspace = bh.open_workspace(tmp_path / "ws")
    workspace.install(PACKS["retention"])
    return workspace


class TestOpenWorkspace:
    def test_lays_out_a_new_folder_and_opens_it_again(self, tmp_path: Path) -> None:
        first = bh.open_workspace(tmp_path / "ws")
        again = bh.open_workspace(tmp_path / "ws", create=False)
        assert again.settings == first.settings
        assert again.settings.name == "ws"

    def test_refuses_a_folder_that_holds_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
        with pytest.raises(bh.UserError, match="not empty and not a workspace"):
            bh.open_workspace(tmp_path)
        assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"

    def test_refuses_an_absent_one_unless_asked_to_make_it(self, tmp_path: Path) -> None:
        with pytest.raises(bh.UserError, match="bihuan init"):
            bh.open_workspace(tmp_path / "absent", create=False)
        assert not (tmp_path / "absent").exists()

    @pytest.mark.parametrize(
        ("line", "told"),
        [("language: fr", "language is 'fr'"), ("sead: 3", "sead is not a known field")],
    )
    def test_a_wrong_setting_is_named(self, tmp_path: Path, line: str, told: str) -> None:
        bh.open_workspace(tmp_path / "ws")
        (tmp_path / "ws" / "bihuan.yaml").write_text(f"name: x\n{line}\n", encoding="utf-8")
        with pytest.raises(bh.UserError, match=told):
            bh.open_workspace(tmp_path / "ws")


class TestInstall:
    def test_copies_definitions_and_keeps_what_was_edited(self, ws: bh.Workspace) -> None:
        campaign = ws.layout.definitions("campaigns") / "retention-2026-11.yaml"
        campaign.write_text("mine", encoding="utf-8")
        assert ws.install(PACKS["retention"]) == []
        assert campaign.read_text(encoding="utf-8") == "mine"

    def test_definitions_are_read(self, ws: bh.Workspace) -> None:
        assert len(ws.catalogue) == 18
        assert ws.list_campaigns() == ["retention-2026-11"]
        assert "churn_score" in ws.dictionary


class TestDefinitions:
    def test_an_absent_file_is_named_with_those_that_there_are(self, ws: bh.Workspace) -> None:
        with pytest.raises(bh.UserError, match=r"campaigns/.*retention-2026-11"):
            ws.campaign("retention-2026-12")

    def test_a_name_cannot_leave_its_folder(self, ws: bh.Workspace) -> None:
        with pytest.raises(bh.UserError):
            ws.campaign("../bihuan")

    def test_a_workspace_without_tags_has_the_sample_library(self, tmp_path: Path) -> None:
        library = bh.open_workspace(tmp_path / "new").dictionary
        assert "arpu" in library
        assert len(library) > 50


class TestDays:
    def test_a_day_that_is_none(self, ws: bh.Workspace) -> None:
        with pytest.raises(bh.UserError, match="is not a date"):
            ws.count("everyone", "31.10.2026")


class TestDeployment:
    def test_nothing_is_deployed_yet(self, ws: bh.Workspace) -> None:
        with pytest.raises(bh.UserError, match="has not been deployed"):
            ws.deployment("retention-2026-11")

    def test_nothing_is_decided_yet(self, ws: bh.Workspace) -> None:
        with pytest.raises(bh.UserError, match="has not been decided"):
            ws.deploy("retention-2026-11", "2026-10-31")
