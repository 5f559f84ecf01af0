"""Contracts, the lake, the engine, ingest, quality: what everything else reads.

In come files and tables of five systems that do not agree; out go snapshots of contracted tables,
one per date, with every bad row in quarantine and the reason beside it.

Sub-rooms with a face of their own: :mod:`~bihuan.data.quality` (profiles, references,
differences), :mod:`~bihuan.data.problem` (followed until solved), :mod:`~bihuan.data.prepare`
(recipes), :mod:`~bihuan.data.identity` (who is who).
"""

from bihuan.data.contract import Column, ColumnType, TableContract, load_contract, load_contracts
from bihuan.data.doubles import as_doubles
from bihuan.data.engine import DuckDBEngine, Engine, Source
from bihuan.data.exchange import write_csv, write_excel, write_sav
from bihuan.data.identity import IdentityIndex, resolve_identity
from bihuan.data.ingest import ingest
from bihuan.data.ingest_report import IngestReport, TableReport
from bihuan.data.lake import Lake, LakeView, Publication, Snapshot, SnapshotNotFoundError
from bihuan.data.mapping import MappingError, SourceMapping
from bihuan.data.mapping_file import load_mapping
from bihuan.data.prepare import Recipe, load_recipe, prepare, publish_prepared
from bihuan.data.problem import Problem, ProblemBook
from bihuan.data.quality import QualityProfile, compare_snapshots, profile_quality
from bihuan.data.quarantine import Quarantine
from bihuan.data.replay import replay
from bihuan.data.source_table import SqlTable

__all__ = [
    "as_doubles",
    "Column",
    "ColumnType",
    "TableContract",
    "load_contract",
    "load_contracts",
    "Lake",
    "LakeView",
    "Publication",
    "Snapshot",
    "SnapshotNotFoundError",
    "Engine",
    "DuckDBEngine",
    "Source",
    "SourceMapping",
    "MappingError",
    "SqlTable",
    "load_mapping",
    "ingest",
    "IngestReport",
    "TableReport",
    "Quarantine",
    "replay",
    "QualityProfile",
    "profile_quality",
    "compare_snapshots",
    "Problem",
    "ProblemBook",
    "IdentityIndex",
    "resolve_identity",
    "Recipe",
    "load_recipe",
    "prepare",
    "publish_prepared",
    "write_csv",
    "write_excel",
    "write_sav",
]
