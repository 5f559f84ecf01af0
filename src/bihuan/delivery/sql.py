"""The SQL of this room: fixed texts with filled places, and ids of millions of rows at once.

:func:`bihuan.kernel.hash_id` is SHA-256 over the canonical JSON of its parts. For texts and whole
numbers that JSON can be written by any SQL engine with ``replace`` and ``||``, so the engine
hashes the whole column and no row passes through Python. That both give the same ids is a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import sqlglot
from sqlglot import exp

from bihuan.kernel import DefectError, canonical_json

ID_DIGITS = 20


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text column inside a row's id; its values must be free of control characters.

    Parameters
    ----------
    column
        Name of the column. A missing value counts as JSON ``null``.
    """

    column: str


@dataclass(frozen=True, slots=True)
class NumberPart:
    """A column of whole numbers inside a row's id.

    Parameters
    ----------
    column
        Name of the column. A missing value counts as JSON ``null``.
    """

    column: str


def row_hash_id(*parts: str | int | TextPart | NumberPart) -> exp.Expr:
    """Return the SQL expression that gives every row ``hash_id(*parts)``.

    Parameters
    ----------
    *parts
        Constants and columns, in the order in which ``hash_id`` would take them.

    Returns
    -------
    sqlglot.exp.Expr
        A text of 20 lower-case hexadecimal digits per row.

    Examples
    --------
    >>> print(row_hash_id("d", NumberPart("step")).sql("spark"))
    SUBSTRING(SHA2(CONCAT('["d",', COALESCE(CAST(step AS STRING), 'null'), ']'), 256), 1, 20)
    """
    pieces: list[exp.Expr] = []
    text = "["
    for index, part in enumerate(parts):
        text += "," if index else ""
        if isinstance(part, (TextPart, NumberPart)):
            pieces += [exp.Literal.string(text), _json_of(part)]
            text = ""
        else:
            text += canonical_json(part)
    pieces.append(exp.Literal.string(text + "]"))
    digest = exp.SHA2(this=joined(*pieces), length=exp.Literal.number(256))
    return exp.Substring(
        this=digest, start=exp.Literal.number(1), length=exp.Literal.number(ID_DIGITS)
    )


def _json_of(part: TextPart | NumberPart) -> exp.Expr:
    value: exp.Expr = exp.cast(exp.column(part.column), "TEXT")
    if isinstance(part, TextPart):
        # The two characters that JSON escapes besides control characters; the backslash first,
        # or those that escape the quotes would be doubled.
        for plain in ("\\", '"'):
            value = exp.func("REPLACE", value, _literal(plain), _literal("\\" + plain))
        value = exp.DPipe(this=_literal('"'), expression=value, safe=True)
        value = exp.DPipe(this=value, expression=_literal('"'), safe=True)
    return exp.func("COALESCE", value, _literal("null"))


def _literal(text: str) -> exp.Literal:
    return exp.Literal.string(text)


def joined(*parts: exp.Expr) -> exp.Expr:
    """Return texts put together; one flat call, because nested ``||`` copies at every step."""
    return exp.Concat(expressions=list(parts), safe=True, coalesce=False)


def statement(text: str, **values: str | int) -> exp.Select:
    """Read a SELECT written in this room and fill its ``:name`` places.

    Parameters
    ----------
    text
        A constant of this room in the DuckDB dialect.
    **values
        What stands in each place; becomes a literal, so it can never become code.

    Examples
    --------
    >>> statement("SELECT a FROM t WHERE b = :name", name="x' OR 1=1").sql("duckdb")
    "SELECT a FROM t WHERE b = 'x'' OR 1=1'"
    """
    tree = exp.replace_placeholders(_parsed(text), **values)
    if not isinstance(tree, exp.Select):
        raise DefectError(f"Not a SELECT: {text}")
    return tree


@cache
def _parsed(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, dialect="duckdb")
