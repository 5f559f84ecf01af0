"""The authorisation matrix: every endpoint x role x org relation x token state, out of the OpenAPI
document; every cell is run and none leaks.

A new endpoint is in the matrix at once; a new kind of path parameter fails the test until
``seeds`` knows it.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import fastapi.dependencies.utils
import fastapi.routing
import pytest

from bihuan.server.app.password import PASSWORDS
from bihuan.server.app.permission import ROLES, granting
from bihuan.server.control import scope as scope_module

from .rehearsal import CHEAP, World, build_world
from .seeds import ELSEWHERE, PARAMETERS
from .world import CALLERS, REACHING, TARGET, Operation

STATES = ("session", "token", "absent", "forged", "expired", "revoked", "narrow", "no_csrf")
VALID = ("session", "token")
SAFE = ("GET", "HEAD")
TELLING = (404, 409, 412, 422, 428)
"""Refusals that would tell that a foreign thing is there, if they differed for a missing one."""
OUTSIDE = frozenset(("customer_id",))
"""Fields of a body that name something in the lake, which is empty here."""
FOR_EVERYBODY = {
    "GET /api/v1/workers": "worker processes serve all units and tell nothing of any",
}
"""Operations whose answer is the same wherever the caller's post is, and why that is meant."""


@pytest.fixture(autouse=True)
def _in_this_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run routes where they are called: the matrix asks one thing after the other."""

    async def call(function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        return function(*args, **options)

    monkeypatch.setattr(fastapi.routing, "run_in_threadpool", call)
    monkeypatch.setattr(fastapi.dependencies.utils, "run_in_threadpool", call)
    monkeypatch.setattr(PASSWORDS, "_hasher", CHEAP)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = build_world(tmp_path_factory.mktemp("matrix"))
    gc.freeze()  # the world stays to the end: it need not be looked through for garbage
    return made


def same_refusal(first: str, second: str, ids: list[str]) -> bool:
    """Tell whether two problems differ in nothing but the ids asked for and the request's id."""
    for known in ids:
        first, second = first.replace(known, "ID"), second.replace(known, "ID")
    one, other = json.loads(first), json.loads(second)
    return {**one, "request_id": ""} == {**other, "request_id": ""}


class Judge:
    """Runs cells and says what each leaks."""

    def __init__(self, world: World, role: str) -> None:
        self.world = world
        self.role = role
        self.cells: Counter[str] = Counter()
        self.found: list[str] = []

    async def cell(self, operation: Operation, relation: str, state: str) -> None:
        headers = self.world.headers[self.role, relation, state]
        status, text = await self.world.ask(operation, self.world.ids, headers)
        self.cells[state] += 1
        wrong = self.verdict(operation, relation, state, status, text)
        if not wrong and state in VALID and self.is_foreign(operation, relation, status):
            missing = {**self.world.ids}
            missing.update({n: "nothing-here" for n in operation.parameters if n in PARAMETERS})
            _, other = await self.world.ask(operation, missing, headers)
            names = [self.world.ids[n] for n in operation.parameters] + ["nothing-here"]
            if not same_refusal(text, other, names):
                wrong = f"tells foreign from missing: {text[:200]} / {other[:200]}"
        if wrong:
            self.found.append(f"{operation.name} {relation} {state}: {status} {wrong}")

    def is_foreign(self, operation: Operation, relation: str, status: int) -> bool:
        return (
            relation not in REACHING
            and status in TELLING
            and bool(set(operation.parameters) & set(PARAMETERS))
            and not self.is_upward(operation, relation)
        )

    def is_upward(self, operation: Operation, relation: str) -> bool:
        """Tell whether the thing asked for is a unit above, which everybody may know."""
        units = set(operation.parameters) & set(PARAMETERS) == {"unit_id"}
        return relation == "below" and operation.method in SAFE and units

    def verdict(  # noqa: PLR0911 - one case per rule
        self, operation: Operation, relation: str, state: str, status: int, text: str
    ) -> str:
        """Return what is wrong with an answer, empty if nothing is."""
        if status >= 500 and status != 503:
            return f"server error: {text[:300]}"
        if operation.gate == "public":
            return ""
        if state in ("absent", "forged", "expired", "revoked"):
            return "" if status == 401 else "let in without a valid token"
        if state == "no_csrf" and operation.method not in SAFE:
            return "" if status == 403 else "a change without the CSRF token"
        if operation.gate == "signed_in":
            return "" if status != 401 else "a valid sign-in was refused"
        if state == "narrow":
            return "" if status == 403 else "beyond what the token allows"
        if self.role not in granting(operation.action):
            return "" if status == 403 else "without the permission"
        if relation in REACHING:
            return self.reached(operation, status, text)
        return self.leaked(operation, relation, status, text)

    def reached(self, operation: Operation, status: int, text: str) -> str:
        if status == 401 or (status == 403 and "permission-denied" in text):
            return "refused although a post grants it"
        mine = set(operation.parameters) & set(PARAMETERS)
        named = set(operation.parameters) & set(ELSEWHERE) or OUTSIDE & set(operation.body or ())
        if status == 404 and mine and not named:
            return f"not found although it is in reach: {text[:200]}"
        return ""

    def leaked(self, operation: Operation, relation: str, status: int, text: str) -> str:
        if status >= 400:
            return ""
        if set(operation.parameters) & set(PARAMETERS) and not self.is_upward(operation, relation):
            return f"answered for a foreign thing: {text[:200]}"
        body = operation.body if isinstance(operation.body, dict) else {}
        if operation.method not in SAFE and body.get("unit_id") == TARGET:
            return f"acted for a foreign unit: {text[:200]}"
        if operation.name in FOR_EVERYBODY:
            return ""
        shown = [seed for seed in self.world.seeded if f'"{seed}"' in text]
        return f"shows {shown}" if shown else ""


@pytest.mark.slow
@pytest.mark.parametrize("role", sorted(ROLES))
def test_no_cell_leaks(world: World, role: str) -> None:
    judge = Judge(world, role)

    async def run() -> None:
        for operation in world.operations:
            for relation in CALLERS:
                for state in STATES:
                    await judge.cell(operation, relation, state)

    asyncio.run(run())
    assert sum(judge.cells.values()) == len(world.operations) * len(CALLERS) * len(STATES)
    assert not judge.found, f"{len(judge.found)} leaks:\n" + "\n".join(judge.found[:40])


def test_every_path_parameter_has_a_seed(world: World) -> None:
    named = {name for operation in world.operations for name in operation.parameters}
    assert named <= set(world.ids), f"seeds.py lacks {sorted(named - set(world.ids))}"


def test_a_forgotten_scope_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeded defect: queries that are not narrowed."""
    monkeypatch.setattr(scope_module, "_criteria", lambda roots, is_wide: {})
    judge = Judge(world, "administrator")
    reading = [o for o in world.operations if o.method == "GET" and "staff" in o.path]

    async def run() -> None:
        for operation in reading:
            await judge.cell(operation, "sibling", "session")

    asyncio.run(run())
    assert judge.found
