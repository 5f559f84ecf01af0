"""Sign-in by password, lockout, sessions, and who is behind a token."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from tests.server.app.people_world import CHEAP, SECRET, SYSTEM, person

from bihuan.kernel import FixedClock
from bihuan.server.app.account import close_account, reset_password
from bihuan.server.app.errors import NotFoundError, UnauthenticatedError
from bihuan.server.app.identity import (
    PasswordChangeNeededError,
    csrf_of,
    hash_of,
    identify,
    note_seen,
    require_action,
)
from bihuan.server.app.password import Passwords
from bihuan.server.app.people import end_post, find_posts
from bihuan.server.app.service import Service
from bihuan.server.app.sign_in import (
    Device,
    SignedIn,
    SignInRefusedError,
    end_session,
    find_by_name,
    find_sessions,
    forget_old_attempts,
    is_locked,
    sign_in,
    unlock,
)
from bihuan.server.control import Account, AuditEntry, Scope, SignIn, SignInGuard, UnitOfWork

DEVICE = Device("10.0.0.7", "Browser 1")


def enter(service: Service, name: str, password: str = SECRET) -> SignedIn:
    return sign_in(service, name, password, DEVICE, passwords=CHEAP)


def who(service: Service, token: str | None = None, bearer: str | None = None):
    with service.system_work(read_only=True) as work:
        return identify(work, session_token=token, bearer=bearer, now=work.now)


def attempts(service: Service) -> list[int]:
    with service.system_work(read_only=True) as work:
        return list(work.session.scalars(sa.select(SignInGuard.attempts)))


class TestSignIn:
    def test_the_right_password_opens_a_session(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        signed_in = enter(service, "  Planner-A ")
        identity = who(service, signed_in.token)
        assert identity is not None
        assert identity.kind == "session"
        assert identity.csrf == signed_in.csrf == csrf_of(signed_in.token)
        assert signed_in.expires_at - service.clock.now() == timedelta(hours=12)

    def test_no_token_is_stored(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        signed_in = enter(service, "planner-a")
        with service.system_work() as work:
            row = work.session.scalars(sa.select(SignIn)).one()
        assert row.token_hash == hash_of(signed_in.token)
        assert signed_in.token not in repr(vars(row))

    @pytest.mark.parametrize("case", ["unknown", "password", "closed", "locked", "no_password"])
    def test_every_refusal_says_the_same(self, service: Service, case: str) -> None:
        _, account = person(service.control, "planner-a", "planner", "city-a")
        if case == "closed":
            with service.system_work() as work:
                close_account(work, SYSTEM, work.session.get_one(Account, account.account_id))
        if case == "no_password":
            with service.system_work() as work:
                work.session.get_one(Account, account.account_id).password_hash = None
        if case == "locked":
            for _ in range(5):
                with pytest.raises(SignInRefusedError):
                    enter(service, "planner-a", "wrong password")
        name = "nobody" if case == "unknown" else "planner-a"
        password = "wrong password" if case == "password" else SECRET
        with pytest.raises(SignInRefusedError) as refused:
            enter(service, name, password)
        assert refused.value.text("en") == (
            "The account name or the password is wrong, or the account is locked or closed."
            " After 5 wrong attempts an account stays locked for 15 minutes; an administrator"
            " can unlock it."
        )
        assert "锁定" in refused.value.text("zh")

    def test_names_without_an_account_cost_a_hash_and_lock_like_others(
        self, service: Service
    ) -> None:
        class Counting(Passwords):
            checked = 0

            def check(self, kept: str | None, password: str) -> bool:
                self.checked += 1
                return super().check(kept, password)

        person(service.control, "planner-a", "planner", "city-a")
        costs = {}
        for name in ("planner-a", "nobody"):
            counting = Counting(time_cost=1, memory_kib=64)
            for _ in range(7):
                with pytest.raises(SignInRefusedError):
                    sign_in(service, name, "wrong password", DEVICE, passwords=counting)
            costs[name] = counting.checked
        assert costs == {"planner-a": 5, "nobody": 5}
        assert attempts(service) == [5, 5]

    def test_refusals_are_audited_without_the_name_typed(self, service: Service) -> None:
        with pytest.raises(SignInRefusedError):
            enter(service, "my-secret-password", "x")
        with service.system_work() as work:
            entry = work.session.scalars(sa.select(AuditEntry)).one()
        assert (entry.action, entry.subject_id) == ("sign_in.refuse", "unknown")
        assert entry.detail == {"reason": "unknown", "address": "10.0.0.7"}

    def test_stronger_parameters_are_taken_up_at_sign_in(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        stronger = Passwords(time_cost=2, memory_kib=128)
        sign_in(service, "planner-a", SECRET, DEVICE, passwords=stronger)
        with service.system_work() as work:
            account = find_by_name(work, "planner-a")
        assert account is not None
        assert "m=128,t=2" in str(account.password_hash)
        assert enter(service, "planner-a").token


class TestLockout:
    def test_five_wrong_passwords_lock_even_the_right_one_out(
        self, service: Service, clock: FixedClock
    ) -> None:
        _, account = person(service.control, "planner-a", "planner", "city-a")
        for _ in range(5):
            with pytest.raises(SignInRefusedError):
                enter(service, "planner-a", "wrong password")
        with pytest.raises(SignInRefusedError):
            enter(service, "planner-a")
        with service.system_work() as work:
            assert is_locked(work, account)
        clock.advance(timedelta(minutes=15))
        assert enter(service, "planner-a").token

    def test_four_wrong_ones_and_a_right_one_start_again(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        for _ in range(2):
            for _ in range(4):
                with pytest.raises(SignInRefusedError):
                    enter(service, "planner-a", "wrong password")
            assert enter(service, "planner-a").token

    def test_the_fifth_attempt_may_be_right(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        for _ in range(4):
            with pytest.raises(SignInRefusedError):
                enter(service, "planner-a", "wrong password")
        enter(service, "planner-a")
        assert attempts(service) == []

    def test_an_administrator_unlocks(self, service: Service) -> None:
        _, account = person(service.control, "planner-a", "planner", "city-a")
        for _ in range(5):
            with pytest.raises(SignInRefusedError):
                enter(service, "planner-a", "wrong password")
        with service.system_work() as work:
            unlock(work, account)
        assert enter(service, "planner-a").token

    def test_guesses_at_once_do_not_pass_the_limit(self, service: Service) -> None:
        class Counting(Passwords):
            def __init__(self) -> None:
                super().__init__(time_cost=1, memory_kib=64)
                self.checked: list[str] = []

            def check(self, kept: str | None, password: str) -> bool:
                self.checked.append(password)
                return super().check(kept, password)

        person(service.control, "planner-a", "planner", "city-a")
        counting = Counting()

        def guess(number: int) -> None:
            with pytest.raises(SignInRefusedError):
                sign_in(service, "planner-a", f"guess {number} of many", DEVICE, passwords=counting)

        threads = [threading.Thread(target=guess, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(counting.checked) == 5

    def test_old_counts_are_forgotten(self, service: Service, clock: FixedClock) -> None:
        with pytest.raises(SignInRefusedError):
            enter(service, "nobody", "wrong password")
        with service.system_work() as work:
            assert forget_old_attempts(work, service.settings) == 0
        clock.advance(timedelta(minutes=16))
        with service.system_work() as work:
            assert forget_old_attempts(work, service.settings) == 1


class TestIdentify:
    def test_nobody_shows_nothing(self, service: Service) -> None:
        assert who(service) is None

    @pytest.mark.parametrize("token", ["", "forged", "x" * 5000, "令牌"])
    def test_a_forged_session_is_refused(self, service: Service, token: str) -> None:
        with pytest.raises(UnauthenticatedError):
            who(service, token)

    def test_one_query_and_nothing_written(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        token = enter(service, "planner-a").token
        said: list[str] = []

        def note(conn, cursor, statement, *rest) -> None:
            said.append(statement)

        with service.system_work(read_only=True) as work:
            event.listen(service.control.engine, "before_cursor_execute", note)
            identify(work, session_token=token, bearer=None, now=work.now)
            event.remove(service.control.engine, "before_cursor_execute", note)
        assert len(said) == 1
        assert all(statement.startswith("SELECT") for statement in said)

    def test_ends_after_its_time_however_much_used(
        self, service: Service, clock: FixedClock
    ) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        token = enter(service, "planner-a").token
        for _ in range(23):
            clock.advance(timedelta(minutes=31))
            identity = who(service, token)
            assert identity is not None
            with service.system_work() as work:
                note_seen(work, identity)
        clock.advance(timedelta(minutes=8))
        with pytest.raises(UnauthenticatedError):
            who(service, token)

    def test_ends_when_idle(self, service: Service, clock: FixedClock) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        token = enter(service, "planner-a").token
        clock.advance(timedelta(minutes=59))
        assert who(service, token) is not None
        clock.advance(timedelta(minutes=1))
        with pytest.raises(UnauthenticatedError):
            who(service, token)

    def test_use_is_written_at_most_once_a_minute(
        self, service: Service, clock: FixedClock
    ) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        token = enter(service, "planner-a").token
        stale = []
        for _ in range(5):
            clock.advance(timedelta(seconds=25))
            identity = who(service, token)
            assert identity is not None
            stale.append(identity.is_seen_stale)
            if identity.is_seen_stale:
                with service.system_work() as work:
                    note_seen(work, identity)
        assert stale == [False, False, True, False, False]

    def test_a_post_taken_back_is_gone_at_the_next_request(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        with service.system_work() as work:
            work.session.execute(sa.update(Account).values(must_change=False))
        token = enter(service, "planner-a").token
        before = who(service, token)
        assert before is not None
        assert before.actor.may("plan.edit")
        with service.system_work() as work:
            post = work.session.scalars(find_posts(staff_id="s-planner-a")).one()
            end_post(work, SYSTEM, post)
        after = who(service, token)
        assert after is not None
        assert not after.actor.may("plan.edit")

    def test_an_administrators_password_lets_nothing_be_done(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a", must_change=True)
        identity = who(service, enter(service, "planner-a").token)
        assert identity is not None
        assert identity.actor.actions == frozenset()
        with pytest.raises(PasswordChangeNeededError):
            require_action(identity, "plan.edit")


class TestSessions:
    def sessions(self, work: UnitOfWork, account: Account) -> list[SignIn]:
        return list(work.session.scalars(find_sessions(account.account_id, work.now)))

    def test_one_is_ended_by_its_owner(self, service: Service) -> None:
        _, account = person(service.control, "planner-a", "planner", "city-a")
        first, second = enter(service, "planner-a"), enter(service, "planner-a")
        with service.system_work() as work:
            assert {s.address for s in self.sessions(work, account)} == {"10.0.0.7"}
            end_session(work, account.account_id, first.identity.session_id)
        with pytest.raises(UnauthenticatedError):
            who(service, first.token)
        assert who(service, second.token) is not None

    def test_not_by_somebody_else(self, service: Service) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        _, other = person(service.control, "planner-b", "planner", "city-b")
        signed_in = enter(service, "planner-a")
        with service.system_work() as work, pytest.raises(NotFoundError):
            end_session(work, other.account_id, signed_in.identity.session_id)

    @pytest.mark.parametrize("by", ["close", "reset"])
    def test_all_end_with_the_account_or_its_password(self, service: Service, by: str) -> None:
        _, account = person(service.control, "planner-a", "planner", "city-a")
        token = enter(service, "planner-a").token
        with service.control.work(Scope.everything()) as work:
            row = work.session.get_one(Account, account.account_id)
            if by == "close":
                close_account(work, SYSTEM, row)
            else:
                reset_password(work, SYSTEM, row, "another good phrase", passwords=CHEAP)
        with pytest.raises(UnauthenticatedError):
            who(service, token)
