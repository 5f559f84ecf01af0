"""Answer on one port, from one process or several side by side."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType

import structlog
import uvicorn
from prometheus_client import values
from starlette.types import ASGIApp

from bihuan.kernel import UserError, core_count
from bihuan.server.api.frame.observe import MEASURES
from bihuan.server.settings import Settings

log = structlog.get_logger("bihuan.serving")

MOST_BY_DEFAULT = 4
_SHARES_PORTS = sys.platform == "linux"
_LIFE_SECONDS = 10.0


def processes_of(settings: Settings) -> int:
    """Return how many processes are to answer: as told, else one per core up to four."""
    if not _SHARES_PORTS:
        return 1  # elsewhere a shared port gives every caller to one of them
    return settings.processes or min(core_count(), MOST_BY_DEFAULT)


def listen(settings: Settings, *, is_shared: bool) -> socket.socket:
    """Return a socket that listens on the port of ``settings``.

    Parameters
    ----------
    settings
        ``host`` and ``port``; port 0 takes a free one.
    is_shared
        Whether further processes will listen on the same port; the system deals callers out.

    Raises
    ------
    UserError
        If the port is taken.
    """
    if is_shared and settings.port:
        _bound(settings).close()  # a shared port would not tell that somebody else has it
    return _listening(_bound(settings, is_shared=is_shared))


def listen_beside(settings: Settings) -> socket.socket:
    """Return a socket that listens on a shared port, beside the one that first did."""
    return _listening(_bound(settings, is_shared=True))


def _listening(listener: socket.socket) -> socket.socket:
    listener.listen(2048)  # before the address is told, so that nobody is refused
    return listener


def _bound(settings: Settings, *, is_shared: bool = False) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # connections inherit it; asyncio sets it itself only where the protocol is spelt out, and
    # without it every answer waits 40 ms for the acknowledgement of its head
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((settings.host, settings.port))
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


def answer(api: ASGIApp, listener: socket.socket) -> None:
    """Answer what comes in until SIGTERM or SIGINT, or until the process that began this ends."""
    config = uvicorn.Config(
        api,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a proxy keeps its own side open
    )
    server = uvicorn.Server(config)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            server.should_exit = True

        threading.Thread(target=follow, name="follow", daemon=True).start()
    with _signals_to(server):
        server.run(sockets=[listener])


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


@contextmanager
def shared_measures() -> Iterator[None]:
    """Keep measures where all processes side by side find them; before any measure is made."""
    folder = tempfile.mkdtemp(prefix="bihuan-measures-")
    os.environ[MEASURES] = folder
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        os.environ.pop(MEASURES, None)
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
        shutil.rmtree(folder, ignore_errors=True)


class Siblings:
    """Further processes that answer on the same port; one that dies is followed by another.

    They end when told, and when this process ends in whatever way.

    Parameters
    ----------
    serve
        What a process does; a function of a module, called with ``settings`` in a fresh process.
    settings
        What the service was told, with the port in use.
    count
        How many, 0 or more.
    """

    def __init__(self, serve: Callable[[Settings], None], settings: Settings, count: int) -> None:
        self._serve, self._settings = serve, settings
        self._stop = threading.Event()
        self._running: list[tuple[BaseProcess, float]] = []
        self._watch = threading.Thread(target=self._keep, args=(count,), name="siblings")

    def __enter__(self) -> Siblings:
        """Start them, and watch over them in a thread."""
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End them, and wait until they are gone."""
        self._stop.set()
        self._watch.join()
        for process, _ in self._running:
            process.terminate()
        for process, _ in self._running:
            process.join(timeout=30)
            process.kill()

    def _keep(self, count: int) -> None:
        for _ in range(count):
            self._start()
        while not self._stop.is_set():
            gone = wait([process.sentinel for process, _ in self._running], timeout=0.5)
            for process, since in list(self._running):
                if process.sentinel in gone and not self._stop.is_set():
                    process.join()
                    log.error("process ended", pid=process.pid, exit_code=process.exitcode)
                    self._running.remove((process, since))
                    if time.monotonic() - since < _LIFE_SECONDS:
                        self._stop.wait(_LIFE_SECONDS)  # do not spin on what cannot start
                    self._start()

    def _start(self) -> None:
        process = _FRESH.Process(target=self._serve, args=(self._settings,), daemon=True)
        process.start()
        self._running.append((process, time.monotonic()))


_FRESH = multiprocessing.get_context("spawn")
"""Databases, threads and locks do not survive a fork."""
