"""What a running job works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from bihuan.data import Lake, Publication
from bihuan.kernel import Clock
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.identity import actor_of
from bihuan.server.app.job.claim import Claimed
from bihuan.server.app.job.fence import Fence
from bihuan.server.app.job.kind import Kind
from bihuan.server.app.job.submit import SYSTEM, require_reach
from bihuan.server.app.job.track import JobProgress
from bihuan.server.app.service import Service
from bihuan.server.control import UnitOfWork
from bihuan.workspace import Workspace, open_workspace

StepRunner: TypeAlias = Callable[[str, Callable[[], Any]], Any]
"""Runs a named step, or returns what it gave when it was finished before."""


def run_at_once(name: str, call: Callable[[], Any]) -> Any:
    """Run a step without remembering it."""
    del name
    return call()


class OwnerGoneError(RefusedError):
    """The account on whose behalf the job runs is closed."""


class FencedLake(Lake):
    """A lake into which a worker that lost its claim publishes nothing.

    Looked at when all is written and before it becomes visible. A worker that is stopped in the
    moment between still publishes what its successor publishes too: snapshots are named by their
    content, and the successor's are the newer ones.

    Parameters
    ----------
    root
        The lake's folder.
    require_claim
        Raises if the claim is lost.
    """

    def __init__(self, root: Path, require_claim: Callable[[], None]) -> None:
        super().__init__(root)
        self._require_claim = require_claim

    @contextmanager
    def publication(self, clock: Clock) -> Iterator[Publication]:
        """Collect new snapshots; see :meth:`Lake.publication`."""
        with super().publication(clock) as publication:
            yield publication
            self._require_claim()


@dataclass(frozen=True)
class JobContext:
    """A running job: where it works, where it reports, and what makes its writes count.

    Parameters
    ----------
    service
        The running service.
    claimed
        The job, as claimed.
    kind
        Of the job.
    fence
        Refuses writes once the job was taken away.
    progress
        Where long work reports; raises when it is to stop.
    run_step
        Remembers finished steps over the death of a worker.
    """

    service: Service
    claimed: Claimed
    kind: Kind
    fence: Fence
    progress: JobProgress
    run_step: StepRunner = field(default=run_at_once)

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return self.claimed.job_id

    @cached_property
    def actor(self) -> Actor | None:
        """The owner with its posts as they stand now; None for the system's own jobs.

        Raises
        ------
        OwnerGoneError, PermissionDeniedError, OutOfScopeError
            If the account is closed, or no longer may do what the job does.
        """
        if self.claimed.owner_id == SYSTEM:
            return None
        with self.service.system_work(read_only=True) as work:
            return owner_of(work, self.claimed.owner_id, self.kind, self.claimed.unit_id)

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace with its definitions as they stand now; its work reports here."""
        shared = self.service.workspace
        own = open_workspace(
            shared.layout.root,
            create=False,
            clock=self.service.clock,
            progress=self.progress,
            engine=shared.engine,
        )
        own.lake = FencedLake(own.layout.lake, self.require_claim)
        return own

    @cached_property
    def own_service(self) -> Service:
        """The service with the job's own workspace, for use cases that take a service."""
        return replace(self.service, workspace=self.workspace)

    def require_claim(self) -> None:
        """Go on only if the job is to go on and is still this worker's.

        Raises
        ------
        Cancelled, ReleasedError, StaleWorkerError
            If not.
        """
        self.progress.reins.check()
        with self.service.system_work() as work:
            self.fence.check(work)

    @contextmanager
    def work(self, *, read_only: bool = False) -> Iterator[UnitOfWork]:
        """Open a unit of work for the owner, in the scope of the kind's permission."""
        actor, request = self.actor, self.job_id
        opened = (
            self.service.system_work(request_id=request, read_only=read_only)
            if actor is None
            else self.service.work(
                actor, self.kind.permission, request_id=request, read_only=read_only
            )
        )
        with opened as work:
            yield work

    def step(self, name: str, title: Mapping[str, str], call: Callable[[], Any]) -> Any:
        """Do a step once where possible; after a crash in its midst it is done again.

        Parameters
        ----------
        name
            Of the step within the job.
        title
            ``{"zh": ..., "en": ...}``, shown while it runs.
        call
            Does it; returns plain JSON. To be the same when done twice: publications of the lake
            are, what changes the control database goes through :meth:`effect`.
        """
        self.progress.begin_step(title)
        ran = False

        def run() -> Any:
            nonlocal ran
            ran = True
            return call()

        result = self.run_step(name, run)
        if ran:
            self.say(f"完成：{title['zh']}", f"Done: {title['en']}")
        else:
            self.say(f"此前已完成：{title['zh']}", f"Done before: {title['en']}")
        self.progress.reins.check()
        return result

    def effect(self, name: str, call: Callable[[UnitOfWork], Mapping[str, Any]]) -> dict[str, Any]:
        """Change the control database exactly once in the life of the job.

        The change, the check that the job is still this worker's, and the memory that it was
        done are one transaction.
        """
        self.progress.reins.check()
        with self.work() as work:
            return self.fence.once(work, name, call)

    def say(self, zh: str, en: str) -> None:
        """Add a line to the job's log. Never a phone number or a password."""
        self.progress.say(zh, en, self.service.clock.now().isoformat(timespec="seconds"))


def owner_of(work: UnitOfWork, account_id: str, kind: Kind, unit_id: str) -> Actor:
    """Return an account as an actor that may still do what ``kind`` does for a unit.

    Raises
    ------
    OwnerGoneError, PermissionDeniedError, OutOfScopeError
        If not.
    """
    actor = actor_of(work, account_id)
    if actor is None:
        raise OwnerGoneError(
            f"The account '{account_id}' that owns this work is closed.",
            remedy="A colleague whose post covers it can submit it again.",
            zh=f"该作业所属账号 {account_id} 已停用，请由有权限的同事重新提交。",
        )
    require_reach(work, actor, kind, unit_id)
    return actor
