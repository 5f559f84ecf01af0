"""Put a running service together from its settings."""

from __future__ import annotations

import errno
import hmac
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
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
    import uvicorn
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
    import uvicorn

    from bihuan.server.api.application import create_app
    from bihuan.server.api.frame.telemetry import set_up_telemetry

    set_up_telemetry(settings, "serve")
    if not settings.database:
        bring_up_to_date(settings)
    service = open_service(settings)
    require_current(service.control.engine)
    listener = _listen(settings)
    port = listener.getsockname()[1]
    address = settings.public_url or f"http://{settings.host}:{port}/"
    stop = threading.Event()
    api = create_app(service)
    registry = api.state.measures.registry
    worker = threading.Thread(
        target=_work, args=(service, stop, registry), name="worker", daemon=True
    )
    if with_worker:
        worker.start()
    say(f"服务：{address}（Ctrl-C 结束）", f"Serving {address} (Ctrl-C ends)")
    config = uvicorn.Config(
        api,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a proxy keeps its own side open
    )
    server = uvicorn.Server(config)
    try:
        with _signals_to(server):
            server.run(sockets=[listener])
    finally:
        stop.set()
        if with_worker:
            worker.join(timeout=30)
        service.control.engine.dispose()


@contextmanager
def _signals_to(server: uvicorn.Server) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the server and nothing else.

    The server raises a signal again when it has shut down; by default that would end the process
    before the worker gave its jobs back.
    """

    def end(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread only
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(service: Service, stop: threading.Event, registry: CollectorRegistry) -> None:
    from bihuan.server.worker import JobMeasures, run_worker

    run_worker(service, stop=stop, measures=JobMeasures(registry))


def _listen(settings: Settings) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # connections inherit it; asyncio sets it itself only where the protocol is spelt out, and
    # without it every answer waits 40 ms for the acknowledgement of its head
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)  # before the address is told, so that nobody is refused
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise UserError(
            f"Port {settings.port} is taken.",
            remedy="Choose another with --port or BIHUAN_PORT.",
            zh=f"端口 {settings.port} 已被占用，请用 --port 或 BIHUAN_PORT 另选。",
        ) from error
    return listener
