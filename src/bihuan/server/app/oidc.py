"""Sign-in by an OpenID provider: authorization code with PKCE, for accounts that exist here.

The provider says who somebody is; what they may do stays with their posts. State, nonce and
verifier wait in the control database, bound to the browser by a cookie, and serve once.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx2
import sqlalchemy as sa
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from bihuan.server.app.errors import RefusedError, UnauthenticatedError
from bihuan.server.app.identity import hash_of
from bihuan.server.app.service import Service
from bihuan.server.app.sign_in import Device, SignedIn, find_by_name, open_session
from bihuan.server.control import Account, OidcRequest, Scope
from bihuan.server.settings import Settings

CALLBACK = "/api/v1/oidc/callback"
ALGORITHMS = (
    "RS256",
    "ES256",
    "PS256",
    "RS384",
    "ES384",
    "PS384",
    "RS512",
    "ES512",
    "PS512",
    "EdDSA",
)
"""Signatures with a key pair only: neither none nor a shared secret."""
PATIENCE = timedelta(minutes=10)
_LEEWAY_SECONDS = 60
_TIMEOUT_SECONDS = 10


class OidcRefusedError(UnauthenticatedError):
    """The provider's answer does not prove who signs in."""


@dataclass(frozen=True, slots=True)
class OidcStart:
    """Where to send the browser, and the secret that it keeps meanwhile as a cookie."""

    url: str
    browser_secret: str


def start_oidc(service: Service, return_to: str = "/") -> OidcStart:
    """Begin a sign-in at the provider.

    Parameters
    ----------
    service
        Its settings name the provider.
    return_to
        Path of ours to go to afterwards; anything else becomes ``/``.

    Raises
    ------
    RefusedError
        If no provider is set.
    OidcRefusedError
        If the provider does not answer as one.
    """
    metadata = _discover(service.settings)
    state, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    verifier, browser = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
    with _client(service.settings) as client:
        url, _ = client.create_authorization_url(
            metadata["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce
        )
    with service.system_work() as work:
        work.session.execute(sa.delete(OidcRequest).where(OidcRequest.expires_at < work.now))
        work.session.add(
            OidcRequest(
                state_hash=hash_of(state),
                browser_hash=hash_of(browser),
                nonce=nonce,
                verifier=verifier,
                return_to=local_path(return_to),
                expires_at=work.now + PATIENCE,
            )
        )
    return OidcStart(url, browser)


def finish_oidc(
    service: Service, answer: Mapping[str, str], browser_secret: str, device: Device
) -> tuple[SignedIn, str]:
    """End a sign-in with what the provider sent the browser back with.

    Parameters
    ----------
    service
        The running service.
    answer
        Query of the callback: ``state`` and ``code``, or ``error``.
    browser_secret
        The cookie of :func:`start_oidc`.
    device
        Where it comes from.

    Returns
    -------
    (signed_in, return_to)
        The session, and where to go.

    Raises
    ------
    OidcRefusedError
        If state, browser, code or token do not hold, or no account of that name exists.
    """
    asked = _take_request(service, answer.get("state", ""), browser_secret)
    if asked is None:
        raise _refuse(service, "state", device)
    if "code" not in answer:
        raise _refuse(service, "provider_error", device)
    try:
        claims = _fetch_claims(service.settings, answer["code"], asked, service.clock.now())
    except (JoseError, AuthlibBaseError, httpx2.HTTPError, KeyError, ValueError) as error:
        raise _refuse(service, type(error).__name__, device) from error
    name = claims.get(service.settings.oidc_account_claim)
    with service.system_work(read_only=True) as work:
        account = find_by_name(work, name) if isinstance(name, str) else None
        known = None if account is None else (account.account_id, account.unit_id)
    if known is not None:
        with service.control.work(
            Scope.everything(), account_id=known[0], home_unit_id=known[1]
        ) as work:
            account = work.session.get(Account, known[0])
            if account is not None and account.status == "active":
                signed_in = open_session(work, account, device, service.settings, method="oidc")
                return signed_in, asked.return_to
    raise _refuse(service, "no_account", device)


def local_path(wanted: str) -> str:
    """Return ``wanted`` if it is a plain path of ours, else ``/``: no way to another site.

    Examples
    --------
    >>> local_path("/plans?status=filed"), local_path("//evil.example"), local_path("https://x")
    ('/plans?status=filed', '/', '/')
    """
    plain = wanted.isascii() and wanted.isprintable() and "\\" not in wanted
    is_ours = wanted.startswith("/") and not wanted.startswith("//") and len(wanted) <= 200
    return wanted if plain and is_ours else "/"


def _take_request(service: Service, state: str, browser_secret: str) -> OidcRequest | None:
    """Return the waiting request of ``state`` and delete it; None if it is not this browser's."""
    with service.system_work() as work:
        row = work.session.get(OidcRequest, hash_of(state), with_for_update=True)
        if row is None or not hmac.compare_digest(row.browser_hash, hash_of(browser_secret)):
            return None
        work.session.delete(row)
        work.session.flush()
        work.session.expunge_all()
        return row if row.expires_at > work.now else None


def _fetch_claims(
    settings: Settings, code: str, asked: OidcRequest, now: datetime
) -> Mapping[str, Any]:
    """Change the code for an ID token and return its claims once everything about it holds."""
    metadata = _discover(settings)
    with _client(settings) as client:
        token = client.fetch_token(
            metadata["token_endpoint"], code=code, code_verifier=asked.verifier
        )
        keys = client.request("GET", metadata["jwks_uri"], withhold_token=True)
    keys.raise_for_status()
    signed = jwt.decode(
        token["id_token"], KeySet.import_key_set(keys.json()), algorithms=ALGORITHMS
    )
    claims = CodeIDToken(
        signed.claims,
        signed.header,
        options={
            "iss": {"essential": True, "value": metadata["issuer"]},
            "aud": {"essential": True, "value": settings.oidc_client_id},
            "nonce": {"essential": True, "value": asked.nonce},
        },
        params={
            "nonce": asked.nonce,
            "client_id": settings.oidc_client_id,
            "access_token": token.get("access_token"),
        },
    )
    claims.validate(now=int(now.timestamp()), leeway=_LEEWAY_SECONDS)
    return dict(claims)


def _discover(settings: Settings) -> Mapping[str, Any]:
    issuer = settings.oidc_issuer.rstrip("/")
    if not issuer:
        raise RefusedError(
            "No OpenID provider is set.",
            remedy="Sign in by name and password, or set BIHUAN_OIDC_ISSUER.",
            zh="未配置统一身份认证，请使用账号密码登录，或配置 BIHUAN_OIDC_ISSUER。",
        )
    try:
        with httpx2.Client(timeout=_TIMEOUT_SECONDS) as client:
            answer = client.get(f"{issuer}/.well-known/openid-configuration")
        answer.raise_for_status()
        metadata: dict[str, Any] = answer.json()
        if str(metadata["issuer"]).rstrip("/") != issuer:
            raise _unreachable("it names another issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            _require_safe(metadata[name])
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
        raise _unreachable(type(error).__name__) from error
    return metadata


def _require_safe(url: str) -> None:
    """Refuse an address that is neither HTTPS nor this machine: codes and keys travel on it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_here = host == "localhost"
    if not is_here:
        try:
            is_here = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_here = False
    if parts.scheme != "https" and not (parts.scheme == "http" and is_here):
        raise _unreachable("an address is not https")


def _client(settings: Settings) -> Any:
    public = settings.public_url or f"http://{settings.host}:{settings.port}"
    secret = settings.oidc_client_secret.get_secret_value()
    return OAuth2Client(
        client_id=settings.oidc_client_id,
        client_secret=secret,
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
        scope="openid profile",
        redirect_uri=public.rstrip("/") + CALLBACK,
        code_challenge_method="S256",
        timeout=_TIMEOUT_SECONDS,
    )


def _unreachable(why: str) -> OidcRefusedError:
    return OidcRefusedError(
        f"The OpenID provider does not answer as one ({why}).",
        remedy="Sign in by name and password; tell the administrator, who runs `bihuan doctor`.",
        zh=f"统一身份认证无法使用（{why}），请使用账号密码登录并告知管理员。",
    )


def _refuse(service: Service, reason: str, device: Device) -> OidcRefusedError:
    """Audit a refused sign-in and return what the person is told."""
    with service.system_work() as work:
        detail = {"reason": reason[:60], "address": device.address[:64], "method": "oidc"}
        work.audit("sign_in.refuse", "account", "unknown", **detail)
    if reason == "no_account":
        return OidcRefusedError(
            "The provider knows you, and there is no open account of that name here.",
            remedy="Ask your administrator to open one with the same name.",
            zh="统一身份认证已通过，但本系统没有同名的有效账号，请联系管理员开通。",
        )
    return OidcRefusedError(
        "The sign-in at the OpenID provider could not be verified.",
        remedy="Start it again; if it stays so, sign in by name and password.",
        zh="统一身份认证校验未通过，请重新发起；如仍失败请使用账号密码登录。",
    )
