"""``bihuan serve``, ``migrate``, ``doctor`` as a person runs them: real processes, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

import bihuan.cli.service as commands
from bihuan.cli.app import app
from bihuan.server.api.frame.observe import MEASURES, Measures
from bihuan.server.node import bring_up_to_date
from bihuan.server.serving import shared_measures
from bihuan.server.settings import Settings

RUN = "from bihuan.cli.main import main; main()"
LOCAL = "127.0.0.1"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    bring_up_to_date(Settings(workspace=tmp_path / "house"))
    return tmp_path / "house"


@contextmanager
def started(*words: str, processes: int = 1) -> Iterator[subprocess.Popen[str]]:
    """A process group of its own; whatever is left of it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=os.environ
        | {"BIHUAN_LANG": "en", "PYTHONUNBUFFERED": "1", "BIHUAN_PROCESSES": str(processes)},
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def is_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_gone(group: int) -> bool:
    """Tell whether a process group has ended; the last ones are reaped by init, not by us."""
    for _ in range(100):
        if not is_left(group):
            return True
        time.sleep(0.1)
    return False


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        found = re.search(r"Serving (http://\S+)", line)
        if found:
            return found.group(1)
    raise AssertionError("".join(said))


def run(*words: str):
    return CliRunner().invoke(app, [*words], env={"BIHUAN_LANG": "en"})


def siblings_of(pid: int) -> set[int]:
    """The processes that answer beside ``pid``."""
    found = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(int(child))
    return found


def until(look):
    for _ in range(600):
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("not within a minute")


def is_answered(address: str) -> bool:
    """Tell whether one of many new connections is answered soon."""
    for _ in range(40):
        with suppress(httpx2.TransportError):
            httpx2.get(f"{address}api/v1/health/live", timeout=0.5, trust_env=False)
            return True
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ports are shared on Linux only")
class TestSideBySide:
    def test_each_answers_the_dead_are_followed_and_all_end_together(self, house):
        with started("serve", "-w", str(house), "--port", "0", processes=2) as process:
            address = address_of(process)
            (first,) = until(lambda: siblings_of(process.pid))
            os.kill(process.pid, signal.SIGSTOP)  # now only the sibling can answer
            try:
                until(lambda: is_answered(address))
            finally:
                os.kill(process.pid, signal.SIGCONT)
            os.kill(first, signal.SIGKILL)
            until(lambda: siblings_of(process.pid) - {first})
            process.terminate()
            rest, _ = process.communicate(timeout=60)
            assert process.returncode == 0, rest
            assert "process ended" in rest  # and was told of
            assert wait_gone(process.pid)

    def test_siblings_end_when_the_first_is_killed(self, house):
        with started("serve", "-w", str(house), "--port", "0", processes=2) as process:
            address = address_of(process)
            until(lambda: siblings_of(process.pid))
            assert is_answered(address)
            process.kill()
            process.wait()
            assert wait_gone(process.pid)

    def test_a_port_of_another_service_is_not_shared(self, house, tmp_path):
        with started("serve", "-w", str(house), "--port", "0", processes=2) as process:
            port = re.search(r":(\d+)/", address_of(process))[1]
            other = ("serve", "-w", str(tmp_path / "other"), "--port", port)
            with started(*other, processes=2) as second:
                said, _ = second.communicate(timeout=60)
            assert second.returncode == 2
            assert f"Port {port} is taken" in said
            process.terminate()
            process.communicate(timeout=60)

    def test_measures_are_those_of_all(self, monkeypatch):
        count = (
            "from bihuan.server.api.frame.observe import Measures;"
            "Measures().requests.labels('GET', '/x', '200').inc(3)"
        )
        with shared_measures():
            measures = Measures()
            measures.requests.labels("GET", "/x", "200").inc(2)
            subprocess.run([sys.executable, "-c", count], check=True)
            both = 'bihuan_requests_total{method="GET",route="/x",status="200"} 5.0'
            assert both in measures.text().decode().splitlines()
            with monkeypatch.context() as patch:
                patch.setenv(MEASURES, "")  # the defect: each tells its own
                assert both not in measures.text().decode().splitlines()
        assert MEASURES not in os.environ


@pytest.mark.slow
class TestServe:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_answers_and_ends_in_good_order(self, house, number):
        with started("serve", "-w", str(house), "--port", "0") as process:
            address = address_of(process)
            with httpx2.Client(base_url=address, trust_env=False) as client:
                ready = client.get("api/v1/health/ready")
                assert (ready.status_code, ready.json()) == (200, {"ready": True})
            process.send_signal(number)
            rest, _ = process.communicate(timeout=60)
            assert process.returncode == 0, rest
            assert "Traceback" not in rest
            assert wait_gone(process.pid)
            lines = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
            asked = [line for line in lines if line["event"] == "request"]
            assert [line["route"] for line in asked] == ["/api/v1/health/ready"]
            told = [line for line in lines if line.get("logger") == "bihuan.worker"]
            assert any("stopped" in line["event"] for line in told)
            assert {line["process"] for line in lines} == {"serve"}

    def test_a_workspace_that_was_never_used_is_laid_out_first(self, tmp_path):
        with started("serve", "-w", str(tmp_path / "new"), "--port", "0", "--no-with-worker") as it:
            with httpx2.Client(base_url=address_of(it), trust_env=False) as client:
                assert client.get("api/v1/health/live").json() == {"alive": True}
            it.terminate()
            rest, _ = it.communicate(timeout=60)
        assert it.returncode == 0, rest
        assert (tmp_path / "new" / "control.db").exists()

    def test_a_taken_port_is_named(self, house):
        with socket.socket() as taken:
            taken.bind((LOCAL, 0))
            taken.listen()
            port = taken.getsockname()[1]
            with started("serve", "-w", str(house), "--port", str(port)) as process:
                said, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        assert f"Port {port} is taken" in said
        assert "--port" in said
        assert "Traceback" not in said


@pytest.mark.slow
class TestWorker:
    def test_logs_as_the_server_does(self, house):
        with started("worker", "-w", str(house), "--grace", "0") as process:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "started" in line and "{" in line)
            process.terminate()
            rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0, rest
        entry = json.loads(line)
        assert (entry["process"], entry["level"]) == ("worker", "info")
        assert entry["logger"] == "bihuan.worker"
        assert entry["timestamp"].endswith("Z")
        last = [json.loads(one) for one in rest.splitlines() if one.startswith("{")][-1]
        assert last["event"].endswith("stopped")

    def test_as_text_where_that_is_wished(self, house, monkeypatch):
        monkeypatch.setenv("BIHUAN_LOG_FORMAT", "text")
        with started("worker", "-w", str(house), "--grace", "0") as process:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "bihuan.worker" in line)
            process.terminate()
            rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0, rest
        assert "process=worker" in line
        assert not line.startswith("{")


class TestMigrate:
    def test_lays_out_and_leaves_alone(self, tmp_path):
        first = run("migrate", "-w", str(tmp_path / "new"), "--json")
        assert first.exit_code == 0, first.output
        made = json.loads(first.stdout)
        assert not made["before"]
        assert made["after"]
        again = json.loads(run("migrate", "-w", str(tmp_path / "new"), "--json").stdout)
        assert again == {"before": made["after"], "after": made["after"]}

    def test_a_wrong_setting_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setenv("BIHUAN_PORT", "eighty")
        with pytest.raises(commands.UserError, match="port"):
            commands.read_settings(tmp_path)


class TestDoctor:
    def test_ends_with_0_on_health(self, house):
        found = run("doctor", "-w", str(house), "--json")
        assert found.exit_code == 0, found.output
        told = json.loads(found.stdout)
        assert told["ok"]
        assert {"control_database", "audit", "keys", "lake"} <= {
            f["name"] for f in told["findings"]
        }

    def test_ends_with_1_on_a_defect_and_says_what_to_do(self, house):
        (house / "keys" / "data.json").chmod(0o644)
        found = run("doctor", "-w", str(house), "--json")
        assert found.exit_code == 1
        [wrong] = [f for f in json.loads(found.stdout)["findings"] if not f["ok"]]
        assert "chmod 600" in wrong["remedy_en"]
        assert "chmod 600" in wrong["remedy_zh"]

    def test_people_read_marks(self, house):
        (house / "keys" / "data.json").chmod(0o644)
        found = run("doctor", "-w", str(house))
        assert found.exit_code == 1
        assert found.output.startswith("✗")
        (house / "keys" / "data.json").chmod(0o600)
        assert run("doctor", "-w", str(house)).output.startswith("✓")
