"""Migrations: up and down with data in, on both databases, equal to the tables in the code."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from bihuan.kernel import FixedClock
from bihuan.server.control import (
    Control,
    NewDatabaseError,
    OldDatabaseError,
    OrgClosure,
    OrgUnit,
    Scope,
    Table,
    current_revision,
    differences,
    migrate,
    newest_revision,
    open_engine,
    require_current,
)
from bihuan.server.control.upgrade import revisions, take_back

from ..api.seeds import seed_everything
from ..api.world import TARGET


@pytest.fixture
def empty(bare_url: str) -> sa.Engine:
    engine = open_engine(bare_url)
    yield engine
    engine.dispose()


def counts(engine: sa.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT set_config('bihuan.scope', '*', true)"))
        tables = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
        return {
            name: connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one()
            for name in sorted(tables)
        }


def fill(engine: sa.Engine, clock: FixedClock) -> None:
    with Control(engine, clock).work(Scope.everything()) as work:
        work.session.add(OrgUnit(unit_id=TARGET, tier="county", name_zh="x"))
        work.session.flush()
        work.session.add(OrgClosure(ancestor_id=TARGET, descendant_id=TARGET, depth=0))
        seed_everything(work)
        work.audit("org.manage", "outlet", "x")


class TestUpgrade:
    def test_the_newest_form_is_the_tables_in_the_code(self, empty: sa.Engine) -> None:
        migrate(empty)
        assert differences(empty) == []
        assert current_revision(empty) == newest_revision() == revisions()[-1]

    def test_a_table_without_migration_is_told(self, empty: sa.Engine) -> None:
        migrate(empty)
        with empty.begin() as connection:
            connection.execute(sa.text("DROP TABLE kept_reply"))
        assert any("kept_reply" in found for found in differences(empty))

    def test_down_and_up_keep_what_is_older(self, empty: sa.Engine, clock: FixedClock) -> None:
        migrate(empty)
        fill(empty, clock)
        whole = counts(empty)
        assert sum(count > 0 for count in whole.values()) > 50
        for revision in reversed(revisions()[:-1]):
            take_back(empty, revision)
            left = counts(empty)
            assert left == {name: whole[name] for name in left}
            assert current_revision(empty) == revision
        migrate(empty)
        assert differences(empty) == []
        again = counts(empty)
        assert again["org_unit"] == whole["org_unit"]
        take_back(empty, "base")
        assert counts(empty) == {}

    def test_up_from_every_form_with_data_in(self, empty: sa.Engine, clock: FixedClock) -> None:
        first = revisions()[0]
        migrate(empty, first)
        with empty.begin() as connection:
            if empty.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT set_config('bihuan.scope', '*', true)"))
            connection.execute(
                sa.insert(Table.metadata.tables["org_unit"]).values(
                    unit_id="u", tier="city", name_zh="u", name_en="", status="active", version=1
                )
            )
        for revision in revisions()[1:]:
            migrate(empty, revision)
            assert counts(empty)["org_unit"] == 1
        assert differences(empty) == []

    def test_two_processes_at_once_take_turns(self, bare_url: str) -> None:
        failed: list[BaseException] = []

        def go() -> None:
            engine = open_engine(bare_url)
            try:
                migrate(engine)
            except BaseException as error:  # noqa: BLE001 - told below
                failed.append(error)
            finally:
                engine.dispose()

        threads = [threading.Thread(target=go) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        engine = open_engine(bare_url)
        assert differences(engine) == []
        engine.dispose()


class TestRequire:
    def test_an_old_form_is_refused_with_what_to_do(self, empty: sa.Engine) -> None:
        with pytest.raises(OldDatabaseError, match="bihuan migrate"):
            require_current(empty)
        migrate(empty)
        require_current(empty)

    def test_a_newer_form_is_refused(self, empty: sa.Engine) -> None:
        migrate(empty)
        with empty.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        for refuse in (require_current, migrate):
            with pytest.raises(NewDatabaseError, match="9999"):
                refuse(empty)
