"""What a route declares about who may call it; a route without a gate stops the start-up."""

from __future__ import annotations

import contextlib
import hmac
from typing import Any, get_args, get_origin

from fastapi import Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params

from bihuan.server.api.frame.call import Call
from bihuan.server.api.frame.problem import ForgeryError
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import BusyError, RefusedError, UnauthenticatedError
from bihuan.server.app.permission import ACTIONS
from bihuan.server.app.service import Service
from bihuan.server.app.sign_in import Identity, identify, note_seen, require_action

COOKIE = "bihuan_session"
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
NOBODY = Actor("", "", ())


class Gate:
    """A dependency that lets a caller in or not.

    Parameters
    ----------
    kind
        ``permitted``, ``signed_in`` or ``public``.
    action
        The named action of a ``permitted`` route.
    why
        What makes a ``public`` route public.
    """

    def __init__(self, kind: str, *, action: str = "", why: str = "") -> None:
        self.kind = kind
        self.action = action
        self.why = why

    async def __call__(self, request: Request, response: Response) -> Call:
        """Return the call of an admitted caller; waits for nothing, see the router.

        Raises
        ------
        UnauthenticatedError, PermissionDeniedError, ForgeryError
            If the caller is not known, has no post for the action, or a browser was misled.
        """
        service: Service = request.app.state.service
        _refuse_unknown(request)
        if self.kind == "public":
            return Call(service, NOBODY, "", request, response)
        identity = find_identity(request, service)
        if identity is None:
            raise UnauthenticatedError(
                "Sign in first.",
                remedy="POST /api/v1/sessions, or send an API token as bearer.",
                zh="请先登录，或使用接口令牌。",
            )
        if identity.kind == "session" and request.method not in SAFE:
            _refuse_forgery(request, identity)
        request.scope["bihuan.account_id"] = identity.actor.account_id
        if self.action:
            require_action(identity, self.action)
        return Call(service, identity.actor, self.action, request, response)


def permitted(action: str) -> Any:
    """Let callers in that hold a post granting ``action``; their scope is its org subtrees.

    Raises
    ------
    KeyError
        If there is no such action.
    """
    ACTIONS[action]
    return Depends(Gate("permitted", action=action))


def signed_in() -> Any:
    """Let every signed-in account in, to its own things only."""
    return Depends(Gate("signed_in"))


def public(why: str) -> Any:
    """Let everybody in; ``why`` says what makes that right."""
    return Depends(Gate("public", why=why))


def gate_of(dependant: Dependant) -> Gate | None:
    """Return the gate among a route's dependencies, None if it declares none."""
    found = [d.call for d in dependant.dependencies if isinstance(d.call, Gate)]
    return found[0] if len(found) == 1 else None


def find_identity(request: Request, service: Service) -> Identity | None:
    """Return who sends ``request``: by bearer token, else by session cookie; None: nobody."""
    header = request.headers.get("authorization", "")
    bearer = header[7:].strip() if header[:7].lower() == "bearer " else None
    session = None if bearer else request.cookies.get(COOKIE)
    if not bearer and not session:
        return None
    with service.system_work(read_only=True) as work:
        identity = identify(work, session_token=session, bearer=bearer, now=work.now)
    if identity is not None and identity.is_seen_stale:
        # a busy database must not turn a reader away; the next request notes it
        with contextlib.suppress(BusyError), service.system_work() as work:
            note_seen(work, identity)
    return identity


def _refuse_unknown(request: Request) -> None:
    """Refuse query parameters that the route does not know or that are given twice.

    Either is a slip that would change the answer. NUL, which PostgreSQL does not keep, is in no
    id and no text.
    """
    known = _known(request.scope["route"].dependant)
    given = [name for name, _ in request.query_params.multi_items()]
    unknown = set(given) - set(known)
    if unknown:
        raise RefusedError(
            f"There is no query parameter {', '.join(sorted(unknown))} here.",
            remedy="See /api/v1/openapi.json for those there are.",
            zh=f"没有查询参数 {'、'.join(sorted(unknown))}，请查看接口文档。",
        )
    twice = {name for name in given if not known[name] and given.count(name) > 1}
    if twice:
        raise RefusedError(
            f"The query parameter {', '.join(sorted(twice))} is given more than once.",
            remedy="Give it once.",
            zh=f"查询参数 {'、'.join(sorted(twice))} 重复，请只填一次。",
        )
    if b"%00" in request.scope.get("query_string", b"") or "\0" in request.scope["path"]:
        raise RefusedError(
            "The address has the character NUL.",
            remedy="Leave it out.",
            zh="地址中含有空字符，请去除。",
        )


_NAMES: dict[int, dict[str, bool]] = {}


def _known(dependant: Dependant) -> dict[str, bool]:
    """Return the parameters of a route, and which of them may be given more than once."""
    if id(dependant) not in _NAMES:  # a route's dependant lives as long as the application
        _NAMES[id(dependant)] = {
            field.alias: _is_many(field.field_info.annotation)
            for field in get_flat_params(dependant)
        }
    return _NAMES[id(dependant)]


def _is_many(annotation: Any) -> bool:
    return get_origin(annotation) in (list, set, tuple) or any(map(_is_many, get_args(annotation)))


def _refuse_forgery(request: Request, identity: Identity) -> None:
    given = request.headers.get("x-csrf-token", "")
    if not identity.csrf or not hmac.compare_digest(given.encode(), identity.csrf.encode()):
        raise ForgeryError(
            "The request lacks the CSRF token of this sign-in.",
            remedy="Send the `csrf` of GET /api/v1/me as header X-CSRF-Token.",
            zh="请求缺少本次登录的 CSRF 令牌，请在 X-CSRF-Token 中带上。",
        )
