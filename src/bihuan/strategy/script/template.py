"""Texts with placeholders, filled from tags without running anything that is written in them."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.kernel import UserError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SPEC = re.compile(r",?(\.\d)?[f%]?")


class TemplateError(UserError):
    """A text whose placeholders are not of the form ``{tag}`` or ``{tag:.2f}``."""


class MissingTagError(UserError):
    """A customer lacks a value that the text needs, and the script says nothing instead."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Where a value goes.

    Parameters
    ----------
    name
        Tag, or one of the words that the book fills in itself (``offer``, ``price``, ``months``).
    spec
        How a number is written: empty, or like ``.2f``, ``,.0f``, ``.1%``.
    """

    name: str
    spec: str


@dataclass(frozen=True, slots=True)
class Template:
    """A text in pieces.

    Parameters
    ----------
    pieces
        Fixed texts and placeholders, in order.

    Examples
    --------
    >>> text = Template.parse("您本月用了 {dou:.1f} GB,{{特惠}}")
    >>> text.fill({"dou": Decimal("3.26")}, {})
    '您本月用了 3.3 GB,{特惠}'
    """

    pieces: tuple[str | Placeholder, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Take a text apart.

        Raises
        ------
        TemplateError
            If a bracket is not closed, or a placeholder is anything but a tag's name and a way
            of writing numbers; no attribute, index or call is ever looked up.
        """
        pieces: list[str | Placeholder] = []
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise _refuse(text, str(error)) from error
        for fixed, name, spec, conversion in parts:
            if fixed:
                pieces.append(fixed)
            if name is None:
                continue
            if conversion or not _NAME.fullmatch(name) or not _SPEC.fullmatch(spec or ""):
                shown = (
                    name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                )
                raise _refuse(text, f"{{{shown}}} is no placeholder")
            pieces.append(Placeholder(name, spec or ""))
        return cls(tuple(pieces))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the placeholders, each once, in order."""
        return tuple(dict.fromkeys(p.name for p in self.pieces if isinstance(p, Placeholder)))

    def fill(
        self,
        values: Mapping[str, Any],
        instead: Mapping[str, str],
        label: Callable[[str, Any], Any] = lambda name, value: value,
    ) -> str:
        """Return the text of one customer.

        Parameters
        ----------
        values
            By placeholder; None or absent = missing.
        instead
            What is written for a missing value, by placeholder.
        label
            Turns a code into its title, given the placeholder's name.

        Raises
        ------
        MissingTagError
            If a value is missing and nothing stands instead.
        """
        said = []
        for piece in self.pieces:
            if isinstance(piece, str):
                said.append(piece)
                continue
            value = values.get(piece.name)
            if value is None or value != value:  # NaN is missing too
                if piece.name not in instead:
                    raise _missing(piece.name, 1)
                said.append(instead[piece.name])
            else:
                said.append(_write(label(piece.name, value), piece.spec))
        return "".join(said)

    def fill_column(
        self,
        values: Mapping[str, pa.Array],
        rows: int,
        instead: Mapping[str, str],
        label: Callable[[str, Any], Any] = lambda name, value: value,
    ) -> pa.Array:
        """Return the texts of many customers; the same as :meth:`fill` for each.

        Each distinct value is written once.

        Parameters
        ----------
        values
            Columns by placeholder, all of ``rows`` elements.
        rows
            Number of customers.
        instead, label
            See :meth:`fill`.
        """
        parts: list[pa.Array] = []
        for piece in self.pieces:
            if isinstance(piece, str):
                parts.append(pa.repeat(pa.scalar(piece, pa.string()), rows))
                continue
            column = values.get(piece.name, pa.nulls(rows))
            parts.append(_write_column(column, piece, instead, label))
        if not parts:
            return pa.repeat(pa.scalar("", pa.string()), rows)
        return pc.binary_join_element_wise(*parts, pa.scalar("", pa.string()))


def _write_column(
    column: pa.Array,
    piece: Placeholder,
    instead: Mapping[str, str],
    label: Callable[[str, Any], Any],
) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    missing = column.null_count
    if missing and piece.name not in instead:
        raise _missing(piece.name, missing)
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    words = pa.array(
        [_write(label(piece.name, v), piece.spec) for v in coded.dictionary.to_pylist()],
        pa.string(),
    )
    return pc.fill_null(words.take(coded.indices), instead.get(piece.name, ""))


def _write(value: Any, spec: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return value.isoformat() if isinstance(value, date) else str(value)
    if spec:
        return format(value, spec if spec[-1] in "f%" else spec + "f")
    if isinstance(value, Decimal):
        value = float(value)
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _refuse(text: str, problem: str) -> TemplateError:
    return TemplateError(
        f"The text '{text}' cannot be read: {problem}.",
        remedy="Write placeholders as {tag} or {tag:.2f}, and a bracket itself as {{ or }}.",
        zh=f"文本“{text}”无法解析：{problem}。占位符请写成 {{标签}} 或 {{标签:.2f}}。",
    )


def _missing(name: str, count: int) -> MissingTagError:
    return MissingTagError(
        f"{count} customers have no value of '{name}', which the text needs.",
        remedy=f"Say under instead: what is written where '{name}' is missing.",
        zh=f"有 {count} 位客户没有 {name} 的取值。请在 instead 中写明缺失时的文字。",
    )
