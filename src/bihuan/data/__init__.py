"""Contracts, the lake, the engine, ingest, quality: what everything else reads.

In come files and tables of five systems that do not agree; out go snapshots of contracted tables,
one per date, with every bad row in quarantine and the reason beside it.
"""

from bihuan.data.contract import Column, ColumnType, TableContract, load_contract, load_contracts
from bihuan.data.engine import DuckDBEngine, Engine, Source
from bihuan.data.lake import Lake, LakeView, Publication, Snapshot, SnapshotNotFoundError

__all__ = [
    "Column",
    "ColumnType",
    "TableContract",
    "load_contract",
    "load_contracts",
    "Engine",
    "DuckDBEngine",
    "Source",
    "Lake",
    "LakeView",
    "Publication",
    "Snapshot",
    "SnapshotNotFoundError",
]
