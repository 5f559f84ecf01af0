"""Put a running service together from its settings."""

from __future__ import annotations

import gc
import hmac
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bihuan.kernel import Clock, Progress, SystemClock, UserError
from bihuan.server.app.doctor import Finding, examine
from bihuan.server.app.personal import prepare_keys
from bihuan.server.app.service import Service
from bihuan.server.control import (
    Control,
    Sealer,
    current_revision,
    migrate,
    open_engine,
    require_current,
    with_sealer,
)
from bihuan.server.settings import Settings
from bihuan.workspace import open_workspace

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

Say = Callable[[str, str], None]


def open_service(
    settings: Settings, *, clock: Clock | None = None, progress: Progress | None = None
) -> Service:
    """Return the parts of a service over ``settings.workspace``.

    Parameters
    ----------
    settings
        What the service was told.
    clock
        Tells the time; None: the machine's clock.
    progress
        Where the workspace's work is reported; None: nowhere.
    """
    clock = clock or SystemClock()
    workspace = open_workspace(settings.workspace, clock=clock, progress=progress)
    keys = prepare_keys(settings, workspace).audit  # every process marks what it audits
    engine = with_sealer(
        open_engine(settings.database_url, pool_size=settings.database_pool), Sealer(keys)
    )
    reply_key = hmac.digest(next(iter(keys.values())), b"kept replies", "sha256")
    return Service(settings, Control(engine, clock), workspace, clock, reply_key)


def diagnose(settings: Settings) -> list[Finding]:
    """Return what is wrong with a service; one that cannot even be opened is a finding."""
    try:
        service = open_service(settings)
    except UserError as error:
        text = error.zh or error.message
        return [Finding("service", False, text, error.message, text, error.remedy)]
    try:
        return examine(service)
    finally:
        service.control.engine.dispose()


def bring_up_to_date(settings: Settings) -> tuple[str, str]:
    """Bring the control database to the newest form; return the form before and after.

    Personal columns that lie in the lake in clear are sealed: nobody reads yet.
    """
    workspace = open_workspace(settings.workspace)
    prepare_keys(settings, workspace)
    workspace.protect()
    engine = open_engine(settings.database_url)
    before = current_revision(engine)
    migrate(engine)
    after = current_revision(engine)
    engine.dispose()
    return before, after


def run_server(settings: Settings, *, with_worker: bool, say: Say) -> None:
    """Serve until stopped; an embedded database is brought up to date first.

    Jobs run in this process; with several, the others only answer.

    Parameters
    ----------
    settings
        What the service was told.
    with_worker
        Run jobs in a thread of this process.
    say
        Tells a line in Chinese and English.

    Raises
    ------
    UserError
        If the port is taken, or a PostgreSQL database has another form.
    """
    from bihuan.server.api.frame.telemetry import set_up_telemetry
    from bihuan.server.serving import Siblings, listen, processes_of, shared_measures

    set_up_telemetry(settings, "serve")
    if not settings.database:
        bring_up_to_date(settings)
    count = processes_of(settings)
    with ExitStack() as open_things:
        if count > 1:
            open_things.enter_context(shared_measures())
        listener = listen(settings, is_shared=count > 1)
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        if count > 1:
            open_things.enter_context(Siblings(serve_beside, settings, count - 1))
        _serve(settings, listener, with_worker=with_worker, say=say)


def serve_beside(settings: Settings) -> None:
    """Answer on a port that another process of this machine listens on too; see ``Siblings``."""
    from bihuan.server.api.frame.telemetry import set_up_telemetry
    from bihuan.server.serving import listen_beside

    set_up_telemetry(settings, "serve")
    _serve(settings, listen_beside(settings), with_worker=False, say=None)


def _serve(
    settings: Settings, listener: socket.socket, *, with_worker: bool, say: Say | None
) -> None:
    from bihuan.server.api.application import create_app
    from bihuan.server.serving import answer

    service = open_service(settings)
    require_current(service.control.engine)
    stop = threading.Event()
    api = create_app(service)
    worker = threading.Thread(
        target=_work, args=(service, stop, api.state.measures.registry), name="worker", daemon=True
    )
    if with_worker:
        worker.start()
    if say is not None:
        address = settings.public_url or f"http://{settings.host}:{settings.port}/"
        say(f"服务：{address}（Ctrl-C 结束）", f"Serving {address} (Ctrl-C ends)")
    gc.freeze()  # what start-up made stays: the collector need not look at it again and again
    try:
        answer(api, listener)
    finally:
        stop.set()
        if with_worker:
            worker.join(timeout=30)
        service.control.engine.dispose()


def _work(service: Service, stop: threading.Event, registry: CollectorRegistry) -> None:
    from bihuan.server.worker import JobMeasures, run_worker

    run_worker(service, stop=stop, measures=JobMeasures(registry))
