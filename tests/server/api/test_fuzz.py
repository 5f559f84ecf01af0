"""Schemathesis over every endpoint as every role: no input makes the service break its promise."""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bihuan.server.api import job_routes
from bihuan.server.app.password import PASSWORDS
from bihuan.server.app.permission import ROLES

from .rehearsal import CHEAP, World, build_world

EXAMPLES = int(os.environ.get("BIHUAN_FUZZ", "1"))
"""Requests generated per endpoint and kind (fitting, and not), each sent as every role; thousands
in a long run."""
AS_ROLES = os.environ.get("BIHUAN_FUZZ_ROLES", ",".join(sorted(ROLES))).split(",")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """End streams of events at once; hash passwords with little work."""
    monkeypatch.setattr(job_routes, "LONGEST_LOOKS", 1)
    monkeypatch.setattr(job_routes, "LOOK_SECONDS", 0)
    monkeypatch.setattr(PASSWORDS, "_hasher", CHEAP)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_breaks_a_promise(world: World, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", world.app)
    broken = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck), derandomize=True,
        )  # fmt: skip
        def one(case: Case) -> None:
            for role in AS_ROLES:  # to make a request costs ten times what sending it does
                case.call_and_validate(headers=shown_by(world, role), checks=CHECKS)

        try:
            one()
        except Unsatisfiable:
            continue  # nothing can be wrong with a request that takes nothing
        except Exception as error:  # noqa: BLE001 - every failing endpoint is told, not the first alone
            broken.append(f"{operation.label}: {error!r} {getattr(error, 'exceptions', '')}")
    assert not broken, "\n".join(text[:800] for text in broken[:20])


def shown_by(world: World, role: str) -> dict[str, str]:
    """Return the headers of a caller of ``role`` at the unit of the seeds, with an API token."""
    return {
        "Idempotency-Key": "k",
        "If-Match": '"1"',
        **{name.title(): value for name, value in world.headers[role, "own", "token"].items()},
    }
