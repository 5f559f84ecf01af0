"""Ingest: a source becomes snapshots of all its target tables, in one publication or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import date

from bihuan.data.block import SourceFacts
from bihuan.data.contract import TableContract
from bihuan.data.convert import Plan
from bihuan.data.engine import DuckDBEngine, Engine
from bihuan.data.ingest_report import IngestReport, TableReport
from bihuan.data.lake import Lake, LakeView
from bihuan.data.loading import TableLoad, fill
from bihuan.data.mapping import SourceMapping, check_columns, check_contracts
from bihuan.data.personal import Protector, guard_of, sealed_name
from bihuan.data.publish import (
    Publisher,
    TablePlan,
    TooManyBadRowsError,
    locked,
    parts_of,
    quarantine_of,
    table_report,
)
from bihuan.data.quarantine import Batch, BatchWriter, Quarantine
from bihuan.data.source import SourcePlace, open_source
from bihuan.kernel import Clock, Progress, hash_id

MAX_BAD_SHARE = 0.2


def ingest(  # noqa: PLR0913 - the room's widest door; all but four are keywords
    lake: Lake,
    mapping: SourceMapping,
    source: SourcePlace,
    as_of: date,
    *,
    contracts: Mapping[str, TableContract],
    clock: Clock,
    progress: Progress,
    engine: Engine | None = None,
    quarantine: Quarantine | None = None,
    append: bool = False,
    max_bad_share: float = MAX_BAD_SHARE,
    protector: Protector | None = None,
) -> IngestReport:
    """Read a source through a mapping into the lake.

    Parameters
    ----------
    lake
        Where the snapshots go.
    mapping
        How columns and codes become tables.
    source
        A file, or a table of a database.
    as_of
        Snapshot date of every table.
    contracts
        Table contracts by name.
    clock
        Stamps publication and quarantine batch.
    progress
        Shows bytes or rows read; its token stops the run, and then nothing is published.
    engine
        Runs the conversion; None takes DuckDB with one thread, since reading, converting and
        writing are done side by side already.
    quarantine
        Where bad rows go; None takes the folder ``quarantine`` beside the lake.
    append
        Whether the rows join those that the tables hold at that date (further files of one
        month); otherwise they replace them.
    max_bad_share
        Share of bad rows of a table above which nothing is published, 0 to 1.
    protector
        Seals personal columns before anything is written, and what quarantine must not show; None
        stores them as they come (a notebook without keys).

    Returns
    -------
    IngestReport
        Counts per table. If the same source was read through the same mapping to the same date
        before, nothing is done and ``unchanged`` is set.

    Raises
    ------
    MappingError
        If mapping and contracts or source columns do not fit.
    UnreadableSourceError
        If the source is absent, empty or cut off.
    TooManyBadRowsError
        If the share of bad rows is too high; they are in quarantine all the same.
    Cancelled
        If the run was stopped.
    """
    started = time.perf_counter()
    check_contracts(mapping, contracts)
    used = {name: contracts[name] for name in mapping.tables}
    quarantine = quarantine or quarantine_of(lake)
    with closing(open_source(source, mapping, progress)) as opened, locked(lake, used):
        facts = opened.facts
        unknown = check_columns(mapping, facts.columns)
        fingerprint = ingest_fingerprint(
            facts.sha256,
            mapping,
            used.values(),
            as_of,
            keys=protector.fingerprint if protector else None,
        )
        batch = _batch(facts, mapping, as_of, fingerprint, clock)
        view = lake.view()
        tables = _find_done(view, used, as_of, fingerprint, append=append)
        is_done = tables is not None
        if tables is None:
            plans = [
                TablePlan(
                    Plan(mapping, contract, as_of, iso_dates=facts.format != "csv"),
                    view.find(contract.name, as_of) if append else None,
                    previous_sealed=view.find(sealed_name(contract.name), as_of)
                    if append
                    else None,
                )
                for contract in used.values()
            ]
            guard = guard_of(protector, mapping, contracts)
            with quarantine.writing(batch, guard) as writer:

                def work(loads: Sequence[TableLoad]) -> None:
                    fill(opened, loads, writer, progress, may_be_empty=mapping.may_be_empty)
                    _refuse_bad_share(batch, loads, writer, max_bad_share)

                origin = _origin(facts, mapping, fingerprint)
                publisher = Publisher(
                    lake, as_of, clock, engine or DuckDBEngine(threads=1), origin, protector
                )
                tables = publisher.publish(plans, work, writer)
    return IngestReport(
        source=facts.name,
        as_of=as_of,
        tables=tables,
        quarantine_id=batch.id if any(report.rows_quarantined for report in tables) else None,
        unchanged=is_done,
        unknown_columns=unknown,
        details=facts.details,
        seconds=time.perf_counter() - started,
    )


def ingest_fingerprint(
    sha256: str,
    mapping: SourceMapping,
    contracts: Iterable[TableContract],
    as_of: date,
    *,
    keys: str | None = None,
) -> str:
    """Return the id of an ingest: the same for the same content, mapping, contracts and date.

    ``keys`` names the keys that seal personal columns: what was stored in clear is read again.
    """
    promises = [
        [contract.name, contract.key]
        + [
            [c.name, c.type.value, c.nullable, c.minimum, c.maximum, sorted(c.codes or ())]
            for c in contract.columns
        ]
        for contract in contracts
    ]
    sealed = () if keys is None else (keys,)
    return hash_id("ingest", sha256, mapping.fingerprint, promises, as_of, *sealed)


def _find_done(
    view: LakeView,
    tables: Iterable[str],
    as_of: date,
    fingerprint: str,
    *,
    append: bool,
) -> tuple[TableReport, ...] | None:
    """Return the reports of an earlier run that did exactly this, or None.

    What was replayed from its quarantine since belongs to it.
    """
    reports = []
    for table in tables:
        snapshot = view.find(table, as_of)
        parts = parts_of(snapshot)
        own = [part for part in parts if part["fingerprint"] == fingerprint]
        others = [part for part in parts if part["kind"] != "replay" and part not in own]
        if not own or (others and not append):
            return None
        reports.append(table_report(table, own[0], snapshot))
    return tuple(reports)


def _batch(
    facts: SourceFacts, mapping: SourceMapping, as_of: date, fingerprint: str, clock: Clock
) -> Batch:
    return Batch(
        id=hash_id("quarantine", fingerprint),
        source=facts.name,
        source_sha256=facts.sha256,
        source_format=facts.format,
        encoding=facts.details.get("encoding", "utf-8"),
        delimiter=facts.details.get("delimiter", ","),
        columns=facts.columns,
        mapping=mapping.name,
        mapping_fingerprint=mapping.fingerprint,
        as_of=as_of.isoformat(),
        ingest=fingerprint,
        created_at=clock.now().isoformat(),
    )


def _origin(facts: SourceFacts, mapping: SourceMapping, fingerprint: str) -> dict[str, str]:
    return {
        "kind": "source",
        "fingerprint": fingerprint,
        "source": facts.name,
        "sha256": facts.sha256,
        "mapping": mapping.name,
        "mapping_fingerprint": mapping.fingerprint,
    }


def _refuse_bad_share(
    batch: Batch, loads: Sequence[TableLoad], writer: BatchWriter, max_bad_share: float
) -> None:
    for load in loads:
        reasons = writer.counts(load.name)
        bad = sum(reasons.values())
        if bad <= max_bad_share * load.read:
            continue
        first = writer.first[load.name]
        told = ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items()))
        raise TooManyBadRowsError(
            f"{batch.source}: {bad} of {load.read} rows for table '{load.name}' are bad ({told}), "
            f"more than {max_bad_share:.0%}; nothing was published. "
            f"First: line {first.trace.line}: {first.text['en']}",
            remedy=f"Look at quarantine batch {batch.id}, mend the mapping or the file, run again.",
            zh=f"{batch.source}:表 {load.name} 的 {load.read} 行中有 {bad} 行不合格({told}),"
            f"超过上限 {max_bad_share:.0%},未发布任何数据。首个问题在第 {first.trace.line} 行:"
            f"{first.text['zh']}请查看隔离批次 {batch.id},修正映射或文件后重试。",
        )
