"""A service with one thing of every kind at one unit, and callers of every role around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alembic import command
from argon2 import PasswordHasher
from fastapi import FastAPI

from bihuan.kernel import FixedClock
from bihuan.server.api.application import create_app
from bihuan.server.api.frame.telemetry import set_up_telemetry
from bihuan.server.app.permission import ROLES
from bihuan.server.app.service import Service
from bihuan.server.app.sign_in import Device, hash_of, open_session
from bihuan.server.control import (
    Account,
    ApiToken,
    Control,
    OrgClosure,
    OrgUnit,
    Scope,
    SignIn,
    Staff,
    StaffPost,
    Table,
    UnitOfWork,
    open_engine,
)
from bihuan.server.control.upgrade import config_over
from bihuan.server.settings import Settings
from bihuan.workspace import open_workspace

from .seeds import ELSEWHERE, PARAMETERS, seed_everything
from .world import CALLERS, TARGET, Operation, RehearsedControl, operations

TREE = {
    "province": None, "city-a": "province", "city-b": "province", "county-a1": "city-a",
    "county-a2": "city-a", "county-b1": "city-b", "grid-a11": "county-a1",
}  # fmt: skip


@dataclass
class World:
    app: FastAPI
    operations: list[Operation]
    ids: dict[str, str]
    seeded: frozenset[str]
    headers: dict[tuple[str, str, str], dict[str, str]]
    answers: dict[Any, tuple[int, str]] = field(default_factory=dict)

    async def ask(
        self, operation: Operation, ids: dict[str, str], shown: dict[str, str]
    ) -> tuple[int, str]:
        """Send one request; return status and text.

        Callers without a sign-in of their own send the same bytes whatever their role would be;
        as every unit of work is taken back, such a request gets the same answer: it is sent once.
        """
        url = operation.url(ids)
        alike = (operation.name, url, *shown.values()) if not _is_personal(shown) else None
        if alike is not None and alike in self.answers:
            return self.answers[alike]
        answer = await send(self.app, operation, url, _encoded(shown))
        if alike is not None:
            self.answers[alike] = answer
        return answer


def build_world(folder: Path) -> World:
    """Return a service on SQLite whose every unit of work is taken back when it is done."""
    clock = FixedClock(datetime(2026, 11, 2, 1, tzinfo=UTC))
    settings = Settings(workspace=folder / "workspace", rate_per_minute=10**9,
                        sign_in_per_minute=10**9, log_level="error")  # fmt: skip
    workspace = open_workspace(folder / "workspace", clock=clock)
    engine = open_engine(f"sqlite:///{folder / 'control.db'}")
    Table.metadata.create_all(engine)
    with engine.begin() as connection:
        command.stamp(config_over(connection), "head")  # or the service would not be ready
    with Control(engine, clock).work(Scope.everything()) as work:
        grow(work)
        seeds = seed_everything(work)
        headers = {
            (role, relation, state): header
            for role in ROLES
            for relation, unit in CALLERS.items()
            for state, header in caller(work, settings, role, unit).items()
        }
    set_up_telemetry(settings, "test")
    app = create_app(Service(settings, RehearsedControl(engine, clock), workspace, clock))
    ids = {name: seeds[table] for name, table in PARAMETERS.items() if table in seeds} | ELSEWHERE
    known = {"unit_id": TARGET} | {n: i for n, i in ids.items() if n not in ELSEWHERE}
    found = operations(app.openapi(), known)
    return World(app, found, ids, frozenset(seeds.values()) - {TARGET}, headers)


def grow(work: UnitOfWork) -> None:
    for unit, parent in TREE.items():
        work.session.add(
            OrgUnit(unit_id=unit, parent_id=parent, tier=unit.split("-")[0], name_zh=unit)
        )
        work.session.flush()
        above: str | None = unit
        depth = 0
        while above is not None:
            work.session.add(OrgClosure(ancestor_id=above, descendant_id=unit, depth=depth))
            above, depth = TREE[above], depth + 1


def caller(work: UnitOfWork, settings: Settings, role: str, unit: str) -> dict[str, dict[str, str]]:
    """Make an account with a post, and what it can show in every state."""
    name = f"{role}-{unit}"
    staff = Staff(staff_id=f"s-{name}", unit_id=unit, name_zh=name)
    account = Account(account_id=f"a-{name}", unit_id=unit, staff_id=staff.staff_id, name=name,
                      title_zh=name, opened_at=work.now)  # fmt: skip
    post = StaffPost(post_id=f"p-{name}", staff_id=staff.staff_id, unit_id=unit, role=role,
                     layer="management", since=work.now)  # fmt: skip
    work.session.add(staff)
    work.session.flush()
    work.session.add_all((account, post))
    work.session.flush()

    def session(**change: Any) -> dict[str, str]:
        opened = open_session(work, account, Device(), settings, method="password")
        row = work.session.get_one(SignIn, opened.identity.session_id)
        for key, value in change.items():
            setattr(row, key, value)
        return {"cookie": f"bihuan_session={opened.token}", "x-csrf-token": opened.csrf}

    def token(actions: list[str]) -> dict[str, str]:
        token_id = f"t{len(name)}{abs(hash((name, tuple(actions)))) % 10**9}"
        work.session.add(
            ApiToken(token_id=token_id, account_id=account.account_id, title="x",
                     secret_hash=hash_of("secret"), actions=actions, created_at=work.now,
                     used_at=work.now, expires_at=work.now + timedelta(days=9))
        )  # fmt: skip
        return {"authorization": f"Bearer bh_{token_id}_secret"}

    valid = session()
    return {
        "session": valid,
        "token": token(sorted(ROLES[role].actions)),
        "absent": {},
        "forged": FORGED,
        "expired": session(expires_at=work.now - timedelta(seconds=1)),
        "revoked": session(ended_at=work.now),
        "narrow": token([]),
        "no_csrf": {"cookie": valid["cookie"]},
    }


CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Hashes passwords with little work: what a hash costs is another matter."""
FORGED = {"authorization": "Bearer bh_forged_forged"}
_ALWAYS = (
    (b"content-type", b"application/json"), (b"idempotency-key", b"k"), (b"if-match", b'"1"'),
    (b"accept-language", b"en"),
)  # fmt: skip
_ENCODED: dict[int, tuple[dict[str, str], list[tuple[bytes, bytes]]]] = {}


def _is_personal(shown: dict[str, str]) -> bool:
    return bool(shown) and shown != FORGED


def _encoded(shown: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Return what a caller shows as header bytes; made once per caller."""
    if id(shown) not in _ENCODED:  # kept beside its dict, whose id nobody else gets meanwhile
        own = [(name.encode(), value.encode()) for name, value in shown.items()]
        _ENCODED[id(shown)] = (shown, [*_ALWAYS, *own])
    return _ENCODED[id(shown)][1]


async def send(
    app: FastAPI, operation: Operation, url: str, headers: list[tuple[bytes, bytes]]
) -> tuple[int, str]:
    """Send one request straight to the application; return status and text."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
        "method": operation.method, "path": url, "raw_path": url.encode(),
        "query_string": operation.query.encode(), "root_path": "",
        "scheme": "http", "server": ("test", 80), "client": ("127.0.0.1", 1), "headers": headers,
    }  # fmt: skip
    queue = [{"type": "http.request", "body": operation.content, "more_body": False}]
    status, parts = 0, []

    async def receive() -> dict[str, Any]:
        return queue.pop() if queue else {"type": "http.disconnect"}

    async def answer(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    try:
        await app(scope, receive, answer)
    except Exception:  # the framework answers 500 and raises once more, for the server's log
        if status != 500:
            raise
    return status, b"".join(parts).decode("utf-8", "replace")
