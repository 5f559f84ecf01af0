"""Routes under ``/api/v1`` that cannot forget their gate."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import Match
from starlette.types import Scope

from bihuan.kernel import DefectError
from bihuan.server.api.frame.gate import gate_of
from bihuan.server.api.frame.problem import Problem


class UngatedRouteError(DefectError):
    """A route declares neither a permission nor why it needs none."""


class _Route(APIRoute):
    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        gate = gate_of(self.dependant)
        if gate is None:
            msg = f"{sorted(self.methods or ())} {path} declares no permission and scope"
            raise UngatedRouteError(msg)
        self.openapi_extra = {
            **(self.openapi_extra or {}),
            "x-gate": gate.kind,
            **({"x-permission": gate.action, "x-scope": "org subtree"} if gate.action else {}),
            **({"x-public": gate.why} if gate.why else {}),
            "security": [] if gate.kind == "public" else [{"session": []}, {"bearer": []}],
        }
        self._head = path.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether the route fits; most of the hundreds are ruled out by how they begin."""
        if not scope.get("root_path") and not scope["path"].startswith(self._head):
            return Match.NONE, {}
        return super().matches(scope)


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
