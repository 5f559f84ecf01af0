"""Counts and times of job runs, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class JobMeasures:
    """How the runs of one worker ended, and how long they took.

    ``state`` is ``succeeded``, ``failed``, ``cancelled``, ``released`` (given back at a stop) or
    ``lost`` (another worker has the job).

    Parameters
    ----------
    registry
        Where they are kept; None: a new one. A server that works too shows them as its own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._runs = Counter(
            "bihuan_job_runs", "Runs of jobs that ended.", ("kind", "state"), registry=self.registry
        )
        self._seconds = Histogram(
            "bihuan_job_run_seconds",
            "Seconds from claim to end.",
            ("kind",),
            registry=self.registry,
            buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 7200),
        )

    def count(self, kind: str, state: str, seconds: float) -> None:
        """Count one run."""
        self._runs.labels(kind, state).inc()
        self._seconds.labels(kind).observe(seconds)
