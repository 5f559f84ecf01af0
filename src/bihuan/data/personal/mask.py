"""Masks: enough to recognise one's own number, too little to call another's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

_DIGITS = re.compile(r"\d[\d \-]{5,}\d[Xx]?")
_DAY = re.compile(r"\d{4}-\d\d-\d\d( \d\d)?")
Texts: TypeAlias = Any  # pyarrow is untyped: an Array or a ChunkedArray of text


def mask_phone(texts: Texts) -> Texts:
    """Hide the middle of phone numbers.

    Parameters
    ----------
    texts
        Any texts; missing stays missing.

    Returns
    -------
    pyarrow array
        Eleven characters and more: three, stars, four; seven to ten: stars, four; else stars.

    Examples
    --------
    >>> mask_phone(pa.array(["13812348000", "88886666", "110", None])).to_pylist()
    ['138****8000', '****6666', '***', None]
    """
    size = pc.utf8_length(texts)
    tail = pc.utf8_slice_codeunits(texts, -4, 2**31 - 1)
    long = _join(pc.utf8_slice_codeunits(texts, 0, 3), _stars(pc.subtract(size, 7)), tail)
    short = _join(_stars(pc.subtract(size, 4)), tail)
    shorter = pc.if_else(pc.greater_equal(size, 7), short, _stars(size))
    return pc.if_else(pc.greater_equal(size, 11), long, shorter)


def mask_identity(texts: Texts) -> Texts:
    """Hide all but the first three and the last two characters of identity numbers.

    Examples
    --------
    >>> mask_identity(pa.array(["11010519491231002X", "1234567"])).to_pylist()
    ['110*************2X', '*******']
    """
    size = pc.utf8_length(texts)
    head = pc.utf8_slice_codeunits(texts, 0, 3)
    tail = pc.utf8_slice_codeunits(texts, -2, 2**31 - 1)
    long = _join(head, _stars(pc.subtract(size, 5)), tail)
    return pc.if_else(pc.greater_equal(size, 12), long, _stars(size))


def mask_name(texts: Texts) -> Texts:
    """Leave the first character of names.

    Examples
    --------
    >>> mask_name(pa.array(["张三", "欧阳某某", "李"])).to_pylist()
    ['张*', '欧***', '*']
    """
    size = pc.utf8_length(texts)
    masked = _join(pc.utf8_slice_codeunits(texts, 0, 1), _stars(pc.subtract(size, 1)))
    return pc.if_else(pc.greater_equal(size, 2), masked, _stars(size))


MASKS: Mapping[str, Callable[[Texts], Texts]] = {
    "phone": mask_phone,
    "identity": mask_identity,
    "name": mask_name,
}
"""How each kind of personal column is masked."""


def mask(text: str, kind: str) -> str:
    """Mask one text.

    Examples
    --------
    >>> mask("13812348000", "phone")
    '138****8000'
    """
    masked: Any = MASKS[kind](pa.array([text], pa.string()))[0].as_py()
    return str(masked)


def mask_texts(text: str) -> str:
    """Hide everything in running text that could be a number of seven digits or more.

    Examples
    --------
    >>> mask_texts("'138 1234 8000' is not a date (joined_on).")
    "'***' is not a date (joined_on)."
    >>> mask_texts("since 2026-10-31")
    'since 2026-10-31'
    """
    return _DIGITS.sub(lambda found: found[0] if _DAY.fullmatch(found[0]) else "***", text)


def _stars(count: Texts) -> Texts:
    none = pa.scalar(0, pa.int32())
    return pc.binary_repeat(pa.scalar("*"), pc.max_element_wise(count, none, skip_nulls=False))


def _join(*parts: Texts) -> Texts:
    return pc.binary_join_element_wise(*parts, pa.scalar(""))
