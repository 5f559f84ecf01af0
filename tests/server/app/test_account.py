"""Accounts, passwords, API tokens, the demo's accounts."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from tests.server.app.people_world import CHEAP, SECRET, SYSTEM, acting, hire, person

from bihuan.kernel import FixedClock
from bihuan.server.app.account import (
    NewAccount,
    WrongPasswordError,
    change_password,
    close_account,
    open_account,
    open_first_account,
    reopen_account,
)
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.api_token import create_token, find_tokens, revoke_token
from bihuan.server.app.demo_account import DEMO_PASSWORD, demo_accounts
from bihuan.server.app.errors import (
    ConflictError,
    NotFoundError,
    RefusedError,
    UnauthenticatedError,
)
from bihuan.server.app.identity import identify, note_seen
from bihuan.server.app.password import COMMON, WeakPasswordError, check_strength
from bihuan.server.app.people import BeyondReachError, end_post, find_posts
from bihuan.server.app.permission import ROLES
from bihuan.server.app.service import Service
from bihuan.server.app.sign_in import Device, SignInRefusedError, sign_in
from bihuan.server.control import Account, ApiToken, Control, Scope
from bihuan.server.settings import Settings

OTHER = "quite another phrase"


def enter(service: Service, name: str, password: str = SECRET) -> str:
    return sign_in(service, name, password, Device(), passwords=CHEAP).token


def who(service: Service, *, token: str | None = None, bearer: str | None = None):
    with service.system_work(read_only=True) as work:
        return identify(work, session_token=token, bearer=bearer, now=work.now)


class TestStrength:
    @pytest.mark.parametrize(
        ("password", "told"),
        [
            ("short", "10 to 200"),
            ("x" * 201, "10 to 200"),
            ("Demo-Planner", "account's name"),
            ("demo-planner2026", "account's name"),
            ("Password123", "most common"),
            ("aaaaaaabbbbbbb", "most common"),
        ],
    )
    def test_weak_ones_are_refused(self, password: str, told: str) -> None:
        with pytest.raises(WeakPasswordError, match=told) as refused:
            check_strength("demo-planner", password)
        assert refused.value.zh

    def test_the_list_holds_nothing_that_is_too_short_anyway(self) -> None:
        assert all(len(password) >= 10 for password in COMMON)

    @given(st.text(min_size=10, max_size=40).filter(lambda text: len(set(text.casefold())) > 6))
    def test_a_kept_password_is_recognised_and_no_other(self, password: str) -> None:
        kept = CHEAP.hash(password)
        assert CHEAP.check(kept, password)
        assert not CHEAP.check(kept, password + "x")
        assert password not in kept

    def test_a_damaged_hash_is_no_password(self) -> None:
        assert not CHEAP.check("$argon2id$broken", "anything at all")


class TestOpen:
    def open(self, control: Control, **more: str) -> Account:
        with control.work(Scope.everything()) as work:
            hire(work, "s-1", "county-a1")
            new = NewAccount("s-1", more.get("name", "New-One"), more.get("password", SECRET))
            return open_account(work, SYSTEM, new, passwords=CHEAP)

    def test_with_a_first_password_to_be_changed(self, control: Control) -> None:
        account = self.open(control)
        assert (account.name, account.unit_id, account.must_change) == (
            "new-one",
            "county-a1",
            True,
        )
        assert str(account.password_hash).startswith("$argon2id$")

    @pytest.mark.parametrize("name", [" ", "two words"])
    def test_names_are_one_word(self, control: Control, name: str) -> None:
        with pytest.raises(RefusedError):
            self.open(control, name=name)

    def test_names_and_people_once(self, control: Control) -> None:
        self.open(control)
        with control.work(Scope.everything()) as work:
            hire(work, "s-2", "county-a1")
            with pytest.raises(ConflictError):
                open_account(work, SYSTEM, NewAccount("s-2", "ＮＥＷ-one", SECRET), passwords=CHEAP)
            with pytest.raises(ConflictError):
                open_account(work, SYSTEM, NewAccount("s-1", "another", SECRET), passwords=CHEAP)

    def test_not_for_foreign_people(self, control: Control) -> None:
        admin, _ = person(control, "admin-b", "administrator", "city-b")
        with control.work(Scope.everything()) as work:
            hire(work, "s-1", "county-a1")
        with acting(control, admin, "account.manage") as work, pytest.raises(NotFoundError):
            open_account(work, admin, NewAccount("s-1", "mine", SECRET), passwords=CHEAP)

    def test_the_first_administrator_comes_before_everybody(self, control: Control) -> None:
        with control.work(Scope.everything()) as work:
            first = open_first_account(work, "Root-Admin", SECRET, passwords=CHEAP)
            assert (first.unit_id, first.must_change) == ("province", False)
            with pytest.raises(ConflictError):
                open_first_account(work, "second", SECRET, passwords=CHEAP)


class TestPassword:
    def test_ones_own_is_changed_and_other_sessions_end(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a", must_change=True)
        here, elsewhere = enter(service, "planner-a"), enter(service, "planner-a")
        identity = who(service, token=here)
        assert identity is not None
        change_password(service, identity.actor, SECRET, OTHER, passwords=CHEAP)
        after = who(service, token=here)
        assert after is not None
        assert not after.must_change
        assert after.actor.may("plan.edit")
        with pytest.raises(UnauthenticatedError):
            who(service, token=elsewhere)
        with pytest.raises(SignInRefusedError):
            enter(service, "planner-a")
        assert enter(service, "planner-a", OTHER)

    def test_a_stolen_session_cannot_guess(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        identity = who(service, token=enter(service, "planner-a"))
        assert identity is not None
        for _ in range(5):
            with pytest.raises(WrongPasswordError):
                change_password(service, identity.actor, "wrong", OTHER, passwords=CHEAP)
        with pytest.raises(WrongPasswordError):
            change_password(service, identity.actor, SECRET, OTHER, passwords=CHEAP)

    @pytest.mark.parametrize("new", [SECRET, "planner-a", "short"])
    def test_the_new_one_is_new_and_strong(self, service: Service, new: str) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        identity = who(service, token=enter(service, "planner-a"))
        assert identity is not None
        with pytest.raises(RefusedError):
            change_password(service, identity.actor, SECRET, new, passwords=CHEAP)


class TestClose:
    def test_closed_and_reopened(self, service: Service) -> None:
        _, account = person(service.control, "planner-a", "planner", "city-a")
        token = enter(service, "planner-a")
        with service.system_work() as work:
            row = work.session.get_one(Account, account.account_id)
            close_account(work, SYSTEM, row)
        with service.system_work() as work:
            reopen_account(work, SYSTEM, work.session.get_one(Account, account.account_id))
        with pytest.raises(UnauthenticatedError):
            who(service, token=token)
        assert enter(service, "planner-a")

    def test_nobody_closes_their_own(self, service: Service) -> None:
        actor, account = person(service.control, "admin-a", "administrator", "city-a")
        with acting(service.control, actor, "account.manage") as work:
            row = work.session.get_one(Account, account.account_id)
            with pytest.raises(BeyondReachError):
                close_account(work, actor, row)


class TestTokens:
    def make(self, service: Service, *actions: str, days: int = 30) -> tuple[ApiToken, str, Actor]:
        person(service.control, "planner-a", "planner", "city-a")
        identity = who(service, token=enter(service, "planner-a"))
        assert identity is not None
        with service.own_work(identity.actor) as work:
            row, text = create_token(
                work, identity.actor, "看板", actions, work.now + timedelta(days=days)
            )
        return row, text, identity.actor

    def test_does_some_of_its_owners_actions(self, service: Service) -> None:
        row, text, owner = self.make(service, "plan.read", "org.read")
        assert text.startswith(f"bh_{row.token_id}_")
        identity = who(service, bearer=text)
        assert identity is not None
        assert (identity.kind, identity.csrf, identity.session_id) == ("token", None, row.token_id)
        assert identity.actor.actions == {"plan.read", "org.read"}
        assert owner.may("plan.edit")

    def test_its_secret_is_not_stored(self, service: Service) -> None:
        row, text, _ = self.make(service, "plan.read")
        assert text.rsplit("_", 1)[1] not in repr(vars(row))

    def test_loses_what_its_owner_loses(self, service: Service) -> None:
        _, text, _ = self.make(service, "plan.edit")
        with service.system_work() as work:
            end_post(work, SYSTEM, work.session.scalars(find_posts(staff_id="s-planner-a")).one())
        identity = who(service, bearer=text)
        assert identity is not None
        assert identity.actor.actions == frozenset()

    def test_use_is_noted(self, service: Service) -> None:
        _, text, owner = self.make(service, "plan.read")
        identity = who(service, bearer=text)
        assert identity is not None
        assert identity.is_seen_stale
        with service.system_work() as work:
            note_seen(work, identity)
            assert work.session.scalars(find_tokens(owner.account_id)).one().used_at == work.now
        again = who(service, bearer=text)
        assert again is not None
        assert not again.is_seen_stale

    @pytest.mark.parametrize(
        "spoil",
        [
            "other secret",
            "other id",
            "no secret",
            "empty",
            "prefix",
            "revoked",
            "expired",
            "closed",
        ],
    )
    def test_anything_else_is_refused(
        self, service: Service, clock: FixedClock, spoil: str
    ) -> None:
        row, text, owner = self.make(service, "plan.read")
        bearer = {
            "other secret": text[:-1] + ("0" if text[-1] != "0" else "1"),
            "other id": text.replace(row.token_id, "0" * len(row.token_id)),
            "no secret": f"bh_{row.token_id}_",
            "empty": "",
            "prefix": "xx" + text[2:],
        }.get(spoil, text)
        if spoil == "expired":
            clock.advance(timedelta(days=30))
        with service.system_work() as work:
            if spoil == "revoked":
                revoke_token(work, owner.account_id, row.token_id)
            if spoil == "closed":
                close_account(work, SYSTEM, work.session.get_one(Account, owner.account_id))
        with pytest.raises(UnauthenticatedError):
            who(service, bearer=bearer)

    @pytest.mark.parametrize(
        ("actions", "days"),
        [(("plan.approve",), 30), ((), 30), (("plan.read",), 400), (("plan.read",), 0)],
    )
    def test_wishes_that_go_too_far(
        self, service: Service, actions: tuple[str, ...], days: int
    ) -> None:
        with pytest.raises(RefusedError):
            self.make(service, *actions, days=days)

    def test_a_token_makes_no_tokens(self, service: Service) -> None:
        _, text, _ = self.make(service, "plan.read")
        identity = who(service, bearer=text)
        assert identity is not None
        with service.own_work(identity.actor) as work, pytest.raises(RefusedError):
            create_token(work, identity.actor, "更多", ["plan.read"], work.now + timedelta(days=1))

    def test_only_ones_own_are_revoked(self, service: Service) -> None:
        row, _, _ = self.make(service, "plan.read")
        with service.system_work() as work, pytest.raises(NotFoundError):
            revoke_token(work, "somebody-else", row.token_id)


class TestDemo:
    def test_one_per_role_at_a_sensible_unit(self, service: Service) -> None:
        with service.system_work() as work:
            made = demo_accounts(work, Settings(demo=True), passwords=CHEAP)
        assert {a.name: a.unit_id for a in made} == {
            "demo-account-manager": "grid-a11",
            "demo-administrator": "province",
            "demo-analyst": "province",
            "demo-approver": "province",
            "demo-auditor": "province",
            "demo-channel-operator": "province",
            "demo-city-administrator": "city-a",
            "demo-city-approver": "city-a",
            "demo-county-administrator": "county-a1",
            "demo-county-approver": "county-a1",
            "demo-county-planner": "county-a1",
            "demo-director": "province",
            "demo-grid-manager": "grid-a11",
            "demo-hall-clerk": "grid-a11",
            "demo-outbound-seat": "city-a",
            "demo-planner": "city-a",
            "demo-product-manager": "province",
            "demo-province-planner": "province",
        }
        roles = set()
        for account in made:
            identity = who(service, token=enter(service, account.name, DEMO_PASSWORD))
            assert identity is not None
            roles |= {post.role for post in identity.actor.posts}
        assert roles == set(ROLES)

    def test_again_makes_nothing_new(self, service: Service) -> None:
        with service.system_work() as work:
            first = [
                a.account_id for a in demo_accounts(work, Settings(demo=True), passwords=CHEAP)
            ]
            again = [
                a.account_id for a in demo_accounts(work, Settings(demo=True), passwords=CHEAP)
            ]
        assert first == again

    def test_never_outside_a_demo_workspace(self, service: Service) -> None:
        with service.system_work() as work, pytest.raises(RefusedError):
            demo_accounts(work, Settings(), passwords=CHEAP)
        with service.system_work() as work:
            assert work.session.scalars(sa.select(Account)).all() == []


def test_posts_are_the_powers() -> None:
    actor = Actor("a", "city-a", (Post("planner", "city-a"), Post("approver", "county-a1")))
    assert actor.scope("plan.edit").roots == {"city-a"}
    assert actor.scope("plan.approve").roots == {"county-a1"}
    assert actor.scope("plan.stop").roots == {"city-a", "county-a1"}
