"""A room for ingest tests: two small contracts, a lake, a quarantine, files on demand."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from bihuan.data.contract import TableContract, load_contract
from bihuan.data.engine import DuckDBEngine
from bihuan.data.ingest import ingest
from bihuan.data.ingest_report import IngestReport
from bihuan.data.lake import Lake
from bihuan.data.mapping import SourceMapping
from bihuan.data.mapping_file import load_mapping
from bihuan.data.quarantine import Quarantine
from bihuan.data.replay import replay
from bihuan.kernel import FixedClock, SilentProgress

OCTOBER = date(2026, 10, 31)

METER = """
table: meter
meaning: {zh: 表计, en: Meter}
grain: state
key: [meter_id]
columns:
  meter_id: {type: string, nullable: false, meaning: {en: id}}
  label: {type: string, meaning: {en: label}}
  kind: {type: string, meaning: {en: kind}, codes: {a: {en: A}, b: {en: B}}}
  count: {type: integer, meaning: {en: count}, range: [0, 31]}
  level: {type: number, meaning: {en: level}}
  fee: {type: money, meaning: {en: fee}}
  is_on: {type: boolean, meaning: {en: "on"}}
  since: {type: date, meaning: {en: since}}
  seen_at: {type: timestamp, meaning: {en: seen}}
"""
OWNING = """
table: owning
meaning: {zh: 拥有, en: Owning}
grain: state
key: [meter_id, product_id]
columns:
  meter_id: {type: string, nullable: false, meaning: {en: id}}
  product_id: {type: string, nullable: false, meaning: {en: product}}
  amount: {type: number, meaning: {en: amount}}
"""
PLAIN = """
mapping: plain
tables:
  meter:
    columns:
      meter_id: id
      label: label
      kind: kind
      count: count
      level: level
      fee: fee
      is_on: is_on
      since: since
      seen_at: seen_at
"""
"""Every column of meter from the source column of its name (``id`` for the key)."""


@dataclass
class Room:
    """A folder with everything that an ingest needs."""

    root: Path
    contracts: dict[str, TableContract] = field(init=False)
    clock: FixedClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = FixedClock(datetime(2026, 11, 3, 8, 0, tzinfo=UTC))
        self.contracts = {}
        for name, text in (("meter", METER), ("owning", OWNING)):
            path = self.root / "contracts" / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.contracts[name] = load_contract(path)

    @property
    def lake(self) -> Lake:
        return Lake(self.root / "lake")

    @property
    def quarantine(self) -> Quarantine:
        return Quarantine(self.root / "quarantine")

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.root / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def mapping(self, text: str = PLAIN) -> SourceMapping:
        path = self.root / "mapping.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load_mapping(path)

    def ingest(
        self, source: Any, mapping: str | SourceMapping = PLAIN, **options: Any
    ) -> IngestReport:
        if isinstance(source, (str, bytes)):
            source = self.file("source.csv", source)
        return ingest(
            self.lake,
            self.mapping(mapping) if isinstance(mapping, str) else mapping,
            source,
            options.pop("as_of", OCTOBER),
            contracts=self.contracts,
            clock=self.clock,
            progress=options.pop("progress", SilentProgress()),
            engine=options.pop("engine", DuckDBEngine(threads=1)),
            **{"max_bad_share": 1.0, **options},
        )

    def replay(self, batch_id: str, mapping: str) -> IngestReport:
        return replay(
            self.lake,
            self.quarantine,
            batch_id,
            self.mapping(mapping),
            contracts=self.contracts,
            clock=self.clock,
            progress=SilentProgress(),
            engine=DuckDBEngine(threads=1),
        )

    def table(self, name: str = "meter") -> pa.Table:
        return self.lake.view().get(name, OCTOBER).read()

    def ids(self, table: str = "meter") -> list[str]:
        return self.table(table).column("meter_id").to_pylist()

    def bad(self, report: IngestReport) -> list[dict[str, Any]]:
        """Bad rows of a report in the order of the file."""
        if report.quarantine_id is None:
            return []
        rows = self.quarantine.rows(report.quarantine_id).to_pylist()
        return sorted(rows, key=lambda row: (row["line"], row["part"] or ""))
