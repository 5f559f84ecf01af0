"""Jobs and schedules over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from bihuan.server.app import job as jobs
from bihuan.server.app.job import kind as kinds
from bihuan.server.control import Scope

CRON = {"name": "每月", "kind": "count", "arguments": {"n": 1}, "cron": "0 6 1 * *"}


class Number(jobs.Arguments):
    n: int = 1


@pytest.fixture(autouse=True)
def count_kind() -> Iterator[None]:
    jobs.list_kinds()
    before = dict(kinds._KINDS)
    title = {"zh": "数数", "en": "count"}
    jobs.register(jobs.Kind("count", title, "job.run", Number, lambda c, a: {}))
    yield
    kinds._KINDS.clear()
    kinds._KINDS.update(before)


def submit(client, key="k1", **body):
    sent = {"kind": "count", "arguments": {"n": 3}} | body
    return client.post("/api/v1/jobs", json=sent, headers={"Idempotency-Key": key})


@pytest.fixture
def planner(enter):
    return enter("planner", "city-a")


def run_by_hand(service, job_id: str, **result) -> None:
    """Do what a worker does, without one."""
    with service.control.work(Scope.everything()) as work:
        worker = jobs.register_worker(work, host="h", pid=1, threads=1)
        work.session.flush()
        claim = jobs.claim(work, worker, ["count"])
        assert claim is not None
        assert claim.job_id == job_id
        fence = jobs.Fence(job_id, worker, claim.epoch, 10)
        jobs.write_progress(
            work,
            fence,
            {"percent": 40.0},
            [{"at": "2026-11-02T01:00:00Z", "zh": "一", "en": "one"}],
        )
        jobs.succeed(work, fence, result)


class TestJobs:
    def test_one_is_submitted_followed_and_read(self, planner, service):
        made = submit(planner)
        assert made.status_code == 202
        job = made.json()
        assert (job["state"], job["unit_id"]) == ("queued", "city-a")
        assert made.headers["location"] == f"/api/v1/jobs/{job['job_id']}"
        run_by_hand(service, job["job_id"], n=3)
        got = planner.get(made.headers["location"]).json()
        assert (got["state"], got["result"]) == ("succeeded", {"n": 3})
        assert got["progress"]["percent"] == 100
        [line] = planner.get(f"{made.headers['location']}/log").json()
        assert (line["zh"], line["en"]) == ("一", "one")

    def test_sent_twice_it_is_one(self, planner):
        assert submit(planner).json() == submit(planner).json()
        assert len(planner.get("/api/v1/jobs").json()["items"]) == 1
        assert submit(planner, kind="tag_refresh", arguments={}).status_code == 422  # another body

    def test_lists_are_filtered_and_counted(self, planner, service):
        first = submit(planner, "a").json()["job_id"]
        submit(planner, "b")
        planner.post(f"/api/v1/jobs/{first}/cancellation")

        def ids(query):
            return [job["job_id"] for job in planner.get(f"/api/v1/jobs?{query}").json()["items"]]

        assert ids("state=cancelled") == [first]
        assert len(ids("kind=count")) == 2
        assert ids("kind=train") == []
        assert planner.get("/api/v1/jobs?state=lost").status_code == 422
        counts = planner.get("/api/v1/job-counts").json()
        assert counts == {"queued": 1, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 1}

    def test_a_waiting_one_is_cancelled_at_once_an_ended_one_not(self, planner, service):
        job = submit(planner, "a").json()["job_id"]
        assert planner.post(f"/api/v1/jobs/{job}/cancellation").json()["state"] == "cancelled"
        other = submit(planner, "b").json()["job_id"]
        run_by_hand(service, other)
        assert planner.post(f"/api/v1/jobs/{other}/cancellation").status_code == 409

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"kind": "none"}, 422),
            ({"arguments": {"m": 1}}, 422),
            ({"unit_id": "city-b"}, 403),
            ({"colour": "red"}, 422),
        ],
    )
    def test_what_is_wrong_is_refused_with_words(self, planner, body, status):
        answer = submit(planner, **body)
        assert answer.status_code == status
        assert answer.json()["detail"]

    def test_another_city_sees_nothing(self, planner, enter):
        job = submit(planner).json()["job_id"]
        other = enter("planner", "city-b")
        assert other.get("/api/v1/jobs").json()["items"] == []
        missing = other.get("/api/v1/jobs/job_none")
        for path in ("", "/log", "/events"):
            answer = other.get(f"/api/v1/jobs/{job}{path}")
            assert answer.status_code == 404
            assert answer.json()["type"] == missing.json()["type"]
        assert other.post(f"/api/v1/jobs/{job}/cancellation").status_code == 404
        assert enter("planner", "province").get(f"/api/v1/jobs/{job}").status_code == 200

    def test_a_seat_and_nobody_are_refused(self, enter, nobody):
        assert enter("outbound_seat", "city-a").get("/api/v1/jobs").status_code == 403
        assert submit(enter("auditor", "city-a")).status_code == 403
        assert nobody.get("/api/v1/jobs").status_code == 401

    def test_kinds_are_those_that_one_may_run(self, planner, enter):
        mine = {kind["name"] for kind in planner.get("/api/v1/job-kinds").json()}
        assert {"rehearsal", "deployment", "tag_refresh"} <= mine
        analyst = enter("analyst", "city-a").get("/api/v1/job-kinds").json()
        assert "deployment" not in {kind["name"] for kind in analyst}
        [kind] = [kind for kind in analyst if kind["name"] == "train"]
        assert "model" in kind["arguments"]["properties"]


class TestEvents:
    def events(self, client, path):
        with client.stream("GET", path) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            text = "".join(stream.iter_text())
        blocks = [block.split("\n") for block in text.strip().split("\n\n") if block[0] != ":"]
        return [
            (b[0].removeprefix("event: "), json.loads(b[1].removeprefix("data: "))) for b in blocks
        ]

    def test_an_ended_job_is_told_and_the_stream_ends(self, planner, service):
        job = submit(planner).json()["job_id"]
        run_by_hand(service, job)
        events = self.events(planner, f"/api/v1/jobs/{job}/events")
        assert [name for name, _ in events] == ["job", "end"]
        assert events[0][1]["state"] == "succeeded"

    def test_a_change_is_told_when_it_comes(self, planner, service):
        job = submit(planner).json()["job_id"]

        def later():
            time.sleep(0.8)
            run_by_hand(service, job)

        thread = threading.Thread(target=later)
        thread.start()
        events = self.events(planner, f"/api/v1/jobs/{job}/events")
        thread.join()
        assert [event[1]["state"] for event in events[:-1]] == ["queued", "succeeded"]
        assert events[-1] == ("end", "succeeded")


class TestSchedules:
    def create(self, client, **body):
        return client.post("/api/v1/schedules", json=CRON | body, headers={"Idempotency-Key": "s"})

    def test_one_is_set_up_and_shows_when_it_is_due(self, planner):
        made = self.create(planner)
        assert made.status_code == 201
        row = made.json()
        assert row["next_fire_at"] == "2026-11-30T22:00:00Z"  # six o'clock in Shanghai
        assert planner.get(made.headers["location"]).headers["etag"] == made.headers["etag"]

    def test_it_is_paused_and_resumed_with_the_version_read(self, planner):
        made = self.create(planner)
        path, tag = made.headers["location"], made.headers["etag"]
        assert planner.post(f"{path}/pause").status_code == 428
        paused = planner.post(f"{path}/pause", headers={"If-Match": tag})
        assert (paused.status_code, paused.json()["next_fire_at"]) == (200, None)
        assert planner.post(f"{path}/resumption", headers={"If-Match": tag}).status_code == 412
        resumed = planner.post(f"{path}/resumption", headers={"If-Match": paused.headers["etag"]})
        assert resumed.json()["enabled"]
        assert resumed.json()["next_fire_at"]

    def test_it_is_changed_and_removed(self, planner):
        made = self.create(planner)
        path = made.headers["location"]
        changed = planner.put(
            path,
            json=CRON | {"cron": "30 9 * * *", "missed": "skip"},
            headers={"If-Match": made.headers["etag"]},
        )
        assert changed.json()["next_fire_at"] == "2026-11-02T01:30:00Z"
        gone = planner.delete(path, headers={"If-Match": changed.headers["etag"]})
        assert gone.status_code == 204
        assert planner.get(path).status_code == 404

    def test_its_fires_are_listed_with_their_jobs(self, planner, service, clock):
        path = self.create(planner, cron="* * * * *").headers["location"]
        clock.advance(timedelta(minutes=1))
        with service.control.work(Scope.everything()) as work:
            [schedule_id] = jobs.due_schedules(work, work.now)
            [job_id] = jobs.fire(work, schedule_id, work.now)
        [fire] = planner.get(f"{path}/fires").json()
        assert (fire["job_id"], fire["fire_at"]) == (job_id, "2026-11-02T01:01:00Z")
        job = planner.get(f"/api/v1/jobs/{job_id}").json()
        assert job["schedule_id"] == schedule_id

    def test_it_is_triggered_by_hand(self, planner):
        made = self.create(planner)
        job = planner.post(f"{made.headers['location']}/jobs", headers={"Idempotency-Key": "t"})
        assert job.status_code == 202
        listed = planner.get(f"/api/v1/jobs?schedule_id={made.json()['schedule_id']}").json()
        assert [item["job_id"] for item in listed["items"]] == [job.json()["job_id"]]

    @pytest.mark.parametrize(
        "body",
        [{"cron": "99 * * * *"}, {"time_zone": "Mars"}, {"missed": "twice"},
         {"valid_until": "2026-01-01T00:00:00Z"}, {"valid_until": "2027-01-01T00:00:00"}],
    )  # fmt: skip
    def test_what_cannot_be_is_refused(self, planner, body):
        assert self.create(planner, **body).status_code == 422

    def test_another_city_sees_none(self, planner, enter):
        path = self.create(planner).headers["location"]
        other = enter("planner", "city-b")
        assert other.get(path).status_code == 404
        assert other.get(f"{path}/fires").status_code == 404
        assert other.get("/api/v1/schedules").json()["items"] == []


class TestWorkers:
    def test_are_listed(self, planner, service):
        with service.control.work(Scope.everything()) as work:
            jobs.register_worker(work, host="h1", pid=7, threads=2)
        [worker] = planner.get("/api/v1/workers").json()
        assert (worker["state"], worker["host"], worker["threads"]) == ("alive", "h1", 2)
