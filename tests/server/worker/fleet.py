"""Real worker processes that a test starts, stops and kills; and what must hold afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bihuan.server.app import job as jobs
from bihuan.server.app.job.submit import put
from bihuan.server.control import AuditEntry, Control, Job, Scope

from . import ledger_worker

SCRIPT = Path(ledger_worker.__file__)
PATIENCE = 90.0


class Zygote:
    """The process from which workers are forked: one for all tests, it imports but once."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def fork(self, settings: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(settings) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


class Fleet:
    """Workers over one control database.

    Parameters
    ----------
    zygote
        From which they are forked.
    database_url, workspace
        Theirs.
    **settings
        Further settings, and ``defect`` for a broken worker.
    """

    def __init__(self, zygote: Zygote, database_url: str, workspace: Path, **settings: Any) -> None:
        self.workspace = workspace
        self._zygote = zygote
        self._settings = {
            "workspace": str(workspace),
            "database": database_url,
            "worker_heartbeat_seconds": 0.2,
            "worker_lease_seconds": 1.5,
            "database_pool": 5,
            **settings,
        }
        self.pids: list[int] = []

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in list(self.pids):
            self.kill(pid)

    def start(self) -> int:
        pid = self._zygote.fork(self._settings)
        self.pids.append(pid)
        return pid

    def kill(self, pid: int) -> None:
        self.signal(pid, signal.SIGKILL)
        self.pids.remove(pid)

    def signal(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    @property
    def log(self) -> str:
        file = self.workspace.with_suffix(".log")
        return file.read_text(encoding="utf-8") if file.exists() else ""


@contextmanager
def seeing(control: Control) -> Iterator[Any]:
    with control.work(Scope.everything(), read_only=True) as work:
        yield work


def submit(control: Control, kind: str, **arguments: Any) -> str:
    """Submit a job of the system; the kinds are registered by the caller."""
    with control.work(Scope.everything()) as work:
        wanted = jobs.get_kind(kind)
        return put(work, wanted, arguments, owner_id="system", unit_id="province").job_id


def job_row(control: Control, job_id: str) -> Job:
    with seeing(control) as work:
        return jobs.get_job(work, job_id)


def wait_until(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until something is true; a test that waits in vain fails by saying for what."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"in vain: {what}")


def wait_ended(control: Control, *job_ids: str, seconds: float = PATIENCE) -> list[Job]:
    def ended() -> list[Job]:
        rows = [job_row(control, job_id) for job_id in job_ids]
        return rows if all(row.state in jobs.FINISHED for row in rows) else []

    found: list[Job] = wait_until(ended, seconds)
    return found


def effects(control: Control) -> Counter[tuple[str, int]]:
    """Count the side effects by job and step, from the audit chain."""
    with seeing(control) as work:
        rows = work.unscoped(
            sa.select(AuditEntry).where(AuditEntry.action == "ledger.effect"), "a test"
        ).scalars()
        return Counter((row.subject_id, row.detail["step"]) for row in rows)


def check_effects_once(control: Control, job_ids: list[str], steps: int) -> None:
    """Every step of every job had its effect exactly once."""
    assert effects(control) == Counter({(job, step): 1 for job in job_ids for step in range(steps)})


def read_trace(folder: Path) -> list[dict[str, Any]]:
    file = folder / "trace.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def check_not_repeated(folder: Path) -> int:
    """No step was begun again after a claim that had gone on to the next step.

    Returns
    -------
    int
        How many steps were begun more than once: in flight when their worker died.
    """
    begun: dict[tuple[str, int], list[int]] = defaultdict(list)
    for line in read_trace(folder):
        begun[line["job"], line["step"]].append(line["epoch"])
    for (job, step), epochs in begun.items():
        assert len(set(epochs)) == len(epochs), f"{job} {step}: twice in one claim"
        passed = begun.get((job, step + 1), [])
        if passed:
            assert max(epochs) <= min(passed), f"{job} {step}: done again after it was finished"
    return sum(len(epochs) > 1 for epochs in begun.values())
