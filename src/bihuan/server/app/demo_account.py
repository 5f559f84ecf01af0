"""The demo's accounts: one per role, with a known password, in demo workspaces only."""

from __future__ import annotations

import sqlalchemy as sa

from bihuan.server.app.account import Seat, seat
from bihuan.server.app.errors import RefusedError, missing
from bihuan.server.app.password import PASSWORDS, Passwords
from bihuan.server.app.permission import ROLES
from bihuan.server.control import Account, OrgUnit, UnitOfWork, below
from bihuan.server.settings import Settings

DEMO_PASSWORD = "bihuan-demo-2026"
"""Known to everybody: it opens nothing but a demo workspace."""

_TIERS = {
    "planner": "city",
    "analyst": "province",
    "approver": "province",
    "channel_operator": "province",
    "outbound_seat": "line",
    "hall_clerk": "grid",
    "account_manager": "grid",
    "grid_manager": "grid",
    "product_manager": "province",
    "director": "province",
    "auditor": "province",
    "administrator": "province",
}
_LEVELS = {"province": ("省", "province"), "city": ("市", "city"), "county": ("县", "county")}


def demo_accounts(
    work: UnitOfWork, settings: Settings, *, passwords: Passwords = PASSWORDS
) -> list[Account]:
    """Make an account per role, and planner, approver, administrator also level by level.

    ``demo-planner`` (演示营销策划) is the role at its usual tier; ``demo-county-planner`` and the
    like stand at the others. All have :data:`DEMO_PASSWORD`. What is there stays as it is.

    Parameters
    ----------
    work
        A unit of work of the system, over an organisation with cities, counties, lines, grids;
        where a tier is missing the next higher one serves.
    settings
        ``demo`` must be on.
    passwords
        Makes the hash.

    Returns
    -------
    list of Account
        In order of name.

    Raises
    ------
    RefusedError
        If this is no demo workspace.
    """
    if not settings.demo:
        raise RefusedError(
            "Demo accounts have a known password; this is no demo workspace.",
            remedy="Set BIHUAN_DEMO=true for a demo workspace, never for a real one.",
            zh="演示账号使用公开密码，仅限演示工作区（BIHUAN_DEMO=true）。",
        )
    units = _demo_units(work)
    kept = passwords.hash(DEMO_PASSWORD)  # one for all: it hides nothing
    seats = [
        Seat(
            f"demo-{role.replace('_', '-')}",
            role,
            units[tier],
            f"演示{ROLES[role].title['zh']}",
            f"Demo {ROLES[role].title['en']}",
        )
        for role, tier in _TIERS.items()
    ]
    for role in ("planner", "approver", "administrator"):
        seats += [
            Seat(
                f"demo-{level}-{role}",
                role,
                units[level],
                f"演示{zh}级{ROLES[role].title['zh']}",
                f"Demo {en} {ROLES[role].title['en']}",
            )
            for level, (zh, en) in _LEVELS.items()
            if _TIERS[role] != level
        ]
    return [seat(work, wanted, kept) for wanted in sorted(seats, key=lambda seat: seat.name)]


def _demo_units(work: UnitOfWork) -> dict[str, str]:
    """Return one unit per tier on one path; where a tier is missing, the one above serves."""
    top = work.session.scalars(
        sa.select(OrgUnit.unit_id).where(OrgUnit.parent_id.is_(None))
    ).one_or_none()
    if top is None:
        raise missing("org unit", "组织单元", "province")
    city = _first(work, "city", top)
    county = _first(work, "county", city)
    return {
        "province": top,
        "city": city,
        "county": county,
        "line": _first(work, "line", city),
        "grid": _first(work, "grid", county),
    }


def _first(work: UnitOfWork, tier: str, above: str) -> str:
    statement = sa.select(OrgUnit.unit_id).where(
        OrgUnit.tier == tier,
        OrgUnit.status == "active",
        OrgUnit.unit_id.in_(below(frozenset((above,)))),
    )
    found = work.session.scalars(statement.order_by(OrgUnit.unit_id).limit(1)).one_or_none()
    return found or above
