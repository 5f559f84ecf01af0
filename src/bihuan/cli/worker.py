"""``bihuan worker``: a process that runs jobs and schedules."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Annotated

import typer

from bihuan.cli.app import HERE, Folder, app, new_screen
from bihuan.cli.service import read_settings


@app.command()
def worker(
    workspace: Folder = HERE,
    threads: Annotated[int, typer.Option(min=0, help="Jobs at once; 0: the setting. 并行数")] = 0,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that running jobs get at the end. 收尾秒数")
    ] = 10.0,
) -> None:
    """Run jobs and schedules until stopped. 运行作业与调度.

    Start as many as you like, on several machines with PostgreSQL. SIGTERM or Ctrl-C stops in good
    order: running jobs finish within --grace, or go back to the queue where they stand; a second
    one ends the process at once, and another worker takes over after the lease.

    Example: bihuan worker -w var/demo --threads 4
    """
    settings = read_settings(workspace, **({"worker_threads": threads} if threads else {}))
    screen = new_screen(as_json=False)
    from bihuan.server.api.frame.telemetry import set_up_telemetry
    from bihuan.server.control import require_current
    from bihuan.server.node import bring_up_to_date, open_service
    from bihuan.server.worker import run_worker

    set_up_telemetry(settings, "worker")
    if not settings.database:
        bring_up_to_date(settings)
    service = open_service(settings)
    require_current(service.control.engine)
    stop = stop_of_signals()
    screen.say(
        f"执行节点已启动：{settings.worker_threads} 个线程。按 Ctrl-C 停止。",
        f"The worker runs with {settings.worker_threads} threads. Ctrl-C stops it.",
    )
    try:
        run_worker(service, stop=stop, grace_seconds=grace)
    finally:
        service.control.engine.dispose()
    screen.say("执行节点已停止。", "The worker has stopped.")


def stop_of_signals() -> threading.Event:
    """Return a switch that SIGTERM or Ctrl-C throws; a second one ends the process at once."""
    stop = threading.Event()

    def throw(signum: int, frame: FrameType | None) -> None:
        del frame
        if stop.is_set():
            sys.exit(128 + signum)
        stop.set()

    signal.signal(signal.SIGTERM, throw)
    signal.signal(signal.SIGINT, throw)
    return stop
