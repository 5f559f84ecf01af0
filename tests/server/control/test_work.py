"""A unit of work: all of it or nothing, what is done after, what is remembered."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm.exc import StaleDataError

from bihuan.kernel import FixedClock
from bihuan.server.control import AuditEntry, Control, Outlet, Scope, new_id
from bihuan.server.control.base import Moment, Money

ALL = Scope.everything()


def hall(name: str) -> Outlet:
    return Outlet(outlet_id=name, unit_id="city-a", kind="hall", name_zh=name)


class TestWork:
    def test_an_error_takes_everything_back(self, control: Control) -> None:
        done = []
        with pytest.raises(RuntimeError), control.work(ALL) as work:  # noqa: PT012 - it is the unit
            work.session.add(hall("x"))
            work.audit("org.manage", "outlet", "x")
            work.after_commit(lambda: done.append("x"))
            raise RuntimeError
        with control.work(ALL, read_only=True) as work:
            assert work.session.get(Outlet, "x") is None
            assert work.session.scalars(sa.select(AuditEntry)).all() == []
        assert done == []

    def test_what_comes_after_sees_the_commit(self, control: Control) -> None:
        seen = []

        def look() -> None:
            with control.work(ALL, read_only=True) as work:
                seen.append(work.session.get(Outlet, "x") is not None)

        with control.work(ALL) as work:
            work.session.add(hall("x"))
            work.after_commit(look)
            assert seen == []
        assert seen == [True]

    def test_two_changes_of_one_row_conflict(self, control: Control) -> None:
        with control.work(ALL) as work:
            work.session.add(hall("x"))
        with control.work(ALL, read_only=True) as work:
            stale = work.session.get_one(Outlet, "x")
        with control.work(ALL) as work:
            work.session.get_one(Outlet, "x").name_zh = "first"
        with pytest.raises(StaleDataError), control.work(ALL) as work:  # noqa: PT012 - it is the unit
            stale.name_zh = "second"
            work.session.add(stale)
        with control.work(ALL, read_only=True) as work:
            assert work.session.get_one(Outlet, "x").name_zh == "first"

    def test_entries_name_who_where_and_when(self, control: Control, clock: FixedClock) -> None:
        with control.work(
            ALL, account_id="account-1", home_unit_id="city-a", request_id="r-1"
        ) as work:
            work.audit("org.manage", "outlet", "x", name="新")
        with control.work(ALL, read_only=True) as work:
            entry = work.session.scalars(sa.select(AuditEntry)).one()
        assert (entry.account_id, entry.unit_id, entry.request_id) == (
            "account-1", "city-a", "r-1",
        )  # fmt: skip
        assert entry.at == clock.now()
        assert entry.detail == {"name": "新"}


class TestIds:
    def test_ids_sort_by_time_and_differ(self, clock: FixedClock) -> None:
        made = []
        for _ in range(50):
            clock.advance(timedelta(milliseconds=1))
            made.append(new_id("plan", clock.now()))
        assert made == sorted(made)
        assert len({new_id("plan", clock.now()) for _ in range(1000)}) == 1000


class TestTypes:
    @given(st.decimals(min_value=-(10**15), max_value=10**15, places=2))
    def test_money_comes_back_exactly(self, amount: Decimal) -> None:
        from sqlalchemy.dialects import postgresql, sqlite

        for dialect in (sqlite.dialect(), postgresql.dialect()):
            stored = Money().process_bind_param(amount, dialect)
            assert Money().process_result_value(stored, dialect) == amount

    def test_a_time_without_zone_is_refused(self) -> None:
        from sqlalchemy.dialects import sqlite

        with pytest.raises(ValueError, match="no zone"):
            Moment().process_bind_param(datetime(2026, 1, 1), sqlite.dialect())  # noqa: DTZ001
