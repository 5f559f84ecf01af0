"""DBOS behind a thin interface of ours: it remembers which steps of a job are finished."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbos import DBOS, Serializer, SetWorkflowID

from bihuan.kernel import DefectError

SCHEMA = "bihuan_jobs"
"""PostgreSQL: the schema of its tables, beside the control database's own."""
FILE = "jobs.db"
"""SQLite: its file, in the workspace."""
VERSION = "1"
"""Of our workflow function; its steps are recognised by name, so it seldom changes."""


class PlainSerializer(Serializer):
    """Steps are remembered as JSON: whoever can write the database cannot run code by it."""

    def name(self) -> str:
        """Return the name that is stored with every value."""
        return "bihuan_json"

    def serialize(self, data: Any) -> str:
        """Return ``data`` as JSON; an error as its name and words."""
        if isinstance(data, BaseException):
            data = {"error": type(data).__name__, "message": str(data)[:500]}
        return json.dumps(data, ensure_ascii=False)

    def deserialize(self, serialized_data: str) -> Any:
        """Return the stored value."""
        return json.loads(serialized_data)


@dataclass
class _Run:
    call: Callable[[Callable[[str, Callable[[], Any]], Any]], Any]
    earlier: dict[str, Any]
    names: set[str] = field(default_factory=set)

    def step(self, name: str, call: Callable[[], Any]) -> Any:
        """Run a step under DBOS, or take its outcome over from an earlier claim of the job."""
        if name in self.names:
            msg = f"two steps of a job are called '{name}'"
            raise DefectError(msg)
        self.names.add(name)
        if name in self.earlier:
            known = self.earlier[name]
            return DBOS.run_step({"name": name}, lambda: known)
        return DBOS.run_step({"name": name}, call)


_runs: dict[str, _Run] = {}
_one = threading.Lock()


@DBOS.workflow(name="bihuan.job")
def _job(workflow_id: str) -> Any:
    run = _runs[workflow_id]
    return run.call(run.step)


class Durable:
    """The memory of finished steps. One at a time in a process: DBOS is one for a process.

    A claim of a job is a workflow of its own, ``<job id>:<epoch>``. The next claim takes the
    outcomes of finished steps over from the earlier ones; a zombie goes on writing to the
    workflow of its own epoch, which nobody reads any more.
    """

    @staticmethod
    @contextmanager
    def launched(url: str, worker_id: str, *, threads: int) -> Iterator[Durable]:
        """Launch DBOS for the time of the block.

        Parameters
        ----------
        url
            Of the step memory; see :func:`memory_url`.
        worker_id
            Names this process in it.
        threads
            Jobs at once.

        Raises
        ------
        DefectError
            If a worker already runs in this process.
        """
        if not _one.acquire(blocking=False):
            raise DefectError("Two workers in one process: the step memory is one for a process.")
        try:
            _hush()
            DBOS(
                config={
                    "name": "bihuan",
                    "system_database_url": url,
                    "dbos_system_schema": SCHEMA,
                    "application_version": VERSION,
                    "executor_id": worker_id,
                    "serializer": PlainSerializer(),
                    "log_level": "CRITICAL",
                    "enable_otlp": False,
                    "use_listen_notify": False,
                    "sys_db_pool_size": threads + 3,
                    "scheduler_polling_interval_sec": 3600.0,
                }
            )
            DBOS.listen_queues([])  # nothing is queued there: our own claims decide who runs what
            DBOS.launch()
            yield Durable()
        finally:
            DBOS.destroy()
            _one.release()

    def run(
        self,
        job_id: str,
        epoch: int,
        call: Callable[[Callable[[str, Callable[[], Any]], Any]], Any],
    ) -> Any:
        """Run a job in this thread.

        Parameters
        ----------
        job_id, epoch
            The claim.
        call
            Does the job; given the runner of its steps. What it raises goes through.
        """
        workflow_id = _workflow_id(job_id, epoch)
        _runs[workflow_id] = _Run(call, self.finished_steps(job_id, epoch))
        try:
            with SetWorkflowID(workflow_id):
                return _job(workflow_id)
        finally:
            del _runs[workflow_id]

    def finished_steps(self, job_id: str, epoch: int) -> dict[str, Any]:
        """Return the outcomes of the steps that earlier claims of a job finished, by name."""
        found: dict[str, Any] = {}
        for earlier in _claims_before(job_id, epoch):
            for step in DBOS.list_workflow_steps(earlier):
                if step["error"] is None and not step["function_name"].startswith("DBOS."):
                    found[step["function_name"]] = step["output"]
        return found

    def forget(self, job_id: str, epoch: int) -> None:
        """Forget the steps of a job that has ended."""
        DBOS.delete_workflows([*_claims_before(job_id, epoch), _workflow_id(job_id, epoch)])

    def list_jobs(self) -> dict[str, int]:
        """Return every job that has steps here, with its newest epoch."""
        found: dict[str, int] = {}
        for workflow in DBOS.list_workflows(load_input=False, load_output=False):
            job_id, _, epoch = workflow.workflow_id.rpartition(":")
            found[job_id] = max(found.get(job_id, 0), int(epoch))
        return found


def memory_url(database_url: str, workspace: Path) -> str:
    """Return where the step memory is: beside the control database, in tables of its own.

    Examples
    --------
    >>> memory_url("postgresql://bihuan@db/bihuan", Path("var/demo"))
    'postgresql://bihuan@db/bihuan'
    >>> memory_url("sqlite:///var/demo/control.db", Path("/srv/demo"))
    'sqlite:////srv/demo/jobs.db'
    """
    if database_url.startswith("sqlite"):
        return f"sqlite:///{workspace.absolute() / FILE}"
    return database_url


def _workflow_id(job_id: str, epoch: int) -> str:
    return f"{job_id}:{epoch}"


def _claims_before(job_id: str, epoch: int) -> list[str]:
    return [_workflow_id(job_id, earlier) for earlier in range(1, epoch)]


def _hush() -> None:
    """Keep DBOS from talking on standard error: what users need, our own log says."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
