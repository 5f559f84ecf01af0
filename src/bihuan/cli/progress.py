"""Progress as bars on the terminal's error stream; Ctrl-C stops at the next step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from bihuan.kernel import Cancelled, CancelToken, ProgressTask


class BarProgress:
    """Shows one bar per piece of work.

    Parameters
    ----------
    console
        Where the bars go; the error stream, so that standard output stays for results.
    token
        Stops the work.
    """

    def __init__(self, console: Console, token: CancelToken) -> None:
        self.token = token
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._open = 0

    @contextmanager
    def task(
        self, label: str, *, total: float | None = None, unit: str = ""
    ) -> Iterator[ProgressTask]:
        """Open a bar for the time of the block."""
        if self._open == 0:
            self._bars.start()
        self._open += 1
        bar = self._bars.add_task(label, total=total, unit=unit)
        try:
            yield _Bar(self._bars, bar, self.token, label)
        finally:
            self._bars.remove_task(bar)
            self._open -= 1
            if self._open == 0:
                self._bars.stop()


def token_of_interrupt() -> CancelToken:
    """Return a token that the first Ctrl-C throws; the second one ends the process at once."""
    token = CancelToken()

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if token.is_cancelled:
            raise KeyboardInterrupt
        token.cancel()

    signal.signal(signal.SIGINT, stop)
    return token


class _Bar:
    def __init__(self, bars: Progress, bar: TaskID, token: CancelToken, label: str) -> None:
        self._bars = bars
        self._bar = bar
        self._token = token
        self._label = label

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._bar, amount)
        if self._token.is_cancelled:
            raise Cancelled(
                f"Stopped during '{self._label}'; nothing of it was published.",
                remedy="Run the command again to start over.",
                zh=f"已在“{self._label}”时停止，未发布任何结果。重新运行命令即可。",
            )
