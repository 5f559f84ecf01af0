"""Refusals, numbers in clear, erasure: who may, what is kept, what is left."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from bihuan.data.personal import KeysError
from bihuan.delivery import load_opt_outs
from bihuan.server.app import personal
from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError
from bihuan.server.app.permission import PermissionDeniedError
from bihuan.server.control import AuditEntry, CustomerAlias, DisclosureDay, Erasure, OptOut

from ..customers import NUMBERS, OCTOBER, actor, open_house

MANAGER = actor("account_manager")
SEAT = actor("outbound_seat")
SEAT_B = actor("outbound_seat", "grid-b11")
ADMIN = actor("administrator", "province")
CANARY = re.compile(r"(?<![0-9A-Za-z])1389000[0-9]{4}(?![0-9A-Za-z])|金丝雀\d{5}号")


@pytest.fixture
def service(control, database_url, clock, tmp_path):
    return open_house(control, database_url, clock, tmp_path / "workspace")


def refuse(service, who, customer, *, kind="no_marketing", channel="all", at=None):
    with service.work(who, "customer.opt_out") as work:
        refusal = personal.Refusal(kind, channel, "来电", at)
        return personal.record_opt_out(service, work, who, customer, refusal)


def refused(service, ids, channel, **given):
    with service.work(SEAT_B, "customer.read", read_only=True) as work:
        return personal.is_opted_out(service, work, ids, channel, **given)


def running(service):
    with service.system_work(read_only=True) as work:
        return list(
            work.session.scalars(sa.select(Erasure.erasure_id).where(Erasure.state == "running"))
        )


def reveal(service, who, customer, reason="客户来电要求回拨"):
    with service.work(who, "customer.unmask") as work:
        return personal.reveal_numbers(service, work, who, customer, reason)


def entries(service, action):
    with service.system_work(read_only=True) as work:
        query = sa.select(AuditEntry).where(AuditEntry.action == action)
        return list(work.session.scalars(query.order_by(AuditEntry.sequence)))


class TestPlaces:
    def test_foreign_missing_and_nobodys_customers_look_the_same(self, service):
        told = set()
        with service.work(SEAT, "customer.read", read_only=True) as work:
            assert personal.get_place(service, work, "c0").unit_id == "grid-a11"
            for customer in ("c1", "c9", "c99999"):
                with pytest.raises(NotFoundError) as error:
                    personal.get_place(service, work, customer)
                told.add(str(error.value).replace(customer, "*"))
        assert len(told) == 1

    def test_the_view_is_masked(self, service):
        view = personal.show_customer(service, "c2", OCTOBER)
        assert view.customer["name"] == "金********"
        assert view.subscriptions[0]["number"] == "138****0002"
        assert not CANARY.search(str(view))

    def test_a_customer_of_a_clear_lake_is_masked_as_well(self, control, database_url, clock,
                                                          tmp_path, monkeypatch):  # fmt: skip
        monkeypatch.setattr("bihuan.workspace.workspace.protect_lake", lambda *_: [])
        service = open_house(control, database_url, clock, tmp_path / "clear")
        assert service.workspace.view360("c2", OCTOBER).subscriptions[0]["number"] == NUMBERS["c2"]
        assert not CANARY.search(str(personal.show_customer(service, "c2", OCTOBER)))


class TestOptOuts:
    def test_hold_at_once_on_their_channel_and_nowhere_else(self, service):
        refuse(service, SEAT, "c0", channel="sms")
        refuse(service, SEAT, "c2")
        refuse(service, SEAT, "c4", kind="no_profiling")
        ids = [*NUMBERS]
        assert refused(service, ids, "sms") == {"c0", "c2"}
        assert refused(service, ids[:100], "outbound") == {"c2"}
        assert refused(service, ids, "outbound", kind="no_profiling") == {"c4"}
        assert refused(service, [], "sms") == set()

    def test_begin_and_end_at_their_moments(self, service, clock):
        row = refuse(service, SEAT, "c0", at=clock.now() + timedelta(days=1))
        assert refused(service, ["c0"], "sms") == set()
        clock.advance(timedelta(days=1))
        assert refused(service, ["c0"], "sms") == {"c0"}
        clock.advance(timedelta(days=1))
        with service.work(SEAT, "customer.opt_out") as work:
            personal.withdraw_opt_out(service, work, SEAT, "c0", row.opt_out_id, "签字")
        assert refused(service, ["c0"], "sms") == set()
        assert refused(service, ["c0"], "sms", at=clock.now() - timedelta(hours=1)) == {"c0"}
        with service.work(SEAT, "customer.read", read_only=True) as work:
            (kept,) = work.session.scalars(personal.list_opt_outs(service, work, "c0"))
        assert (kept.withdrawal_source, kept.withdrawn_by) == ("签字", SEAT.account_id)

    def test_twice_conflicts_and_after_withdrawal_starts_anew(self, service):
        row = refuse(service, SEAT, "c0")
        with pytest.raises(ConflictError):
            refuse(service, SEAT, "c0")
        with service.work(SEAT, "customer.opt_out") as work:
            personal.withdraw_opt_out(service, work, SEAT, "c0", row.opt_out_id, "签字")
        with pytest.raises(ConflictError), service.work(SEAT, "customer.opt_out") as work:
            personal.withdraw_opt_out(service, work, SEAT, "c0", row.opt_out_id, "签字")
        assert refuse(service, SEAT, "c0").opt_out_id != row.opt_out_id

    def test_others_customers_are_out_of_reach(self, service):
        row = refuse(service, SEAT, "c0")
        with pytest.raises(NotFoundError):
            refuse(service, SEAT_B, "c0")
        with pytest.raises(NotFoundError), service.work(SEAT_B, "customer.opt_out") as work:
            personal.withdraw_opt_out(service, work, SEAT_B, "c0", row.opt_out_id, "x")
        with pytest.raises(NotFoundError), service.work(SEAT, "customer.opt_out") as work:
            personal.withdraw_opt_out(service, work, SEAT, "c2", row.opt_out_id, "x")

    @pytest.mark.parametrize(("kind", "channel"), [("x", "all"), ("no_marketing", "pigeon")])
    def test_unknown_words_are_refused(self, kind, channel):
        with pytest.raises(RefusedError):
            personal.Refusal(kind, channel, "来电")

    def test_too_far_a_beginning_is_refused(self, service, clock):
        with pytest.raises(RefusedError):
            refuse(service, SEAT, "c0", at=clock.now() + timedelta(days=400))

    def test_defect_a_gate_in_the_callers_scope_would_miss_refusals(self, service):
        refuse(service, SEAT, "c0")
        with service.work(SEAT_B, "customer.read", read_only=True) as work:
            assert work.session.scalars(sa.select(OptOut)).all() == []
            assert personal.is_opted_out(service, work, ["c0"], "sms") == {"c0"}

    def test_are_carried_into_the_lake_beside_those_of_source_systems(self, service, clock):
        lake = service.workspace.lake
        crm = {
            "customer_id": ["c0", "c6", "c8"], "kind": ["no_marketing"] * 3,
            "channel": ["sms", "all", "all"], "since": [OCTOBER] * 3, "source": ["crm"] * 3,
        }  # fmt: skip
        schema = service.workspace.contracts["opt_out"].schema
        with lake.publication(clock) as publication:
            publication.add("opt_out", OCTOBER, pa.table(crm, schema=schema))
        refuse(service, SEAT, "c2", channel="app")
        row = refuse(service, SEAT, "c6")
        with service.work(SEAT, "customer.opt_out") as work:
            personal.withdraw_opt_out(service, work, SEAT, "c6", row.opt_out_id, "签字")
        assert personal.publish_opt_outs(service) == 3
        rows = {(r["customer_id"], r["channel"]) for r in load_opt_outs(lake.view()).to_pylist()}
        assert rows == {("c0", "sms"), ("c2", "app"), ("c8", "all")}
        version = lake.view().version
        assert personal.publish_opt_outs(service) == 3
        assert lake.view().version == version


class TestReveal:
    def test_shows_and_remembers_who_why_and_not_the_number(self, service):
        (number,) = reveal(service, MANAGER, "c2")
        assert (number.subscription_id, number.number) == ("s2", NUMBERS["c2"])
        (entry,) = entries(service, "customer.unmask")
        assert entry.account_id == MANAGER.account_id
        assert entry.detail == {"reason": "客户来电要求回拨", "unit": "grid-a11", "numbers": 1}
        assert entry.subject_id == personal.alias_of(service, "c2") != "c2"

    @pytest.mark.parametrize("reason", ["", "   ", "急", " 急  急 "])
    def test_needs_a_reason(self, service, reason):
        with pytest.raises(RefusedError):
            reveal(service, MANAGER, "c2", reason)
        assert entries(service, "customer.unmask") == []

    def test_needs_the_permission_and_the_reach(self, service):
        with pytest.raises(PermissionDeniedError):
            reveal(service, SEAT, "c2")
        with pytest.raises(NotFoundError):
            reveal(service, MANAGER, "c1")

    def test_is_bounded_per_account_and_day(self, service, clock, monkeypatch):
        monkeypatch.setattr("bihuan.server.app.personal.reveal.CUSTOMERS_PER_DAY", 3)
        for _ in range(3):
            reveal(service, MANAGER, "c2")
        with pytest.raises(personal.DisclosureLimitError):
            reveal(service, MANAGER, "c4")
        other = actor("account_manager", "grid-a11", "another")
        reveal(service, other, "c4")
        clock.advance(timedelta(days=1))
        reveal(service, MANAGER, "c4")
        assert len(entries(service, "customer.unmask")) == 5

    def test_the_bound_is_exact_under_threads(self, service, monkeypatch):
        monkeypatch.setattr("bihuan.server.app.personal.reveal.CUSTOMERS_PER_DAY", 5)
        shown, limited = [], []

        def run():
            for _ in range(3):
                try:
                    shown.append(reveal(service, MANAGER, "c2"))
                except personal.DisclosureLimitError:
                    limited.append(1)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(shown), len(limited)) == (5, 7)
        with service.system_work(read_only=True) as work:
            assert work.session.scalars(sa.select(DisclosureDay)).one().used == 5

    def test_without_the_keys_nothing_is_shown(self, service):
        service.workspace.keys_file.unlink()
        service.workspace._protector = None
        with pytest.raises(KeysError):
            reveal(service, MANAGER, "c2")
        assert not service.workspace.keys_file.exists()


def erase(service, customer):
    with service.work(ADMIN, "customer.erase") as work:
        row = personal.request_erasure(service, work, ADMIN, customer, "来函 118")
    return personal.carry_out_erasure(service, row.erasure_id)


class TestErasure:
    def test_leaves_an_alias_and_nothing_else(self, service):
        refuse(service, SEAT, "c2")
        refuse(service, SEAT, "c4")
        reveal(service, MANAGER, "c2")
        alias = personal.alias_of(service, "c2")
        certificate = erase(service, "c2")
        assert (certificate.state, certificate.alias) == ("done", alias)
        assert certificate.sealed_subject == ""
        assert certificate.left_over == []
        assert certificate.removed == {
            "control:opt_out": 1, "customer@2026-10-31": 1, "customer__sealed@2026-10-31": 1,
            "subscription@2026-10-31": 1, "subscription__sealed@2026-10-31": 1,
        }  # fmt: skip
        with pytest.raises(NotFoundError), service.system_work(read_only=True) as work:
            personal.get_place(service, work, "c2")
        with service.system_work(read_only=True) as work:
            left = work.session.scalars(sa.select(OptOut)).all()
            assert [row.customer_id for row in left] == ["c4"]
            aliases = work.session.scalars(sa.select(CustomerAlias)).all()
            assert alias not in {row.alias for row in aliases}

    def test_no_table_of_the_control_database_names_the_customer(self, service, database_url):
        refuse(service, SEAT, "c2024")
        erase(service, "c2024")
        with service.control.engine.connect() as connection:
            names = sa.inspect(connection).get_table_names()
            for name in names:
                rows = connection.execute(sa.text(f"SELECT * FROM {name}")).all()
                assert "c2024" not in str(rows), name
        if database_url.startswith("sqlite"):
            service.control.engine.dispose()
            path = Path(database_url.removeprefix("sqlite:///"))
            assert b"c2024" not in path.read_bytes()

    def test_an_erased_customer_who_comes_back_is_not_contacted(self, service):
        erase(service, "c2")
        assert refused(service, ["c2", "c4"], "sms") == {"c2"}

    def test_target_lists_lose_the_line(self, service):
        import json

        folder = service.workspace.layout.lists / "d1" / "b1"
        folder.mkdir(parents=True)
        (folder / "sms__g.csv").write_bytes(
            b'\xef\xbb\xbf"priority","customer_id"\r\n"1","c2"\r\n"2","c4"\r\n'
        )
        rows = pa.table({"customer_id": ["c2", "c4"], "assignment_id": ["x", "y"]})
        pq.write_table(rows, folder / "sms__g.parquet")
        (folder / "sms__g.xlsx").write_bytes(b"a workbook")
        files = [
            {"name": f"sms__g.{form}", "format": form, "rows": 2, "bytes": 1, "sha256": ""}
            for form in ("csv", "parquet", "xlsx")
        ]
        manifest = {"batch_id": "b1", "rows": 2, "files": files}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        certificate = erase(service, "c2")
        assert certificate.removed["lists"] == 1
        kept = json.loads((folder / "manifest.json").read_bytes())
        assert [(f["format"], f["rows"]) for f in kept["files"]] == [("csv", 1), ("parquet", 1)]
        assert (folder / "sms__g.csv").read_bytes() == (
            b'\xef\xbb\xbf"priority","customer_id"\r\n"2","c4"\r\n'
        )
        assert pq.read_table(folder / "sms__g.parquet")["assignment_id"].to_pylist() == ["y"]

    def test_what_is_left_is_told(self, service):
        (service.workspace.layout.root / "note.txt").write_text("c2 rang", "utf-8")
        assert erase(service, "c2").left_over == [{"place": "note.txt", "times": 1}]

    @pytest.mark.parametrize(
        "place", ["erase_subject", "erase_from_quarantine", "erase_from_lists", "find_left"]
    )
    def test_killed_anywhere_it_is_finished_later(self, service, monkeypatch, place):
        module = __import__("importlib").import_module("bihuan.server.app.personal.erasure")
        with service.work(ADMIN, "customer.erase") as work:
            row = personal.request_erasure(service, work, ADMIN, "c2", "来函 118")

        def killed(*given, **named):
            raise KeyboardInterrupt

        monkeypatch.setattr(module, place, killed)
        with pytest.raises(KeyboardInterrupt):
            personal.carry_out_erasure(service, row.erasure_id)
        assert running(service) == [row.erasure_id]
        monkeypatch.undo()
        done = personal.carry_out_erasure(service, row.erasure_id)
        assert (done.state, done.left_over) == ("done", [])
        assert running(service) == []
        again = personal.carry_out_erasure(service, row.erasure_id)
        assert again.finished_at == done.finished_at

    def test_asking_twice_and_naming_the_customer_are_refused(self, service):
        with service.work(ADMIN, "customer.erase") as work:
            personal.request_erasure(service, work, ADMIN, "c2", "来函 118")
        with pytest.raises(ConflictError), service.work(ADMIN, "customer.erase") as work:
            personal.request_erasure(service, work, ADMIN, "c2", "来函 119")
        for reason in ("", "  ", "客户 c4 来函"):
            with pytest.raises(RefusedError), service.work(ADMIN, "customer.erase") as work:
                personal.request_erasure(service, work, ADMIN, "c4", reason)

    def test_certificates_are_seen_within_the_scope(self, service):
        erase(service, "c2")
        near = actor("administrator", "city-a")
        far = actor("administrator", "city-b")
        for who, found in ((near, 1), (far, 0)):
            with service.work(who, "customer.erase", read_only=True) as work:
                assert len(work.session.scalars(personal.find_erasures(work)).all()) == found


class TestRetention:
    def test_a_dry_run_then_the_run(self, service, clock):
        ws = service.workspace
        old = datetime(2023, 1, 31, tzinfo=UTC).date()
        with ws.lake.publication(clock) as publication:
            publication.add("customer", old, ws.view.get("customer").read())
        due = personal.find_expired_data(service)
        assert [expiry.place for expiry in due] == ["customer@2023-01-31"]
        assert personal.remove_expired_data(service, "admin") == due
        assert ws.view.dates("customer") == (OCTOBER,)
        (entry,) = entries(service, "retention.run")
        assert entry.detail["removed"] == {"state": 1}
        assert personal.remove_expired_data(service) == ()
        assert len(entries(service, "retention.run")) == 1


class TestCanaries:
    def test_none_in_clear_after_all_flows(self, service, tmp_path, caplog, capfd, database_url):
        """2,000 numbers and names in the lake; views, refusals, disclosures, exports, erasures."""
        for n in range(0, 40, 2):
            refuse(service, SEAT, f"c{n}")
            reveal(service, MANAGER, f"c{n}", f"回拨 {NUMBERS[f'c{n}']}")
            personal.show_customer(service, f"c{n}", OCTOBER)
        erase(service, "c2")
        personal.publish_opt_outs(service)
        out = capfd.readouterr()
        assert not CANARY.search(caplog.text + out.out + out.err)
        with service.control.engine.connect() as connection:
            for name in sa.inspect(connection).get_table_names():
                rows = connection.execute(sa.text(f"SELECT * FROM {name}")).all()
                assert not CANARY.search(str(rows)), name
        found = []
        for path in tmp_path.rglob("*"):
            if path.is_file():
                text = path.read_bytes().decode("utf-8", "replace")
                if path.suffix == ".parquet":
                    text += str(pq.read_table(path, partitioning=None).to_pydict())
                if CANARY.search(text):
                    found.append(path)
        assert found == []


def test_erasure_rows_name_no_customer(service):
    row = erase(service, "c2")
    with service.system_work(read_only=True) as work:
        kept = work.session.get_one(Erasure, row.erasure_id)
        assert "c2" not in str({c.name: getattr(kept, c.name) for c in Erasure.__table__.columns}
                               | {"alias": "", "erasure_id": ""})  # fmt: skip
