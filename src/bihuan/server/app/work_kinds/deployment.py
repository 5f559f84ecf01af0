"""Kinds that deploy an approved plan and write its target lists."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import Field

from bihuan.delivery import FileChannel, GatePolicy
from bihuan.server.app.deployment import deploy_plan, drain_deployment, get_deployment
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


class Lists(Arguments):
    """A live deployment's target lists for one channel, as files under ``lists/``."""

    deployment_id: str = Field(min_length=1, max_length=64, description="A live deployment.")
    channel: str = Field(min_length=1, max_length=32, description="Kind of channel.")
    with_xlsx: bool = Field(False, description="Also as workbooks.")


def run_lists(context: JobContext, arguments: Lists) -> Mapping[str, Any]:
    """Write what may go out now; written twice, nobody stands on two lists."""
    with context.work(read_only=True) as work:  # within the owner's reach?
        get_deployment(work, arguments.deployment_id)

    def write() -> dict[str, Any]:
        service = context.own_service
        workspace = service.workspace
        channel = FileChannel(
            workspace.layout.lists, clock=workspace.clock, with_xlsx=arguments.with_xlsx,
            engine=workspace.engine, progress=context.progress,
        )  # fmt: skip
        done = drain_deployment(
            service, arguments.deployment_id, arguments.channel, channel,
            policy=GatePolicy.for_lists(),
        )  # fmt: skip
        return {
            "planned": done.planned, "sent": done.sent, "repeated": done.repeated,
            "suppressed": done.suppressed, "held": done.held, "reasons": dict(done.reasons),
            "stopped": done.stopped,
        }  # fmt: skip

    title = {"zh": "下发名单", "en": "Write the lists"}
    done: dict[str, Any] = context.step("write", title, write)
    return {"deployment_id": arguments.deployment_id, "channel": arguments.channel, **done}


KINDS = (
    Kind("deployment", {"zh": "方案部署", "en": "deployment"}, "deployment.run", Deploy,
         run_deployment),
    Kind("lists", {"zh": "名单下发", "en": "target lists"}, "deployment.run", Lists, run_lists),
)  # fmt: skip
