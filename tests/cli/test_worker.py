"""``bihuan worker`` as a person runs it: starts, works, stops in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bihuan.cli.worker import stop_of_signals
from bihuan.server.node import bring_up_to_date
from bihuan.server.settings import Settings

RUN = "from bihuan.cli.main import main; main()"


@pytest.mark.slow
class TestWorker:
    def start(self, folder: Path, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, "worker", "-w", str(folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=os.environ | {"BIHUAN_LANG": "en", "PYTHONUNBUFFERED": "1"},
        )

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stops_in_good_order(self, tmp_path, number):
        bring_up_to_date(Settings(workspace=tmp_path / "ws"))
        with self.start(tmp_path / "ws", "--threads", "3", "--grace", "0") as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "started" in line:
                    break
            process.send_signal(number)
            rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0, rest
        assert "The worker has stopped." in rest
        assert "Traceback" not in rest

    def test_a_wrong_setting_is_named(self, tmp_path):
        with self.start(tmp_path / "ws", "--threads", "1000") as process:
            said, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "worker_threads" in said


class TestSignals:
    def test_the_first_asks_the_second_ends(self):
        before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            stop = stop_of_signals()
            assert isinstance(stop, threading.Event)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.is_set()
            with pytest.raises(SystemExit) as ended:
                os.kill(os.getpid(), signal.SIGTERM)
            assert ended.value.code == 128 + signal.SIGTERM
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
