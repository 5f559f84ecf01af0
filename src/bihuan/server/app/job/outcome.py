"""What a worker writes for its job: progress on the way, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bihuan.kernel import BihuanError, UserError
from bihuan.server.app.job.claim import requeue
from bihuan.server.app.job.fence import Fence
from bihuan.server.app.job.submit import end
from bihuan.server.app.job.track import MAX_LINES
from bihuan.server.control import UnitOfWork

UNEXPECTED = {
    "message": "The job broke off by an error of ours.",
    "remedy": "Look for the job's id in the worker's log and report it.",
    "zh": "作业因程序内部错误中断，请在执行节点日志中按作业编号查找并反馈。",
}


def write_progress(
    work: UnitOfWork, fence: Fence, progress: Mapping[str, Any], lines: list[dict[str, str]]
) -> bool:
    """Write progress and log lines; return whether the job is to be cancelled.

    Raises
    ------
    StaleWorkerError
        If the job is no longer this worker's; so for all functions here.
    """
    job = fence.check(work)
    if progress:
        job.progress = plain(progress)
    if lines:
        job.log = [*job.log, *lines][-MAX_LINES:]
    return job.cancel_requested


def succeed(work: UnitOfWork, fence: Fence, result: Mapping[str, Any]) -> None:
    """End a job well."""
    job = fence.check(work)
    job.result = plain(result)
    job.progress = {**job.progress, "percent": 100.0}
    end(job, "succeeded", work)


def fail(work: UnitOfWork, fence: Fence, error: BaseException) -> None:
    """End a job that could not be done; says what its owner can do."""
    job = fence.check(work)
    job.error = told(error)
    end(job, "failed", work)


def stop_cancelled(work: UnitOfWork, fence: Fence) -> None:
    """End a job that its owner no longer wants."""
    end(fence.check(work), "cancelled", work)


def release(work: UnitOfWork, fence: Fence) -> None:
    """Put a job back that its worker cannot finish; counts as no attempt."""
    requeue(work, fence.check(work))


def plain(value: Any) -> Any:
    """Return a result as JSON of either database holds it: what is no number is null."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    return value if value is None or isinstance(value, (bool, int)) else str(value)


def told(error: BaseException) -> dict[str, str]:
    """Return an error as it is shown; what was not meant for users is not shown to them."""
    if isinstance(error, UserError):
        return {"message": error.message, "remedy": error.remedy, "zh": error.zh or str(error)}
    if isinstance(error, BihuanError):
        return {**UNEXPECTED, "message": f"{UNEXPECTED['message']} {error}"[:500]}
    return {**UNEXPECTED, "message": f"{UNEXPECTED['message']} ({type(error).__name__})"}
