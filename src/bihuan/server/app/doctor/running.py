"""What runs: workers, waiting jobs, schedules; and how open the service is to the network."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import cache

import sqlalchemy as sa

from bihuan.server.app.demo_account import DEMO_PASSWORD
from bihuan.server.app.doctor.finding import Bounds, Finding, judged
from bihuan.server.app.job import find_jobs, find_schedules, list_workers
from bihuan.server.app.password import PASSWORDS
from bihuan.server.app.service import Service, UnitOfWork
from bihuan.server.control import Account, Job, Schedule, Worker

HOME = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""
START_ONE = (
    "启动执行节点：bihuan worker（或带执行节点的 bihuan serve）。",
    "Start a worker: `bihuan worker`, or `bihuan serve` with one.",
)


def look_at_workers(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say which workers fell silent and were not buried: nobody has taken their jobs over."""
    with service.system_work(read_only=True) as work:
        known = [worker for worker in list_workers(work) if worker.state == "alive"]
        silent = [worker for worker in known if not _is_heard(service, work, worker, bounds)]
    told = ", ".join(f"{worker.host}:{worker.pid}" for worker in silent)
    yield judged(
        "workers", not silent,
        (f"{len(known)} 个执行节点在运行。" if not silent else f"执行节点已失联：{told}。",
         f"{len(known)} workers run." if not silent else f"Workers fell silent: {told}."),
        (f"{START_ONE[0]}它会接管失联节点的作业。", f"{START_ONE[1]} It takes their jobs over."),
    )  # fmt: skip


def look_at_jobs(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say which jobs wait although no worker lives."""
    with service.system_work(read_only=True) as work:
        if any(_is_heard(service, work, worker, bounds) for worker in list_workers(work)):
            late: list[Job] = []
        else:
            before = work.now - bounds.waiting
            query = find_jobs(state="queued").where(Job.created_at < before)
            late = list(work.session.scalars(query.order_by(Job.job_id)))
    minutes = int(bounds.waiting.total_seconds() // 60)
    yield judged(
        "jobs", not late,
        ("没有积压的作业。" if not late else
         f"{len(late)} 个作业等待超过 {minutes} 分钟，且无执行节点；最早为 {late[0].job_id}。",
         "No jobs are stuck." if not late else
         f"{len(late)} jobs have waited for more than {minutes} minutes and no worker runs;"
         f" the oldest is {late[0].job_id}."),
        START_ONE,
    )  # fmt: skip


def look_at_schedules(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say which schedules could not start their jobs, and which nobody looks at."""
    with service.system_work(read_only=True) as work:
        before = work.now - bounds.waiting
        query = find_schedules(enabled=True).order_by(Schedule.schedule_id)
        rows = list(work.session.scalars(query))
    failed = [row for row in rows if row.problem is not None]
    overdue = [row for row in rows if row.next_fire_at is not None and row.next_fire_at < before]
    if failed:
        first = failed[0].problem or {}
        yield judged(
            "schedules", False,
            (f"{len(failed)} 个调度计划未能启动作业：{failed[0].name}：{first.get('zh', '')}",
             f"{len(failed)} schedules could not start their job: {failed[0].name}:"
             f" {first.get('message', '')}"),
            ("由有权限的同事修改该调度计划（将成为其负责人），或暂停它。",
             "Have a colleague whose post covers it change the schedule, or pause it."),
        )  # fmt: skip
    if overdue:
        yield judged(
            "schedules", False,
            (f"{len(overdue)} 个调度计划已到时间但未触发，例如 {overdue[0].name}。",
             f"{len(overdue)} schedules are overdue, {overdue[0].name} for one."),
            START_ONE,
        )  # fmt: skip
    if not failed and not overdue:
        yield judged("schedules", True, (f"{len(rows)} 个调度计划正常。",
                                         f"{len(rows)} schedules run as they should."),
                     ("", ""))  # fmt: skip


def look_at_web(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say whether a service that others reach keeps its sessions to HTTPS."""
    del bounds
    host, secure = service.settings.host, service.settings.cookie_secure
    yield judged(
        "web", host in HOME or secure,
        (f"监听地址 {host}，会话 Cookie {'仅限' if secure else '未限'} HTTPS。",
         f"It listens on {host}; its cookie is{'' if secure else ' not'} limited to HTTPS."),
        ("设置 BIHUAN_COOKIE_SECURE=true，并置于 HTTPS 之后。",
         "Set BIHUAN_COOKIE_SECURE=true, behind HTTPS."),
    )  # fmt: skip


def look_at_demo_accounts(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say whether anybody on the network can sign in with the password that everybody knows."""
    del bounds
    settings = service.settings
    exposed = settings.host not in HOME
    with service.system_work(read_only=True) as work:
        query = sa.select(Account).where(Account.status == "active", Account.name.like("demo-%"))
        rows = list(work.session.scalars(query)) if exposed else []
    known = [row for row in rows if row.password_hash and _is_known(row.password_hash)]
    wrong = exposed and (settings.demo or bool(known))
    yield judged(
        "demo_accounts", not wrong,
        (f"服务对外开放（{settings.host}），{len(known)} 个演示账号可用公开密码登录。" if wrong
         else "没有对外开放的演示账号。",
         f"The service is open to others ({settings.host}), and {len(known)} demo accounts open"
         " with the known password." if wrong else "No demo account is open to others."),
        ("停用这些账号或修改密码，并设置 BIHUAN_DEMO=false；演示请只监听 127.0.0.1。",
         "Close them or change their passwords and set BIHUAN_DEMO=false; let a demo listen on"
         " 127.0.0.1 only."),
    )  # fmt: skip


@cache
def _is_known(password_hash: str) -> bool:
    return PASSWORDS.check(password_hash, DEMO_PASSWORD)  # all demo accounts share one hash


def _is_heard(service: Service, work: UnitOfWork, worker: Worker, bounds: Bounds) -> bool:
    lease = timedelta(seconds=service.settings.worker_lease_seconds)
    return worker.state == "alive" and work.now - worker.heartbeat_at <= lease + bounds.silence
