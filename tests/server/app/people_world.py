"""Actors, staff and accounts of the small org tree, for tests of people and sign-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from bihuan.server.app.account import NewAccount, open_account
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.password import Passwords
from bihuan.server.app.people import NewPost, NewStaff, add_staff, grant_post
from bihuan.server.control import Account, Control, Scope, StaffPost, UnitOfWork
from bihuan.server.control.row_security import row_security, secured_tables, unsecured

CHEAP = Passwords(time_cost=1, memory_kib=64)
SECRET = "correct horse battery"
SYSTEM = Actor("system", "province", ())


def secure(control: Control) -> None:
    """Make sure that PostgreSQL's row security holds, as in production."""
    if unsecured(control.engine):
        with control.engine.begin() as connection:
            for statement in row_security(secured_tables()):
                connection.execute(sa.text(statement))


def hire(work: UnitOfWork, staff_id: str, unit_id: str, *posts: tuple[str, str]) -> list[StaffPost]:
    """Add a person with posts ``(role, unit)``."""
    add_staff(work, NewStaff(staff_id, unit_id, f"人员 {staff_id}"))
    return [grant_post(work, SYSTEM, NewPost(staff_id, role, unit)) for role, unit in posts]


def person(
    control: Control, name: str, role: str, unit_id: str, *, must_change: bool = False
) -> tuple[Actor, Account]:
    """A person with one post and an account with the password SECRET."""
    with control.work(Scope.everything()) as work:
        hire(work, f"s-{name}", unit_id, (role, unit_id))
        account = open_account(work, SYSTEM, NewAccount(f"s-{name}", name, SECRET), passwords=CHEAP)
        account.must_change = must_change
    return Actor(
        account.account_id, unit_id, (Post(role, unit_id),), session_id="signin_x"
    ), account


@contextmanager
def acting(control: Control, actor: Actor, action: str) -> Iterator[UnitOfWork]:
    with control.work(
        actor.scope(action), account_id=actor.account_id, home_unit_id=actor.home_unit_id
    ) as work:
        yield work
