"""Taking outcomes in: every row that comes is stored once, known already, or quarantined.

``received = stored + duplicate + quarantined`` holds for every file, exactly. Idempotency rests on
the outcome's id in the store itself, for as long as the store lives, not on a file name or a time
window: the same file again, a file that overlaps another, a row that stands twice in one file
change nothing. The same id with other content is a conflict; the first stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import DuckDBEngine, Engine, Lake
from bihuan.delivery import MARKET_ZONE, Deployment
from bihuan.feedback.judge import Desk, incoming_again, judge, rejected_rows, still_waiting
from bihuan.feedback.quarantine import OutcomeQuarantine
from bihuan.feedback.reading import Incoming, read_incoming
from bihuan.feedback.store import OUTCOME, append_outcomes, sole_writer
from bihuan.kernel import Clock, DefectError


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """What became of a set of outcomes; ``received = stored + duplicate + quarantined``.

    Parameters
    ----------
    received
        Rows that came, lines that were no rows included.
    stored
        New outcomes, now in the lake.
    duplicate
        Outcomes that were known already, with the same content.
    quarantined
        Rows that cannot be believed yet.
    reasons
        Quarantined rows by reason code (a key of ``quarantine.REASONS``).
    quarantine_id
        The new quarantine entry; None if none was needed, or all its rows were there already.
    ignored_columns
        Columns of the file that the contract does not know.
    """

    received: int
    stored: int
    duplicate: int
    quarantined: int
    reasons: Mapping[str, int]
    quarantine_id: str | None = None
    ignored_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.received != self.stored + self.duplicate + self.quarantined:
            raise DefectError(f"Outcomes were lost or doubled: {self}.")


def ingest_outcomes(  # noqa: PLR0913 - every port is named
    lake: Lake,
    rows: pa.Table | Path,
    *,
    deployment: Deployment | str,
    quarantine_folder: Path,
    clock: Clock,
    zone: str = MARKET_ZONE,
    engine: Engine | None = None,
) -> OutcomeReport:
    """Take outcomes of one deployment in, whatever comes and however often.

    Parameters
    ----------
    lake
        Where the deployment's assignments are and its outcomes go.
    rows
        Rows of the ``outcome`` contract: in memory, or a CSV (UTF-8 or GBK) or Parquet file.
        ``deployment_id`` may be left out. Other columns are ignored and named in the report.
    deployment
        The deployment, or its id. With an id that the lake does not know (yet), every row waits
        in quarantine.
    quarantine_folder
        The workspace's quarantine folder.
    clock
        Now: nothing may have happened later.
    zone
        Zone of moments that do not say theirs, and in which days begin.
    engine
        DuckDB by default.

    Returns
    -------
    OutcomeReport

    Raises
    ------
    OutcomeFileError
        If the file as a whole cannot be read; nothing was taken in.

    Notes
    -----
    Bad rows are durable in quarantine before the good ones are published, so a crash between the
    two loses nothing; running it again ends in the same state.
    """
    desk = _open(lake, deployment, quarantine_folder, clock, zone, engine)
    incoming = read_incoming(rows)
    with sole_writer(lake, desk.deployment_id):
        judged = judge(desk, incoming)
        bad = rejected_rows(desk, incoming, judged)
        entry = desk.quarantine.keep(bad) if bad.num_rows else None
        _store(desk, judged, incoming.source)
    return _report(incoming, judged, entry)


def replay_outcomes(
    lake: Lake,
    *,
    deployment: Deployment | str,
    quarantine_folder: Path,
    clock: Clock,
    zone: str = MARKET_ZONE,
    engine: Engine | None = None,
) -> OutcomeReport:
    """Judge the quarantined outcomes of a deployment again; those that pass are stored.

    Rows pass, for example, when the deployment has become known, when their moment has come, or
    when they had come in the file of another deployment. The others stay, under their present
    reason.

    Parameters
    ----------
    lake, deployment, quarantine_folder, clock, zone, engine
        As in :func:`ingest_outcomes`.

    Returns
    -------
    OutcomeReport
        ``received`` is the number of rows that were waiting.
    """
    desk = _open(lake, deployment, quarantine_folder, clock, zone, engine)
    with sole_writer(lake, desk.deployment_id):
        waiting = desk.quarantine.rows(desk.deployment_id)
        incoming = incoming_again(waiting)
        judged = judge(desk, incoming)
        still = still_waiting(waiting, judged)
        _store(desk, judged, "replay")
        if waiting.num_rows:
            desk.quarantine.replace(waiting, still)
    return _report(incoming, judged, None)


def _open(
    lake: Lake,
    deployment: Deployment | str,
    folder: Path,
    clock: Clock,
    zone: str,
    engine: Engine | None,
) -> Desk:
    deployment_id = deployment if isinstance(deployment, str) else deployment.deployment_id
    return Desk(
        lake, deployment_id, OutcomeQuarantine(folder), clock, zone, engine or DuckDBEngine()
    )


def _store(desk: Desk, judged: pa.Table, source: str) -> None:
    new = judged.filter(pc.equal(judged["verdict"], "stored"))
    if new.num_rows:
        rows = new.select(OUTCOME.names).cast(OUTCOME.schema)
        day = desk.clock.now().astimezone(ZoneInfo(desk.zone)).date()
        append_outcomes(
            desk.lake, desk.deployment_id, rows, day=day, source=source, clock=desk.clock
        )


def _report(incoming: Incoming, judged: pa.Table, entry: str | None) -> OutcomeReport:
    counts = {
        row["values"]: row["counts"] for row in pc.value_counts(judged["verdict"]).to_pylist()
    }
    stored, duplicate = counts.pop("stored", 0), counts.pop("duplicate", 0)
    if incoming.broken.num_rows:
        counts["bad_shape"] = incoming.broken.num_rows
    return OutcomeReport(
        received=incoming.received,
        stored=stored,
        duplicate=duplicate,
        quarantined=sum(counts.values()),
        reasons=counts,
        quarantine_id=entry,
        ignored_columns=incoming.ignored_columns,
    )
