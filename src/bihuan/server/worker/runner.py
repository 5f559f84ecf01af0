"""A worker: claims jobs, runs them in threads, lives by its beat, buries the silent."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from opentelemetry import trace

from bihuan.kernel import Cancelled
from bihuan.server.app import job as jobs
from bihuan.server.app.service import Service, UnitOfWork
from bihuan.server.app.tidy import remove_past
from bihuan.server.worker.durable import Durable, memory_url
from bihuan.server.worker.measure import JobMeasures
from bihuan.server.worker.watch import Watch

T = TypeVar("T")
Ending: TypeAlias = Callable[[UnitOfWork], None]
log = logging.getLogger("bihuan.worker")

PULSE_SECONDS = 0.4
"""How often progress is written and the wish to cancel is read: cancelled within two seconds."""
LOOK_SECONDS = 0.25
"""How often a worker with a free thread looks for jobs, and for schedules that are due."""

TIDY_SECONDS = 3600.0
"""How often what is past its time is removed; also once at the start."""


@dataclass
class _Running:
    claimed: jobs.Claimed
    fence: jobs.Fence
    reins: jobs.Reins
    progress: jobs.JobProgress


class Runner:
    """One worker of this process.

    Parameters
    ----------
    service
        The running service.
    durable
        The memory of finished steps.
    stop
        Set to stop: nothing more is claimed, what runs gets time to finish.
    grace_seconds
        How much time.
    measures
        Where runs are counted.
    """

    def __init__(
        self,
        service: Service,
        durable: Durable,
        stop: threading.Event,
        grace_seconds: float,
        measures: JobMeasures,
    ) -> None:
        settings = service.settings
        self._service = service
        self._durable = durable
        self._stop = stop
        self._grace = grace_seconds
        self._measures = measures
        self._tracer = trace.get_tracer("bihuan.worker")
        self._lease = settings.worker_lease_seconds
        self._threads = settings.worker_threads
        self._running: dict[str, _Running] = {}
        self._unknown: set[str] = set()
        self._over = threading.Event()
        self._worker_id = ""
        self._watch = Watch(self._lease)
        self._beaten_at = time.monotonic()
        self._tidy_at = 0.0

    def run(self) -> None:
        """Work until told to stop."""
        self._register()
        self._guarded("forget", self._forget_ended)
        pulse = threading.Thread(target=self._pulse_loop, name="bihuan-worker-pulse", daemon=True)
        pulse.start()
        with ThreadPoolExecutor(self._threads, "bihuan-job") as pool:
            while not self._stop.wait(LOOK_SECONDS):
                self._guarded("schedules", self._fire_due)
                self._guarded("tidy", self._tidy)
                self._guarded("claim", lambda: self._claim_free(pool))
            self._stop_running()
        self._over.set()
        pulse.join()
        self._guarded("farewell", lambda: self._write(jobs.end_worker, self._worker_id))
        log.info("worker %s stopped", self._worker_id)

    # living

    def is_alive(self) -> bool:
        """Tell whether this worker was heard within its lease, by its own steady clock."""
        return time.monotonic() - self._beaten_at < self._lease

    def _register(self) -> None:
        self._worker_id = self._write(
            jobs.register_worker, host=socket.gethostname(), pid=os.getpid(), threads=self._threads
        )
        self._beaten_at = time.monotonic()
        log.info("worker %s started", self._worker_id)

    def _pulse_loop(self) -> None:
        beat_every = self._service.settings.worker_heartbeat_seconds
        due = 0.0
        while not self._over.wait(min(PULSE_SECONDS, beat_every)):
            if time.monotonic() >= due:
                due = time.monotonic() + beat_every
                self._guarded("heartbeat", self._beat)
                self._guarded("watch", self._bury_silent)
            self._guarded("progress", self._pulse)

    def _beat(self) -> None:
        asked_at = time.monotonic()
        if self._write(jobs.beat, self._worker_id):
            self._beaten_at = asked_at
            return
        log.warning("worker %s was taken for dead; it begins anew", self._worker_id)
        for running in list(self._running.values()):
            running.reins.pull("stale")
        self._register()

    def _bury_silent(self) -> None:
        with self._service.system_work(read_only=True) as work:
            alive = jobs.living(work)
        alive.pop(self._worker_id, None)
        for worker_id, count in self._watch.silent(alive, time.monotonic()):
            taken = self._write(jobs.bury, worker_id, count)
            log.warning("worker %s is silent; its jobs %s wait again", worker_id, taken)

    def _pulse(self) -> None:
        """Write what has changed, read who wishes to cancel, return what nobody here runs."""
        with self._service.system_work(read_only=True) as work:
            held = jobs.held_by(work, self._worker_id)
        for running in list(self._running.values()):
            epoch, wished = held.get(running.claimed.job_id, (0, False))
            if wished:
                running.reins.pull("cancel")
            if epoch == running.claimed.epoch:
                self._write_progress(running)
        unknown = set(held) - set(self._running)
        for job_id in unknown & self._unknown:  # twice: not one that is just being claimed
            lost = jobs.Fence(job_id, self._worker_id, held[job_id][0], self._lease)
            self._write(jobs.release, lost)
        self._unknown = unknown

    def _write_progress(self, running: _Running) -> None:
        taken = running.progress.take()
        if taken is None:
            return
        try:
            self._write(jobs.write_progress, running.fence, *taken)
        except jobs.StaleWorkerError:
            running.reins.pull("stale")
        except Exception:
            running.progress.put_back(taken[1])
            raise

    # working

    def _tidy(self) -> None:
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_SECONDS
            self._write(remove_past, self._service.settings)

    def _fire_due(self) -> None:
        with self._service.system_work(read_only=True) as work:
            now = jobs.database_now(work)
            due = jobs.due_schedules(work, now)
        for schedule_id in due:
            self._guarded(f"schedule {schedule_id}", lambda sid=schedule_id: self._fire(sid))  # type: ignore[misc]

    def _fire(self, schedule_id: str) -> None:
        with self._service.system_work() as work:
            jobs.fire(work, schedule_id, jobs.database_now(work))

    def _claim_free(self, pool: ThreadPoolExecutor) -> None:
        kinds = [kind.name for kind in jobs.list_kinds()]
        while len(self._running) < self._threads and self.is_alive() and not self._stop.is_set():
            with self._service.system_work(read_only=True) as work:
                if not jobs.has_waiting(work, kinds):
                    return
            claimed = self._write(jobs.claim, self._worker_id, kinds)
            if claimed is None:
                return
            running = self._take_up(claimed)
            self._running[claimed.job_id] = running
            pool.submit(self._run_one, running)

    def _take_up(self, claimed: jobs.Claimed) -> _Running:
        fence = jobs.Fence(claimed.job_id, self._worker_id, claimed.epoch, self._lease)
        reins = jobs.Reins(claimed.job_id, self.is_alive)
        steps = jobs.get_kind(claimed.kind).steps
        return _Running(claimed, fence, reins, jobs.JobProgress(reins, steps))

    def _run_one(self, running: _Running) -> None:
        claimed = running.claimed
        log.info("job %s (%s) claim %d", claimed.job_id, claimed.kind, claimed.epoch)
        started, state = time.perf_counter(), "lost"
        kind, job_id = claimed.kind, claimed.job_id
        try:
            with self._tracer.start_as_current_span(f"job {kind}") as span:
                span.set_attributes({"job.id": job_id, "job.epoch": claimed.epoch})
                try:
                    state, ending = self._do(running)
                    self._insist(running, ending)
                except jobs.StaleWorkerError:
                    state = "lost"
                    log.warning("job %s claim %d is another's now", claimed.job_id, claimed.epoch)
                finally:
                    span.set_attribute("job.state", state)
        finally:
            seconds = time.perf_counter() - started
            self._measures.count(kind, state, seconds)
            log.info("job %s (%s) %s after %.1f s", job_id, kind, state, seconds)
            self._running.pop(job_id, None)

    def _do(self, running: _Running) -> tuple[str, Ending]:
        """Do the job; return how it ended, and what writes that."""
        claimed, fence = running.claimed, running.fence
        kind = jobs.get_kind(claimed.kind)

        def call(step: jobs.StepRunner) -> dict[str, object]:
            context = jobs.JobContext(self._service, claimed, kind, fence, running.progress, step)
            _ = context.actor  # whoever may no longer do it is told before anything is done
            return dict(kind.run(context, kind.read(claimed.arguments)))

        try:
            result = self._durable.run(claimed.job_id, claimed.epoch, call)
        except Exception as error:  # noqa: BLE001 - whatever a job raises ends the job only
            return self._ending(running, error)
        return "succeeded", lambda work: jobs.succeed(work, fence, result)

    def _ending(self, running: _Running, error: Exception) -> tuple[str, Ending]:
        fence, reason = running.fence, running.reins.reason
        if reason == "stale" or isinstance(error, jobs.StaleWorkerError):
            raise jobs.StaleWorkerError(str(error)) from error
        if reason == "release" and isinstance(error, Cancelled):
            return "released", lambda work: jobs.release(work, fence)
        if reason == "cancel" and isinstance(error, Cancelled):
            return "cancelled", lambda work: jobs.stop_cancelled(work, fence)
        log.warning("job %s failed", running.claimed.job_id, exc_info=error)
        return "failed", lambda work: jobs.fail(work, fence, error)

    def _insist(self, running: _Running, ending: Ending) -> None:
        """Write the end of a job, again and again while the database is away."""
        while True:
            try:
                taken = running.progress.take()
                with self._service.system_work() as work:
                    if taken is not None:
                        jobs.write_progress(work, running.fence, *taken)
                    ending(work)
            except jobs.StaleWorkerError:
                raise
            except Exception:  # noqa: BLE001 - the result must not be lost to a busy database
                log.warning("job %s: its end is not written yet", running.claimed.job_id)
                if not self.is_alive() or self._over.wait(PULSE_SECONDS):
                    return
            else:
                break
        if running.reins.reason != "release":
            claim = running.claimed
            self._guarded("forget", lambda: self._durable.forget(claim.job_id, claim.epoch))

    def _stop_running(self) -> None:
        deadline = time.monotonic() + self._grace
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)
        for running in list(self._running.values()):
            running.reins.pull("release")

    def _forget_ended(self) -> None:
        """Forget the steps of jobs that ended without this: cancelled or failed at a burial."""
        known = self._durable.list_jobs()
        with self._service.system_work(read_only=True) as work:
            ended = jobs.ended_among(work, list(known))
        for job_id in ended:
            self._durable.forget(job_id, known[job_id])

    def _write(self, call: Callable[..., T], *arguments: object, **named: object) -> T:
        with self._service.system_work() as work:
            return call(work, *arguments, **named)

    def _guarded(self, what: str, call: Callable[[], object]) -> None:
        """Run a part of the routine; a worker outlives whatever the database does."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - tried again at the next turn
            log.warning("worker %s: %s: %s", self._worker_id, what, error)


def run_worker(
    service: Service,
    *,
    stop: threading.Event,
    grace_seconds: float = 10.0,
    measures: JobMeasures | None = None,
) -> None:
    """Run jobs and schedules in this process until ``stop`` is set.

    Parameters
    ----------
    service
        The running service; ``settings.worker_threads`` jobs run at once.
    stop
        Set it to stop. Running jobs get ``grace_seconds`` to finish, then are asked to stop at
        their next step and go back to the queue; finished steps are not done again.
    grace_seconds
        0 or more.
    measures
        Where runs are counted; None: in a place of their own.

    Raises
    ------
    DefectError
        If a worker already runs in this process.
    """
    settings = service.settings
    url = memory_url(settings.database_url, settings.workspace)
    name = f"{socket.gethostname()}-{os.getpid()}"
    with Durable.launched(url, name, threads=settings.worker_threads) as durable:
        Runner(service, durable, stop, grace_seconds, measures or JobMeasures()).run()
