"""Kills the process with SIGKILL before every durable step in turn, and checks after each.

Run as a script: ``crash.py <scenario> <folder>``. Each attempt is a forked process whose n-th call
of fsync, rename, replace or link is its last; n moves one step further each time, until an attempt
lives to its end. After each death another process checks what the dead one left, then the work is
done again and must complete. Prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlglot

from bihuan.data import DuckDBEngine, Lake
from bihuan.delivery import FileChannel, deploy, list_deployments
from bihuan.delivery.reading import decision_content_hash
from bihuan.kernel import FixedClock

STEPS = ("fsync", "rename", "replace", "link")


def die_before(step: int) -> None:
    """Let this process be killed at its ``step``-th durable call."""
    left = step

    def deadly(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    for name in STEPS:
        setattr(os, name, deadly(getattr(os, name)))


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked process and return its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must never return into the parent's work
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def run(
    prepare: Callable[[Path], None],
    act: Callable[[Path], None],
    check: Callable[[Path], None],
    verify: Callable[[Path], None],
    folder: Path,
) -> dict[str, object]:
    """Crash ``act`` at every step; ``check`` after each crash, ``verify`` after the repeat."""
    base, place = folder / "base", folder / "place"
    decision_content_hash(BUILD(2))  # what is compiled and imported once need not be in each child
    sqlglot.parse_one("select 1", dialect="duckdb")
    assert in_child(lambda: prepare(base)) == 0
    broken: list[str] = []
    step, completed = 0, False
    while not completed and step < 200:
        step += 1
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)

        def attempt(at: int = step) -> None:
            die_before(at)
            act(place)

        status = in_child(attempt)
        completed = status == 0
        if not completed and os.WTERMSIG(status) != signal.SIGKILL:
            broken.append(f"step {step}: ended with status {status}")

        def recover() -> None:
            check(place)
            act(place)
            verify(place)

        if in_child(recover) != 0:
            broken.append(f"step {step}: not whole after the crash, or not after the repeat")
    return {"crashed": step - 1, "completed": completed, "broken": broken}


CLOCK = FixedClock(datetime(2026, 11, 2, 2, tzinfo=UTC))
ENGINE = DuckDBEngine(threads=1)
BUILD = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["build_decisions"]


def deploy_autumn(place: Path) -> None:
    deploy_campaign(place, "autumn")


def deploy_spring(place: Path) -> None:
    deploy_campaign(place, "spring")


def deploy_campaign(place: Path, campaign: str) -> None:
    deploy(
        BUILD(120, campaign_id=[campaign] * 120),
        campaign_id=campaign,
        lake=Lake(place / "lake"),
        clock=CLOCK,
        period=(date(2026, 11, 2), date(2026, 11, 8)),
        scripts={},
        engine=ENGINE,
    )


def deployments_are_whole(place: Path) -> None:
    view = Lake(place / "lake").view()
    known = list_deployments(view)
    tables = {table for table in view.tables if table.startswith("assignment__")}
    assert tables == {deployment.table for deployment in known}
    for deployment in known:
        assert deployment.assignments(view).read().num_rows == deployment.planned == 108
    assert "spring" in {deployment.campaign_id for deployment in known}


def both_are_there(place: Path) -> None:
    deployments_are_whole(place)
    assert len(list_deployments(Lake(place / "lake").view())) == 2


def for_sms(place: Path) -> pa.Table:
    view = Lake(place / "lake").view()
    rows = list_deployments(view)[0].assignments(view).read()
    return rows.filter((pc.field("channel") == "sms") & (pc.field("org_unit_id") < "grid-02"))


def send_lists(place: Path) -> None:
    FileChannel(place / "out", clock=CLOCK, engine=ENGINE).send(for_sms(place))


def deploy_and_send(place: Path) -> None:
    deploy_autumn(place)
    send_lists(place)


def lists_are_whole(place: Path) -> None:
    seen = [path for path in (place / "out").glob("*/*") if not path.name.startswith(".")]
    for batch in seen:  # whatever can be seen has a manifest, and it names whole files only
        content = json.loads((batch / "manifest.json").read_bytes())
        names = {entry["name"] for entry in content["files"]} | {"manifest.json"}
        assert names == {path.name for path in batch.iterdir()}
        for entry in content["files"]:
            data = (batch / entry["name"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]


def lists_are_there(place: Path) -> None:
    lists_are_whole(place)
    rows = [pq.read_table(path) for path in (place / "out").glob("*/*/*.parquet")]
    ids = [name for table in rows for name in table["assignment_id"].to_pylist()]
    assert sorted(ids) == sorted(for_sms(place)["assignment_id"].to_pylist())


SCENARIOS = {
    "deploy": (deploy_spring, deploy_autumn, deployments_are_whole, both_are_there),
    "lists": (deploy_autumn, send_lists, lists_are_whole, lists_are_there),
    "lists_again": (deploy_and_send, send_lists, lists_are_whole, lists_are_there),
}

if __name__ == "__main__":
    print(json.dumps(run(*SCENARIOS[sys.argv[1]], Path(sys.argv[2]))))
