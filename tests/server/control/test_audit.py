"""The audit trail: whole under many writers, refused by the database, found out if harmed."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from bihuan.kernel import DefectError, FixedClock, random_stream
from bihuan.server.control import (
    GENESIS,
    AuditEntry,
    ChainBreak,
    Control,
    ExportedHead,
    HeadFileError,
    Scope,
    Sealer,
    Table,
    audit_guards,
    audit_guards_off,
    current_head,
    export_head,
    open_engine,
    read_head,
    seal_of,
    unguarded,
    verify_chain,
    with_sealer,
)

SEALER = Sealer({"1": b"k" * 32})
OTHER = Sealer({"1": b"x" * 32})


def write(control: Control, number: int, **given) -> None:
    with control.work(Scope.everything(), account_id="planner", **given) as work:
        for index in range(number):
            work.audit("plan.edit", "plan", f"plan-{index}", step=index, share=0.25, text="改价")


def check(control: Control, sealer: Sealer | None = SEALER, heads=()):
    with control.work(Scope.everything(), read_only=True) as work:
        return verify_chain(work, sealer, heads)


@pytest.fixture
def sealed(control: Control) -> Control:
    return Control(with_sealer(control.engine, SEALER), control.clock)


class TestChain:
    def test_is_whole_after_many_units_of_work(self, sealed):
        for _ in range(5):
            write(sealed, 3)
        report = check(sealed)
        assert report.is_whole
        assert (report.entries, report.sequence, report.marked) == (15, 15, True)

    def test_an_empty_chain_is_whole(self, sealed):
        report = check(sealed)
        assert report.is_whole
        assert (report.sequence, report.seal) == (0, GENESIS)

    def test_details_verify_as_either_database_gives_them_back(self, sealed):
        with sealed.work(Scope.everything(), account_id="a") as work:
            work.audit(
                "plan.edit", "plan", "p", whole=1.0, large=1e20, small=1e-9, minus=-0.0,
                nothing=None, infinite=float("inf"), nul="a\0b", price=Decimal("10.10"),
                inner={"b": [1, 2.5, True], "a": ("x", {"y": 3.0})}, half="\ud800",
            )  # fmt: skip
        assert check(sealed).is_whole

    def test_no_phone_number_comes_in_by_a_detail(self, sealed):
        with sealed.work(Scope.everything()) as work:
            work.audit("x.y", "plan", "p", text="拨打 13812348000 联系", ids=["11010519491231002X"])
            work.audit("x.y", "plan", "p", id="plan_0a13812348000b", amount=13812)
        with sealed.work(Scope.everything(), read_only=True) as work:
            first, second = work.session.scalars(sa.select(AuditEntry).order_by("sequence")).all()
        assert first.detail == {"text": "拨打 *** 联系", "ids": ["***"]}
        assert second.detail == {"id": "plan_0a13812348000b", "amount": 13812}

    def test_a_rolled_back_unit_leaves_nothing(self, sealed):
        write(sealed, 2)
        with pytest.raises(RuntimeError), sealed.work(Scope.everything()) as work:  # noqa: PT012
            work.audit("plan.edit", "plan", "lost")
            raise RuntimeError
        write(sealed, 1)
        assert check(sealed).sequence == 3
        assert check(sealed).is_whole

    def test_eight_threads_make_one_chain(self, sealed):
        errors: list[BaseException] = []

        def run(number: int) -> None:
            try:
                for _ in range(12):
                    write(sealed, 2, request_id=f"thread-{number}")
            except BaseException as error:  # noqa: BLE001 - shown by the main thread
                errors.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        report = check(sealed)
        assert report.is_whole
        assert report.entries == 8 * 12 * 2

    def test_a_head_that_went_missing_stops_the_trail(self, sealed):
        write(sealed, 2)
        with sealed.engine.begin() as connection:
            for statement in audit_guards_off(connection.dialect.name):
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql("DELETE FROM audit_head")
        with pytest.raises(DefectError, match="head of the audit chain is gone"):
            write(sealed, 1)
        assert not check(sealed).is_whole


class TestGuards:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE audit_entry SET account_id = 'x' WHERE sequence = 2",
            "DELETE FROM audit_entry WHERE sequence = 3",
            "DELETE FROM audit_entry",
            "UPDATE audit_head SET sequence = 1",
            "DELETE FROM audit_head",
        ],
    )
    def test_the_database_refuses_changes(self, sealed, statement):
        write(sealed, 3)
        with (
            pytest.raises(DBAPIError, match="added and never changed"),
            sealed.engine.begin() as connection,
        ):
            connection.exec_driver_sql(statement)
        assert check(sealed).is_whole

    def test_replacing_and_truncating_are_refused(self, sealed):
        write(sealed, 3)
        replace = (
            "INSERT OR REPLACE INTO audit_entry SELECT sequence, at, 'x', unit_id, action,"
            " subject_kind, subject_id, detail, request_id, previous, seal, mark"
            " FROM audit_entry WHERE sequence = 2"
        )
        statement = replace if sealed.engine.dialect.name == "sqlite" else "TRUNCATE audit_entry"
        with (
            pytest.raises(DBAPIError, match="added and never changed"),
            sealed.engine.begin() as connection,
        ):
            connection.exec_driver_sql(statement)

    def test_are_there_and_can_be_put_up_again(self, sealed):
        dialect = sealed.engine.dialect.name
        with sealed.engine.begin() as connection:
            assert unguarded(connection) == []
            for statement in audit_guards_off(dialect):
                connection.exec_driver_sql(statement)
            assert "audit_entry_keep" in " ".join(unguarded(connection))
            for _ in range(2):
                for statement in audit_guards(dialect):
                    connection.exec_driver_sql(statement)
            assert unguarded(connection) == []
        write(sealed, 1)
        assert check(sealed).sequence == 1


class TestScope:
    def test_an_auditor_sees_the_entries_of_the_subtree_alone(self, sealed):
        for unit in ("province", "city-a", "grid-a11", "city-b", "grid-b11", None):
            write(sealed, 1, home_unit_id=unit)

        def seen(scope: Scope) -> list[str | None]:
            with sealed.work(scope, read_only=True) as work:
                rows = work.session.scalars(sa.select(AuditEntry).order_by(AuditEntry.sequence))
                counted = work.session.scalar(sa.select(sa.func.count(AuditEntry.sequence)))
                units = [row.unit_id for row in rows]
                assert counted == len(units)
                return units

        assert seen(Scope(frozenset(("city-a",)))) == ["city-a", "grid-a11"]
        assert seen(Scope(frozenset(("grid-b11",)))) == ["grid-b11"]
        assert seen(Scope()) == []
        assert len(seen(Scope.everything())) == 6

    def test_verification_from_a_narrow_scope_reads_the_whole_chain(self, sealed):
        write(sealed, 4, home_unit_id="city-b")
        with sealed.work(Scope(frozenset(("city-a",))), read_only=True) as work:
            assert verify_chain(work, SEALER).entries == 4

    def test_defect_a_query_past_the_narrowing_is_seen(self, sealed):
        """The twin of the narrowing: without it the city's auditor would see all."""
        write(sealed, 1, home_unit_id="city-b")
        with sealed.work(Scope(frozenset(("city-a",))), read_only=True) as work:
            narrowed = work.session.scalars(sa.select(AuditEntry)).all()
            leaked = work.unscoped(sa.select(AuditEntry), "the defect").all()
        assert narrowed == []
        assert len(leaked) == 1


class TestHead:
    def test_signed_and_read_back(self, sealed):
        write(sealed, 3)
        with sealed.work(Scope.everything(), read_only=True) as work:
            head = export_head(work, SEALER)
            assert (head.sequence, head.seal) == current_head(work)
        content = json.loads(json.dumps(head.as_json()))
        assert read_head(content, SEALER) == head
        assert read_head(content, None) == head  # by its public key alone

    @pytest.mark.parametrize(
        "change",
        [
            {"sequence": 2}, {"seal": "0" * 64}, {"exported_at": "2026-01-01T00:00:00+00:00"},
            {"signature": "00" * 64}, {"public_key": "00" * 32}, {"signature": ""},
            {"public_key": ""}, {"sequence": "x"},
        ],
    )  # fmt: skip
    def test_a_changed_file_is_refused(self, sealed, change):
        write(sealed, 3)
        with sealed.work(Scope.everything(), read_only=True) as work:
            content = export_head(work, SEALER).as_json()
        with pytest.raises(HeadFileError):
            read_head({**content, **change}, SEALER)

    def test_a_head_of_other_keys_is_refused(self, sealed):
        with sealed.work(Scope.everything(), read_only=True) as work:
            content = export_head(work, OTHER).as_json()
        with pytest.raises(HeadFileError):
            read_head(content, SEALER)

    def test_after_rotation_old_heads_and_entries_still_hold(self, control):
        old = Control(with_sealer(control.engine, SEALER), control.clock)
        write(old, 2)
        with old.work(Scope.everything(), read_only=True) as work:
            content = export_head(work, SEALER).as_json()
        rotated = Sealer({**SEALER.keys, "2": b"n" * 32})
        new = Control(with_sealer(control.engine, rotated), control.clock)
        write(new, 2)
        assert check(new, rotated, [read_head(content, rotated)]).is_whole
        assert check(new, SEALER).broken == ChainBreak(3, "forged")


# an attacker who has the database, without its guards, and not the keys

ENTRIES = 24
COLUMNS = (
    "account_id", "action", "subject_kind", "subject_id", "request_id", "unit_id", "at", "detail",
    "previous", "seal", "mark",
)  # fmt: skip


class UndoneError(Exception):
    """Takes an attack back."""


@pytest.fixture
def trail(tmp_path) -> Iterator[Control]:
    """A marked SQLite trail of 24 entries without guards."""
    engine = open_engine(f"sqlite:///{tmp_path / 'trail.db'}")
    Table.metadata.create_all(engine)
    control = Control(with_sealer(engine, SEALER), FixedClock(datetime(2026, 11, 2, tzinfo=UTC)))
    for _ in range(ENTRIES // 2):
        write(control, 2)
    with engine.begin() as connection:
        for statement in audit_guards_off("sqlite"):
            connection.exec_driver_sql(statement)
    yield control
    engine.dispose()


class Attacker:
    """Does one wrong to the trail, chosen by chance."""

    def __init__(self, connection: sa.Connection, chance: np.random.Generator) -> None:
        self.run, self.chance = connection.exec_driver_sql, chance
        self.at = int(chance.integers(1, ENTRIES + 1))

    def edit(self) -> None:
        column = str(self.chance.choice(COLUMNS))
        (value,) = self.run(
            f"SELECT {column} FROM audit_entry WHERE sequence = ?", (self.at,)
        ).one()
        wrong = '{"step": -1}' if column == "detail" else f"x{value}"[:60]
        self.run(f"UPDATE audit_entry SET {column} = ? WHERE sequence = ?", (wrong, self.at))

    def delete(self) -> None:
        self.run("DELETE FROM audit_entry WHERE sequence = ?", (self.at,))

    def swap(self) -> None:
        other = (self.at + int(self.chance.integers(1, ENTRIES)) - 1) % ENTRIES + 1
        for old, new in ((self.at, 9999), (other, self.at), (9999, other)):
            self.run("UPDATE audit_entry SET sequence = ? WHERE sequence = ?", (new, old))

    def cut(self) -> None:
        self.run("DELETE FROM audit_entry WHERE sequence >= ?", (self.at,))

    def cut_with_head(self) -> None:
        self.cut()
        self.run("UPDATE audit_head SET sequence = ?, seal = ?", (self.at - 1, self._seal()))

    def reseal(self) -> None:
        """Change an entry and make the chain anew from there on, which needs no key."""
        self.run("UPDATE audit_entry SET account_id = 'nobody' WHERE sequence = ?", (self.at,))
        seal = self._seal()
        rows = self.run(
            "SELECT * FROM audit_entry WHERE sequence >= ? ORDER BY sequence", (self.at,)
        )
        for row in rows.mappings().all():
            names = ("sequence", "account_id", "unit_id", "action", "subject_kind", "subject_id",
                     "request_id")  # fmt: skip
            content: dict[str, Any] = {name: row[name] for name in names}
            content["at"] = datetime.fromisoformat(row["at"]).replace(tzinfo=UTC)
            content["detail"] = json.loads(row["detail"])
            made = seal_of(seal, content)
            self.run(
                "UPDATE audit_entry SET previous = ?, seal = ? WHERE sequence = ?",
                (seal, made, row["sequence"]),
            )
            seal = made
        self.run("UPDATE audit_head SET seal = ?", (seal,))

    def add(self) -> None:
        self.run(
            "INSERT INTO audit_entry (sequence, account_id, at, unit_id, action, subject_kind,"
            " subject_id, detail, request_id, previous, seal, mark)"
            " SELECT ?, 'nobody', at, unit_id, action, subject_kind,"
            " subject_id, detail, request_id, previous, seal, mark"
            " FROM audit_entry WHERE sequence = ?",
            (ENTRIES + 1, self.at),
        )

    def _seal(self) -> str:
        row = self.run("SELECT seal FROM audit_entry WHERE sequence = ?", (self.at - 1,)).first()
        return row[0] if row else GENESIS


KINDS = ("edit", "delete", "swap", "cut", "cut_with_head", "reseal", "add")


def attack(
    trail: Control,
    times: int,
    sealer: Sealer | None,
    heads: Sequence[ExportedHead],
    kinds: Sequence[str] = KINDS,
) -> tuple[Counter[str], Counter[str]]:
    """Attack ``times`` times; return how often each way was gone, and how often unseen."""
    chance = random_stream(7, "audit-attacks")
    done: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    for number in range(times):
        kind = kinds[number % len(kinds)]
        try:
            with trail.work(Scope.everything()) as work:
                attacker = Attacker(work.session.connection(), chance)
                getattr(attacker, kind)()
                done[kind] += 1
                unseen[kind] += verify_chain(work, sealer, heads).is_whole
                raise UndoneError
        except UndoneError:
            continue
    return done, +unseen


@pytest.fixture
def exported(trail) -> ExportedHead:
    with trail.work(Scope.everything(), read_only=True) as work:
        return export_head(work, SEALER)


class TestAttacks:
    @pytest.mark.slow
    def test_ten_thousand_wrongs_are_all_found(self, trail, exported):
        done, unseen = attack(trail, 10_000, SEALER, [exported])
        assert sum(done.values()) == 10_000
        assert min(done.values()) > 1_000
        assert unseen == {}
        assert check(trail, SEALER, [exported]).is_whole

    def test_defect_without_an_exported_head_a_cut_tail_is_unseen(self, trail):
        _, unseen = attack(trail, 70, SEALER, [])
        assert set(unseen) == {"cut_with_head"}

    def test_defect_without_keys_a_chain_made_anew_is_unseen(self, trail):
        _, unseen = attack(trail, 70, None, [])
        assert set(unseen) >= {"cut_with_head", "reseal"}

    def test_defect_a_seal_over_part_of_the_content_is_caught(self, trail, exported, monkeypatch):
        """A chain that forgets the detail would let a tenth of the edits pass."""

        def forgetful(previous, content):
            return seal_of(previous, {**content, "detail": {"step": 0}})

        engine = trail.engine
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM audit_entry")
            connection.exec_driver_sql(f"UPDATE audit_head SET sequence = 0, seal = '{GENESIS}'")
        monkeypatch.setattr("bihuan.server.control.audit.seal_of", forgetful)
        monkeypatch.setattr("bihuan.server.control.audit_chain.seal_of", forgetful)
        write(trail, ENTRIES)
        assert check(trail).is_whole
        _, unseen = attack(trail, 200, SEALER, [], kinds=("edit",))
        assert unseen["edit"] > 0

    @pytest.mark.parametrize(
        ("statements", "found"),
        [
            (["UPDATE audit_entry SET account_id = 'x' WHERE sequence = 7"], (7, "changed")),
            (["UPDATE audit_entry SET at = 'no time' WHERE sequence = 7"], (7, "changed")),
            (["UPDATE audit_entry SET detail = '{' WHERE sequence = 7"], (7, "changed")),
            (["UPDATE audit_entry SET mark = '' WHERE sequence = 7"], (7, "forged")),
            (["DELETE FROM audit_entry WHERE sequence = 7"], (7, "missing")),
            (["DELETE FROM audit_entry WHERE sequence < 3"], (1, "missing")),
            (["DELETE FROM audit_entry WHERE sequence > 20"], (21, "truncated")),
            (["DELETE FROM audit_entry"], (1, "truncated")),
            (["UPDATE audit_head SET sequence = 30"], (25, "truncated")),
            (["UPDATE audit_head SET sequence = 20"], (24, "changed")),
            (["DELETE FROM audit_head"], (24, "missing")),
            (["UPDATE audit_entry SET sequence = 0 WHERE sequence = 7"], (0, "added")),
            (
                [
                    "UPDATE audit_entry SET sequence = 99 WHERE sequence = 7",
                    "UPDATE audit_entry SET sequence = 7 WHERE sequence = 8",
                    "UPDATE audit_entry SET sequence = 8 WHERE sequence = 99",
                ],
                (7, "swapped"),
            ),
        ],
    )
    def test_the_first_broken_entry_is_named_with_what_was_done(self, trail, statements, found):
        with trail.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        assert check(trail).broken == ChainBreak(*found)

    def test_a_cut_tail_is_found_by_a_head_of_before(self, trail, exported):
        with trail.engine.begin() as connection:
            attacker = Attacker(connection, random_stream(1, "cut"))
            attacker.at = 11
            attacker.cut_with_head()
        assert check(trail).is_whole
        assert check(trail, SEALER, [exported]).broken == ChainBreak(11, "truncated")
        write(trail, 30)  # grown again past the exported head
        assert check(trail, SEALER, [exported]).broken == ChainBreak(24, "rewritten")
