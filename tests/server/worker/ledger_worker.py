"""A process that forks real workers on demand; each runs jobs that leave a trace of every step.

Started by :class:`Zygote`; imports once, then forks, so that a test can kill many workers quickly.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from pydantic import Field

import bihuan.server.app.work_kinds
import bihuan.server.worker.runner  # noqa: F401 - imported before the fork
from bihuan.server.app import job as jobs
from bihuan.server.control import UnitOfWork
from bihuan.server.node import open_service
from bihuan.server.settings import Settings
from bihuan.server.worker import run_worker


class Steps(jobs.Arguments):
    folder: str
    steps: int = Field(1, ge=1)
    seconds: float = 0.0


class Gate(jobs.Arguments):
    folder: str


def trace(folder: str, **line: Any) -> None:
    """Append a line that survives a kill of this process."""
    text = json.dumps(line | {"pid": os.getpid()}) + "\n"
    handle = os.open(Path(folder) / "trace.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, text.encode())
    os.close(handle)


def run_ledger(context: jobs.JobContext, arguments: Steps) -> dict[str, Any]:
    job, epoch = context.job_id, context.fence.epoch
    for number in range(arguments.steps):

        def work_a_while(number: int = number) -> int:
            trace(arguments.folder, job=job, step=number, epoch=epoch)
            with context.progress.task("ledger", total=5) as task:
                for _ in range(5):
                    time.sleep(arguments.seconds / 5)
                    task.advance()
            return number

        def count(work: UnitOfWork, number: int = number) -> dict[str, Any]:
            work.audit("ledger.effect", "job", job, step=number, epoch=epoch)
            return {"step": number}

        context.step(f"step-{number}", {"zh": "步骤", "en": "step"}, work_a_while)
        context.effect(f"effect-{number}", count)
    return {"epoch": epoch}


def run_gate(context: jobs.JobContext, arguments: Gate) -> dict[str, Any]:
    """Wait at a gate without a word, then write past everything but the fence."""
    folder, epoch = Path(arguments.folder), context.fence.epoch
    trace(arguments.folder, at="gate", epoch=epoch)
    while not (folder / "open").exists():
        time.sleep(0.02)
    with context.service.system_work() as work:
        context.fence.check(work)
        work.audit("ledger.effect", "job", context.job_id, step=0, epoch=epoch)
    return {"epoch": epoch}


def break_something(defect: str) -> None:
    """Build the worker that the tests must catch."""
    if defect == "no_fence":
        jobs.Fence.check = _unchecked  # type: ignore[method-assign]
        jobs.Reins.check = lambda self: None  # type: ignore[method-assign]


def _unchecked(self: jobs.Fence, work: UnitOfWork) -> Any:
    return jobs.get_job(work, self.job_id)


def run_child(settings: Settings, log: Path) -> None:
    logging.basicConfig(filename=log, level=logging.INFO, format="%(process)d %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run_worker(open_service(settings), stop=stop, grace_seconds=0.5)


def main() -> None:
    for kind in (
        jobs.Kind(
            "ledger", {"zh": "账", "en": "ledger"}, "job.run", Steps, run_ledger, attempts=99
        ),
        jobs.Kind("gate", {"zh": "门", "en": "gate"}, "job.run", Gate, run_gate),
    ):
        jobs.register(kind)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                plain = json.loads(line)
                break_something(plain.pop("defect", ""))
                settings = Settings(**plain)
                run_child(settings, settings.workspace.with_suffix(".log"))
            except Exception:  # noqa: BLE001 - a test must see why its worker ended
                traceback.print_exc()
            finally:
                os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
