"""Settings: where they come from, what is refused, and that every one is documented."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from pydantic import ValidationError

from bihuan.cli.service import read_settings
from bihuan.kernel import UserError
from bihuan.server.settings import Settings

ROOT = Path(__file__).parents[2]


class TestSettings:
    def test_the_environment_goes_before_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "service.toml").write_text("port = 8080\nsmall_group = 30\n")
        monkeypatch.setenv("BIHUAN_PORT", "9090")
        settings = Settings(workspace=tmp_path)
        assert (settings.port, settings.small_group) == (9090, 30)

    def test_the_workspace_may_come_from_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "service.toml").write_text("port = 8080\n")
        monkeypatch.setenv("BIHUAN_WORKSPACE", str(tmp_path))
        assert Settings().port == 8080

    def test_a_name_that_is_no_setting_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "service.toml").write_text("prot = 8080\n")
        with pytest.raises(ValidationError, match="prot"):
            Settings(workspace=tmp_path)

    def test_the_command_line_says_which_setting_to_mend(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BIHUAN_SMALL_GROUP", "many")
        with pytest.raises(UserError, match="BIHUAN_SMALL_GROUP"):
            read_settings(tmp_path)

    def test_the_secret_does_not_show(self, tmp_path: Path) -> None:
        settings = Settings(workspace=tmp_path, oidc_client_secret="hush")  # type: ignore[arg-type]
        assert "hush" not in repr(settings)

    def test_without_a_url_the_database_lies_in_the_workspace(self, tmp_path: Path) -> None:
        assert Settings(workspace=tmp_path).database_url == f"sqlite:///{tmp_path}/control.db"


class TestPage:
    def test_every_setting_is_documented_as_it_is(self) -> None:
        spec = importlib.util.spec_from_file_location("page", ROOT / "tools" / "settings_page.py")
        assert spec is not None
        assert spec.loader is not None
        page = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(page)
        text = (ROOT / "docs" / "operations" / "settings.md").read_text(encoding="utf-8")
        missing = [row for row in page.rows() if row not in text]
        assert not missing, f"run tools/settings_page.py: {missing}"
        assert text.count("`BIHUAN_") >= len(Settings.model_fields)
