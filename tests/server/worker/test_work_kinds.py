"""What the jobs do, really done: on a small simulated operator, by a worker."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from bihuan.kernel import FixedClock, UserError
from bihuan.server.app import job as jobs
from bihuan.server.control import Job, OrgUnit, Scope, Table
from bihuan.server.node import open_service
from bihuan.server.settings import Settings
from bihuan.server.worker import run_worker
from bihuan.twin import TwinSettings, generate_operator

from ...mission.by_hand import NOW, OCTOBER, define, extract, open_at, with_library, write_csv
from ...mission.operator_files import CHURN_FILE, OFFER_FILE, campaign_text, report_by_hand
from .fleet import submit, wait_ended

pytestmark = pytest.mark.slow
TWIN = TwinSettings(customers=1500, months=3, seed=7)
CAMPAIGN = "orders-2026-11"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with three months of an operator, no tags yet."""
    ws = open_at(tmp_path_factory.mktemp("operator") / "ws")
    with_library(ws)
    generate_operator(
        TWIN, ws.lake, ws.contracts, offer_ids=("keep_12", "data_pack"), clock=ws.clock,
        progress=ws.progress,
    )  # fmt: skip
    for table in ("customer", "account", "customer_list", "opt_out"):
        rows = ws.view.get(table, OCTOBER).read()
        for month in TWIN.month_ends()[:-1]:
            if month not in ws.view.dates(table):
                extract(ws, rows, table, month)
    define(ws, "offers", "offers", OFFER_FILE)
    define(ws, "campaigns", CAMPAIGN, campaign_text())
    define(ws, "models", "churn", CHURN_FILE)
    return ws.layout.root


@pytest.fixture(scope="module")
def place(operator: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A service over that workspace, and a worker that lives as long as the tests."""
    clock = FixedClock(NOW)
    root = tmp_path_factory.mktemp("service") / "ws"
    shutil.copytree(operator, root)
    service = open_service(Settings(workspace=root), clock=clock)
    engine = service.control.engine
    Table.metadata.create_all(engine)
    with service.control.work(Scope.everything()) as work:
        work.session.add(OrgUnit(unit_id="province", tier="province", name_zh="省"))
    stop = threading.Event()
    thread = threading.Thread(target=run_worker, args=(service,), kwargs={"stop": stop})
    thread.start()
    yield SimpleNamespace(service=service, ws=service.workspace, root=root)
    stop.set()
    thread.join(30)
    engine.dispose()


@pytest.fixture(scope="module")
def run(place: SimpleNamespace) -> Callable[..., Job]:
    def run(kind: str, **arguments: Any) -> Job:
        job_id = submit(place.service.control, kind, **arguments)
        [job] = wait_ended(place.service.control, job_id, seconds=100)
        return job

    return run


@pytest.fixture(scope="module")
def result(run: Callable[..., Job]) -> Callable[..., dict[str, Any]]:
    def result(kind: str, **arguments: Any) -> dict[str, Any]:
        job = run(kind, **arguments)
        assert job.state == "succeeded", job.error
        return dict(job.result or {})

    return result


@pytest.fixture(scope="module")
def tagged(result, place) -> dict[str, Any]:
    """The tags of the three months, refreshed by jobs."""
    for month in TWIN.month_ends()[:-1]:
        result("tag_refresh", as_of=month.isoformat())
    return result("tag_refresh")


@pytest.fixture(scope="module")
def carried(place: SimpleNamespace, tagged: dict[str, Any]) -> None:
    ws = place.ws
    ws.decide(CAMPAIGN, OCTOBER)
    deployment = ws.deploy(CAMPAIGN, OCTOBER)
    ws.write_lists(CAMPAIGN)
    rows = report_by_hand(deployment.assignments(ws.view).read().to_pylist())
    header = list(rows[0])
    file = write_csv(place.root / "回单.csv", [header, *(r.values() for r in rows)], "utf-8")
    open_at(place.root, datetime(2026, 11, 12, 6, tzinfo=UTC)).record_outcomes(CAMPAIGN, file)


class TestData:
    def test_a_file_of_the_incoming_folder_is_taken_in(self, place, result):
        rows = place.ws.view.get("bill", OCTOBER).read().slice(0, 50)
        file = place.root / "incoming" / "billing" / "bills.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(rows, file)
        columns = "\n".join(f"      {name}: {name}" for name in rows.column_names)
        define(place.ws, "mappings", "bills", f"tables:\n  bill:\n    columns:\n{columns}\n")
        asked = {"source": "billing/bills.parquet", "mapping": "bills", "as_of": "2026-07-31"}
        first = result("ingest", **asked)
        assert first["tables"]["bill"]["stored"] == 50
        assert place.ws.view.get("bill", datetime(2026, 7, 31, tzinfo=UTC).date()).rows == 50
        assert result("ingest", **asked)["unchanged"]

    @pytest.mark.parametrize(
        "source", ["../control.db", "/etc/passwd", "sqlite:///control.db#account", "none.csv"]
    )
    def test_nothing_outside_is(self, run, source):
        job = run("ingest", source=source, mapping="bills", as_of="2026-10-31")
        assert job.state == "failed"
        assert "no file" in job.error["message"]
        assert job.error["zh"]

    def test_tags_are_refreshed_at_the_newest_date_and_indexed(self, place, tagged, result):
        assert tagged["as_of"] == "2026-10-31"
        assert tagged["subjects"] == place.ws.tags(OCTOBER).rows
        assert tagged["index"]["built"] > 0
        again = result("tag_refresh")
        assert again["derived"] == 0
        assert again["index"]["built"] == 0

    def test_an_index_is_built_anew(self, tagged, result):
        built = result("index_build", afresh=True)
        assert built["unchanged"] == 0
        assert built["rows"] == tagged["subjects"]


class TestAudience:
    def test_its_size_is_the_size(self, place, tagged, result):
        found = result("audience_refresh", audience="arpu >= 50", name="高价值")
        assert found["members"] == place.ws.count("arpu >= 50", OCTOBER).members
        snapshot = place.ws.take_snapshot("arpu >= 50", OCTOBER)
        assert found["snapshot_id"] == snapshot.id
        assert (found["name"], found["as_of"]) == ("高价值", "2026-10-31")

    def test_a_small_group_is_not_told_to_the_number(self, place, tagged, result):
        arpu = sorted(place.ws.tags(OCTOBER).read(place.ws.engine, ["arpu"])["arpu"].to_pylist())
        found = result("audience_refresh", audience=f"arpu >= {arpu[-5]}")
        assert found["members"] is None
        assert found["shown"] == "<20"

    def test_a_wrong_rule_says_where(self, tagged, run):
        job = run("audience_refresh", audience="arpu >=")
        assert job.state == "failed"
        assert job.error["remedy"]

    def test_scenes_that_are_due_are_run_once(self, place, tagged, result):
        define(
            place.ws, "scenes", "high",
            "title: {zh: 高, en: High}\naudience: arpu >= 50\ncron: 0 6 2 * *\nowner: 市场部\n"
            "starts_on: 2026-11-01\n",
        )  # fmt: skip
        [run] = result("scene_run")["runs"]
        assert (run["scene"], run["state"]) == ("high", "done")
        assert run["members"] == place.ws.count("arpu >= 50", OCTOBER).members
        assert result("scene_run")["runs"] == []


class TestModel:
    def test_a_model_is_learnt_and_scores_with_it_are_the_same(self, place, tagged, result):
        learnt = result("train", model="churn")
        assert place.ws.registry.list("churn")[-1].version == learnt["version"]
        assert 0 <= learnt["auc_low"] <= learnt["auc"] <= learnt["auc_high"] <= 1
        table = next(t for t in place.ws.view.tables if "churn" in t)
        before = place.ws.view.get(table, OCTOBER).read()
        scored = result("score", model="churn")
        assert scored["version"] == learnt["version"]
        assert place.ws.view.get(table, OCTOBER).read().equals(before)
        assert scored["customers"] == before.num_rows

    def test_without_a_version_it_says_so(self, place, tagged, run):
        define(place.ws, "models", "other", CHURN_FILE.replace("name: churn", "name: other"))
        job = run("score", model="other")
        assert job.state == "failed"
        assert "Train it first" in job.error["remedy"]


class TestCampaign:
    def test_a_rehearsal_is_filed(self, place, tagged, result):
        found = result("rehearsal", campaign_id=CAMPAIGN, sample=300)
        filed = place.ws.rehearsals.get(found["rehearsal_id"])
        assert filed.campaign_id == CAMPAIGN
        assert found["judgements"] == {j.name: j.verdict for j in filed.judgements}
        assert len(found["judgements"]) == 4

    def test_a_campaign_or_a_plan_not_both(self):
        kind = jobs.get_kind("rehearsal")
        for wrong in ({}, {"campaign_id": "a", "plan_id": "b"}):
            with pytest.raises(UserError, match="either a campaign or a plan"):
                kind.read(wrong)

    def test_it_is_evaluated_as_the_workspace_does(self, place, carried, result):
        dates = {"as_of": "2026-10-31", "responses_as_of": "2026-10-31"}
        found = result("evaluation", campaign_id=CAMPAIGN, **dates)
        judged = place.ws.evaluate(CAMPAIGN, OCTOBER, OCTOBER)
        assert found["orders"] == judged.roi.total.orders > 0
        assert found["effect"]["estimate"] == pytest.approx(judged.effect.estimate)

    def test_its_report_is_written(self, place, carried, result):
        dates = {"as_of": "2026-10-31", "responses_as_of": "2026-10-31"}
        found = result("report", campaign_id=CAMPAIGN, **dates)
        assert len(found["files"]) == 3
        assert all((place.root / file).stat().st_size > 1000 for file in found["files"])

    def test_what_is_no_plan_is_not_deployed(self, run, tagged):
        job = run("deployment", plan_id="plan_none")
        assert job.state == "failed"
        assert "plan_none" in job.error["message"]


class TestUpkeep:
    def test_the_audit_chain_is_verified(self, place, run, result):
        run("scene_run")
        found = result("audit_verify")
        assert found["whole"]
        assert found["entries"] > 0

    def test_refusals_are_published(self, place, result):
        assert result("opt_out_publish")["refusals"] >= 0
        assert place.ws.view.dates("opt_out")

    def test_old_data_is_removed(self, result):
        assert result("retention")["removed"] >= 0
