"""Every request has an id, a log line, a measurement and a span, and keeps within limits."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from typing import Any

import structlog
from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bihuan.kernel import UserError
from bihuan.server.api.frame.limit import RateLimit, limited, too_large
from bihuan.server.api.frame.problem import problem_response
from bihuan.server.settings import Settings

log = structlog.get_logger("bihuan.api")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' "
    "'unsafe-inline'; frame-ancestors 'none'",
}


MEASURES = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that names the folder in which processes side by side keep measures."""


class Measures:
    """Counts and times of requests, for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "bihuan_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "bihuan_request_seconds",
            "Seconds from request to answer.",
            ("method", "route"),
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.jobs = Gauge(
            "bihuan_jobs",
            "Jobs of the whole service.",
            ("state",),
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
        self.queue_seconds = Gauge(
            "bihuan_job_queue_seconds",
            "Seconds for which the oldest queued job has waited.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )

    def text(self) -> bytes:
        """Return the measures as Prometheus reads them: those of all processes on this port."""
        registry = self.registry
        if os.environ.get(MEASURES):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


class Observer:
    """ASGI middleware: request id, limits, security headers, log, metrics, span.

    Parameters
    ----------
    app
        What answers.
    settings
        Limits.
    measures
        Where requests are counted.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, measures: Measures) -> None:
        self.app = app
        self.measures = measures
        self.body_limit = int(settings.body_limit_mb * 1e6)
        self.rate = RateLimit(settings.rate_per_minute, time.monotonic)
        self.sign_in_rate = RateLimit(settings.sign_in_per_minute, time.monotonic)
        self.tracer = trace.get_tracer("bihuan.api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope["bihuan.request_id"] = request_id
        started = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["X-Request-ID"] = request_id
                for name, value in _SECURITY.items():
                    out.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    out.setdefault("Cache-Control", "no-store")
            await send(message)

        with self.tracer.start_as_current_span(f"{scope['method']} {scope['path']}") as span:
            try:
                self._keep_limits(scope, headers)
                await self.app(scope, limited(receive, self.body_limit), answer)
            except UserError as error:
                language = "zh" if headers.get("accept-language", "").startswith("zh") else "en"
                refusal = problem_response(error, request_id=request_id, language=language)
                await refusal(scope, receive, answer)
            route = getattr(scope.get("route"), "path", "unknown")
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
        seconds = time.perf_counter() - started
        self.measures.requests.labels(scope["method"], route, str(status)).inc()
        self.measures.seconds.labels(scope["method"], route).observe(seconds)
        log.info(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            request_id=request_id,
            account_id=scope.get("bihuan.account_id", ""),
        )

    def _keep_limits(self, scope: Scope, headers: Headers) -> None:
        client: Any = scope.get("client") or ("", 0)
        if scope["method"] == "POST" and scope["path"] == "/api/v1/sessions":
            self.sign_in_rate.take(str(client[0]))
        shown = headers.get("authorization") or headers.get("cookie") or str(client[0])
        self.rate.take(hashlib.sha256(shown.encode()).hexdigest())
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.body_limit:
            raise too_large(self.body_limit)
