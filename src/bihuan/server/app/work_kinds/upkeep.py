"""Kinds that keep the house: the audit chain verified, refusals published, old data removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bihuan.server.app.audit import verify_trail
from bihuan.server.app.job import Arguments, JobContext, Kind
from bihuan.server.app.personal import publish_opt_outs, remove_expired_data


class Nothing(Arguments):
    """Takes no arguments."""


def run_audit_verify(context: JobContext, arguments: Nothing) -> Mapping[str, Any]:
    """Compute every seal and mark again; say where the chain first breaks, if it does."""
    del arguments

    def verify() -> dict[str, Any]:
        report = verify_trail(context.service, request_id=context.job_id)
        broken = report.broken
        return {
            "entries": report.entries,
            "whole": report.is_whole,
            "broken_at": None if broken is None else broken.sequence,
            "marked": report.marked,
        }

    found: dict[str, Any] = context.step(
        "verify", {"zh": "校验审计链", "en": "Verify the audit chain"}, verify
    )
    return found


def run_opt_out_publish(context: JobContext, arguments: Nothing) -> Mapping[str, Any]:
    """Carry the refusals recorded here into the lake."""
    del arguments
    stand: int = context.step(
        "publish", {"zh": "发布拒绝名单", "en": "Publish the refusals"},
        lambda: publish_opt_outs(context.own_service),
    )  # fmt: skip
    return {"refusals": stand}


def run_retention(context: JobContext, arguments: Nothing) -> Mapping[str, Any]:
    """Remove what has been kept for as long as it may be."""
    del arguments
    account_id = "system" if context.actor is None else context.actor.account_id
    removed: int = context.step(
        "remove", {"zh": "清除到期数据", "en": "Remove what has expired"},
        lambda: len(remove_expired_data(context.own_service, account_id)),
    )  # fmt: skip
    return {"removed": removed}


KINDS = (
    Kind(
        "audit_verify", {"zh": "审计链校验", "en": "audit verification"}, "service.read",
        Nothing, run_audit_verify,
    ),
    Kind(
        "opt_out_publish", {"zh": "发布拒绝名单", "en": "publication of refusals"}, "job.run",
        Nothing, run_opt_out_publish,
    ),
    Kind(
        "retention", {"zh": "到期数据清除", "en": "removal of expired data"}, "customer.erase",
        Nothing, run_retention,
    ),
)  # fmt: skip
