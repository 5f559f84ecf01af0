"""The application: every route, in one list."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from bihuan.server.api.frame.observe import Measures, Observer
from bihuan.server.api.frame.problem import install_problems
from bihuan.server.api.frame.router import check_gates
from bihuan.server.app.service import Service

ROUTES = (
    "page_routes",
    "service_routes",
    "audience_routes",
    "policy_routes",
    "job_routes",
    "organisation_routes",
    "place_routes",
    "people_routes",
    "sign_in_routes",
    "indicator_routes",
    "scene_routes",
    "scheme_routes",
    "team_routes",
    "performance_routes",
    "audit_routes",
    "customer_routes",
    "plan_routes",
    "approval_routes",
    "library_routes",
    "frame_routes",
    "knowledge_routes",
    "deployment_routes",
)
"""Modules of this room, each with a ``router``, in the order of the document."""

DESCRIPTION = """Closed-loop precision marketing and customer retention.

Sign in with `POST /sessions` (cookie, `X-CSRF-Token` on changes) or send an API token as bearer.
Every route names its permission (`x-permission`); what it shows is narrowed to the org subtrees in
which the caller holds a post granting it. Creating requests need an `Idempotency-Key`, changes an
`If-Match` with the ETag that was read. Lists come in pages by cursor. Errors are
`application/problem+json` with `detail`, `zh`, `en` and a `request_id`.
"""


def create_app(service: Service) -> FastAPI:
    """Return the application over ``service``.

    Raises
    ------
    UngatedRouteError
        If a route declares no permission and scope.
    """
    app = FastAPI(
        title="Bihuan 闭环",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.measures = Measures()
    for name in ROUTES:  # flat: a router included as such would be searched twice per request
        app.router.routes.extend(import_module(f"bihuan.server.api.{name}").router.routes)
    check_gates(app)
    install_problems(app)
    app.add_middleware(Observer, settings=service.settings, measures=app.state.measures)
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    return app


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of ``app``; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        document["components"]["securitySchemes"] = {
            "session": {"type": "apiKey", "in": "cookie", "name": "bihuan_session"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        app.openapi_schema = document
    return app.openapi_schema
