"""Errors as ``application/problem+json`` (RFC 9457), in the caller's language and in both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from bihuan.kernel import UserError
from bihuan.server.api.frame.body import View
from bihuan.server.app.errors import (
    BusyError,
    ConflictError,
    NotFoundError,
    OutOfScopeError,
    RefusedError,
    StaleError,
    UnauthenticatedError,
)
from bihuan.server.app.permission import PermissionDeniedError

log = structlog.get_logger("bihuan.api")


class MissingHeaderError(UserError):
    """The request lacks a header that it needs."""


class PreconditionError(UserError):
    """The change needs ``If-Match`` with the version that the caller has read."""


class ForgeryError(UserError):
    """A change came with the session cookie and without the session's CSRF token."""


class TooManyRequestsError(UserError):
    """The caller sends more than it may."""


class TooLargeError(UserError):
    """The request body is larger than the service takes."""


STATUS: tuple[tuple[type[UserError], int], ...] = (
    (UnauthenticatedError, 401),
    (PermissionDeniedError, 403),
    (OutOfScopeError, 403),
    (ForgeryError, 403),
    (NotFoundError, 404),
    (StaleError, 412),
    (ConflictError, 409),
    (TooLargeError, 413),
    (PreconditionError, 428),
    (MissingHeaderError, 400),
    (TooManyRequestsError, 429),
    (BusyError, 503),
    (RefusedError, 422),
    (UserError, 422),
)
"""Status by kind of error; the first that fits counts."""


class Problem(View):
    """Why a request was not carried out, and what to do."""

    type: str
    title: str
    status: int
    detail: str
    en: str
    zh: str
    request_id: str
    errors: list[dict[str, Any]] = Field(default_factory=list)


def status_of(error: UserError) -> int:
    """Return the HTTP status that tells ``error``."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def problem_response(
    error: UserError,
    *,
    request_id: str,
    language: str = "en",
    status: int | None = None,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return ``error`` as problem+json.

    Parameters
    ----------
    error
        What was wrong, with its remedy.
    request_id
        Id under which the logs tell more.
    language
        ``zh`` or ``en``: of ``detail``.
    status
        Instead of the one of the error's kind.
    errors
        Single findings: where and what.
    headers
        More headers.
    """
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
    code = status or status_of(error)
    problem = Problem(
        type=f"urn:bihuan:problem:{name}",
        title=error.message,
        status=code,
        detail=error.text(language),
        en=error.text("en"),
        zh=error.text("zh"),
        request_id=request_id,
        errors=errors or [],
    )
    extra = dict(headers or {})
    if code == 401:
        extra.setdefault("WWW-Authenticate", "Bearer")
    if code in (429, 503):
        extra.setdefault("Retry-After", "1")
    return JSONResponse(
        problem.model_dump(mode="json"),
        status_code=code,
        media_type="application/problem+json",
        headers=extra,
    )


def language_of(request: Request) -> str:
    """Return ``zh`` or ``en`` as the caller's ``Accept-Language`` prefers; ``en`` if unsaid."""
    wanted = request.headers.get("accept-language", "")
    first = wanted.split(",")[0].strip().lower()
    return "zh" if first.startswith("zh") else "en"


def install_problems(app: FastAPI) -> None:
    """Let every error of ``app`` leave as problem+json.

    The handlers wait for nothing, so they are coroutines: a refusal costs no change of thread.
    """

    @app.exception_handler(UserError)
    async def told(request: Request, error: UserError) -> Response:
        return problem_response(error, request_id=_id_of(request), language=language_of(request))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        findings = [
            {"where": ".".join(str(part) for part in found["loc"]), "what": found["msg"]}
            for found in error.errors()
        ]
        first = findings[0] if findings else {"where": "body", "what": "unreadable"}
        return problem_response(
            UserError(
                f"The request does not fit: {first['where']}: {first['what']}.",
                remedy="Mend what `errors` names; /api/v1/openapi.json tells the form.",
                zh=f"请求格式不符：{first['where']}。请按 errors 修改，格式见接口文档。",
            ),
            request_id=_id_of(request),
            language=language_of(request),
            status=422,
            errors=findings,
        )

    @app.exception_handler(HTTPException)
    async def by_framework(request: Request, error: HTTPException) -> Response:
        unknown = UserError(
            f"{request.method} {request.url.path}: {error.detail}.",
            remedy="See /api/v1/openapi.json for the paths and methods there are.",
            zh="没有这个地址或方法，请查看接口文档。",
        )
        large = TooLargeError(str(error.detail), remedy="Send less at once.", zh="请求体过大。")
        return problem_response(
            large if error.status_code == 413 else unknown,
            request_id=_id_of(request),
            language=language_of(request),
            status=error.status_code,
            headers=error.headers,
        )

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        log.exception("broken", path=request.url.path, request_id=_id_of(request), exc_info=error)
        return problem_response(
            UserError(
                "Bihuan broke a promise of its own.",
                remedy=f"Report it with request id {_id_of(request)}.",
                zh=f"系统内部错误，请凭请求号 {_id_of(request)} 报告。",
            ),
            request_id=_id_of(request),
            language=language_of(request),
            status=500,
        )


def _id_of(request: Request) -> str:
    return str(request.scope.get("bihuan.request_id", ""))
