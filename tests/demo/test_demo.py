"""``make demo HEADLESS=1``: the main job on real data, and what it must reach."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bihuan.demo import run, serve
from bihuan.kernel import SilentProgress, UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "ws"


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    command = ["make", "demo", "HEADLESS=1", f"WORKSPACE={folder}"]
    # as a user starts it: not as a part of the make that may be running this suite
    clean = {name: value for name, value in os.environ.items() if not name.startswith("M")}
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
class TestDemo:
    def test_churn_model_is_as_good_as_the_reference(self, summary: dict[str, Any]) -> None:
        assert summary["auc"] >= 0.845

    def test_plan_is_certified(self, summary: dict[str, Any]) -> None:
        assert 0 <= summary["allocation_gap"] <= 0.001

    def test_interval_covers_the_truth(self, summary: dict[str, Any]) -> None:
        effect = summary["effect"]
        assert effect["low"] <= effect["true"] <= effect["high"]
        assert effect["low"] < effect["estimate"] < effect["high"]

    def test_model_beats_the_order_in_which_the_bank_called(self, summary: dict[str, Any]) -> None:
        replay = summary["replay"]
        captured = replay["captured"]
        assert captured["bank"] < captured["random"] < captured["model"] < captured["perfect"]
        assert captured["random"] == pytest.approx(0.5, abs=0.005)
        assert replay["gain_low"] > 0
        assert replay["calls"] + 7763 == 41_188  # the first month only teaches

    def test_report_holds_both_turns_in_both_languages(
        self, folder: Path, summary: dict[str, Any]
    ) -> None:
        page = (folder / "reports" / "retention-2026-11.html").read_text(encoding="utf-8")
        for text in (
            "真实外呼活动重放",
            "A real outbound campaign, replayed",
            f"{summary['replay']['captured']['model']:.1%}",
            "投入产出",
            "孪生模拟",
        ):
            assert text in page
        assert "http://" not in page.replace("http://www.w3.org", "")
        for language in ("zh", "en"):
            pdf = folder / "reports" / f"retention-2026-11.{language}.pdf"
            assert pdf.read_bytes().startswith(b"%PDF")


class TestFolder:
    def test_a_folder_that_is_no_demo_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
        with pytest.raises(UserError, match="not an earlier demo"):
            run(tmp_path, progress=SilentProgress(), say=lambda zh, en: None)
        assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "keep"


class TestServe:
    def test_serves_the_page_at_the_address_that_it_prints(self, tmp_path: Path) -> None:
        (tmp_path / "page.html").write_text("<p>闭环</p>", encoding="utf-8")
        said: list[str] = []
        Thread(
            target=serve,
            args=(tmp_path, "page.html"),
            kwargs={"port": 0, "say": lambda zh, en: said.append(en)},
            daemon=True,
        ).start()
        while not said:
            time.sleep(0.01)
        address = said[0].split()[1]
        with urllib.request.urlopen(address) as answer:
            assert "闭环" in answer.read().decode()

    def test_a_taken_port_is_named(self, tmp_path: Path) -> None:
        from http.server import HTTPServer, SimpleHTTPRequestHandler

        with (
            HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as taken,
            pytest.raises(UserError, match=str(taken.server_port)),
        ):
            serve(tmp_path, "x", port=taken.server_port, say=lambda zh, en: None)
