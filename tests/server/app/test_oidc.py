"""Sign-in by an OpenID provider that runs as a process of its own, honest and dishonest."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from tests.server.app.oidc_provider import CLIENT_ID, CLIENT_SECRET
from tests.server.app.people_world import SYSTEM, person

from bihuan.kernel import FixedClock
from bihuan.server.app.account import close_account
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.identity import identify
from bihuan.server.app.oidc import OidcRefusedError, finish_oidc, local_path, start_oidc
from bihuan.server.app.service import Service
from bihuan.server.app.sign_in import Device
from bihuan.server.control import Account, AuditEntry, OidcRequest

ROOT = Path(__file__).parents[3]
DEVICE = Device("10.0.0.7", "Browser 1")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ready = tmp_path_factory.mktemp("oidc") / "port"
    command = [sys.executable, "-m", "tests.server.app.oidc_provider", str(ready)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        while not ready.exists():
            assert process.poll() is None, "the provider did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{ready.read_text(encoding='utf-8')}"
        process.terminate()


@pytest.fixture
def provider(issuer: str, service: Service) -> Service:
    """The service, told of the provider; its clock stands at the test's moment."""
    settings = service.settings.model_copy(
        update={
            "oidc_issuer": issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": SecretStr(CLIENT_SECRET),
            "public_url": "https://bihuan.example",
        }
    )
    return replace(service, settings=settings)


@pytest.fixture
def account(provider: Service) -> Account:
    return person(provider.control, "oidc-planner", "planner", "city-a", must_change=True)[1]


def mood(service: Service, **told: str) -> None:
    now = str(int(service.clock.now().timestamp()))
    httpx2.post(f"{service.settings.oidc_issuer}/mood", json={"now": now, **told})


def go(url: str) -> dict[str, str]:
    """Be the browser: go to the provider, come back with the query of the callback."""
    answer = httpx2.get(url)
    assert answer.status_code == 302, answer.text
    back = urlsplit(answer.headers["location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == (
        "https://bihuan.example/api/v1/oidc/callback"
    )
    return dict(parse_qsl(back.query))


def reasons(service: Service) -> list[str]:
    with service.system_work() as work:
        entries = sa.select(AuditEntry).where(AuditEntry.action == "sign_in.refuse")
        return [entry.detail["reason"] for entry in work.session.scalars(entries)]


class TestHonest:
    @pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
    def test_opens_a_session_of_the_local_account(
        self, provider: Service, account: Account, algorithm: str
    ) -> None:
        mood(provider, login_as="OIDC-Planner", algorithm=algorithm)
        begun = start_oidc(provider, "/plans")
        signed_in, return_to = finish_oidc(provider, go(begun.url), begun.browser_secret, DEVICE)
        assert return_to == "/plans"
        with provider.system_work() as work:
            identity = identify(work, session_token=signed_in.token, bearer=None, now=work.now)
        assert identity is not None
        assert identity.actor.account_id == account.account_id
        assert identity.actor.may("plan.edit")
        assert not identity.must_change  # of passwords; here none was used

    def test_nothing_waits_afterwards(self, provider: Service, account: Account) -> None:
        mood(provider, login_as="oidc-planner")
        begun = start_oidc(provider)
        finish_oidc(provider, go(begun.url), begun.browser_secret, DEVICE)
        with provider.system_work() as work:
            assert work.session.scalars(sa.select(OidcRequest)).all() == []

    def test_state_and_verifier_are_not_in_the_database_in_clear(self, provider: Service) -> None:
        begun = start_oidc(provider)
        query = dict(parse_qsl(urlsplit(begun.url).query))
        with provider.system_work() as work:
            row = work.session.scalars(sa.select(OidcRequest)).one()
        assert query["state"] not in repr(vars(row))
        assert row.verifier not in begun.url
        assert begun.browser_secret not in begun.url + repr(vars(row))


class TestDishonest:
    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            ("wrong_nonce", "InvalidClaimError"),
            ("no_nonce", "MissingClaimError"),
            ("wrong_audience", "InvalidClaimError"),
            ("no_audience", "MissingClaimError"),
            ("two_audiences", "InvalidClaimError"),
            ("wrong_issuer", "InvalidClaimError"),
            ("expired", "ExpiredTokenError"),
            ("no_expiry", "MissingClaimError"),
            ("from_the_future", "InvalidClaimError"),
            ("alg_none", "UnsupportedAlgorithmError"),
            ("shared_secret", "UnsupportedAlgorithmError"),
            ("wrong_key", "BadSignatureError"),
            ("unknown_kid", "InvalidKeyIdError"),
            ("changed_after_signing", "BadSignatureError"),
            ("wrong_at_hash", "InvalidClaimError"),
            ("no_id_token", "KeyError"),
            ("token_down", "HTTPStatusError"),
            ("account_is_a_list", "no_account"),
            ("denied", "provider_error"),
        ],
    )
    def test_no_token_that_does_not_hold(
        self, provider: Service, account: Account, fault: str, told: str
    ) -> None:
        mood(provider, login_as="oidc-planner", fault=fault)
        begun = start_oidc(provider)
        with pytest.raises(OidcRefusedError) as refused:
            finish_oidc(provider, go(begun.url), begun.browser_secret, DEVICE)
        assert refused.value.remedy
        assert refused.value.zh
        assert reasons(provider) == [told]

    @pytest.mark.parametrize("fault", ["other_issuer", "plain_http"])
    def test_no_provider_that_is_another(self, provider: Service, fault: str) -> None:
        mood(provider, fault=fault)
        with pytest.raises(OidcRefusedError):
            start_oidc(provider)

    def test_unreachable(self, provider: Service) -> None:
        settings = provider.settings.model_copy(update={"oidc_issuer": "http://127.0.0.1:9"})
        with pytest.raises(OidcRefusedError) as refused:
            start_oidc(replace(provider, settings=settings))
        assert "password" in refused.value.remedy

    def test_none_set(self, service: Service) -> None:
        with pytest.raises(RefusedError):
            start_oidc(service)


class TestBrowser:
    """State and cookie: an answer serves once, in the browser that asked, for ten minutes."""

    def test_another_browser(self, provider: Service, account: Account) -> None:
        mood(provider, login_as="oidc-planner")
        mine, theirs = start_oidc(provider), start_oidc(provider)
        with pytest.raises(OidcRefusedError):
            finish_oidc(provider, go(mine.url), theirs.browser_secret, DEVICE)

    def test_twice(self, provider: Service, account: Account) -> None:
        mood(provider, login_as="oidc-planner")
        begun = start_oidc(provider)
        answer = go(begun.url)
        finish_oidc(provider, answer, begun.browser_secret, DEVICE)
        with pytest.raises(OidcRefusedError):
            finish_oidc(provider, answer, begun.browser_secret, DEVICE)

    def test_too_late(self, provider: Service, account: Account, clock: FixedClock) -> None:
        mood(provider, login_as="oidc-planner")
        begun = start_oidc(provider)
        answer = go(begun.url)
        clock.advance(timedelta(minutes=11))
        with pytest.raises(OidcRefusedError):
            finish_oidc(provider, answer, begun.browser_secret, DEVICE)

    @pytest.mark.parametrize("state", ["", "forged"])
    def test_a_state_of_nobody(self, provider: Service, state: str) -> None:
        with pytest.raises(OidcRefusedError):
            finish_oidc(provider, {"state": state, "code": "x"}, "y", DEVICE)
        assert reasons(provider) == ["state"]

    def test_a_code_of_another_request(self, provider: Service, account: Account) -> None:
        # an injected code fails at the provider: its challenge is not of this verifier
        mood(provider, login_as="oidc-planner")
        victim, thief = start_oidc(provider), start_oidc(provider)
        stolen = go(victim.url)["code"]
        answer = {**go(thief.url), "code": stolen}
        with pytest.raises(OidcRefusedError):
            finish_oidc(provider, answer, thief.browser_secret, DEVICE)


class TestAccounts:
    def test_unknown_here_says_what_to_do(self, provider: Service) -> None:
        mood(provider, login_as="stranger")
        begun = start_oidc(provider)
        with pytest.raises(OidcRefusedError) as refused:
            finish_oidc(provider, go(begun.url), begun.browser_secret, DEVICE)
        assert "administrator" in refused.value.remedy

    def test_closed_here(self, provider: Service, account: Account) -> None:
        mood(provider, login_as="oidc-planner")
        with provider.system_work() as work:
            close_account(work, SYSTEM, work.session.get_one(Account, account.account_id))
        begun = start_oidc(provider)
        with pytest.raises(OidcRefusedError):
            finish_oidc(provider, go(begun.url), begun.browser_secret, DEVICE)


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "evil",
        "",
        "/a\nb",
        "/" + "a" * 200,
    ],
)
def test_no_way_to_another_site(wanted: str) -> None:
    assert local_path(wanted) == "/"
