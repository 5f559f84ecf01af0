"""The engine: no WAL where SQLite loses commits, full synchronisation, waiting writers."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from bihuan.server.control import (
    Control,
    Outlet,
    Scope,
    UnknownDatabaseError,
    has_wal_reset_defect,
    open_engine,
    sqlite_state,
)
from bihuan.server.control import engine as engine_module


class TestWal:
    @pytest.mark.parametrize(
        ("version", "expected"),
        [((3, 7, 0), True), ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False),
         ((3, 45, 0), True), ((3, 50, 6), True), ((3, 50, 7), False), ((3, 51, 2), True),
         ((3, 51, 3), False), ((3, 53, 4), False), ((4, 0, 0), False)],
    )  # fmt: skip
    def test_versions_with_the_defect_are_known(
        self, version: tuple[int, int, int], expected: bool
    ) -> None:
        assert has_wal_reset_defect(version) is expected

    def test_wal_is_refused_on_a_defective_version(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine_module, "sqlite", sqlite3)
        engine = open_engine(f"sqlite:///{tmp_path / 'x.db'}")
        state = sqlite_state(engine)
        assert state is not None
        assert (state.journal == "wal") is not has_wal_reset_defect(sqlite3.sqlite_version_info)
        assert state.synchronous == "full"

    def test_a_sound_version_writes_wal_with_full_synchronisation(self, tmp_path: Path) -> None:
        state = sqlite_state(open_engine(f"sqlite:///{tmp_path / 'x.db'}"))
        assert state is not None
        assert not state.has_wal_defect, "the wheel's SQLite is meant to be sound"
        assert (state.journal, state.synchronous) == ("wal", "full")

    def test_the_mode_follows_the_version(self) -> None:
        old = SimpleNamespace(sqlite_version_info=(3, 40, 1))
        new = SimpleNamespace(sqlite_version_info=(3, 53, 4))
        assert engine_module.journal_mode(old) == "truncate"  # type: ignore[arg-type]
        assert engine_module.journal_mode(new) == "wal"  # type: ignore[arg-type]


class TestOpen:
    def test_other_databases_are_refused(self) -> None:
        with pytest.raises(UnknownDatabaseError, match="mysql"):
            open_engine("mysql://root@localhost/x")

    def test_writers_queue_and_none_is_lost(self, control: Control) -> None:
        def write(number: int) -> None:
            for turn in range(5):
                with control.work(Scope.everything()) as work:
                    count = work.session.scalar(sa.select(sa.func.count(Outlet.outlet_id)))
                    assert count is not None
                    work.session.add(
                        Outlet(outlet_id=f"{number}-{turn}", unit_id="city-a", kind="hall",
                               name_zh="x")
                    )  # fmt: skip
                    work.audit("org.manage", "outlet", f"{number}-{turn}")

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with control.work(Scope.everything(), read_only=True) as work:
            assert work.session.scalar(sa.select(sa.func.count(Outlet.outlet_id))) == 40
