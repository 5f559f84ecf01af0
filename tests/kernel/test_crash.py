"""Named crash points: silent unless told, deadly when told, declared all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bihuan
from bihuan.kernel import DefectError
from bihuan.kernel.crash import COUNT_VARIABLE, CRASH_POINTS, VARIABLE, crash_point

NAME = "lake.head.before_switch"
SCRIPT = f"""
from bihuan.kernel.crash import crash_point
for time in range(3):
    print(time, flush=True)
    crash_point("{NAME}")
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


class TestCrashPoint:
    def test_does_nothing_untold(self):
        crash_point(NAME)
        crash_point("no such name")  # not even looked up: it costs nothing in service
        assert run().returncode == 0

    @pytest.mark.parametrize(("told", "seen"), [(NAME, "0\n"), (f"{NAME}:3", "0\n1\n2\n")])
    def test_kills_at_the_time_told(self, told, seen):
        done = run(**{VARIABLE: told})
        assert (done.returncode, done.stdout) == (-signal.SIGKILL, seen)

    def test_passes_others_by(self):
        assert run(**{VARIABLE: "lake.commit.locked"}).returncode == 0

    def test_counts_what_is_passed(self, tmp_path):
        run(**{COUNT_VARIABLE: str(tmp_path / "passed")})
        assert (tmp_path / "passed").read_text() == f"{NAME}\n" * 3

    def test_a_name_that_nobody_declared_is_a_defect(self, monkeypatch):
        monkeypatch.setenv(VARIABLE, NAME)
        with pytest.raises(DefectError, match="not declared"):
            crash_point("no such name")


def test_every_declared_name_stands_in_the_code_and_the_other_way():
    found: set[str] = set()
    for path in Path(bihuan.__file__).parent.rglob("*.py"):
        if path.name != "crash.py":
            text = path.read_text(encoding="utf-8")
            found |= set(re.findall(r'crash_point(?:\(|, )"([^"]+)"', text))
    assert found == set(CRASH_POINTS)
    assert len(found) >= 40
