"""Import of people: staff with their posts, and who has left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bihuan.kernel import hash_id
from bihuan.server.app.organisation.check import LONGEST_ID, LONGEST_NAME, RefusedRow, text_of
from bihuan.server.app.organisation.layer import (
    HEAD_ROLES,
    PostPlace,
    layer_of,
    natural_superiors,
)
from bihuan.server.app.permission import ROLES
from bihuan.server.app.unit_scope import units_in_scope
from bihuan.server.control import (
    LAYERS,
    TIERS,
    Account,
    ApiToken,
    OrgUnit,
    SignIn,
    Staff,
    StaffPost,
    UnitOfWork,
    below,
)

MANY = 5_000
_LEAVES = "everything that gives power ends with it; that the person is managed was checked"
_STATES = ("active", "left")
_ROLE_OF = {name: name for name in ROLES} | {role.title["zh"]: name for name, role in ROLES.items()}


@dataclass(frozen=True, slots=True)
class _Person:
    staff_id: str
    unit_id: str
    name_zh: str
    name_en: str
    channel_id: str | None
    status: str
    role: str | None = None
    row: int = 0

    @property
    def post_id(self) -> str:
        return f"post_{hash_id('post', self.staff_id, self.role, self.unit_id)}"

    def same(self, other: _Person) -> bool:
        names = ("unit_id", "name_zh", "name_en", "channel_id", "status")
        return all(getattr(self, name) == getattr(other, name) for name in names)


@dataclass(frozen=True, slots=True)
class _Places:
    tiers: Mapping[str, str]
    parents: Mapping[str, str | None]
    managed: frozenset[str]
    own_staff_id: str | None


def take_staff(
    work: UnitOfWork, rows: Sequence[Mapping[str, Any]], *, is_complete: bool
) -> tuple[list[RefusedRow], Counter[str]]:
    """Take people in, with the posts that their rows name.

    Parameters
    ----------
    work
        In the scope of whoever imports, and reading beyond it: ids are one for all.
    rows
        With ``staff_id``, ``org_unit_id`` and, where there are, ``post`` (a role, by its name or
        its Chinese title), ``channel_id``, ``status``, ``name_zh``, ``name_en``.
    is_complete
        Whether imported people who are not among the rows have left.

    Returns
    -------
    (refused, counts)
        A row with a post that is no role counts as refused, though the person is taken.
    """
    places = _read_places(work)
    present = _read_staff(work)
    people, refused = _parse(rows, places, present)
    fresh = [person for person in people.values() if person.staff_id not in present]
    insert_rows(work, Staff, [_staff_values(person) for person in fresh])
    changed = [
        p for p in people.values() if p.staff_id in present and not p.same(present[p.staff_id])
    ]
    _change_staff(work, changed)
    counts = Counter(
        staff_added=len(fresh),
        staff_changed=len(changed),
        staff_unchanged=len(people) - len(fresh) - len(changed),
    )
    leavers = [person.staff_id for person in changed if person.status == "left"]
    if is_complete:
        listed = {text_of(row, "staff_id") for row in rows}
        leavers += _gone(work, listed)
    release(work, leavers)
    counts["staff_left"] = len(leavers)
    counts.update(_take_posts(work, list(people.values()), places))
    return refused, counts


def release(work: UnitOfWork, staff_ids: Sequence[str]) -> None:
    """Let people go: posts end, accounts close, sessions and tokens with them.

    Parameters
    ----------
    work
        The unit of work; the caller has checked that they are within the scope.
    staff_ids
        Who; the rows are locked by their update.
    """
    with work.beyond(_LEAVES):
        for start in range(0, len(staff_ids), MANY):
            _release(work, staff_ids[start : start + MANY])


def _release(work: UnitOfWork, some: Sequence[str]) -> None:
    accounts = sa.select(Account.account_id).where(Account.staff_id.in_(some))
    ids = list(work.session.scalars(accounts))
    now = work.now
    statements: tuple[tuple[sa.Update, dict[str, Any]], ...] = (
        (
            sa.update(Staff).where(Staff.staff_id.in_(some)),
            {"status": "left", "version": Staff.version + 1},
        ),
        (
            sa.update(StaffPost).where(StaffPost.staff_id.in_(some), StaffPost.status == "active"),
            {"status": "ended", "ended_at": now, "version": StaffPost.version + 1},
        ),
        (
            sa.update(Account).where(Account.account_id.in_(ids)),
            {"status": "closed", "version": Account.version + 1},
        ),
        (
            sa.update(SignIn).where(SignIn.account_id.in_(ids), SignIn.ended_at.is_(None)),
            {"ended_at": now},
        ),
        (
            sa.update(ApiToken).where(ApiToken.account_id.in_(ids), ApiToken.revoked_at.is_(None)),
            {"revoked_at": now},
        ),
    )
    for statement, values in statements:
        work.session.execute(
            statement.values(**values).execution_options(synchronize_session=False)
        )
    work.session.expire_all()


def insert_rows(work: UnitOfWork, table: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    """Insert many rows at once, past the identity map; the caller has checked the scope."""
    values = list(rows)
    if values:
        work.session.connection().execute(sa.insert(table.__table__), values)


def _read_places(work: UnitOfWork) -> _Places:
    units = work.session.execute(
        sa.select(OrgUnit.unit_id, OrgUnit.tier, OrgUnit.parent_id, OrgUnit.status)
    ).all()
    managed = frozenset(unit.unit_id for unit in units if unit.status == "active")
    if work.scope.roots is not None:
        managed &= frozenset(units_in_scope(work))
    own = sa.select(Account.staff_id).where(Account.account_id == work.account_id)
    return _Places(
        {unit.unit_id: unit.tier for unit in units},
        {unit.unit_id: unit.parent_id for unit in units},
        managed,
        work.session.scalars(own).one_or_none(),
    )


def _read_staff(work: UnitOfWork) -> dict[str, _Person]:
    statement = sa.select(
        Staff.staff_id,
        Staff.unit_id,
        Staff.name_zh,
        Staff.name_en,
        Staff.channel_id,
        Staff.status,
    )
    return {
        row.staff_id: _Person(
            row.staff_id, row.unit_id, row.name_zh, row.name_en, row.channel_id, row.status
        )
        for row in work.session.execute(statement)
    }


def _parse(
    rows: Sequence[Mapping[str, Any]], places: _Places, present: Mapping[str, _Person]
) -> tuple[dict[str, _Person], list[RefusedRow]]:
    people: dict[str, _Person] = {}
    refused: list[RefusedRow] = []
    for number, given in enumerate(rows, 1):
        staff_id, post = text_of(given, "staff_id"), text_of(given, "post")
        role = _ROLE_OF.get(post)
        person = _Person(
            staff_id,
            text_of(given, "org_unit_id"),
            text_of(given, "name_zh") or _called(role, "zh", staff_id),
            text_of(given, "name_en") or _called(role, "en", staff_id),
            text_of(given, "channel_id") or None,
            text_of(given, "status") or "active",
            role,
            number,
        )
        flaw = _flaw(person, places, present)
        if flaw is None and staff_id in people:
            flaw = ("duplicate", "")
        if flaw is None:
            people[staff_id] = person
            if post and role is None:
                flaw = ("unknown_role", post)
        if flaw is not None:
            refused.append(RefusedRow(number, "staff", staff_id, *flaw, dict(given)))
    return people, refused


def _called(role: str | None, language: str, staff_id: str) -> str:
    """Return what a person without a name is called: their role and number."""
    return f"{ROLES[role].title[language]} {staff_id}" if role else staff_id


def _flaw(
    person: _Person, places: _Places, present: Mapping[str, _Person]
) -> tuple[str, str] | None:
    if not person.staff_id:
        return "no_id", ""
    longest = max(len(person.staff_id), len(person.channel_id or ""))
    if longest > LONGEST_ID or max(len(person.name_zh), len(person.name_en)) > LONGEST_NAME:
        return "too_long", ""
    if person.status not in _STATES:
        return "unknown_status", person.status
    if person.unit_id not in places.tiers:
        return "unknown_unit", person.unit_id
    old = present.get(person.staff_id)
    if old is not None and person.same(old):
        return None
    touched = [person.unit_id] if old is None else [old.unit_id, person.unit_id]
    foreign = [unit_id for unit_id in touched if unit_id not in places.managed]
    return ("out_of_scope", foreign[0]) if foreign else None


def _change_staff(work: UnitOfWork, changed: Sequence[_Person]) -> None:
    for start in range(0, len(changed), MANY):
        part = {person.staff_id: person for person in changed[start : start + MANY]}
        for row in work.session.scalars(sa.select(Staff).where(Staff.staff_id.in_(part))):
            person = part[row.staff_id]
            row.unit_id, row.channel_id = person.unit_id, person.channel_id
            row.name_zh, row.name_en = person.name_zh, person.name_en
            row.status, row.origin = person.status, "import"
        work.session.flush()
        for account in work.session.scalars(sa.select(Account).where(Account.staff_id.in_(part))):
            account.unit_id = part[account.staff_id].unit_id
        work.session.flush()


def _gone(work: UnitOfWork, listed: set[str]) -> list[str]:
    statement = sa.select(Staff.staff_id).where(Staff.status == "active", Staff.origin == "import")
    if work.scope.roots is not None:
        statement = statement.where(Staff.unit_id.in_(below(work.scope.roots)))
    return [staff_id for staff_id in work.session.scalars(statement) if staff_id not in listed]


def _take_posts(work: UnitOfWork, people: Sequence[_Person], places: _Places) -> dict[str, int]:
    """Give everybody the post that their row names; what an import gave before and no more, ends.

    Nobody gives themself a post, not by an import either.
    """
    others = [person for person in people if person.staff_id != places.own_staff_id]
    wanted = {p.post_id: p for p in others if p.role and p.status == "active"}
    columns = (StaffPost.post_id, StaffPost.staff_id, StaffPost.unit_id, StaffPost.layer)
    statement = sa.select(*columns, StaffPost.role, StaffPost.status, StaffPost.origin)
    known = {row.post_id: row for row in work.session.execute(statement)}
    named = {person.staff_id for person in others}
    stale = [
        row.post_id
        for row in known.values()
        if (row.status, row.origin) == ("active", "import")
        and row.staff_id in named
        and row.unit_id in places.managed
        and row.post_id not in wanted
    ]
    again = [post_id for post_id in wanted if post_id in known and known[post_id].status == "ended"]
    _set_posts(work, stale, status="ended", ended_at=work.now)
    _set_posts(work, again, status="active", ended_at=None)
    fresh = {post_id: person for post_id, person in wanted.items() if post_id not in known}
    active = set(known) - set(stale)
    standing = [
        PostPlace(row.post_id, row.unit_id, row.layer, row.role)
        for row in known.values()
        if row.post_id in active and (row.status == "active" or row.post_id in wanted)
    ]
    new = [
        PostPlace(post_id, p.unit_id, layer_of(str(p.role), places.tiers[p.unit_id]), str(p.role))
        for post_id, p in fresh.items()
    ]
    superiors = natural_superiors([*standing, *new], places.parents)
    # a superior stands at the same unit or above: those above are written first
    new.sort(
        key=lambda p: (
            TIERS.index(places.tiers[p.unit_id]),
            LAYERS.index(p.layer),
            p.role not in HEAD_ROLES,
            p.post_id,
        )
    )
    rows = [_post_values(work, post, fresh[post.post_id], superiors[post.post_id]) for post in new]
    insert_rows(work, StaffPost, rows)
    return {"posts_added": len(fresh) + len(again), "posts_ended": len(stale)}


def _post_values(
    work: UnitOfWork, post: PostPlace, person: _Person, superior_post_id: str | None
) -> dict[str, Any]:
    return {
        "post_id": post.post_id,
        "staff_id": person.staff_id,
        "unit_id": post.unit_id,
        "role": person.role,
        "layer": post.layer,
        "line_id": None,
        "superior_post_id": superior_post_id,
        "status": "active",
        "origin": "import",
        "since": work.now,
        "ended_at": None,
        "version": 1,
    }


def _set_posts(work: UnitOfWork, post_ids: Sequence[str], **values: Any) -> None:
    for start in range(0, len(post_ids), MANY):
        some = StaffPost.post_id.in_(post_ids[start : start + MANY])
        values["version"] = StaffPost.version + 1
        work.session.execute(sa.update(StaffPost).where(some).values(**values))


def _staff_values(person: _Person) -> dict[str, Any]:
    return {
        "staff_id": person.staff_id,
        "unit_id": person.unit_id,
        "name_zh": person.name_zh,
        "name_en": person.name_en,
        "channel_id": person.channel_id,
        "status": person.status,
        "origin": "import",
        "version": 1,
    }
