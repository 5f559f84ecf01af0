"""The program reader: an audience as a small program over bit planes.

In come a bound tree and a plane index; out go counts, members, tables, thresholds. The tree is
normalised and compiled into a list of operations on whole planes; one kernel, compiled once and
cached on disk, runs any such list block by block, so that what it works on stays in the cache.
"""

from bihuan.audience.program.answer import CrossTable, Histogram, Threshold, share_out
from bihuan.audience.program.compile import (
    MAX_OPERATIONS,
    Compiler,
    Program,
    ProgramTooLargeError,
)
from bihuan.audience.program.reader import ProgramReader, TagRangeError

__all__ = [
    "ProgramReader",
    "CrossTable",
    "Histogram",
    "Threshold",
    "share_out",
    "Program",
    "Compiler",
    "MAX_OPERATIONS",
    "ProgramTooLargeError",
    "TagRangeError",
]
