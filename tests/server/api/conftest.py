"""The application over a control database of each kind, and callers with posts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from bihuan.kernel import FixedClock
from bihuan.server.api.application import create_app
from bihuan.server.app.service import Service
from bihuan.server.app.sign_in import Device, open_session
from bihuan.server.control import Account, Control, Scope, Staff, StaffPost
from bihuan.server.settings import Settings
from bihuan.workspace import open_workspace

Enter = Callable[[str, str], TestClient]
_NUMBERS = itertools.count()


@pytest.fixture
def service(control: Control, database_url: str, clock: FixedClock, tmp_path: Path) -> Service:
    settings = Settings(
        workspace=tmp_path / "workspace", database=database_url, rate_per_minute=1_000_000
    )
    workspace = open_workspace(tmp_path / "workspace", clock=clock)
    return Service(settings, control, workspace, clock)


@pytest.fixture
def app(service: Service) -> FastAPI:
    return create_app(service)


@pytest.fixture
def nobody(app: FastAPI) -> Iterator[TestClient]:
    """A caller without a sign-in."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def enter(app: FastAPI, service: Service) -> Iterator[Enter]:
    """Sign a fresh account in that holds ``role`` at ``unit``; its client sends cookie and CSRF."""
    clients = []

    def sign_in(role: str, unit: str) -> TestClient:
        cookie, csrf = session_of(service, role, unit)
        client = TestClient(
            app,
            raise_server_exceptions=False,
            cookies={"bihuan_session": cookie},
            headers={"X-CSRF-Token": csrf},
        )
        clients.append(client)
        return client

    yield sign_in
    for client in clients:
        client.close()


def session_of(service: Service, role: str, unit: str) -> tuple[str, str]:
    """Return the cookie and CSRF token of a fresh account that holds ``role`` at ``unit``."""
    with service.control.work(Scope.everything()) as work:
        number = next(_NUMBERS)
        staff = Staff(staff_id=f"staff-{number}", unit_id=unit, name_zh=f"人员{number}")
        work.session.add(staff)
        work.session.flush()
        work.session.add(
            StaffPost(
                post_id=f"post-{number}",
                staff_id=staff.staff_id,
                unit_id=unit,
                role=role,
                layer="management",
                since=work.now,
            )
        )
        account = Account(
            account_id=f"account-{number}",
            unit_id=unit,
            staff_id=staff.staff_id,
            name=f"{role}-{number}",
            title_zh=role,
            opened_at=work.now,
        )
        work.session.add(account)
        work.session.flush()
        signed_in = open_session(work, account, Device(), service.settings, method="password")
    return signed_in.token, signed_in.csrf
