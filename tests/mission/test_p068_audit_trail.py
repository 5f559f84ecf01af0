"""P068: 有理可依、有迹可循、有据可查 - every step leaves an entry that nobody can change unseen."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import bihuan.cli.main
from bihuan.cli.app import app

from .by_hand import OCTOBER, define
from .served import Person, lay_out, serving


def bihuan(*words: str) -> Result:
    """Run the command line as an inspector does."""
    return CliRunner().invoke(app, list(words))


def verified(house: Path, *heads: Path) -> dict:
    given = [word for head in heads for word in ("--head", str(head))]
    return json.loads(bihuan("audit", "verify", "--json", "-w", str(house), *given).stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose trail has seven entries: what was taken out of it so far."""
    folder = tmp_path_factory.mktemp("p068")
    house = folder / "house"
    assert bihuan("init", str(house)).exit_code == 0
    assert bihuan("migrate", "-w", str(house)).exit_code == 0
    for number in range(7):
        file = folder / f"head-{number}.json"
        assert bihuan("audit", "head", str(file), "-w", str(house)).exit_code == 0
    return folder


@pytest.fixture
def house(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return tmp_path / "house"


def export(house: Path, target: Path, *words: str) -> list[str]:
    assert bihuan("audit", "export", str(target), "-w", str(house), *words).exit_code == 0
    return target.read_text("utf-8").splitlines()


def open_database(house: Path, *, guarded: bool) -> sqlite3.Connection:
    db = sqlite3.connect(house / "control.db")
    if not guarded:  # somebody who owns the database can take its guards off
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            db.execute(f"DROP TRIGGER {name}")
    return db


@pytest.mark.mission("P068")
class TestTraceable:
    """有迹可循: who did what, when, can be read and followed."""

    def test_taking_the_trail_out_is_itself_on_the_trail(self, house, tmp_path):
        entries = [json.loads(line) for line in export(house, tmp_path / "trail.jsonl")]
        assert [entry["sequence"] for entry in entries] == list(range(1, 9))
        assert {entry["action"] for entry in entries[:7]} == {"audit_head.export"}
        assert entries[-1]["action"] == "audit.export"
        assert all(entry["at"] and entry["account_id"] for entry in entries)

    def test_one_kind_of_act_can_be_followed(self, house, tmp_path):
        export(house, tmp_path / "all.jsonl")
        lines = export(house, tmp_path / "some.jsonl", "--action", "audit.*")
        entries = [json.loads(line) for line in lines]
        assert [entry["action"] for entry in entries] == ["audit.export"] * 2


@pytest.mark.mission("P068")
class TestEvidence:
    """有据可查: what was exported can be proved, by the house and by a stranger."""

    def test_a_whole_trail_agrees_with_every_head_that_was_kept(self, house, tmp_path):
        heads = sorted(tmp_path.glob("head-*.json"))
        report = verified(house, *heads)
        assert report["whole"]
        assert (report["entries"], report["heads"], report["marked"]) == (7, 7, True)

    def test_an_inspector_recomputes_the_chain_without_our_keys(self, house, tmp_path):
        before = "0" * 64
        for line in export(house, tmp_path / "trail.jsonl"):
            entry = json.loads(line)
            told = {k: v for k, v in entry.items() if k not in ("previous", "seal", "mark")}
            text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            assert entry["previous"] == before
            before = hashlib.sha256((before + text).encode()).hexdigest()
            assert entry["seal"] == before


@pytest.mark.mission("P068")
class TestUnchangeable:
    """What was done cannot be made undone, added to or cut off unseen."""

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE audit_entry SET account_id = 'nobody' WHERE sequence = 2",
            "DELETE FROM audit_entry WHERE sequence = 7",
            "UPDATE audit_head SET sequence = 1",
        ],
    )
    def test_the_database_refuses_to_change_it(self, house, statement):
        with (
            open_database(house, guarded=True) as db,
            pytest.raises(sqlite3.DatabaseError, match="added and never changed"),
        ):
            db.execute(statement)
        assert verified(house)["whole"]

    @pytest.mark.parametrize(
        ("statement", "found"),
        [
            ("UPDATE audit_entry SET account_id = 'x' WHERE sequence = 2", (2, "changed")),
            ("DELETE FROM audit_entry WHERE sequence = 4", (4, "missing")),
            ("UPDATE audit_entry SET mark = '' WHERE sequence = 5", (5, "forged")),
            ("DELETE FROM audit_entry WHERE sequence > 3", (4, "truncated")),
        ],
    )
    def test_who_owns_the_database_is_found_out(self, house, statement, found):
        with open_database(house, guarded=False) as db:
            db.execute(statement)
        report = verified(house)
        assert not report["whole"]
        assert (report["broken"]["sequence"], report["broken"]["kind"]) == found

    def test_a_tail_cut_off_cleanly_is_found_by_a_head_kept_elsewhere(self, house, tmp_path):
        with open_database(house, guarded=False) as db:
            db.execute("DELETE FROM audit_entry WHERE sequence > 3")
            db.execute(
                "UPDATE audit_head SET sequence = 3,"
                " seal = (SELECT seal FROM audit_entry WHERE sequence = 3)"
            )
        assert verified(house)["whole"]  # nothing inside can tell
        assert verified(house, tmp_path / "head-2.json")["whole"]
        report = verified(house, tmp_path / "head-6.json")
        assert report["broken"] == {"sequence": 4, "kind": "truncated"}


NUMBER = "13912345678"
MAPPING = """
tables:
  subscription:
    columns:
      subscription_id: line
      customer_id: customer
      number: number
      service: {constant: mobile}
      status: {constant: active}
"""


@pytest.mark.mission("P068")
class TestAccess:
    """有理可依: who looks at a customer's number says why, and the auditor reads it."""

    def test_a_number_in_clear_has_a_reason_that_the_auditor_reads(self, tmp_path):
        ws = lay_out(tmp_path / "ws")
        rows = ws.view.get("customer").read(["customer_id", "org_unit_id"]).to_pylist()
        define(ws, "mappings", "numbers", MAPPING)
        with serving(tmp_path / "ws", worker=False) as url:
            manager, auditor = Person(url, "demo-account-manager"), Person(url, "demo-auditor")
            unit = manager.see("/me")["unit_id"]
            mine = next(row["customer_id"] for row in rows if row["org_unit_id"] == unit)
            file = tmp_path / "numbers.csv"
            file.write_text(f"line,customer,number\nL-1,{mine},{NUMBER}\n", "utf-8")
            assert ws.ingest(file, "numbers", OCTOBER, append=True).rows_quarantined == 0
            view = manager.get(f"/customers/{mine}")
            assert "139****5678" in view.text
            assert NUMBER not in view.text
            path = f"/customers/{mine}/number-views"
            assert manager.post(path, {"reason": "    "}).status_code == 422
            shown = manager.post(path, {"reason": "客户来电要求回拨"})
            assert [n["number"] for n in shown.json()["numbers"]] == [NUMBER], shown.text
            row = auditor.see("/audit-disclosures")["items"][0]
            assert (row["customer_id"], row["reason"]) == (mine, "客户来电要求回拨")
            assert NUMBER not in auditor.get("/audit-entries", limit=200).text
            head = auditor.post("/audit-head-exports", {}).json()
            report = auditor.post("/audit-verifications", {"heads": [head]}).json()
            assert (report["whole"], report["marked"], report["heads"]) == (True, True, 1)
            for person in (manager, auditor):
                person.http.close()
