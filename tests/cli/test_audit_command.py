"""``bihuan audit``: verify, head, export over a real workspace."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bihuan.cli.audit as commands
from bihuan.cli.app import app
from bihuan.server.node import bring_up_to_date, open_service
from bihuan.server.settings import Settings


@pytest.fixture
def house(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BIHUAN_LANG", "en")
    settings = Settings(workspace=tmp_path / "house")
    bring_up_to_date(settings)
    service = open_service(settings)
    for number in range(5):
        with service.system_work() as work:
            work.audit("plan.edit", "plan", f"plan-{number}", step=number)
    service.control.engine.dispose()
    return tmp_path / "house"


def run(*words: str):
    return CliRunner().invoke(app, ["audit", *words], catch_exceptions=True)


def told(result) -> dict:
    return json.loads(result.stdout)


def harm(house: Path, *statements: str) -> None:
    with sqlite3.connect(house / "control.db") as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)


def test_a_whole_trail_is_said_to_be_whole(house):
    result = run("verify", "-w", str(house), "--json")
    assert result.exit_code == 0, result.output
    assert told(result)["whole"] is True
    assert told(result)["entries"] == 5
    assert told(result)["marked"] is True


def test_a_changed_entry_is_named(house):
    harm(house, "UPDATE audit_entry SET account_id = 'nobody' WHERE sequence = 3")
    result = run("verify", "-w", str(house), "--json")
    assert isinstance(result.exception, commands.BrokenTrailError)
    assert result.exception.exit_code == 3
    assert "entry 3" in str(result.exception)
    assert told(result)["broken"] == {"sequence": 3, "kind": "changed"}


def test_a_cut_tail_needs_the_head_that_was_kept(house, tmp_path):
    safe = tmp_path / "safe" / "head.json"
    assert run("head", str(safe), "-w", str(house)).exit_code == 0
    assert run("verify", "-w", str(house), "--head", str(safe)).exit_code == 0
    harm(
        house,
        "DELETE FROM audit_entry WHERE sequence > 2",
        "UPDATE audit_head SET sequence = 2,"
        " seal = (SELECT seal FROM audit_entry WHERE sequence = 2)",
    )
    assert run("verify", "-w", str(house)).exit_code == 0
    result = run("verify", "-w", str(house), "--head", str(safe))
    assert "cut off" in str(result.exception)


def test_a_forged_head_file_is_refused(house, tmp_path):
    safe = tmp_path / "head.json"
    run("head", str(safe), "-w", str(house))
    content = json.loads(safe.read_text())
    safe.write_text(json.dumps(content | {"sequence": 2}))
    assert "cannot be trusted" in str(
        run("verify", "-w", str(house), "--head", str(safe)).exception
    )
    safe.write_text("nothing")
    assert "not a file" in str(run("verify", "-w", str(house), "--head", str(safe)).exception)


def test_an_export_can_be_checked_without_any_key(house, tmp_path):
    import hashlib

    target = tmp_path / "trail.jsonl"
    assert run("export", str(target), "-w", str(house)).exit_code == 0
    lines = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["action"] == "audit.export"
    before = "0" * 64
    for line in lines:
        rest = {k: v for k, v in line.items() if k not in ("previous", "seal", "mark")}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert line["previous"] == before
        assert hashlib.sha256((before + text).encode()).hexdigest() == line["seal"]
        before = line["seal"]


def test_an_export_can_be_narrowed(house, tmp_path):
    target = tmp_path / "trail.jsonl"
    result = run("export", str(target), "-w", str(house), "--action", "audit.*")
    assert result.exception is None, result.output
    assert len(target.read_text("utf-8").splitlines()) == 1


def test_every_kind_of_break_has_words():
    from bihuan.server.control.audit_chain import ChainBreak

    assert all(f"``{kind}``" in (ChainBreak.__doc__ or "") for kind in commands.KINDS)
