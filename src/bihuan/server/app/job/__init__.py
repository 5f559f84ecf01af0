"""Durable jobs and schedules: submitted with the change that wants them, run once, taken over.

In come a kind and its arguments in the caller's transaction, or a cron expression; out go job rows
with progress, log, result or an error that says what to do. Workers claim them; a claim is an
epoch, and every write for a job is conditional on it.
"""

from bihuan.server.app.job.claim import (
    Claimed,
    beat,
    bury,
    claim,
    database_now,
    end_worker,
    ended_among,
    has_waiting,
    held_by,
    list_workers,
    living,
    register_worker,
)
from bihuan.server.app.job.context import JobContext, OwnerGoneError, StepRunner
from bihuan.server.app.job.cron import Cron, CronError
from bihuan.server.app.job.due import due_schedules, fire
from bihuan.server.app.job.fence import Fence, ReleasedError, StaleWorkerError
from bihuan.server.app.job.kind import (
    Arguments,
    ArgumentsError,
    Kind,
    UnknownKindError,
    find_kind,
    get_kind,
    list_kinds,
    register,
)
from bihuan.server.app.job.outcome import fail, release, stop_cancelled, succeed, write_progress
from bihuan.server.app.job.queue import Queue, look_at_queue
from bihuan.server.app.job.schedule import (
    ScheduleError,
    Wish,
    change,
    find_schedules,
    get_schedule,
    list_fires,
    pause,
    remove,
    resume,
    set_up,
    trigger,
)
from bihuan.server.app.job.submit import (
    FINISHED,
    DedupeError,
    cancel,
    find_jobs,
    get_job,
    state_counts,
    submit,
)
from bihuan.server.app.job.track import JobProgress, Reins

__all__ = [
    "submit",
    "get_job",
    "find_jobs",
    "cancel",
    "state_counts",
    "look_at_queue",
    "Queue",
    "FINISHED",
    "DedupeError",
    "Kind",
    "Arguments",
    "register",
    "find_kind",
    "get_kind",
    "list_kinds",
    "UnknownKindError",
    "ArgumentsError",
    "JobContext",
    "StepRunner",
    "OwnerGoneError",
    "JobProgress",
    "Reins",
    "Fence",
    "StaleWorkerError",
    "ReleasedError",
    "Claimed",
    "claim",
    "has_waiting",
    "held_by",
    "register_worker",
    "beat",
    "living",
    "bury",
    "end_worker",
    "ended_among",
    "list_workers",
    "database_now",
    "write_progress",
    "succeed",
    "fail",
    "stop_cancelled",
    "release",
    "Wish",
    "set_up",
    "change",
    "pause",
    "resume",
    "trigger",
    "remove",
    "get_schedule",
    "find_schedules",
    "list_fires",
    "ScheduleError",
    "due_schedules",
    "fire",
    "Cron",
    "CronError",
]
