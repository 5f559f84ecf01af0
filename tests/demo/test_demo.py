"""``make demo HEADLESS=1``: the main job on real data, and what it must reach."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bihuan.demo import run
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

    def test_people_of_a_province_can_sign_in_and_find_plans_in_every_state(
        self, folder: Path, summary: dict[str, Any]
    ) -> None:
        told = summary["service"]
        assert told["people"] == 14_700
        assert told["org_units"] > 13_000
        assert set(told["plans"]) == {
            "analysis", "drafting", "rehearsed", "assessed", "filed", "approved", "executing",
            "paused", "completed", "evaluated", "library", "withdrawn", "voided",
        }  # fmt: skip
        with serving(folder) as url:
            with urllib.request.urlopen(f"{url}/") as page:
                assert "demo-approver" in page.read().decode()
            with urllib.request.urlopen(f"{url}/reports/retention-2026-11.html") as page:
                assert "投入产出" in page.read().decode()
            sign_in = urllib.request.Request(
                f"{url}/api/v1/sessions",
                data=json.dumps({"name": "demo-approver", "password": "bihuan-demo-2026"}).encode(),
                headers={"content-type": "application/json"},
            )
            with urllib.request.urlopen(sign_in) as answer:
                cookie = answer.headers["set-cookie"].split(";")[0]
            plans = urllib.request.Request(
                f"{url}/api/v1/plans?state=filed", headers={"cookie": cookie}
            )
            with urllib.request.urlopen(plans) as answer:
                (waiting,) = json.load(answer)["items"]
        assert waiting["title_zh"]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a workspace as ``make demo`` does; yield its address."""
    command = [sys.executable, "-m", "bihuan.cli", "serve", "-w", str(folder), "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "BIHUAN_PROCESSES": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[^/\s]+", process.stdout.readline())
            assert found
            yield found[0]
        finally:
            process.terminate()
            process.wait(60)


class TestFolder:
    def test_a_folder_that_is_no_demo_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
        with pytest.raises(UserError, match="not an earlier demo"):
            run(tmp_path, progress=SilentProgress(), say=lambda zh, en: None)
        assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "keep"
