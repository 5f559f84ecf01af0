"""Kills a deployment at every named point, and at random times, and checks what is left each time.

Run as a script: ``deployment_kill.py FOLDER [--url BASE_URL] [--points PREFIX,...] [--times
first|all|every] [--random N] [--defect NAME]``. Every attempt is a forked process that kills
itself at one point; after it, another process goes on without being told where, must complete,
and is held against a world in which nobody was killed. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlglot
from sqlalchemy.orm import configure_mappers

from bihuan.delivery import list_deployments
from bihuan.delivery.reading import decision_content_hash
from bihuan.kernel import random_stream
from bihuan.kernel.crash import COUNT_VARIABLE, CRASH_POINTS, VARIABLE
from bihuan.server.app.deployment import (
    acknowledge,
    current_release,
    deploy_plan,
    pause_deployment,
    publish_release,
    report_of,
    resume_deployment,
)
from bihuan.server.app.deployment import record as record_module
from bihuan.server.app.deployment import run as run_module
from bihuan.server.app.plan.draft import get_plan
from bihuan.server.app.plan.stop import stops_of
from bihuan.server.app.service import Service
from bihuan.server.control import (
    AuditEntry,
    DeploymentCount,
    Plan,
    PlanDeployment,
    PlanRun,
    StrategyAcknowledgement,
    StrategyHead,
    StrategyRelease,
    verify_chain,
)

_spec = importlib.util.spec_from_file_location(
    "deployment_world", Path(__file__).with_name("deployment_world.py")
)
assert _spec is not None
assert _spec.loader is not None
world = importlib.util.module_from_spec(_spec)
sys.modules["deployment_world"] = world
_spec.loader.exec_module(world)


def act(service: Service) -> None:
    """Deploy, stop a channel, go on, release the strategies; what is done already stays done."""
    with service.system_work(read_only=True) as work:
        plan_id = work.session.scalars(sa.select(Plan.plan_id)).one()
    row = deploy_plan(service, world.PLANNER, plan_id, as_of=world.AS_OF)
    with service.work(world.PLANNER, "plan.stop") as work:
        stops = stops_of(work, get_plan(work, plan_id))
        if not stops:
            pause_deployment(work, world.PLANNER, row, channels=["sms"], reason="look first")
    if not stops or stops[0].lifted_at is None:
        with service.work(world.PLANNER, "plan.stop") as work:
            resume_deployment(work, world.PLANNER, row)
    with service.work(world.OPERATOR, "strategy.publish") as work:
        release = publish_release(
            work, service, "county-a1", title="一号", deployment_ids=[row.deployment_id]
        )
    for channel in world.CHANNELS:
        with service.work(world.OPERATOR, "strategy.publish") as work:
            acknowledge(work, release.release_id, channel, "county-a1")


def seen(service: Service) -> dict[str, Any]:
    """Return everything that must be the same however often the work was killed."""
    view = service.workspace.lake.view()
    frozen = list_deployments(view)
    ids = [
        name
        for deployment in frozen
        for name in deployment.assignments(view).read()["assignment_id"].to_pylist()
    ]
    with service.system_work(read_only=True) as work:

        def rows(table: Any, *columns: Any) -> list[tuple[Any, ...]]:
            statement = sa.select(*columns).select_from(table).order_by(*columns)
            return [tuple(row) for row in work.session.execute(statement)]

        plan = work.session.scalars(sa.select(Plan)).one()
        actions = [entry.action for entry in work.session.scalars(sa.select(AuditEntry))]
        deployments = list(work.session.scalars(sa.select(PlanDeployment)))
        heads = rows(StrategyHead, StrategyHead.number)
        releases = work.session.scalars(sa.select(StrategyRelease)).all()
        acknowledged = rows(StrategyAcknowledgement, StrategyAcknowledgement.channel)
        found = {
            "ids": sorted(ids),
            "doubles": len(ids) - len(set(ids)),
            "frozen": [d.deployment_id for d in frozen],
            "states": [(d.state, d.planned, d.strategies) for d in deployments],
            "plan": plan.state,
            "stops": [stop.lifted_at is not None for stop in stops_of(work, plan)],
            "counts": rows(
                DeploymentCount,
                DeploymentCount.channel,
                DeploymentCount.org_unit_id,
                DeploymentCount.planned,
            ),
            "runs": rows(PlanRun, PlanRun.state, PlanRun.deployment_id),
            "live": actions.count("deployment.live"),
            "switched": actions.count("strategy.publish"),
            "heads": heads,
            "releases": [len(release.items) for release in releases],
            "acknowledged": acknowledged,
            "channels": [
                None if found is None else len(found.strategies)
                for found in (
                    current_release(work, "grid-a11", channel) for channel in world.CHANNELS
                )
            ],
            "chain": len(actions),
            "sound": verify_chain(work).is_whole if deployments else True,
        }
    reports = [report_of(service, d.deployment_id) for d in deployments if d.frozen_id]
    found["breaks"] = [len(report.breaks) for report in reports]
    return found


def halfway(service: Service) -> list[str]:
    """Return what is wrong in a world whose work was just killed."""
    wrong = []
    found_by = {d.deployment_id: d for d in list_deployments(service.workspace.lake.view())}
    view = service.workspace.lake.view()
    tables = {name for name in view.tables if name.startswith("assignment__")}
    if tables != {d.table for d in found_by.values()}:
        wrong.append("the lake shows assignments without a register row, or the other way")
    wrong += [
        f"{d.deployment_id} is not whole"
        for d in found_by.values()
        if d.assignments(view).read().num_rows != d.planned
    ]
    with service.system_work(read_only=True) as work:
        for row in work.session.scalars(sa.select(PlanDeployment)):
            if row.state == "live" and row.frozen_id not in found_by:
                wrong.append("live without assignments")
            live = sa.select(PlanRun).where(PlanRun.deployment_id == row.deployment_id)
            if (row.state == "live") != (work.session.scalars(live).first() is not None):
                wrong.append("live in one place, not in the other")
        seen_by = {
            found.release_id if found else None
            for found in (current_release(work, "grid-a11", channel) for channel in world.CHANNELS)
        }
        if len(seen_by) != 1:
            wrong.append(f"channels work by {len(seen_by)} releases")
    return wrong


class Places:
    """Copies of one world: a folder, and a database beside it or in a server."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder, self.url = folder, url

    def url_of(self, name: str) -> str | None:
        if self.url is None:
            return None
        return sa.make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def build(self) -> None:
        if self.url is not None:
            self._run("CREATE DATABASE base")
        in_child(lambda: world.build(self.folder / "base", self.url_of("base")) and None)

    @contextmanager
    def copy(self, name: str) -> Iterator[Callable[[], Service]]:
        place = self.folder / name
        shutil.copytree(self.folder / "base", place)
        if self.url is not None:
            self._run(f"CREATE DATABASE {name} TEMPLATE base")
        try:
            yield lambda: world.open_world(place, self.url_of(name))
        finally:
            shutil.rmtree(place)
            if self.url is not None:
                self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, command: str) -> None:
        assert self.url is not None
        engine = sa.create_engine(
            sa.make_url(self.url).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
        )
        with engine.connect() as connection:
            connection.execute(sa.text(command))
        engine.dispose()


def in_child(work: Callable[[], Any], **environment: str) -> Any:
    """Run ``work`` in a forked process; return what it returns, raise what it raises.

    Returns
    -------
    Any
        None if the process was killed.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.environ.update(environment)
            answer = json.dumps({"answer": work()}, default=str)
        except BaseException:  # noqa: BLE001 - the child must never return into the parent's work
            answer = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(write, "w") as file:
            file.write(answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            raise RuntimeError(f"ended by signal {os.WTERMSIG(status)}")
        return "killed"
    told = json.loads(text)
    if "error" in told:
        raise RuntimeError(told["error"])
    return told["answer"]


def done_again(open_: Callable[[], Service], wanted: dict[str, Any]) -> list[str]:
    """Look at a killed world, go on, and return what differs from an undisturbed one."""

    def work() -> list[str]:
        service = open_()
        wrong = halfway(service)
        act(service)
        found = json.loads(json.dumps(seen(service), default=str))
        return wrong + [
            f"{key}: {str(found[key])[:80]} instead of {str(wanted[key])[:80]}"
            for key in wanted
            if key != "chain" and found[key] != wanted[key]
        ]

    try:
        answer: list[str] = in_child(work)
    except RuntimeError as error:
        return [str(error)[-600:]]
    return answer


def deadly(places: Places, prefixes: tuple[str, ...], times: str) -> dict[str, Any]:
    """Kill at every named point and return what went wrong where."""
    log = places.folder / "passed"
    with places.copy("whole") as open_:
        in_child(lambda: act(open_()), **{COUNT_VARIABLE: str(log)})
        wanted = in_child(lambda: seen(open_()))
    passed = Counter(log.read_text().split())
    missed = sorted(name for name in CRASH_POINTS if name not in passed)
    broken: list[str] = []
    tried: list[str] = []
    for name in sorted(passed):
        if prefixes and not name.startswith(prefixes):
            continue
        count = passed[name]
        chosen = {
            "first": {1},
            "all": {1, (count + 1) // 2, count},
            "every": set(range(1, count + 1)),
        }[times]
        for nth in sorted(chosen):
            at = f"{name}:{nth}"
            tried.append(at)
            with places.copy("attempt") as open_:
                try:
                    ended = in_child(lambda at=open_: act(at()), **{VARIABLE: at})
                except RuntimeError as error:
                    broken.append(f"{at}: {str(error)[-600:]}")
                    continue
                if ended != "killed":
                    broken.append(f"{at}: was not killed")
                broken += [f"{at}: {what}" for what in done_again(open_, wanted)]
    return {
        "points": len({at.partition(":")[0] for at in tried}),
        "kills": len(tried),
        "missed": missed,
        "broken": broken,
    }


def at_random(places: Places, cycles: int, seed: int) -> dict[str, Any]:
    """Kill at random times, several times in one world, and return what went wrong."""
    chance = random_stream(seed, "kills")
    with places.copy("whole") as open_:
        started = time.monotonic()
        wanted = in_child(lambda: act(open_()) or seen(open_()))
        length = time.monotonic() - started
    broken: list[str] = []
    kills = worlds = 0
    while kills < cycles:
        worlds += 1
        with places.copy("attempt") as open_:
            for _ in range(int(chance.integers(1, 4))):
                killed = _killed_after(open_, float(chance.random()) * length)
                kills += killed
                if not killed:
                    break
            broken += [f"world {worlds}: {what}" for what in done_again(open_, wanted)]
    return {"kills": kills, "worlds": worlds, "broken": broken}


def _killed_after(open_: Callable[[], Service], seconds: float) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            act(open_())
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def live_in_two_steps(work: Any, deployment_id: str, fence: int, today: Any) -> Any:
    """The seeded defect: the row is switched in one transaction, its plan told in another."""
    row = work.session.get(PlanDeployment, deployment_id)
    if row.state != "live":
        row.state, row.live_at = "live", work.now
        work.after_commit(lambda: _tell_plan(deployment_id))
    return row


_OPEN: list[Service] = []


def _tell_plan(deployment_id: str) -> None:
    service = _OPEN[-1]
    with service.system_work() as work:
        row = record_module.get_deployment(work, deployment_id)
        record_module.mark_deployed(work, row.plan_id, deployment_id)
        work.audit("deployment.live", "deployment", deployment_id)


def warm() -> None:
    """Load what is compiled once, in a thread that has ended before anything is forked."""
    decision_content_hash(world.decisions(10))
    sqlglot.parse_one("select 1", dialect="duckdb")
    configure_mappers()


def seed_defect(name: str) -> None:
    """Replace a step by one that is not safe."""
    if name == "two_steps":
        whole = world.open_world

        def remembered(*where: Any, **how: Any) -> Service:
            service: Service = whole(*where, **how)
            _OPEN.append(service)
            return service

        world.open_world = remembered
        run_module.go_live = live_in_two_steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--points", default="")
    parser.add_argument("--times", default="all", choices=("first", "all", "every"))
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--defect", default="")
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    seed_defect(told.defect)
    warm()
    places = Places(told.folder, told.url)
    places.build()
    if told.random:
        found = at_random(places, told.random, told.seed)
    else:
        found = deadly(places, tuple(filter(None, told.points.split(","))), told.times)
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
