"""How a running job is seen and held: its progress, its log, and the reins that stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from bihuan.kernel import Cancelled
from bihuan.server.app.job.fence import ReleasedError, StaleWorkerError, stale

Reason = Literal["cancel", "release", "stale"]
MAX_LINES = 200
MAX_TEXT = 500

STAGES: Mapping[str, str] = {
    "ingest": "导入", "inspect": "检查", "fetch": "读取", "derive": "生成标签", "index": "建索引",
    "draw customers": "生成客户", "simulate": "模拟", "rehearse": "预演", "lists": "写名单",
    "learn models": "建模", "deploy": "部署",
}  # fmt: skip
"""The rooms' names for their stages, in Chinese."""


class Reins:
    """Holds a running job from outside its thread.

    Parameters
    ----------
    job_id
        The job.
    is_alive
        Tells whether its worker has been heard within its lease; a worker that was stopped for
        longer finds itself too old before it looks at the database.
    """

    def __init__(self, job_id: str, is_alive: Callable[[], bool] = lambda: True) -> None:
        self.job_id = job_id
        self._is_alive = is_alive
        self._reason: Reason | None = None

    @property
    def reason(self) -> Reason | None:
        """Why the job is to stop; None while it may go on."""
        return self._reason

    def pull(self, reason: Reason) -> None:
        """Ask the job to stop at its next step; that it is stale outweighs the others."""
        if self._reason is None or reason == "stale":
            self._reason = reason

    def check(self) -> None:
        """Raise if the job is to stop.

        Raises
        ------
        Cancelled
            As a person asked.
        ReleasedError
            As the worker stops.
        StaleWorkerError
            As the job is another worker's.
        """
        if not self._is_alive():
            self.pull("stale")
        error = self._error()
        if error is not None:
            raise error

    def _error(self) -> Cancelled | None:
        if self._reason == "stale":
            return stale(self.job_id)
        if self._reason == "release":
            return ReleasedError(
                "The worker is stopping; the job waits for the next one.",
                zh="执行节点正在停止，作业将由下一个节点继续。",
            )
        if self._reason == "cancel":
            return Cancelled(
                "The job was cancelled; nothing of what it had not finished was published.",
                remedy="Submit it again to start over.",
                zh="作业已取消，未完成的部分没有发布。如需继续请重新提交。",
            )
        return None


@dataclass
class _Stage:
    label: str
    total: float | None
    unit: str
    done: float = 0.0


@dataclass
class JobProgress:
    """Progress of a job, kept in memory; its worker writes it down about twice a second.

    Parameters
    ----------
    reins
        Listened to at every step.
    steps
        Into how many steps the job is divided.
    """

    reins: Reins
    steps: int = 1
    _step: int = 0
    _title: dict[str, str] = field(default_factory=dict)
    _stages: list[_Stage] = field(default_factory=list)
    _last: _Stage | None = None
    _lines: list[dict[str, str]] = field(default_factory=list)
    _changed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "") -> Iterator[_Task]:
        """Open a piece of work; the innermost open one is shown."""
        stage = _Stage(label, total, unit)
        with self._lock:
            self._stages.append(stage)
            self._changed = True
        try:
            self.reins.check()
            yield _Task(self, stage)
        finally:
            with self._lock:
                self._stages.remove(stage)
                self._last, self._changed = stage, True

    def begin_step(self, title: Mapping[str, str]) -> None:
        """Show that the next step begins."""
        self.reins.check()
        with self._lock:
            self._step += 1
            self._title, self._last, self._changed = dict(title), None, True

    def say(self, zh: str, en: str, at: str) -> None:
        """Add a line to the log, at most 500 characters; the newest 200 are kept."""
        with self._lock:
            self._lines.append({"at": at, "zh": zh[:MAX_TEXT], "en": en[:MAX_TEXT]})
            self._changed = True

    def take(self) -> tuple[dict[str, Any], list[dict[str, str]]] | None:
        """Return what to write down, and the new lines; None if nothing has changed."""
        with self._lock:
            if not self._changed:
                return None
            lines, self._lines, self._changed = self._lines, [], False
            return self._shown(), lines

    def put_back(self, lines: list[dict[str, str]]) -> None:
        """Keep lines that could not be written for the next time."""
        with self._lock:
            self._lines = [*lines, *self._lines]
            self._changed = True

    def _shown(self) -> dict[str, Any]:
        stage = self._stages[-1] if self._stages else self._last
        share = min(stage.done / stage.total, 1.0) if stage and stage.total else 0.0
        steps = max(self.steps, self._step, 1)
        title = dict(self._title)
        if stage is not None:
            title = {"zh": _zh(stage.label), "en": stage.label}
        return {
            "stage": title,
            "done": None if stage is None else stage.done,
            "total": None if stage is None else stage.total,
            "unit": "" if stage is None else stage.unit,
            "step": self._step,
            "steps": steps,
            "percent": round(100 * (max(self._step - 1, 0) + share) / steps, 1),
        }


class _Task:
    def __init__(self, progress: JobProgress, stage: _Stage) -> None:
        self._progress = progress
        self._stage = stage

    def advance(self, amount: float = 1) -> None:
        with self._progress._lock:
            self._stage.done += amount
            self._progress._changed = True
        self._progress.reins.check()


def _zh(label: str) -> str:
    word, _, rest = label.partition(" ")
    return STAGES.get(label) or f"{STAGES.get(word, word)} {rest}".strip()


__all__ = ["JobProgress", "Reins", "ReleasedError", "StaleWorkerError"]
