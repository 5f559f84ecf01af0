"""Customers, refusals, numbers in clear, erasure and the audit trail over HTTP."""

from __future__ import annotations

import json
import re

import pytest

from bihuan.server.app import personal
from bihuan.server.app.service import Service

from ..customers import NUMBERS, open_house

API = "/api/v1"
CANARY = re.compile(r"(?<![0-9A-Za-z])1389000[0-9]{4}(?![0-9A-Za-z])|金丝雀\d{5}号")


@pytest.fixture
def service(control, database_url, clock, tmp_path) -> Service:
    return open_house(control, database_url, clock, tmp_path / "workspace")


def refuse(client, customer, key="k1", **body):
    return client.post(
        f"{API}/customers/{customer}/opt-outs",
        json={"kind": "no_marketing", "channel": "sms", "source": "来电", **body},
        headers={"Idempotency-Key": key},
    )


def reveal(client, customer, reason="客户来电要求回拨"):
    return client.post(f"{API}/customers/{customer}/number-views", json={"reason": reason})


class TestCustomers:
    def test_the_view_is_masked(self, enter):
        answer = enter("outbound_seat", "grid-a11").get(f"{API}/customers/c2")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        facts = {fact["name"]: fact for fact in body["subscriptions"][0]["facts"]}
        assert facts["number"]["value"] == "138****0002"
        assert body["unit_id"] == "grid-a11"
        assert not CANARY.search(answer.text)

    def test_foreign_and_missing_customers_give_one_404(self, enter):
        client = enter("outbound_seat", "grid-a11")
        bodies = set()
        for customer in ("c1", "c9", "c99999"):
            for path in ("", "/opt-outs"):
                answer = client.get(f"{API}/customers/{customer}{path}")
                assert answer.status_code == 404
                body = answer.json()
                kept = {k: v for k, v in body.items() if k not in ("request_id", "instance")}
                bodies.add(json.dumps(kept, sort_keys=True).replace(customer, "*"))
        assert len(bodies) == 1

    def test_a_date_before_the_customer_was_known_is_404(self, enter):
        client = enter("outbound_seat", "grid-a11")
        assert client.get(f"{API}/customers/c2?as_of=2020-01-31").status_code == 404

    def test_who_sees_no_customers_gets_403(self, enter):
        assert enter("administrator", "province").get(f"{API}/customers/c2").status_code == 403


class TestOptOuts:
    def test_recorded_listed_withdrawn(self, enter, service):
        client = enter("hall_clerk", "county-a1")
        made = refuse(client, "c2")
        assert made.status_code == 201, made.text
        again = refuse(client, "c2")
        assert again.json() == made.json()
        assert refuse(client, "c2", key="k2").status_code == 409
        with service.system_work(read_only=True) as work:
            assert personal.is_opted_out(service, work, ["c2"], "sms") == {"c2"}
        number = made.json()["opt_out_id"]
        path = f"{API}/customers/c2/opt-outs/{number}/withdrawal"
        assert client.post(path, json={"source": "签字"}).status_code == 200
        (row,) = client.get(f"{API}/customers/c2/opt-outs").json()["items"]
        assert row["withdrawal_source"] == "签字"
        assert client.post(path, json={"source": "签字"}).status_code == 409

    @pytest.mark.parametrize(
        "body",
        [{"kind": "x"}, {"channel": "pigeon"}, {"source": ""}, {"other": 1},
         {"effective_at": "2026-01-01T00:00:00"}, {"effective_at": "2029-01-01T00:00:00Z"}],
    )  # fmt: skip
    def test_bad_bodies_are_422(self, enter, body):
        assert refuse(enter("hall_clerk", "county-a1"), "c2", **body).status_code == 422


class TestNumbers:
    def test_in_clear_for_those_who_may_and_never_kept(self, enter, service):
        client = enter("account_manager", "grid-a11")
        answer = reveal(client, "c2")
        assert answer.status_code == 200, answer.text
        assert answer.json()["numbers"][0]["number"] == NUMBERS["c2"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert reveal(client, "c1").status_code == 404
        assert reveal(client, "c2", "    ").status_code == 422
        assert reveal(enter("outbound_seat", "grid-a11"), "c2").status_code == 403

    def test_the_auditor_reads_who_and_why(self, enter):
        reveal(enter("account_manager", "grid-a11"), "c2")
        reveal(enter("account_manager", "grid-b11"), "c1")
        near = enter("auditor", "city-a").get(f"{API}/audit-disclosures")
        assert near.status_code == 200, near.text
        (row,) = near.json()["items"]
        assert (row["customer_id"], row["unit_id"]) == ("c2", "grid-a11")
        assert row["reason"] == "客户来电要求回拨"
        top = enter("auditor", "province")
        assert len(top.get(f"{API}/audit-disclosures").json()["items"]) == 2
        found = top.get(f"{API}/audit-entries?subject_kind=customer&subject_id=c1").json()["items"]
        assert [entry["action"] for entry in found] == ["customer.unmask"]
        assert not CANARY.search(top.get(f"{API}/audit-entries").text)


class TestErasure:
    def test_asked_for_carried_out_certified(self, enter, service):
        reveal(enter("account_manager", "grid-a11"), "c2")
        client = enter("administrator", "city-a")
        body = {"customer_id": "c2", "reason": "来函 118"}
        made = client.post(f"{API}/erasures", json=body, headers={"Idempotency-Key": "k"})
        assert made.status_code == 202, made.text
        assert made.json()["state"] == "running"
        erasure_id = made.json()["erasure_id"]
        personal.carry_out_erasure(service, erasure_id)
        done = client.get(f"{API}/erasures/{erasure_id}").json()
        assert (done["state"], done["left_over"]) == ("done", [])
        assert enter("administrator", "city-b").get(
            f"{API}/erasures/{erasure_id}"
        ).status_code == 404  # fmt: skip
        (row,) = enter("auditor", "province").get(f"{API}/audit-disclosures").json()["items"]
        assert row["customer_id"] is None

    def test_retention_dues_are_listed(self, enter):
        assert enter("administrator", "province").get(f"{API}/retention-dues").json() == []


class TestAudit:
    def test_search_narrows_and_pages(self, enter):
        clerk = enter("hall_clerk", "grid-a11")
        for number in (2, 4, 6):
            refuse(clerk, f"c{number}", key=f"k{number}")
        client = enter("auditor", "province")
        first = client.get(f"{API}/audit-entries?action=customer.*&limit=2").json()
        assert len(first["items"]) == 2
        cursor = first["next_cursor"]
        rest = client.get(f"{API}/audit-entries?action=customer.*&limit=2&cursor={cursor}").json()
        assert len(rest["items"]) == 1
        assert client.get(f"{API}/audit-entries?action=customer_opt").json()["items"] == []
        wrong = f"{API}/audit-entries?since=2026-11-03T00:00:00Z&until=2026-11-02T00:00:00Z"
        assert client.get(wrong).status_code == 422
        none = client.get(f"{API}/audit-entries?since=2027-01-01T00:00:00Z").json()["items"]
        assert none == []

    def test_head_and_verification(self, enter, service):
        refuse(enter("hall_clerk", "grid-a11"), "c2")
        client = enter("auditor", "province")
        head = client.post(f"{API}/audit-head-exports", json={})
        assert head.status_code == 200, head.text
        whole = client.post(f"{API}/audit-verifications", json={"heads": [head.json()]})
        assert whole.status_code == 200, whole.text
        report = whole.json()
        # the fixture's own sign-ins are written past the service and carry no mark
        assert report["marked"] is True
        assert report["heads"] == 1
        forged = head.json() | {"sequence": 1}
        answer = client.post(f"{API}/audit-verifications", json={"heads": [forged]})
        assert answer.status_code in (400, 422), answer.text

    def test_exports_are_lines_and_are_remembered(self, enter):
        refuse(enter("hall_clerk", "grid-a11"), "c2")
        client = enter("auditor", "city-a")
        answer = client.get(f"{API}/audit-entries/export")
        assert answer.status_code == 200
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert {line["unit_id"] for line in lines} <= {"grid-a11", "city-a"}
        assert "customer.opt_out" in {line["action"] for line in lines}
        found = client.get(f"{API}/audit-exports").json()["items"]
        assert [entry["action"] for entry in found] == ["audit.export"]

    def test_who_is_no_auditor_gets_403(self, enter):
        client = enter("planner", "province")
        for path in ("audit-entries", "audit-disclosures", "audit-exports"):
            assert client.get(f"{API}/{path}").status_code == 403
