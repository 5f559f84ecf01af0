"""Measures as Prometheus reads them: the queue of the whole service."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client.parser import text_string_to_metric_families

from bihuan.server.app import job as jobs
from bihuan.server.app.job.submit import put


def measured(client) -> dict[tuple[str, str], float]:
    reply = client.get("/api/v1/metrics")
    assert reply.status_code == 200
    return {
        (sample.name, sample.labels.get("state", "")): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
        if sample.name.startswith("bihuan_job")
    }


def test_jobs_by_state_and_the_age_of_the_queue(enter, service, clock):
    auditor = enter("auditor", "city-b")  # of another city: the queue is the service's
    before = measured(auditor)
    assert before[("bihuan_job_queue_seconds", "")] == 0
    assert before[("bihuan_jobs", "queued")] == 0
    for _ in range(2):
        with service.system_work() as work:
            kind = jobs.get_kind("audit_verify")
            put(work, kind, {}, owner_id="system", unit_id="county-a1")
        clock.advance(timedelta(seconds=30))
    after = measured(auditor)
    assert after[("bihuan_job_queue_seconds", "")] == 60
    assert {state: after[("bihuan_jobs", state)] for state in ("queued", "running", "failed")} == {
        "queued": 2, "running": 0, "failed": 0,
    }  # fmt: skip


def test_the_measures_are_for_those_who_look_after_the_service(enter):
    assert enter("planner", "city-a").get("/api/v1/metrics").status_code == 403
