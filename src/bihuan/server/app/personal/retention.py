"""Keeping no longer than needed: what is due, and the run that removes it."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

from bihuan.data.personal import Expiry, find_expired, remove_expired
from bihuan.delivery import MARKET_ZONE
from bihuan.server.app.service import Service


def find_expired_data(service: Service) -> tuple[Expiry, ...]:
    """Return what a run would remove today: the dry run."""
    ws = service.workspace
    return find_expired(ws.lake, ws.quarantine, ws.contracts, _today(service))


def remove_expired_data(service: Service, account_id: str = "system") -> tuple[Expiry, ...]:
    """Remove what is due and remember it in the audit trail; run again, it removes nothing.

    Parameters
    ----------
    service
        Whose lake and quarantine.
    account_id
        Who started it, kept in the entry's detail.

    Notes
    -----
    The audit trail, refusals and certificates are kept: they are the proof, and the trail cannot
    lose its middle. Who reads an older view at that moment loses the files.
    """
    ws = service.workspace
    gone = remove_expired(ws.lake, ws.quarantine, ws.contracts, _today(service))
    if gone:
        with service.system_work() as work:
            by_kind: dict[str, int] = {}
            for expiry in gone:
                by_kind[expiry.kind] = by_kind.get(expiry.kind, 0) + 1
            work.audit("retention.run", "lake", "lake", by=account_id, removed=by_kind,
                       first=min(e.as_of for e in gone).isoformat())  # fmt: skip
    return gone


def _today(service: Service) -> date:
    return service.clock.now().astimezone(ZoneInfo(MARKET_ZONE)).date()
