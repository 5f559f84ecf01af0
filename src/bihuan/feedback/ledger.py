"""The ledger of one deployment, as the delivery room's dispatch needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa

from bihuan.data import DuckDBEngine, Engine, Lake
from bihuan.delivery import MARKET_ZONE, Deployment
from bihuan.feedback.outcome import ingest_outcomes
from bihuan.feedback.state import Reconciliation, fold_outcomes, reconcile
from bihuan.feedback.store import outcome_snapshots
from bihuan.kernel import Clock, DefectError


@dataclass(frozen=True, slots=True)
class OutcomeLedger:
    """What was sent and what came of it, for one deployment.

    Parameters
    ----------
    lake
        Holds assignments and outcomes.
    deployment
        Whose ledger.
    quarantine_folder
        The workspace's quarantine folder.
    clock
        Now.
    zone
        Zone in which days begin.
    engine
        DuckDB by default.
    """

    lake: Lake
    deployment: Deployment
    quarantine_folder: Path
    clock: Clock
    zone: str = MARKET_ZONE
    engine: Engine = field(default_factory=DuckDBEngine)

    def record(self, outcomes: pa.Table) -> None:
        """Store outcomes that our own rooms wrote, durably; the same rows again change nothing.

        Raises
        ------
        DefectError
            If one is not fit to be stored: what is about to be sent must be on record first.
        """
        report = ingest_outcomes(
            self.lake,
            outcomes,
            deployment=self.deployment,
            quarantine_folder=self.quarantine_folder,
            clock=self.clock,
            zone=self.zone,
            engine=self.engine,
        )
        if report.quarantined:
            raise DefectError(f"Our own outcomes were refused: {dict(report.reasons)}.")

    def states(self) -> pa.Table:
        """Return the present state of every assignment; see :func:`fold_outcomes`."""
        view = self.lake.view()
        return fold_outcomes(
            self.deployment.assignments(view),
            outcome_snapshots(view, self.deployment.deployment_id),
            today=self.clock.now().astimezone(ZoneInfo(self.zone)).date(),
            engine=self.engine,
        )

    def reconcile(self) -> Reconciliation:
        """Count where every planned assignment is; see :func:`reconcile`."""
        return reconcile(self.states(), planned=self.deployment.planned)
