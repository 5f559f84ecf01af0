"""Serve a folder of reports on this machine until stopped."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bihuan.kernel import UserError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal for the address."""


def serve(folder: Path, page: str, *, port: int, say: Callable[[str, str], None]) -> None:
    """Serve ``folder`` on the loopback address, print the page's address, and stay.

    Parameters
    ----------
    folder
        What is served.
    page
        File name of the page whose address is printed.
    port
        0 takes any free one.
    say
        Tells a line in Chinese and English.

    Raises
    ------
    UserError
        If the port is taken.
    """
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(folder)))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise UserError(
            f"Port {port} is taken.",
            remedy="Choose another, e.g.  make demo PORT=8001.",
            zh=f"端口 {port} 已被占用，请换一个，例如 make demo PORT=8001。",
        ) from error
    with server:
        address = f"http://127.0.0.1:{server.server_port}/{page}"
        say(f"报告：{address}  （Ctrl-C 结束）", f"Report: {address}  (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("已结束。", "Done.")
