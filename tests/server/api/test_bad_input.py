"""Bad input over HTTP: forged and expired tokens, wrong types, texts and numbers that no database
keeps, repeated parameters, a clock that steps back. Each has a defined answer, on both databases.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Query
from httpx2 import Response
from pydantic import Field
from starlette.testclient import TestClient

from bihuan.kernel import FixedClock
from bihuan.server.api.application import create_app
from bihuan.server.api.frame import Body, Call, Router, View, body, permitted
from bihuan.server.app.service import Service
from bihuan.server.control import Outlet

from .rehearsal import World, build_world, send

TOKENS = 10_000
router = Router(tag="test")


class NoteBody(Body):
    name: str = Field(max_length=50)
    document: dict[str, Any] = Field(default_factory=dict)


class NoteView(View):
    name: str
    document: dict[str, Any]


@router.post("/notes", status_code=201)
def keep_note(call: Annotated[Call, permitted("org.manage")], body: NoteBody) -> NoteView:
    """Keep a note: its reply is stored as it is, a document in the control database."""
    return call.create(lambda work: body, lambda row: NoteView(**row.model_dump()))


@router.get("/notes/{number}")
def find_note(
    call: Annotated[Call, permitted("org.read")],
    number: int,
    name: str | None = None,
    kind: Annotated[list[str] | None, Query()] = None,
) -> NoteView:
    """Ask the control database for a number, as lists by version do."""
    with call.read() as work:
        found = sa.select(Outlet).where(Outlet.version == number, Outlet.name_zh == name)
        rows = work.session.scalars(found).all()
    return NoteView(name=name or "", document={"rows": len(rows), "kind": kind})


@pytest.fixture
def app(service: Service) -> FastAPI:
    app = create_app(service)
    app.router.routes.extend(router.routes)
    return app


def keep(client: TestClient, content: str | bytes, kind: str = "application/json") -> Response:
    headers = {"Idempotency-Key": "k", "content-type": kind}
    return client.post("/api/v1/notes", content=content, headers=headers)


def is_refused(answer: Response, *statuses: int) -> bool:
    """Tell whether it was refused as bad input, and told as a problem in both languages."""
    told = answer.json()
    return (
        answer.status_code in (statuses or (422,))
        and answer.headers["content-type"] == "application/problem+json"
        and bool(told["en"] and told["zh"])
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("tokens"))


class TestTokens:
    @staticmethod
    def accepted(world: World, shown: Iterator[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the headers with which GET /me lets somebody in."""
        me = next(one for one in world.operations if one.name == "GET /api/v1/me")

        async def run() -> list[tuple[bytes, bytes]]:
            return [
                header
                for header in shown
                if (await send(world.app, me, me.path, [header]))[0] != 401
            ]

        return asyncio.run(run())

    def test_none_of_many_random_ones_is_accepted(self, world: World) -> None:
        def forged() -> Iterator[tuple[bytes, bytes]]:
            known = world.headers["administrator", "top", "token"]["authorization"].split("_")[1]
            for number in range(TOKENS):
                chance = hashlib.sha256(f"{number}".encode()).hexdigest()
                yield (
                    (b"authorization", f"Bearer bh_{chance[:9]}_{chance}".encode()),
                    (b"authorization", f"Bearer bh_{known}_{chance}".encode()),
                    (b"cookie", f"bihuan_session={chance}".encode()),
                    (b"authorization", f"Bearer {chance}".encode()),
                )[number % 4]

        assert self.accepted(world, forged()) == []

    def test_no_broken_shape_of_a_true_one_is_accepted(self, world: World) -> None:
        own = world.headers["administrator", "top", "token"]["authorization"].removeprefix(
            "Bearer "
        )
        cookie = world.headers["administrator", "top", "session"]["cookie"].partition("=")[2]
        prefix, token_id, secret = own.split("_", 2)
        tokens = {
            own[:-1], own + "x", own + "_", own.upper(), "_".join((prefix, secret, token_id)),
            f"{prefix}_{token_id}_", f"{prefix}__{secret}", f"{token_id}_{secret}", secret, "",
            "bh",
            "_", "__", "bh__", own.replace("_", "-"), own + "\x00", "\x00" + own, own * 9,
            f"bh_%_{secret}", f"bh_' OR 1=1 --_{secret}", f"bh_{token_id}_' OR ''='", "null",
            hashlib.sha256(secret.encode()).hexdigest(), "x" * 100_000, "\xff\xfe", "🔑",
        }  # fmt: skip
        tokens |= {own[:at] + "~" + own[at + 1 :] for at in range(len(own))}
        cookies = {cookie[:-1], cookie + "x", cookie.swapcase(), "", "\x00" + cookie, own, "%00",
                   hashlib.sha256(cookie.encode()).hexdigest(), "x" * 100_000}  # fmt: skip
        cookies |= {cookie[:at] + "~" + cookie[at + 1 :] for at in range(len(cookie))}
        shown = [(b"authorization", b"Bearer " + token.encode()) for token in sorted(tokens)]
        shown += [(b"cookie", b"bihuan_session=" + value.encode()) for value in sorted(cookies)]
        shown += [
            (b"authorization", f"{scheme} {own}".encode()) for scheme in ("Basic", "Token", "")
        ]
        assert self.accepted(world, iter(shown)) == []

    def test_the_true_ones_are_accepted(self, world: World) -> None:
        own = world.headers["administrator", "top", "token"]["authorization"]
        assert self.accepted(world, iter([(b"authorization", own.encode())]))

    def test_a_session_ends_with_its_time(self, enter, clock: FixedClock, service: Service) -> None:
        client = enter("planner", "city-a")
        assert client.get("/api/v1/me").status_code == 200
        clock.advance(timedelta(hours=service.settings.session_hours))
        assert is_refused(client.get("/api/v1/me"), 401)

    def test_a_session_that_is_left_alone_ends(
        self, enter, clock: FixedClock, service: Service
    ) -> None:
        client = enter("planner", "city-a")
        clock.advance(timedelta(minutes=service.settings.session_idle_minutes))
        assert is_refused(client.get("/api/v1/me"), 401)

    def test_an_api_token_ends_with_its_time(
        self, enter, nobody: TestClient, clock: FixedClock
    ) -> None:
        ends = clock.now() + timedelta(days=2)
        made = enter("administrator", "city-a").post(
            "/api/v1/api-tokens",
            json={"title": "loader", "actions": ["org.read"], "expires_at": ends.isoformat()},
        )
        nobody.headers["Authorization"] = f"Bearer {made.json()['token']}"
        assert nobody.get("/api/v1/me").status_code == 200
        clock.advance(timedelta(days=2))
        assert is_refused(nobody.get("/api/v1/me"), 401)


class TestBodies:
    @pytest.mark.parametrize(
        "kind",
        ["text/plain", "application/xml", "application/x-www-form-urlencoded", "image/png", "x",
         "multipart/form-data; boundary=x", "application/json-patch", ""],
    )  # fmt: skip
    def test_another_content_type_is_refused(self, enter, kind: str) -> None:
        client = enter("administrator", "city-a")
        assert is_refused(keep(client, '{"name": "x"}', kind), 415, 422)

    @pytest.mark.parametrize("levels", [33, 500, 900, 100_000])
    @pytest.mark.parametrize("shape", ['{"a":', "["])
    def test_deep_nesting_is_refused(self, enter, levels: int, shape: str) -> None:
        end = "}" if shape[0] == "{" else "]"
        deep = shape * levels + "1" + end * levels
        answer = keep(
            enter("administrator", "city-a"), f'{{"name": "x", "document": {{"d": {deep}}}}}'
        )
        assert is_refused(answer, 400, 422)

    def test_a_usual_depth_is_taken(self, enter) -> None:
        deep = '{"a":[' * 12 + "1" + "]}" * 12
        answer = keep(enter("administrator", "city-a"), f'{{"name": "x", "document": {deep}}}')
        assert answer.status_code == 201

    @pytest.mark.parametrize(
        "bad", [r"a\u0000b", r"\u0000", r"\ud800", r"x\udfffy", r"\udc00\ud800"]
    )
    @pytest.mark.parametrize(
        "form",
        ['{"name": "%s"}', '{"name": "x", "document": {"a": [{"b": "%s"}]}}',
         '{"name": "x", "document": {"%s": 1}}'],
    )  # fmt: skip
    def test_texts_that_no_database_keeps_are_refused(self, enter, bad: str, form: str) -> None:
        assert is_refused(keep(enter("administrator", "city-a"), form % bad))

    def test_other_texts_come_back_as_they_were(self, enter) -> None:
        text = "闭环 𠮷 👩‍👩‍👧 \u202e\t\u0001 ' \" \\ %00 \\u0000"
        answer = keep(
            enter("administrator", "city-a"), json.dumps({"name": "x", "document": {"t": text}})
        )
        assert answer.status_code == 201
        assert answer.json()["document"]["t"] == text

    @pytest.mark.parametrize(
        "number",
        [
            str(2**63),
            str(-(2**63) - 1),
            "9" * 400,
            "9" * 5000,
            "1e999",
            "NaN",
            "-Infinity",
            "1e400",
        ],
    )
    def test_numbers_out_of_range_are_refused(self, enter, number: str) -> None:
        answer = keep(
            enter("administrator", "city-a"), f'{{"name": "x", "document": {{"n": {number}}}}}'
        )
        assert is_refused(answer, 400, 422)

    def test_without_the_check_a_text_reaches_the_database(self, enter, monkeypatch) -> None:
        """The seeded defect: nothing is refused; a database refuses late, or the answer breaks."""
        monkeypatch.setattr(body, "refuse_unstorable", lambda given: None)
        answer = keep(
            enter("administrator", "city-a"), r'{"name": "x", "document": {"a": "\ud800"}}'
        )
        assert answer.status_code == 500 or answer.json()["errors"] == []


class TestAddresses:
    @pytest.mark.parametrize("number", [str(2**63), str(-(2**70)), "9" * 300])
    def test_a_number_in_the_path_beyond_the_database(self, enter, number: str) -> None:
        client = enter("planner", "city-a")
        assert is_refused(client.get(f"/api/v1/notes/{number}?name=x"))

    @pytest.mark.parametrize("number", ["1.5", "x", "NaN", "１２x", "9" * 5000])
    def test_what_is_no_number_in_the_path(self, enter, number: str) -> None:
        assert is_refused(enter("planner", "city-a").get(f"/api/v1/notes/{number}"))

    def test_a_cursor_beyond_the_database(self, enter) -> None:
        client = enter("auditor", "city-a")
        for key in (1, 2**63, -(2**80), 10**400, '"x"', r'"\u0000"', r'"\ud800"'):
            from_there = {"cursor": _cursor(key)}
            for path in ("/api/v1/audit-entries", "/api/v1/org-units"):
                answer = client.get(path, params=from_there)
                assert answer.status_code in (200, 422), answer.text

    @pytest.mark.parametrize("path", ["/api/v1/plans/a%00b", "/api/v1/notes/1?name=a%00b"])
    def test_nul_is_refused(self, enter, path: str) -> None:
        assert is_refused(enter("planner", "city-a").get(path))

    @pytest.mark.parametrize("path", ["/api/v1/plans/%ff%fe", "/api/v1/notes/1?name=%ed%a0%80"])
    def test_bytes_that_are_no_text_name_nothing(self, enter, path: str) -> None:
        answer = enter("planner", "city-a").get(path)
        assert answer.status_code in (200, 404, 422)

    @pytest.mark.parametrize("query", ["limit=1&limit=2", "limit=1&limit=1", "cursor=&cursor="])
    def test_a_parameter_given_twice_is_refused(self, enter, query: str) -> None:
        answer = enter("planner", "city-a").get(f"/api/v1/org-units?{query}")
        assert is_refused(answer)
        assert query.partition("=")[0] in answer.json()["en"]

    def test_a_list_may_be_given_piece_by_piece(self, enter) -> None:
        answer = enter("planner", "city-a").get("/api/v1/notes/1?kind=a&kind=b")
        assert answer.json()["document"]["kind"] == ["a", "b"]

    @pytest.mark.parametrize(
        "moment",
        ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z",
         "0000-00-00T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-01T00:00:00", "1e400", "-1"],
    )  # fmt: skip
    def test_moments_out_of_range(self, enter, moment: str) -> None:
        client = enter("auditor", "city-a")
        for name in ("since", "until"):
            answer = client.get("/api/v1/audit-entries", params={name: moment})
            assert answer.status_code in (200, 422), answer.text


def _cursor(key: int | str) -> str:
    return base64.urlsafe_b64encode(str(key).encode()).decode()


class TestClock:
    def test_a_step_back_breaks_nothing(self, enter, clock: FixedClock, service: Service) -> None:
        client = enter("administrator", "city-a")
        body = {"unit_id": "city-a", "name_zh": "一号厅", "kind": "own"}
        made = []
        for step, back in enumerate((0, 3, -3, 7)):
            clock.advance(timedelta(hours=-back))
            answer = client.post(
                "/api/v1/outlets",
                json={**body, "outlet_id": f"hall-{step}"},
                headers={"Idempotency-Key": f"k{step}"},
            )
            assert answer.status_code == 201, answer.text
            made.append(answer.json()["outlet_id"])
        assert client.get("/api/v1/me").status_code == 200
        held = [one["outlet_id"] for one in client.get("/api/v1/outlets").json()["items"]]
        assert sorted(held) == sorted(made)
