"""Kinds that keep the house: audit chain verified, refusals published, data removed or erased."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bihuan.server.app.audit import verify_trail
from bihuan.server.app.job import Arguments, JobContext, Kind
from bihuan.server.app.personal import (
    carry_out_erasure,
    get_erasure,
    publish_opt_outs,
    remove_expired_data,
)


class Nothing(Arguments):
    """Takes no arguments."""


class ErasureRun(Arguments):
    """An erasure that was asked for."""

    erasure_id: str = Field(min_length=1, max_length=64)


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


def run_erasure(context: JobContext, arguments: ErasureRun) -> Mapping[str, Any]:
    """Erase one customer everywhere; broken off anywhere, the next worker goes on."""
    with context.work(read_only=True) as work:  # within the owner's reach?
        get_erasure(work, arguments.erasure_id)

    def erase() -> dict[str, Any]:
        row = carry_out_erasure(context.own_service, arguments.erasure_id)
        return {"state": row.state, "left": len(row.left_over)}

    done: dict[str, Any] = context.step(
        "erase", {"zh": "删除客户数据", "en": "Erase the customer"}, erase
    )
    return {"erasure_id": arguments.erasure_id, **done}


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
    Kind(
        "erasure", {"zh": "客户数据删除", "en": "erasure of a customer"}, "customer.erase",
        ErasureRun, run_erasure,
    ),
)  # fmt: skip
