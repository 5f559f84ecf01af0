"""A tag as one axis of a cross table: its values, and the program of each."""

from __future__ import annotations

from typing import Any

from bihuan.audience.algebra import Missing
from bihuan.audience.literal import AudienceError
from bihuan.audience.program.compile import Compiler, Program
from bihuan.tag import TagPlanes

MAX_AXIS = 1_000
"""Most values of a tag along one axis of a cross table."""


def axis_programs(compiler: Compiler, tag: str) -> list[Program]:
    """Return the programs of a tag's values, in order; last, if some lack one, of the missing."""
    encoding = compiler.planes(tag).encoding
    start = encoding.first
    programs = [compiler.codes(tag, (c, c + 1)) for c in range(start, start + encoding.count)]
    if encoding.missing != "none":
        programs.append(compiler.tree(Missing(tag)))
    return programs


def axis_values(planes: TagPlanes) -> tuple[Any, ...]:
    """Return a tag's values as an axis, None at the end where some are missing.

    Raises
    ------
    AudienceError
        If there are more than 1,000 values.
    """
    encoding = planes.encoding
    if encoding.count > MAX_AXIS:
        raise AudienceError(
            f"'{planes.tag}' has {encoding.count:,} values; an axis of a cross table has at most"
            f" {MAX_AXIS:,}.",
            remedy="Take its histogram, or a tag of its ranges.",
            zh=f"标签 {planes.tag} 有 {encoding.count:,} 个取值，交叉表每轴最多 {MAX_AXIS:,} 个，"
            "请改用直方图或分档标签。",
        )
    values = [encoding.value(encoding.first + i) for i in range(encoding.count)]
    return (*values, None) if encoding.missing != "none" else tuple(values)
