"""From tag tables to planes: one pass over each column, changed tags only, published at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bihuan.data import Snapshot
from bihuan.kernel import Progress, SilentProgress, hash_id
from bihuan.tag.plane.column import MAX_TEXTS, ColumnReader, TooManyTextsError
from bihuan.tag.plane.ids import write_ids
from bihuan.tag.plane.store import (
    FORMAT,
    Head,
    forget_head,
    index_folder,
    publish,
    read_head,
    words_for,
    write_planes,
)
from bihuan.tag.table import TagTable


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What became of every tag.

    Parameters
    ----------
    subject, as_of
        Whose index, for when.
    rows
        Subjects.
    built, unchanged
        Tags written now, and tags whose planes were right already.
    left_out
        Tags that have values and no planes, with the reason by language; SQL reads them.
    bytes
        Size of the planes written now.
    seconds
        Wall time.
    """

    subject: str
    as_of: str
    rows: int
    built: tuple[str, ...]
    unchanged: tuple[str, ...]
    left_out: Mapping[str, Mapping[str, str]]
    bytes: int
    seconds: float


def build_index(
    tags: TagTable,
    root: Path,
    *,
    only: Iterable[str] | None = None,
    afresh: bool = False,
    progress: Progress | None = None,
) -> IndexReport:
    """Write the planes of a date's tags, those that changed, and publish them together.

    Parameters
    ----------
    tags
        The values.
    root
        Folder of all indexes.
    only
        Names of the tags to look at; None = all that have values.
    afresh
        Build every one of them again, as after damage; there is no index until that is done.
    progress
        Told after each tag. Where it is cancelled nothing is published, and the next run writes
        those tags again.

    Returns
    -------
    IndexReport

    Raises
    ------
    Cancelled
        If progress was asked to stop.

    Notes
    -----
    Holds one column in memory at a time, 9 bytes per subject, and its planes.
    """
    started = time.perf_counter()
    folder = index_folder(root, tags.subject.value, tags.as_of)
    universe = universe_of(tags)
    if afresh:
        forget_head(folder)
    before = read_head(folder)
    same = before if before is not None and before.universe == universe else None
    kept = {} if same is None else {**same.tags, **same.left_out}
    names = tuple(tags.fields) if only is None else tuple(only)
    prints = {name: fingerprint(tags, name) for name in names}
    stale = [n for n in names if kept.get(n, {}).get("fingerprint") != prints[n]]
    entries: dict[str, dict[str, Any]] = {}
    left_out = {} if same is None else {n: same.left_out[n] for n in names if n in same.left_out}
    size = 0
    if stale or same is None:  # else HEAD stays as it is, and so do the files of the HEAD before
        ids: Mapping[str, Any]
        if same is None:
            first = next(iter(tags.snapshots.values()))
            ids = write_ids(folder, first.files, tags.id_column, universe)
        else:
            ids = same.ids
        reader = ColumnReader(tags.rows)
        label = f"index {tags.subject.value} tags"
        with (progress or SilentProgress()).task(label, total=len(stale), unit="tags") as task:
            for name in stale:
                left_out.pop(name, None)
                stem = f"{name}-{hash_id(FORMAT, universe, prints[name])[:16]}"
                try:
                    size += _build(tags, name, folder, stem, reader)
                except TooManyTextsError as error:
                    left_out[name] = {**_too_many(str(error)), "fingerprint": prints[name]}
                else:
                    entries[name] = _entry(tags, name, stem, prints[name])
                task.advance(1)
        publish(folder, Head(universe, tags.rows, words_for(tags.rows), ids, entries, left_out))
    return IndexReport(
        subject=tags.subject.value,
        as_of=tags.as_of.isoformat(),
        rows=tags.rows,
        built=tuple(entries),
        unchanged=tuple(name for name in names if name not in stale),
        left_out=left_out,
        bytes=size,
        seconds=time.perf_counter() - started,
    )


def fingerprint(tags: TagTable, name: str) -> str:
    """Return what a tag's values hang on: equal prints, equal values.

    A table of tags is written anew when one of them changes; derivation says of each tag what it
    was made from, so the others' planes stay.
    """
    snapshot = _snapshot(tags, name)
    stored = snapshot.lineage.get("tags", {}).get(name, {})
    return str(stored.get("fingerprint") or hash_id(snapshot.id, name))


def universe_of(tags: TagTable) -> str:
    """Return which subjects the rows of the tag tables are."""
    snapshots = list(tags.snapshots.values())
    stored = snapshots[0].lineage.get("universe")
    return str(stored or hash_id(*sorted(snapshot.id for snapshot in snapshots)))


def _snapshot(tags: TagTable, name: str) -> Snapshot:
    wanted = tags.versions[name]
    return next(s for s in tags.snapshots.values() if s.id == wanted)


def _build(tags: TagTable, name: str, folder: Path, stem: str, reader: ColumnReader) -> int:
    from bihuan.tag.plane.pack import pack_column  # compiled; loading it takes half a second

    column = reader.read(_snapshot(tags, name).files, name, tags.fields[name].type)
    planes = pack_column(column, words_for(tags.rows))
    write_planes(folder, stem, planes, {"tag": name, "encoding": column.encoding.to_json()})
    return int(planes.nbytes)


def _entry(tags: TagTable, name: str, stem: str, print_: str) -> dict[str, Any]:
    field = tags.fields[name]
    return {
        "file": stem,
        "fingerprint": print_,
        "type": field.type.value,
        "codes": None if field.codes is None else sorted(field.codes),
        "title": dict(field.title),
    }


def _too_many(found: str) -> Mapping[str, str]:
    return {
        "en": f"it has {found}, and planes are for at most {MAX_TEXTS:,}.",
        "zh": f"不同取值过多（{found}），位图索引最多支持 {MAX_TEXTS:,} 种。",
    }
