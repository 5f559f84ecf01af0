"""A small OpenID provider that runs as a process of its own and can be told to misbehave.

``python -m tests.server.app.oidc_provider PORT_FILE`` serves discovery, authorize, token and keys
on a free port of this machine and writes the port into the file. ``/authorize`` signs in at once
whom the query ``login_as`` or the control call names; codes remember nonce and challenge.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT_ID, CLIENT_SECRET = "bihuan", "provider-secret"


class Provider:
    """State of the provider: keys, open codes, and how it misbehaves."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.rsa = RSAKey.generate_key(2048, {"kid": "rsa-1"})
        self.ec = ECKey.generate_key("P-256", {"kid": "ec-1"})
        self.stranger = RSAKey.generate_key(2048, {"kid": "rsa-1"})
        self.codes: dict[str, dict[str, str]] = {}
        self.mood: dict[str, Any] = {}

    async def told(self, request: Request) -> Response:
        self.mood = await request.json()
        return JSONResponse({})

    async def discovery(self, request: Request) -> Response:
        other = "https://other.invalid" if self.mood.get("fault") == "other_issuer" else self.issuer
        plain = "http://keys.invalid/jwks" if self.mood.get("fault") == "plain_http" else None
        return JSONResponse(
            {
                "issuer": other,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": plain or f"{self.issuer}/jwks",
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            }
        )

    async def authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert query["client_id"] == CLIENT_ID
        if self.mood.get("fault") == "denied":
            back = {"error": "access_denied", "state": query["state"]}
        else:
            code = secrets.token_urlsafe(16)
            self.codes[code] = query
            back = {"code": code, "state": query["state"]}
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode(back)}", status_code=302)

    async def token(self, request: Request) -> Response:
        form = {
            name: values[0] for name, values in parse_qs((await request.body()).decode()).items()
        }
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        asked = self.codes.pop(form.get("code", ""), None)
        proof = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(proof).rstrip(b"=").decode()
        if self.mood.get("fault") == "token_down":
            return Response("down", status_code=503)
        if (
            asked is None
            or request.headers.get("authorization") != f"Basic {basic}"
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form.get("redirect_uri")
        ):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        access = secrets.token_urlsafe(16)
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": 60}
        if self.mood.get("fault") != "no_id_token":
            answer["id_token"] = self.sign(asked["nonce"])
        return JSONResponse(answer)

    async def jwks(self, request: Request) -> Response:
        keys = [key.as_dict(private=False) for key in (self.rsa, self.ec)]
        return JSONResponse({"keys": keys})

    def sign(self, nonce: str) -> str:
        fault = self.mood.get("fault")
        now = int(self.mood.get("now") or datetime.now(UTC).timestamp())  # noqa: TID251
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": "subject-1",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "preferred_username": self.mood.get("login_as", "nobody"),
        }
        claims |= {
            "wrong_nonce": {"nonce": "another"},
            "wrong_audience": {"aud": "another-client"},
            "two_audiences": {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
            "wrong_issuer": {"iss": "https://other.invalid"},
            "expired": {"iat": now - 900, "exp": now - 600},
            "from_the_future": {"iat": now + 3600, "exp": now + 7200},
            "wrong_at_hash": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
            "account_is_a_list": {"preferred_username": ["oidc-planner"]},
        }.get(str(fault), {})
        for name in {"no_nonce": ["nonce"], "no_expiry": ["exp"], "no_audience": ["aud"]}.get(
            str(fault), []
        ):
            del claims[name]
        return self.seal(claims, str(fault))

    def seal(self, claims: dict[str, Any], fault: str) -> str:
        head: dict[str, Any] = {"alg": "RS256", "kid": "rsa-1"}
        if fault == "alg_none":
            parts = ({"alg": "none", "kid": "rsa-1"}, claims)
            return ".".join(_segment(json.dumps(part).encode()) for part in parts) + "."
        if fault == "shared_secret":  # the public key, which everybody has, used as a secret
            parts = ({**head, "alg": "HS256"}, claims)
            signed = ".".join(_segment(json.dumps(part).encode()) for part in parts)
            seal = hmac.digest(self.rsa.as_pem(private=False), signed.encode(), "sha256")
            return f"{signed}.{_segment(seal)}"
        if fault == "changed_after_signing":
            first, _, last = jwt.encode(head, {**claims, "acr": "low"}, self.rsa).split(".")
            return ".".join((first, _segment(json.dumps(claims).encode()), last))
        if fault == "unknown_kid":
            return jwt.encode({**head, "kid": "rsa-9"}, claims, self.rsa)
        if self.mood.get("algorithm") == "ES256":
            return jwt.encode({"alg": "ES256", "kid": "ec-1"}, claims, self.ec)
        return jwt.encode(head, claims, self.stranger if fault == "wrong_key" else self.rsa)


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    provider = Provider(f"http://127.0.0.1:{port}")
    app = Starlette(
        routes=[
            Route("/.well-known/openid-configuration", provider.discovery),
            Route("/authorize", provider.authorize),
            Route("/token", provider.token, methods=["POST"]),
            Route("/jwks", provider.jwks),
            Route("/mood", provider.told, methods=["POST"]),
        ]
    )
    assert KeySet([provider.rsa, provider.ec])
    ready = Path(sys.argv[1])
    ready.with_suffix(".tmp").write_text(str(port), encoding="utf-8")
    ready.with_suffix(".tmp").rename(ready)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main()
