"""The plane index: every tag of a date as bit planes, for answers in milliseconds.

In come tag tables (one row per subject, ordered by id). A row's number is its subject's dense id.
A tag becomes one plane for a yes or no, as many as its codes need bits for a text, and a
bit-sliced integer for a number; a plane is one bit per subject. Out goes an index that maps each
tag's planes into memory, says how values are written as codes, and finds subjects by id.

Read in this order: ``encoding`` (values as codes), ``column`` (from Parquet), ``pack`` (codes to
planes), ``store`` (files that are whole or absent), ``build``, ``index`` (reading).
"""

from bihuan.tag.plane.build import IndexReport, build_index
from bihuan.tag.plane.encoding import Encoding
from bihuan.tag.plane.index import TagIndex, TagPlanes, open_index
from bihuan.tag.plane.store import (
    DamagedIndexError,
    IndexNotBuiltError,
    TagNotIndexedError,
)

__all__ = [
    "TagIndex",
    "TagPlanes",
    "Encoding",
    "IndexReport",
    "build_index",
    "open_index",
    "DamagedIndexError",
    "IndexNotBuiltError",
    "TagNotIndexedError",
]
