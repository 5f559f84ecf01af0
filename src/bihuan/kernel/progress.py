"""Progress that any face can show (a bar, a page, nothing), and a way to stop long work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from bihuan.kernel.errors import Cancelled


class CancelToken:
    """A switch that another thread or a signal handler can throw."""

    def __init__(self) -> None:
        self._thrown = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        self._thrown.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the work was asked to stop."""
        return self._thrown.is_set()


class ProgressTask(Protocol):
    """One piece of work under way."""

    def advance(self, amount: float = 1) -> None:
        """Report ``amount`` more units done; raise :class:`Cancelled` if asked to stop."""
        ...


class Progress(Protocol):
    """Where long work reports; a room calls it at least once a second where it can.

    Examples
    --------
    >>> with SilentProgress().task("ingest", total=2, unit="files") as task:
    ...     task.advance()
    """

    def task(
        self, label: str, *, total: float | None = None, unit: str = ""
    ) -> AbstractContextManager[ProgressTask]:
        """Open a piece of work; ``total=None`` means that its size is not known."""
        ...


class SilentProgress:
    """Shows nothing, still stops when its token is thrown."""

    def __init__(self, token: CancelToken | None = None) -> None:
        self.token = token or CancelToken()

    @contextmanager
    def task(
        self,
        label: str,
        *,
        total: float | None = None,
        unit: str = "",
    ) -> Iterator[ProgressTask]:
        """Open a piece of work that is shown nowhere."""
        task = _SilentTask(self.token, label)
        task.advance(0)
        yield task


class _SilentTask:
    def __init__(self, token: CancelToken, label: str) -> None:
        self._token = token
        self._label = label

    def advance(self, amount: float = 1) -> None:
        del amount
        if self._token.is_cancelled:
            raise Cancelled(
                f"Stopped during '{self._label}'; nothing was published.",
                remedy="Run it again to start over.",
            )
