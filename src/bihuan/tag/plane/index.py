"""Reading an index: planes in memory-mapped files, checked on first use, and whole profiles."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.data import ColumnType
from bihuan.tag.dictionary import TagField, unknown_tag
from bihuan.tag.plane.build import fingerprint, universe_of
from bihuan.tag.plane.encoding import Encoding
from bihuan.tag.plane.ids import SubjectIds
from bihuan.tag.plane.store import (
    DamagedIndexError,
    Head,
    IndexNotBuiltError,
    TagNotIndexedError,
    checksums,
    damaged,
    index_folder,
    read_checked,
    read_head,
)
from bihuan.tag.table import TagTable, UnknownSubjectError

_LOOK_SECONDS = 1.0  # how long a whole profile trusts files that were looked at

_Ident = tuple[int, int, int, int]
_verified: set[_Ident] = set()
"""Files whose checksums this process has seen to be right, by device, inode, size and time."""


@dataclass(frozen=True)
class TagPlanes:
    """One tag's planes, mapped and checked.

    Parameters
    ----------
    tag
        Its name.
    encoding
        How values are written as codes.
    planes
        Shape ``(n_planes, words)``, read only; the plane of known rows first, if there is one.
    ident
        Device, inode, size and time of the file: what was checked.
    """

    tag: str
    encoding: Encoding
    planes: NDArray[np.uint64]
    ident: _Ident

    @cached_property
    def addresses(self) -> NDArray[np.uint64]:
        """Where each plane begins in memory."""
        base, stride = self.planes.ctypes.data, self.planes.strides[0]
        return np.array([base + stride * i for i in range(len(self.planes))], np.uint64)

    @property
    def bit_addresses(self) -> NDArray[np.uint64]:
        """Where the planes of the codes' bits begin, lowest bit first."""
        return self.addresses[1:] if self.encoding.missing == "plane" else self.addresses


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the planes of some tags lie.

    Parameters
    ----------
    held
        The tags' planes, which stay mapped as long as this.
    addresses, ends
        Of the bit planes, tag after tag, and where each tag's end, with 0 in front.
    present, gaps
        Addresses of the planes of known rows, and which tags have one.
    zero
        Tags whose code 0 stands for missing.
    """

    held: tuple[TagPlanes, ...]
    addresses: NDArray[np.uint64]
    ends: NDArray[np.int64]
    present: NDArray[np.uint64]
    gaps: list[int]
    zero: list[int]

    @classmethod
    def of(cls, held: tuple[TagPlanes, ...]) -> _Places:
        """Collect the addresses."""
        bits = [planes.bit_addresses for planes in held]
        gaps = [i for i, planes in enumerate(held) if planes.encoding.missing == "plane"]
        none = np.zeros(0, np.uint64)
        return cls(
            held=held,
            addresses=np.concatenate([none, *bits]),
            ends=np.cumsum([0, *map(len, bits)], dtype=np.int64),
            present=np.concatenate([none, *(held[i].addresses[:1] for i in gaps)]),
            gaps=gaps,
            zero=[i for i, planes in enumerate(held) if planes.encoding.missing == "zero"],
        )

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[Any, Any]:
        """Read the codes of some rows, and where there is a value, each (n_tags, n_rows)."""
        from bihuan.tag.plane.pack import read_rows  # compiled; loading it takes half a second

        wanted = np.asarray(rows, np.int64)
        codes = np.zeros((len(self.held), len(wanted)), np.uint64)
        read_rows(self.addresses, self.ends, wanted, codes)
        known = np.ones(codes.shape, np.bool_)
        known[self.zero] = codes[self.zero] > 0
        present = np.zeros((len(self.gaps), len(wanted)), np.uint64)
        read_rows(self.present, np.arange(len(self.gaps) + 1), wanted, present)
        known[self.gaps] = present > 0
        return codes, known


class TagIndex:
    """The tags of one kind of subject at one date, as planes.

    Never changes under its reader: a rebuilt index is another object.

    Parameters
    ----------
    folder
        Where it lies.
    subject, as_of
        Whose tags, and for when.
    head
        What it holds.
    """

    def __init__(self, folder: Path, subject: str, as_of: date, head: Head) -> None:
        self.folder, self.subject, self.as_of = folder, subject, as_of
        self._head = head
        self._paths: dict[str, Path] = {}
        self._planes: dict[str, TagPlanes] = {}
        self._whole = -_LOOK_SECONDS - 1.0, _Places.of(())
        self.ids = SubjectIds(folder, head.ids, head.rows)

    @property
    def rows(self) -> int:
        """Number of subjects; their row numbers, the dense ids, are ``0 .. rows - 1``."""
        return self._head.rows

    @property
    def words(self) -> int:
        """64-bit words of a plane, whole pages; bits after the last row are 0."""
        return self._head.words

    @cached_property
    def fields(self) -> Mapping[str, TagField]:
        """Every tag that has planes, for binding audiences."""
        return {
            name: TagField(
                name=name,
                type=ColumnType(entry["type"]),
                codes=None if entry["codes"] is None else frozenset(entry["codes"]),
                title=entry["title"],
            )
            for name, entry in self._head.tags.items()
        }

    @property
    def left_out(self) -> Mapping[str, Mapping[str, str]]:
        """Tags that have values and no planes, with the reason by language."""
        return self._head.left_out

    def stale(self, tags: TagTable) -> tuple[str, ...]:
        """Name the tags whose planes are not those values; empty if all of them are there."""
        if universe_of(tags) != self._head.universe:
            return tuple(tags.fields)
        seen = {**self._head.tags, **self._head.left_out}
        return tuple(
            name
            for name in tags.fields
            if seen.get(name, {}).get("fingerprint") != fingerprint(tags, name)
        )

    def planes(self, tag: str) -> TagPlanes:
        """Return one tag's planes.

        Raises
        ------
        UnknownTagError
            If the index knows no such tag; names the nearest.
        TagNotIndexedError
            If it has values and no planes; says why.
        DamagedIndexError
            If the file is not what was written; names it. It is never answered from.
        IndexNotBuiltError
            If the file was replaced and removed since the index was opened.
        """
        path = self._paths.get(tag) or self._path(tag)
        try:
            found = path.stat()
        except FileNotFoundError:
            raise _gone(path) from None
        ident = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        held = self._planes.get(tag)
        if held is None or held.ident != ident:
            held = self._map(tag, path, ident)
            self._planes[tag] = held
        return held

    def verify(self) -> list[str]:
        """Check every file against its checksums; return what is damaged, as sentences."""
        problems = []
        _verified.clear()
        self._planes.clear()
        for tag in self._head.tags:
            try:
                self.planes(tag)
            except (DamagedIndexError, IndexNotBuiltError) as error:
                problems.append(str(error))
        return problems

    def codes(
        self, rows: Sequence[int] | NDArray[np.int64], tags: Iterable[str]
    ) -> tuple[Any, Any]:
        """Read the codes of some rows.

        Parameters
        ----------
        rows
            Row numbers.
        tags
            Names.

        Returns
        -------
        (ndarray of uint64, ndarray of bool), each of shape (n_tags, n_rows)
            The codes, and where there is a value.
        """
        return _Places.of(tuple(self.planes(tag) for tag in tags)).read(rows)

    def profile(self, subject_id: str) -> dict[str, Any]:
        """Read every indexed tag of one subject.

        Hundreds of files are looked at for damage once a second, not for each profile.

        Returns
        -------
        dict[str, Any]
            Value by tag name, None = missing; money as ``decimal.Decimal``.

        Raises
        ------
        UnknownSubjectError
            If there is no such subject at this date.
        """
        row = self.ids.find(subject_id)
        if row is None:
            raise UnknownSubjectError(
                f"There is no {self.subject} '{subject_id}' at {self.as_of}.",
                remedy="Check the id and the date.",
                zh=f"{self.as_of} 没有编号为 {subject_id} 的 {self.subject}，请核对。",
            )
        places = self._all_places()
        codes, known = places.read([row])
        return {
            held.tag: held.encoding.value(code) if is_known else None
            for held, code, is_known in zip(
                places.held, codes[:, 0].tolist(), known[:, 0].tolist(), strict=True
            )
        }

    def _all_places(self) -> _Places:
        now = time.monotonic()
        looked, places = self._whole
        if now - looked > _LOOK_SECONDS:
            held = tuple(self.planes(tag) for tag in self._head.tags)
            if any(new is not old for new, old in zip_longest(held, places.held)):
                places = _Places.of(held)
            self._whole = now, places
        return places

    def take_ids(self, rows: NDArray[np.int64]) -> pa.Array:
        """Return the subjects' ids of some rows."""
        return self.ids.take(rows)

    def _map(self, tag: str, path: Path, ident: _Ident) -> TagPlanes:
        described = self._description(path.with_suffix(".how"))
        encoding = Encoding.from_json(described["encoding"])
        words = described["words"]
        if ident[2] != encoding.planes * words * 8 or words != self.words:
            raise damaged(path, "has another length than it was written with", "长度与写入时不符")
        if encoding.planes == 0:
            return TagPlanes(tag, encoding, np.zeros((0, words), np.uint64), ident)
        planes = np.memmap(path, np.uint64, "r").reshape(encoding.planes, words)
        if ident not in _verified:
            for plane, (found, written) in enumerate(
                zip(checksums(planes), described["checksums"], strict=True)
            ):
                if found != written:
                    raise damaged(
                        path,
                        f"does not match its checksum (tag '{tag}', plane {plane})",
                        f"与校验和不符（标签 {tag}，第 {plane} 个位面）",
                    )
            _verified.add(ident)
        return TagPlanes(tag, encoding, planes, ident)

    def _description(self, path: Path) -> dict[str, Any]:
        try:
            return read_checked(path)
        except FileNotFoundError:
            raise _gone(path) from None

    def _path(self, tag: str) -> Path:
        entry = self._head.tags.get(tag)
        if entry is None:
            raise self._no_planes(tag)
        return self._paths.setdefault(tag, self.folder / f"{entry['file']}.planes")

    def _no_planes(self, tag: str) -> Exception:
        if tag in self._head.left_out:
            why = self._head.left_out[tag]
            return TagNotIndexedError(
                f"Tag '{tag}' has no planes: {why['en']}",
                remedy="Ask for it in SQL, or make a tag of its groups.",
                zh=f"标签 {tag} 未建位图索引：{why['zh']}请改用 SQL 查询，或按分组另建标签。",
            )
        return unknown_tag(tag, self.fields)


def open_index(root: Path, subject: str, as_of: date) -> TagIndex:
    """Open the index of a subject's tags at a date; maps nothing yet.

    Parameters
    ----------
    root
        Folder of all indexes.
    subject
        A kind of subject, e.g. ``customer``, ``leased_line``.
    as_of
        Date of the values.

    Raises
    ------
    IndexNotBuiltError
        If there is none; lists the dates that there are.
    """
    folder = index_folder(root, subject, as_of)
    head = read_head(folder)
    if head is None:
        folders = [path.parent for path in (root / subject).glob("*/HEAD")]
        dates = sorted(found.name for found in folders if read_head(found) is not None)
        raise IndexNotBuiltError(
            f"There is no index of {subject} tags at {as_of} (has: {', '.join(dates) or 'none'}).",
            remedy="Build it first.",
            zh=f"{as_of} 没有 {subject} 标签的索引（已有：{'、'.join(dates) or '无'}），请先构建。",
        )
    return TagIndex(folder, subject, as_of, head)


def _gone(path: Path) -> IndexNotBuiltError:
    return IndexNotBuiltError(
        f"The index file {path} is no longer there: the index was built again meanwhile.",
        remedy="Open the index again.",
        zh=f"索引文件 {path} 已不存在：索引在此期间被重建，请重新打开索引。",
    )
