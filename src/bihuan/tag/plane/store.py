"""Files of an index: whole or absent, checked before the first answer, replaced under readers.

``<root>/<subject>/<as_of>/HEAD`` names for each tag the stem of two files: ``<stem>.planes``, the
bare words plane after plane, and ``<stem>.how``, which says how to read them and holds one
checksum per plane. HEAD and ``.how`` are a line with their own checksum and one of JSON. A stem
is made from what the tag was derived from, so the same values always land in the same file,
whoever builds it. Only HEAD makes a file count. It is replaced in one step, and files of the HEAD
before stay until the next publication, for readers under way.

Planes are not flushed to disk: they can be built again, and a checksum tells if a power cut took
some of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from bihuan.kernel import UserError, canonical_json, file_lock, on_each_part, write_atomically

PAGE_WORDS = 512
"""Planes begin on a page of memory, 4 KiB."""

FORMAT = 3  # goes into every stem: raise it when the same values are written otherwise


class IndexNotBuiltError(UserError):
    """There is no index for that subject and date, or it was replaced while it was read."""


class DamagedIndexError(UserError):
    """A file of the index does not hold what was written."""


class TagNotIndexedError(UserError):
    """A tag has no planes in this index."""


@dataclass(frozen=True)
class Head:
    """What an index holds.

    Parameters
    ----------
    universe
        Which subjects the rows are; planes of another universe do not fit beside them.
    rows, words
        Subjects, and 64-bit words of a plane.
    ids
        How the subjects' ids are kept, see :mod:`bihuan.tag.plane.ids`.
    tags
        By name: ``file`` (stem), ``fingerprint``, ``type``, ``codes``, ``title``.
    left_out
        Tags that have values and no planes: the reason by language, and ``fingerprint``.
    retired
        Stems that the publication before dropped; the next one removes them.
    """

    universe: str
    rows: int
    words: int
    ids: Mapping[str, Any]
    tags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    retired: tuple[str, ...] = ()


def words_for(rows: int) -> int:
    """Return how many words a plane of ``rows`` bits takes, whole pages."""
    return -(-rows // (64 * PAGE_WORDS)) * PAGE_WORDS


def index_folder(root: Path, subject: str, as_of: date) -> Path:
    """Return the folder of one subject's index at one date."""
    return root / subject / as_of.isoformat()


def read_head(folder: Path) -> Head | None:
    """Return what the index holds now, or None if there is none.

    Raises
    ------
    DamagedIndexError
        If the file cannot be read as an index of this version.
    """
    try:
        stored = read_checked(folder / "HEAD")
    except FileNotFoundError:
        return None
    if stored.pop("format", None) != FORMAT:
        return None
    return Head(**{**stored, "retired": tuple(stored["retired"])})


def forget_head(folder: Path) -> None:
    """Make the folder hold no index, whatever state its HEAD is in."""
    with file_lock(folder / ".lock"):
        (folder / "HEAD").unlink(missing_ok=True)


def publish(folder: Path, head: Head) -> None:
    """Make ``head`` what readers find; tags of the same universe that it does not name stay.

    Safe beside another process that publishes into the same folder.
    """
    with file_lock(folder / ".lock"):
        before = read_head(folder)
        tags, left_out = dict(head.tags), dict(head.left_out)
        if before is not None and before.universe == head.universe:
            tags = {**before.tags, **tags}
            left_out = {**before.left_out, **left_out}
            left_out = {name: why for name, why in left_out.items() if name not in head.tags}
            tags = {name: entry for name, entry in tags.items() if name not in head.left_out}
        live = {entry["file"] for entry in tags.values()}
        old = {entry["file"] for entry in before.tags.values()} if before else set()
        content = {
            "format": FORMAT,
            "universe": head.universe,
            "rows": head.rows,
            "words": head.words,
            "ids": head.ids,
            "tags": tags,
            "left_out": left_out,
            "retired": sorted(old - live),
        }
        write_atomically(folder / "HEAD", _with_checksum(content))
        for stem in set(before.retired if before else ()) - live - old:
            for suffix in (".planes", ".how"):
                (folder / f"{stem}{suffix}").unlink(missing_ok=True)
        _remove_leavings(folder)


def write_planes(
    folder: Path, stem: str, planes: NDArray[np.uint64], description: Mapping[str, Any]
) -> None:
    """Write a tag's two files; invisible until a HEAD names them."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**description, "checksums": checksums(planes), "words": planes.shape[1]}
    write_whole(folder / f"{stem}.planes", planes)
    path = folder / f"{stem}.how"
    temporary = _temporary(path)
    temporary.write_bytes(_with_checksum(content))
    temporary.replace(path)


def read_checked(path: Path) -> dict[str, Any]:
    """Read a HEAD or a description.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DamagedIndexError
        If it does not match its checksum.
    """
    checksum, _, content = path.read_bytes().partition(b"\n")
    if xxhash.xxh3_64_hexdigest(content).encode() != checksum:
        raise damaged(path, "does not match its checksum", "与校验和不符")
    found: dict[str, Any] = json.loads(content)
    return found


def _with_checksum(content: Mapping[str, Any]) -> bytes:
    text = canonical_json(content).encode()
    return xxhash.xxh3_64_hexdigest(text).encode() + b"\n" + text


def write_whole(path: Path, content: NDArray[Any]) -> None:
    """Write an array's bytes under a temporary name and rename it."""
    temporary = _temporary(path)
    with temporary.open("wb") as file:
        content.tofile(file)
    temporary.replace(path)


def checksums(planes: NDArray[np.uint64]) -> list[str]:
    """Return the XXH3 checksum of each plane, in hexadecimal."""
    found: list[str] = [""] * len(planes)

    def work(start: int, end: int) -> None:
        for plane in range(start, end):
            found[plane] = xxhash.xxh3_64_hexdigest(planes[plane].data)

    on_each_part(work, len(planes))
    return found


def damaged(path: Path, en: str, zh: str) -> DamagedIndexError:
    """Make the error for a file that is not what was written."""
    return DamagedIndexError(
        f"The index file {path} {en}; nothing was answered from it.",
        remedy="Build the index of that date again with  bihuan tags index --afresh : the values in"
        " the lake are not touched.",
        zh=f"索引文件 {path} {zh}，未据此给出任何结果。"
        "请用 bihuan tags index --afresh 重新构建该日索引，数据湖中的数据不受影响。",
    )


def _temporary(path: Path) -> Path:
    return path.with_name(f".{os.getpid()}.{path.name}.tmp")


def _remove_leavings(folder: Path) -> None:
    """Remove what killed builders left half written."""
    for path in folder.glob(".*.tmp"):
        process = path.name.split(".")[1]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            path.unlink(missing_ok=True)
