"""People who submit jobs in these tests."""

from __future__ import annotations

import itertools

from bihuan.server.app.actor import Actor, Post
from bihuan.server.control import Account, Control, Scope, Staff, StaffPost

_NUMBERS = itertools.count()


def person(control: Control, role: str, unit: str) -> Actor:
    """Add a person with an account that holds ``role`` at ``unit``; return it as an actor."""
    number = next(_NUMBERS)
    account_id = f"account-{number}"
    with control.work(Scope.everything()) as work:
        work.session.add(Staff(staff_id=f"staff-{number}", unit_id=unit, name_zh=role))
        work.session.flush()
        work.session.add(
            StaffPost(
                post_id=f"post-{number}", staff_id=f"staff-{number}", unit_id=unit, role=role,
                layer="management", since=work.now,
            )
        )  # fmt: skip
        work.session.add(
            Account(
                account_id=account_id, unit_id=unit, staff_id=f"staff-{number}",
                name=account_id, title_zh=role, opened_at=work.now,
            )
        )  # fmt: skip
    return Actor(account_id, unit, (Post(role, unit),))
