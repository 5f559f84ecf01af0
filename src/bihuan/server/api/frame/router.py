"""Routes under ``/api/v1`` that cannot forget their gate."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from bihuan.kernel import DefectError
from bihuan.server.api.frame.gate import gate_of
from bihuan.server.api.frame.problem import Problem
from bihuan.server.api.frame.thread import in_thread


class UngatedRouteError(DefectError):
    """A route declares neither a permission nor why it needs none."""


class _Route(APIRoute):
    """A route that is answered whole in one worker thread: gate, use case and rendering.

    Left to itself the framework takes a thread for each of the three in turn, and under load the
    hand-overs cost as much as the work.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, _awaitable(endpoint), **options)
        gate = gate_of(self.dependant)
        if gate is None:
            msg = f"{sorted(self.methods or ())} {path} declares no permission and scope"
            raise UngatedRouteError(msg)
        if not all(_is_awaitable(d.call) for d in self.dependant.dependencies):
            msg = f"{path}: what a route depends on is an `async def` that waits for nothing"
            raise DefectError(msg)
        self.openapi_extra = {
            **(self.openapi_extra or {}),
            "x-gate": gate.kind,
            **({"x-permission": gate.action, "x-scope": "org subtree"} if gate.action else {}),
            **({"x-public": gate.why} if gate.why else {}),
            "security": [] if gate.kind == "public" else [{"session": []}, {"bearer": []}],
        }
        self._head = path.partition("{")[0]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request: its body is read here, the rest done in a thread."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            with suppress(ClientDisconnect):  # found again, and told, by the handler
                await request.body()
            return await in_thread(_run, handler, request)

        return answer

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether the route fits; most of the hundreds are ruled out by how they begin."""
        if not scope.get("root_path") and not scope["path"].startswith(self._head):
            return Match.NONE, {}
        return super().matches(scope)


def _awaitable(endpoint: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return ``endpoint`` so that the framework calls it where it is, in the thread it is in."""

    @wraps(endpoint)
    async def call(*args: Any, **given: Any) -> Any:
        return endpoint(*args, **given)

    return call


def _is_awaitable(call: Any) -> bool:
    return iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)


def _run(handler: Callable[[Request], Coroutine[Any, Any, Response]], request: Request) -> Response:
    """Run a handler that waits for nothing to its end; there is no event loop in this thread."""
    course = handler(request)
    try:
        course.send(None)
    except StopIteration as end:
        answer: Response = end.value
        return answer
    course.close()
    msg = f"{request.method} {request.url.path} waits for something; routes are plain functions"
    raise DefectError(msg)


class Router(APIRouter):
    """An APIRouter whose every route declares a gate and its problems.

    Parameters
    ----------
    tag
        Heading in the OpenAPI document.
    prefix
        Where the routes stand.
    """

    def __init__(self, *, tag: str, prefix: str = "/api/v1") -> None:
        problems: dict[int | str, dict[str, Any]] = {
            status: {
                "model": Problem,
                "content": {"application/problem+json": {}},
                "description": text,
            }
            for status, text in _STATUS_TEXTS.items()
        }
        super().__init__(prefix=prefix, tags=[tag], route_class=_Route, responses=problems)


_STATUS_TEXTS = {
    400: "A header is missing.",
    401: "Not signed in, or the token is forged, expired or revoked.",
    403: "No post grants the permission, or the unit is out of scope.",
    404: "Not there, or not within reach.",
    409: "Contradicts the present state.",
    412: "Changed since it was read.",
    413: "The body is too large.",
    422: "The request does not fit, or a rule forbids it.",
    428: "If-Match is missing.",
    429: "Too many requests.",
    503: "Busy; try again.",
}


def check_gates(app: FastAPI) -> None:
    """Refuse to start with a route that declares no permission and scope.

    Raises
    ------
    UngatedRouteError
        If there is one; the message names it.
    """
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is None or gate_of(dependant) is None:
            msg = f"{sorted(route.methods or ())} {route.path} declares no permission and scope"
            raise UngatedRouteError(msg)
