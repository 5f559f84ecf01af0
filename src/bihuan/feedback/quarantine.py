"""Quarantine of outcomes: rows that cannot be believed yet, kept as they came.

An entry is one Parquet file whose name is the hash of its rows, so the same bad file twice is one
entry. A row is known by the hash of what it said; it is kept once, however often it comes. Nothing
is ever thrown away here: a row leaves when a replay finds that it can be believed now.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bihuan.feedback.store import OUTCOME
from bihuan.kernel import file_lock, write_atomically

REASONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "bad_shape": {"zh": "该行列数不符", "en": "The line has too few or too many cells"},
        "missing_value": {"zh": "必填项为空", "en": "A needed value is missing"},
        "bad_value": {"zh": "取值无法识别", "en": "A value is not of its column's type"},
        "unknown_stage": {"zh": "环节代码未知", "en": "The stage is not a known code"},
        "other_deployment": {"zh": "属于另一次部署", "en": "It belongs to another deployment"},
        "unknown_assignment": {"zh": "派发编号不存在", "en": "There is no such assignment"},
        "wrong_customer": {"zh": "派发属于另一客户", "en": "The assignment is another customer's"},
        "in_the_future": {"zh": "发生时刻在未来", "en": "It has not happened yet"},
        "before_valid": {"zh": "早于派发生效日", "en": "It is earlier than the assignment"},
        "conflict": {
            "zh": "编号相同但内容不同,保留先到的",
            "en": "The same id came with other content; the first one stays",
        },
    }
)
"""Why a row is kept aside, by reason code."""

SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("deployment_id", pa.string()),
        ("reason_code", pa.string()),
        ("reason_column", pa.string()),
        ("source", pa.string()),
        ("position", pa.int64()),
        ("received_at", pa.timestamp("us", tz="UTC")),
        ("raw_text", pa.string()),
        *((f"raw_{name}", pa.string()) for name in OUTCOME.names),
    ]
)
"""``position`` counts rows from 1 after the header; ``raw_text`` is a line that was no row; the
other ``raw_`` columns hold the values as they came."""


@dataclass(frozen=True, slots=True)
class OutcomeQuarantine:
    """The quarantined outcomes of a workspace.

    Parameters
    ----------
    folder
        The workspace's quarantine folder; outcomes have a folder of their own inside.
    """

    folder: Path

    @property
    def home(self) -> Path:
        """Folder of the entries."""
        return self.folder / "outcome"

    def rows(self, deployment_id: str | None = None) -> pa.Table:
        """Return the rows that are kept, each once, in :data:`SCHEMA`.

        Parameters
        ----------
        deployment_id
            Only those that came for this deployment or name it; None for all.
        """
        parts = [pq.read_table(path, schema=SCHEMA) for path in self._entries()]
        rows = pa.concat_tables([SCHEMA.empty_table(), *parts])
        if deployment_id is not None:
            came = pc.equal(rows["deployment_id"], deployment_id)
            named = pc.fill_null(pc.equal(rows["raw_deployment_id"], deployment_id), False)
            rows = rows.filter(pc.or_(came, named))
        return _each_once(rows)

    def keep(self, rows: pa.Table) -> str | None:
        """Keep those of ``rows`` that are not kept yet; return the entry's id, None if none are.

        Durable when it returns.
        """
        with file_lock(self.home / ".lock"):
            return self._keep(rows)

    def replace(self, gone: pa.Table, rows: pa.Table) -> None:
        """Let rows go that are settled or judged anew, and keep ``rows`` in their place.

        A crash in between leaves both, and reading shows each row once.
        """
        with file_lock(self.home / ".lock"):
            old = self._entries()
            left = pa.concat_tables([pq.read_table(path, schema=SCHEMA) for path in old])
            stays = pc.invert(pc.is_in(left["row_id"], value_set=gone["row_id"]))
            whole = _each_once(pa.concat_tables([rows, left.filter(stays)]))
            entry = self._write(whole) if whole.num_rows else None
            for path in old:
                if path.stem != entry:
                    path.unlink()

    def _keep(self, rows: pa.Table) -> str | None:
        known = [pq.read_table(path, columns=["row_id"]) for path in self._entries()]
        if known:
            ids = pa.concat_tables(known)["row_id"]
            rows = rows.filter(pc.invert(pc.is_in(rows["row_id"], value_set=ids)))
        return self._write(_each_once(rows)) if rows.num_rows else None

    def _write(self, rows: pa.Table) -> str:
        ids = "".join(sorted(rows["row_id"].to_pylist()))
        entry = hashlib.sha256(ids.encode()).hexdigest()[:20]
        content = io.BytesIO()
        pq.write_table(rows.cast(SCHEMA), content, compression="zstd")
        write_atomically(self.home / f"{entry}.parquet", content.getvalue())
        return entry

    def _entries(self) -> list[Path]:
        return sorted(self.home.glob("*.parquet"))


def _each_once(rows: pa.Table) -> pa.Table:
    """Return the first row of each id, in the order given."""
    at = pa.table({"row_id": rows["row_id"], "at": pa.array(np.arange(rows.num_rows))})
    first = at.group_by("row_id").aggregate([("at", "min")])["at_min"]
    return rows.take(first.take(pc.sort_indices(first)))
