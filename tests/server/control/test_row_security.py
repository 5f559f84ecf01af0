"""PostgreSQL's row security holds the scope by itself, where a statement forgets it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from bihuan.server.control import Control, Outlet, Scope, unsecured
from bihuan.server.control import scope as scope_module
from bihuan.server.control.row_security import secured_tables

A = Scope(frozenset(("city-a",)))
UNITS = ("province", "city-a", "county-a1", "city-b", "county-b1")
pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def halls(control: Control) -> Control:
    with control.work(Scope.everything()) as work:
        for unit in UNITS:
            work.session.add(
                Outlet(outlet_id=f"hall-{unit}", unit_id=unit, kind="hall", name_zh=unit)
            )
    return control


class TestRowSecurity:
    def test_every_table_with_units_is_secured(self, control: Control) -> None:
        assert unsecured(control.engine) == []
        assert len(secured_tables()) > 20

    def test_plain_sql_sees_the_scope_only(self, halls: Control) -> None:
        with halls.work(A, read_only=True) as work:
            seen = work.unscoped(sa.text("SELECT unit_id FROM outlet"), "to go past the ORM")
            assert set(seen.scalars()) == {"city-a", "county-a1"}
        with halls.work(Scope.everything(), read_only=True) as work:
            seen = work.unscoped(sa.text("SELECT unit_id FROM outlet"), "to go past the ORM")
            assert set(seen.scalars()) == set(UNITS)

    def test_plain_sql_changes_the_scope_only(self, halls: Control) -> None:
        with halls.work(A) as work:
            work.unscoped(sa.text("DELETE FROM outlet"), "to go past the ORM")
        with halls.work(Scope.everything(), read_only=True) as work:
            left = set(work.session.scalars(sa.select(Outlet.unit_id)))
        assert left == {"province", "city-b", "county-b1"}

    def test_plain_sql_adds_nothing_outside(self, halls: Control) -> None:
        insert = sa.text(
            "INSERT INTO outlet (outlet_id, unit_id, kind, name_zh, name_en, status, version)"
            " VALUES ('x', 'city-b', 'hall', 'x', '', 'open', 1)"
        )
        with pytest.raises(sa.exc.DBAPIError, match="row-level security"), halls.work(A) as work:
            work.unscoped(insert, "to go past the ORM")

    def test_without_a_scope_nothing_is_seen(self, halls: Control) -> None:
        with halls.engine.connect() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM outlet")).scalar_one() == 0

    def test_the_scope_ends_with_its_transaction(self, halls: Control) -> None:
        with halls.work(Scope.everything(), read_only=True):
            pass
        for _ in range(5):  # the pool hands the same connection out again
            with halls.engine.connect() as connection:
                assert connection.execute(sa.text("SELECT count(*) FROM outlet")).scalar_one() == 0

    def test_a_forgotten_criterion_leaks_nothing(
        self, halls: Control, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second belt holds where the first is cut."""
        monkeypatch.setattr(scope_module, "_criteria", lambda roots, is_wide: {})
        with halls.work(A, read_only=True) as work:
            found = set(work.session.scalars(sa.select(Outlet.unit_id)))
        assert found == {"city-a", "county-a1"}

    def test_a_role_that_passes_it_is_told(self, postgres_server: sa.URL, control: Control) -> None:
        superuser = sa.create_engine(postgres_server.set(database=control.engine.url.database))
        assert any("superuser" in finding for finding in unsecured(superuser))
        superuser.dispose()
