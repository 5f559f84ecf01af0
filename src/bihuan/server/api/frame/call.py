"""One request of one caller, as routes see it."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from bihuan.server.api.frame.page import Page, _PageQuery, cursor_of
from bihuan.server.api.frame.problem import MissingHeaderError, PreconditionError, language_of
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError, StaleError
from bihuan.server.app.paging import read_page
from bihuan.server.app.reply import (
    KeyInUseError,
    Reply,
    find_reply,
    keep_reply,
    reserve_reply,
)
from bihuan.server.app.service import Service, UnitOfWork

V = TypeVar("V", bound=BaseModel)


class Call:
    """Who asks for what, and the way to answer.

    Attributes
    ----------
    service
        Control database, workspace, settings.
    actor
        The caller. Public routes have a nobody without posts.
    action
        The permission that the route declares; empty for own things.
    request_id
        Id of the request in logs and audit entries.
    session_id
        Id of the sign-in or token; empty for nobody.
    """

    def __init__(
        self, service: Service, actor: Actor, action: str, request: Request, response: Response
    ) -> None:
        self.service = service
        self.actor = actor
        self.action = action
        self.request = request
        self.response = response
        self.request_id = str(request.scope.get("bihuan.request_id", ""))
        self.session_id = actor.session_id

    @property
    def language(self) -> str:
        """``zh`` or ``en``, as the request asks."""
        return language_of(self.request)

    @contextmanager
    def read(self) -> Iterator[UnitOfWork]:
        """Open a unit of work that writes nothing, in the scope of the route's action."""
        with self._work(read_only=True) as work:
            yield work

    @contextmanager
    def change(self) -> Iterator[UnitOfWork]:
        """Open a unit of work, in the scope of the route's action; committed at its end."""
        with self._work(read_only=False) as work:
            yield work

    def page(
        self,
        work: UnitOfWork,
        statement: Any,
        page: _PageQuery,
        present: Callable[[Any], V],
        *,
        ascending: bool = False,
    ) -> Page[V]:
        """Return one page of what ``statement`` selects, newest first unless ``ascending``."""
        rows, after = read_page(
            work, statement, after=page.after, limit=page.limit, ascending=ascending
        )
        return Page(items=[present(row) for row in rows], next_cursor=cursor_of(after))

    def show(self, view: V, version: int) -> V:
        """Return ``view`` with its ETag; 304 without a body if the caller has this version."""
        tag = f'"{version}"'
        if self.request.method == "GET" and self.request.headers.get("if-none-match") == tag:
            return cast("V", Response(status_code=304, headers={"ETag": tag}))
        self.response.headers["ETag"] = tag
        return view

    def match(self, version: int) -> None:
        """Require that the caller has read ``version`` of what it changes.

        Raises
        ------
        PreconditionError
            If the request has no ``If-Match``.
        StaleError
            If it names another version.
        """
        given = self.request.headers.get("if-match")
        if given is None:
            raise PreconditionError(
                "A change needs the header If-Match with the version you have read.",
                remedy="Read it first and send its ETag.",
                zh="修改需要在 If-Match 中带上读取时的 ETag，请先读取。",
            )
        if given.strip().removeprefix("W/").strip('"') != str(version):
            raise StaleError(
                "It was changed since you read it.",
                remedy="Read it again and repeat your change.",
                zh="内容已被修改，请重新读取后再改。",
            )

    def create(
        self,
        use_case: Callable[[UnitOfWork], Any],
        present: Callable[[Any], V],
        *,
        location: Callable[[V], str] | None = None,
        status: int = 201,
    ) -> V:
        """Run a creating use case once per ``Idempotency-Key``, whatever is sent twice.

        Parameters
        ----------
        use_case
            Makes the thing; runs in one transaction with the keeping of the reply.
        present
            Turns what was made into the view.
        location
            Path of the new thing, for the header ``Location``.
        status
            201, or 202 where work was only accepted.

        Returns
        -------
        V
            In truth the response that holds it, with status, ETag and Location.

        Raises
        ------
        MissingHeaderError
            If the request has no ``Idempotency-Key``.
        KeyReusedError, KeyInUseError
            If the key belongs to another request, or to one not yet answered.
        """
        key = self._key()
        request_hash = self._request_hash()
        for attempt in (1, 2):
            try:
                with self.change() as work:
                    kept = find_reply(work, key, request_hash)
                    if kept is not None:
                        return cast("V", _response(kept, replayed=True))
                    place = reserve_reply(work, key, request_hash)
                    row = use_case(work)
                    work.session.flush()
                    view = present(row)
                    reply = Reply(status, view.model_dump(mode="json"), {})
                    version = getattr(row, "version", None)
                    if isinstance(version, int):
                        reply.headers["ETag"] = f'"{version}"'
                    if location is not None:
                        reply.headers["Location"] = location(view)
                    keep_reply(place, reply)
                return cast("V", _response(reply, replayed=False))
            except KeyInUseError:
                if attempt == 2:
                    raise
        raise AssertionError  # the loop returns or raises

    def _key(self) -> str:
        key = self.request.headers.get("idempotency-key", "").strip()
        if not key:
            raise MissingHeaderError(
                "Creating something needs the header Idempotency-Key.",
                remedy="Send a fresh random text with it; repeat the same text when you retry.",
                zh="新建请求需要 Idempotency-Key 头，重试时请使用相同的键。",
            )
        if len(key) > 100 or not key.isascii() or not key.isprintable():
            raise RefusedError(
                "An Idempotency-Key has at most 100 printable ASCII characters.",
                remedy="Send a shorter one.",
                zh="Idempotency-Key 最多 100 个可见 ASCII 字符。",
            )
        return key

    def _request_hash(self) -> str:
        body: bytes = getattr(self.request, "_body", b"")
        line = f"{self.request.method} {self.request.url.path}?{self.request.url.query}\n"
        return hmac.new(self.service.reply_key, line.encode() + body, "sha256").hexdigest()

    @contextmanager
    def _work(self, *, read_only: bool) -> Iterator[UnitOfWork]:
        if self.action:
            opened = self.service.work(
                self.actor, self.action, request_id=self.request_id, read_only=read_only
            )
        else:
            opened = self.service.own_work(
                self.actor, request_id=self.request_id, read_only=read_only
            )
        with opened as work:
            yield work


def _response(reply: Reply, *, replayed: bool) -> JSONResponse:
    headers = dict(reply.headers)
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(reply.body, status_code=reply.status, headers=headers)
