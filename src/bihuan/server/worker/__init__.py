"""The worker: a process that runs jobs and schedules, and takes over from those that died.

In come queued jobs and due schedules of the control database; out go results, through a fence that
refuses whoever lost its claim.
"""

from bihuan.server.worker.measure import JobMeasures
from bihuan.server.worker.runner import run_worker

__all__ = ["run_worker", "JobMeasures"]
