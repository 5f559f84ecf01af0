"""Health, measures and the document of the interface itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from bihuan.server.api.frame import Call, Router, View, permitted, public
from bihuan.server.app.doctor import Finding, examine, is_ready
from bihuan.server.app.job import look_at_queue

router = Router(tag="service")


class Alive(View):
    """The process answers."""

    alive: bool = True


class Ready(View):
    """Whether the service can do its work."""

    ready: bool


class FindingView(View):
    """One thing that was looked at."""

    name: str
    ok: bool
    zh: str
    en: str
    remedy_zh: str
    remedy_en: str

    @classmethod
    def of(cls, finding: Finding) -> FindingView:
        """Return the view of ``finding``."""
        return cls.model_validate(finding)


@router.get("/health/live")
def tell_alive(call: Annotated[Call, public("probes carry no accounts; says nothing")]) -> Alive:
    """Tell that the process answers."""
    return Alive()


@router.get("/health/ready", responses={503: {"model": Ready}})
def tell_ready(call: Annotated[Call, public("probes carry no accounts; a yes or no")]) -> Ready:
    """Tell whether the control database and the lake can be used."""
    ready = is_ready(call.service)
    if not ready:
        call.response.status_code = 503
    return Ready(ready=ready)


@router.get("/health")
def tell_health(call: Annotated[Call, permitted("service.read")]) -> list[FindingView]:
    """Tell what the doctor finds, with remedies."""
    return [FindingView.of(finding) for finding in examine(call.service)]


@router.get("/metrics", response_class=Response)
def tell_measures(call: Annotated[Call, permitted("service.read")], request: Request) -> Response:
    """Tell the measures of this server, and the queue of all, as Prometheus reads them."""
    measures, queue = request.app.state.measures, look_at_queue(call.service)
    for state, jobs in queue.states.items():
        measures.jobs.labels(state).set(jobs)
    measures.queue_seconds.set(queue.oldest_seconds)
    return Response(measures.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", response_model=dict[str, Any])
def tell_openapi(
    call: Annotated[Call, public("names forms and permissions, no data")], request: Request
) -> Response:
    """Return this document."""
    state = request.app.state
    if not hasattr(state, "document"):  # 1 MB that never changes: encoded once per process
        state.document = JSONResponse(request.app.openapi()).body
    return Response(state.document, media_type="application/json")
