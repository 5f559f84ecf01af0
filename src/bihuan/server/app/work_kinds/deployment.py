"""The kind that deploys an approved plan."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import Field

from bihuan.server.app.deployment import deploy_plan
from bihuan.server.app.job import Arguments, JobContext, Kind


class Deploy(Arguments):
    """An approved plan carried out: frozen, published, live."""

    plan_id: str = Field(min_length=1, max_length=64, description="An approved plan.")
    as_of: date | None = Field(
        None, description="Date of the data; None: the one its audience was counted on."
    )


def run_deployment(context: JobContext, arguments: Deploy) -> Mapping[str, Any]:
    """Deploy a plan; broken off anywhere, the next worker goes on."""

    def deploy() -> dict[str, Any]:
        row = deploy_plan(
            context.own_service,
            context.actor,
            arguments.plan_id,
            as_of=arguments.as_of,
            progress=context.progress,
        )
        return {"deployment_id": row.deployment_id, "state": row.state, "planned": row.planned}

    done: dict[str, Any] = context.step("deploy", {"zh": "部署方案", "en": "Deploy"}, deploy)
    return {"plan_id": arguments.plan_id, **done}


KINDS = (
    Kind("deployment", {"zh": "方案部署", "en": "deployment"}, "deployment.run", Deploy,
         run_deployment),
)  # fmt: skip
