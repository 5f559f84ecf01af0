"""The command line teaches, answers machines in JSON, and ends with codes that mean something."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bihuan.cli import command_names, main
from bihuan.pack import TELCO_FILE

AS_OF = "2026-10-31"


class Shell:
    """Runs commands in this process against one workspace."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capture = capture

    def run(self, *words: str) -> tuple[int, str, str]:
        arguments = sys.argv
        sys.argv = ["bihuan", *words]
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            sys.argv = arguments
        out, err = self.capture.readouterr()
        return code, out, err

    def json(self, *words: str) -> Any:
        code, out, err = self.run(*words, "--workspace", str(self.folder), "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    shell = Shell(tmp_path / "ws", capsys)
    assert shell.run("init", str(shell.folder), "--pack", "retention")[0] == 0
    return shell


@pytest.fixture
def filled(shell: Shell) -> Shell:
    shell.json("ingest", str(TELCO_FILE), "--mapping", "telco_customer_churn", "--as-of", AS_OF)
    shell.json("tags", "derive", "--as-of", AS_OF)
    return shell


class TestHelp:
    @pytest.mark.parametrize("command", command_names())
    def test_every_command_teaches(
        self, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, out, _ = Shell(tmp_path, capsys).run(*command.split(), "--help")
        assert code == 0
        assert any("\u4e00" <= sign <= "\u9fff" for sign in out), "no Chinese"
        assert len(out.split()) > 20


class TestJson:
    def test_ingest_counts_every_row(self, shell: Shell) -> None:
        report = shell.json(
            "ingest", str(TELCO_FILE), "--mapping", "telco_customer_churn", "--as-of", AS_OF
        )
        stored = {table["table"]: table["rows_stored"] for table in report["tables"]}
        assert stored["customer"] == stored["subscription"] == 7043
        assert report["quarantine_id"] is None

    def test_quality_tells_of_the_table_and_of_its_columns(self, filled: Shell) -> None:
        told = filled.json("quality", "bill", "--as-of", AS_OF)
        assert (told["grain"], told["rows"], told["duplicate_keys"]) == ("period", 7043, 0)
        assert told["key"] == "account_id, subscription_id"
        assert "customer_id: 1" in told["rows_per_subject"]
        assert told["age_days"] is not None
        assert told["missing_months"] == ""
        assert {column["column"] for column in told["columns"]} >= {"amount", "customer_id"}
        code, out, _ = filled.run("quality", "bill", "--as-of", AS_OF, "-w", str(filled.folder))
        assert code == 0
        for word in ("grain", "key", "rows_per_subject", "duplicate_keys", "age_days",
                     "missing_months"):  # fmt: skip
            assert word in out, word

    def test_quality_names_what_is_beyond_its_limit(self, filled: Shell, tmp_path: Path) -> None:
        file = tmp_path / "bills.csv"
        file.write_text("id,fee\na,1\nb,\nc,\nd,\n", encoding="utf-8")
        mapping = filled.folder / "mappings" / "few.yaml"
        mapping.write_text(
            "tables:\n  bill:\n    columns: {account_id: id, subscription_id: id, customer_id: id,"
            " amount: fee}\n", encoding="utf-8",
        )  # fmt: skip
        filled.json("ingest", str(file), "--mapping", "few", "--as-of", "2026-12-31")
        told = filled.json("quality", "bill", "--as-of", "2026-12-31")
        assert told["missing_months"] == "2026-11"
        kinds = {finding["kind"] for finding in told["findings"]}
        assert {"missing", "missing_month", "row_change"} <= kinds

    def test_it_runs_as_a_module(self, shell: Shell) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "bihuan.cli", "tags", "list", "-w", str(shell.folder), "--json"],
            capture_output=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0
        assert len(json.loads(done.stdout)) > 20

    def test_audience_is_counted_and_written(self, filled: Shell, tmp_path: Path) -> None:
        out = tmp_path / "list.csv"
        answer = filled.json(
            "audience", "tenure_months <= 6 and monthly_fee > 80", "--as-of", AS_OF,
            "--out", str(out), "--columns", "monthly_fee",
        )  # fmt: skip
        lines = out.read_text(encoding="utf-8-sig").splitlines()
        assert answer["base"] == 7043
        assert len(lines) == answer["members"] + 1 == 287
        assert lines[0].replace('"', "") == "customer_id,monthly_fee"

    def test_tag_is_explained_with_its_lineage(self, filled: Shell) -> None:
        answer = filled.json("tags", "show", "value_band")
        assert answer["lineage"]["tags"] == ["monthly_fee"]
        assert answer["lineage"]["all_columns"] == ["subscription.monthly_fee"]


class TestExploring:
    def test_planes_are_built_once_and_answer_as_the_lake_does(self, filled: Shell) -> None:
        before = filled.json("audience", "tenure_months <= 6", "--as-of", AS_OF)
        built = filled.json("tags", "index", "--as-of", AS_OF)
        again = filled.json("tags", "index", "--as-of", AS_OF)
        assert built["rows"] == 7043
        assert (again["built"], len(again["unchanged"])) == ([], len(built["built"]))
        assert filled.json("audience", "tenure_months <= 6", "--as-of", AS_OF) == before

    def test_a_threshold_leaves_what_was_asked_for(self, filled: Shell) -> None:
        words = (
            "threshold",
            "tenure_months",
            "500",
            "--within",
            "monthly_fee > 80",
            "--as-of",
            AS_OF,
        )
        found = filled.json(*words)
        rule = f"monthly_fee > 80 and tenure_months >= {found['value']}"
        counted = filled.json("audience", rule, "--as-of", AS_OF)["members"]
        assert found["beyond"] < 500 <= found["beyond"] + found["ties"] == counted

    def test_a_cross_table_adds_up_to_the_audience(self, filled: Shell) -> None:
        cells = filled.json(
            "cross", "value_band", "--within", "tenure_months <= 6", "--as-of", AS_OF
        )
        counted = filled.json("audience", "tenure_months <= 6", "--as-of", AS_OF)["members"]
        assert sum(cell["count"] for cell in cells) == counted


class TestScenes:
    def test_a_due_scene_runs_once_and_tells_its_count(self, filled: Shell) -> None:
        scenes = filled.folder / "scenes"
        scenes.mkdir(exist_ok=True)
        (scenes / "newcomers.yaml").write_text(
            "title: {zh: 新客户, en: Newcomers}\naudience: tenure_months <= 6\nowner: 市场部\n"
            "cron: 0 6 2 * *\ntime_zone: Asia/Shanghai\nstarts_on: 2026-11-01\n"
            "valid_until: 2026-11-03\nmaximum_age_days: 30\n",
            encoding="utf-8",
        )
        counted = filled.json("audience", "tenure_months <= 6", "--as-of", AS_OF)["members"]
        (run,) = filled.json("scene", "run-due")
        assert (run["state"], run["count"], run["as_of"]) == ("done", counted, AS_OF)
        assert filled.json("scene", "run-due") == []
        (status,) = filled.json("scene", "status")
        assert status["last_good"]["count"] == counted


class TestStock:
    def test_counts_the_tags_of_the_workspace(self, filled: Shell) -> None:
        told = filled.json("tags", "stock")
        assert told["live"] == sum(told["tags"].values())
        assert told["models"] > 0

    def test_one_customer_is_shown_whole(self, filled: Shell) -> None:
        told = filled.json("view", "7590-VHVEG", "--as-of", AS_OF)
        assert told["customer"] == "7590-VHVEG"
        assert AS_OF in told["text"]


class TestErrors:
    def test_unknown_tag_names_the_nearest_in_both_languages(
        self, filled: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("audience", "tenure_monthz > 3", "--as-of", AS_OF, "-w", str(filled.folder))
        monkeypatch.setenv("BIHUAN_LANG", "en")
        code, out, err = filled.run(*words)
        assert (code, out) == (2, "")
        assert "tenure_months" in err
        assert "^^^" in err
        monkeypatch.setenv("BIHUAN_LANG", "zh")
        assert "没有标签" in filled.run(*words)[2]

    def test_an_error_is_json_for_a_machine(self, shell: Shell) -> None:
        code, out, _ = shell.run(
            "audience", "tenure", "--as-of", AS_OF, "-w", str(shell.folder), "--json"
        )
        assert code == 2
        assert json.loads(out)["message"]

    @pytest.mark.parametrize(
        "words",
        [
            ("ingest", "absent.csv", "--mapping", "telco_customer_churn", "--as-of", AS_OF),
            ("ingest", "absent.csv", "--mapping", "nothing", "--as-of", AS_OF),
            ("ingest", "absent.csv", "--mapping", "telco_customer_churn", "--as-of", "31/10/2026"),
            ("tags", "show", "nothing"),
            ("campaign", "plan", "nothing"),
            ("campaign", "decide", "retention-2026-11", "--as-of", AS_OF),
            ("deploy", "retention-2026-11", "--as-of", AS_OF),
            ("quality", "nothing", "--as-of", AS_OF),
            ("quarantine", "nothing"),
            ("model", "card", "nothing"),
        ],
    )
    def test_what_a_user_can_mend_ends_with_two_and_no_trace(
        self, shell: Shell, words: tuple[str, ...]
    ) -> None:
        code, _, err = shell.run(*words, "--workspace", str(shell.folder))
        assert code == 2
        assert "Traceback" not in err
        assert err.strip()

    def test_a_folder_that_is_no_workspace(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, _, err = Shell(tmp_path, capsys).run("tags", "list", "-w", str(tmp_path))
        assert code == 2
        assert "bihuan init" in err

    def test_usage_error(self, shell: Shell) -> None:
        assert shell.run("nosuch")[0] == 2


@pytest.mark.slow
class TestInterrupt:
    def test_ctrl_c_stops_and_publishes_nothing(self, tmp_path: Path) -> None:
        folder = tmp_path / "ws"
        subprocess.run([*BIHUAN, "init", str(folder), "--pack", "retention"], check=True)
        source = long_file(tmp_path / "long.csv", copies=60)
        words = ["ingest", str(source), "--mapping", "telco_customer_churn", "--as-of", AS_OF]
        run = subprocess.Popen([*BIHUAN, *words, "--workspace", str(folder)])
        begun = folder / "lake" / ".staging"
        while not begun.exists() and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=120) == 130
        assert not (folder / "lake" / "HEAD.json").exists()


def long_file(path: Path, *, copies: int) -> Path:
    """Write the real customers many times over, each time under other ids."""
    with gzip.open(TELCO_FILE, "rt", encoding="utf-8") as file:
        header, *rows = file.read().splitlines()
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{header}\n")
        for copy in range(copies):
            file.writelines(f"{copy}-{row}\n" for row in rows)
    return path


BIHUAN = [sys.executable, "-c", "from bihuan.cli import main; main()"]
