"""Self-service filters (自助配置): a saved audience with blanks that a clerk fills in.

A value never becomes part of the sentence: it is checked against its blank, written as one
literal, and the sentence that comes out must have the shape of the one that was saved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeAlias

from bihuan.audience.algebra import Between, Compare, In, Node, children
from bihuan.audience.literal import AudienceError, Value, literal
from bihuan.audience.text import parse, value_text
from bihuan.audience.words import nearest
from bihuan.kernel import DefectError
from bihuan.kernel.document import Document

Blank: TypeAlias = Value | tuple[Value, ...]
"""What fills a blank: one value, or several for a list."""

TYPES = ("number", "integer", "date", "text", "boolean", "list")
_BLANK = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class FormError(AudienceError):
    """A saved filter is not whole, or a value does not fit its blank."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A blank.

    Parameters
    ----------
    name
        As in the sentence, in braces.
    title
        By language.
    type
        ``number``, ``integer``, ``date``, ``text``, ``boolean`` or ``list`` (of texts).
    default
        Taken if the clerk leaves it empty; None: it must be filled.
    low, high
        Least and greatest value of a number or a date; None: no bound.
    options
        The texts to choose from; empty: any.
    """

    name: str
    title: Mapping[str, str]
    type: str
    default: Blank | None = None
    low: Value | None = None
    high: Value | None = None
    options: tuple[str, ...] = ()

    def check(self, given: object) -> Blank:
        """Return what was given in the blank's own type.

        Raises
        ------
        FormError
            If it has another type, lies out of range, or is none of the options.
        """
        if self.type == "list":
            items = given if isinstance(given, (list, tuple)) else (given,)
            if not items:
                raise self._refused(given, "at least one value is needed", "至少填写一个值")
            return tuple(self._text(item) for item in items)
        if self.type == "text":
            return self._text(given)
        value = self._typed(given)
        for bound, ok in ((self.low, "from"), (self.high, "to")):
            if bound is not None and (value < bound if ok == "from" else value > bound):  # type: ignore[operator]
                span = f"{self.low if self.low is not None else '-'} .. {self.high or '-'}"
                raise self._refused(given, f"it must lie within {span}", f"须在 {span} 之内")
        return value

    def _typed(self, given: object) -> Value:
        try:
            if self.type == "boolean" and isinstance(given, bool):
                return given
            if self.type == "date" and isinstance(given, (date, str)):
                return literal(date.fromisoformat(str(given)))
            is_number = isinstance(given, (int, float, Decimal, str)) and not isinstance(
                given, bool
            )
            if self.type in ("number", "integer") and is_number:
                value = literal(Decimal(str(given).strip()))
                if self.type == "number" or isinstance(value, int):
                    return value
        except (ValueError, InvalidOperation, AudienceError) as error:
            raise self._refused(given, f"a {self.type} is needed", f"应为 {self.type}") from error
        raise self._refused(given, f"a {self.type} is needed", f"应为 {self.type}")

    def _text(self, given: object) -> str:
        if not isinstance(given, str) or not given:
            raise self._refused(given, "a text is needed", "应为文字")
        if self.options and given not in self.options:
            close = ", ".join(nearest(given, self.options)) or ", ".join(self.options[:5])
            raise self._refused(given, f"choose one of: {close}", f"可选：{close}")
        return str(literal(given))

    def _refused(self, given: object, what: str, zh: str) -> FormError:
        return FormError(
            f"'{self.name}' is {given!r}: {what}.",
            remedy="Change the value.",
            zh=f"参数 {self.title['zh']}({self.name})的值 {given!r} 有误：{zh}。",
        )


@dataclass(frozen=True, slots=True)
class FilterForm:
    """A saved audience with blanks.

    Parameters
    ----------
    name
        Name of its file.
    title
        By language.
    sentence
        The audience, with blanks as ``{name}``.
    parameters
        The blanks, in the order shown.
    subject
        Kind of subject (``customer``).
    columns
        Tags beside the ids in an extract.
    owner
        Who answers for it.
    """

    name: str
    title: Mapping[str, str]
    sentence: str
    parameters: tuple[Parameter, ...]
    subject: str = "customer"
    columns: tuple[str, ...] = ()
    owner: str = ""

    def __post_init__(self) -> None:
        said, named = set(_BLANK.findall(self.sentence)), [p.name for p in self.parameters]
        odd = sorted(said.difference(named)) or sorted(set(named).difference(said))
        quoted = [m[1] for m in _BLANK.finditer(self.sentence) if self._in_quotes(m.start())]
        if odd or len(set(named)) < len(named):
            problem = (
                f"'{(odd or named)[0]}' is in the sentence or in the parameters, not once in both"
            )
        elif quoted:
            problem = f"'{{{quoted[0]}}}' stands in quotes; a blank brings its own"
        else:
            return
        raise FormError(
            f"Filter '{self.name}': {problem}.",
            remedy="Name each blank of the sentence once under parameters, without quotes.",
            zh=f"筛选器 {self.name} 有误({problem})，句中每个参数须在 parameters 中定义一次。",
        )

    def fill(self, values: Mapping[str, object]) -> str:
        """Return the audience that a clerk means.

        Parameters
        ----------
        values
            By name of the blank; those left out take their default.

        Raises
        ------
        FormError
            If a value is unknown, missing or does not fit.
        """
        blanks = {parameter.name: parameter for parameter in self.parameters}
        for name in values:
            if name not in blanks:
                raise FormError(
                    f"Filter '{self.name}' has no parameter '{name}'.",
                    remedy=f"It has: {', '.join(blanks) or 'none'}.",
                    zh=f"筛选器 {self.name} 没有参数 {name}，可填：{'、'.join(blanks)}。",
                )
        filled: dict[str, Blank] = {}
        for name, blank in blanks.items():
            given = values.get(name, blank.default)
            if given is None:
                raise FormError(
                    f"Parameter '{name}' of filter '{self.name}' has not been filled in.",
                    remedy="Fill it in; it has no default.",
                    zh=f"请填写参数 {blank.title['zh']}({name})。",
                )
            filled[name] = blank.check(given)
        text = _BLANK.sub(lambda found: _said(filled[found[1]]), self.sentence)
        if _shape(parse(text)) != _shape(self.example()):
            raise DefectError(f"A value changed the shape of filter '{self.name}': {text}")
        return text

    def example(self) -> Node:
        """Return the sentence with some value in each blank, to check its tags against."""
        return parse(_BLANK.sub(self._sample, self.sentence))

    def _sample(self, found: re.Match[str]) -> str:
        kind = next(p.type for p in self.parameters if p.name == found[1])
        samples = {"list": "('a')", "text": "'a'", "date": "2026-01-01", "boolean": "true"}
        return samples.get(kind, "1")

    def _in_quotes(self, at: int) -> bool:
        return self.sentence[:at].count("'") % 2 == 1


def load_form(path: Path) -> FilterForm:
    """Read a saved filter from a YAML file.

    ::

        title: {zh: 高价值无合约, en: High value without contract}
        audience: arpu >= {least_arpu} and city_code in {cities} and not has_contract
        owner: 市场部
        columns: [arpu, tenure_months]
        parameters: [
          {name: least_arpu, title: {zh: 最低消费, en: Least ARPU}, type: number,
           range: [0, 1000], default: 80},
          {name: cities, title: {zh: 地市, en: Cities}, type: list, options: [C01, C02]}]

    Raises
    ------
    DocumentError
        Naming file and field.
    FormError
        If sentence and parameters do not go together.
    """
    top = Document.read(path).allow(
        "title", "audience", "subject", "owner", "columns", "parameters"
    )
    form = FilterForm(
        name=path.stem,
        title=top.titles("title"),
        sentence=top.text("audience"),
        parameters=tuple(_parameter(part) for part in top.parts("parameters")),
        subject=top.text("subject", "customer"),
        columns=top.texts("columns"),
        owner=top.text("owner", ""),
    )
    form.example()  # a sentence that cannot be read is told now
    return form


# ------------------------------------------------------------------------------------------ inside


def _parameter(part: Document) -> Parameter:
    part.allow("name", "title", "type", "default", "range", "options")
    low, high = part.raw("range") if part.has("range") else (None, None)
    parameter = Parameter(
        name=part.text("name"),
        title=part.titles("title"),
        type=part.choice("type", TYPES),
        low=None if low is None else _bound(low),
        high=None if high is None else _bound(high),
        options=part.texts("options"),
    )
    if not part.has("default"):
        return parameter
    default = parameter.check(part.raw("default"))
    return Parameter(
        parameter.name, parameter.title, parameter.type, default, parameter.low, parameter.high,
        parameter.options,
    )  # fmt: skip


def _bound(value: Any) -> Value:
    return literal(Decimal(str(value))) if isinstance(value, (int, float)) else literal(value)


def _said(blank: Blank) -> str:
    if isinstance(blank, tuple):
        return f"({', '.join(value_text(value) for value in blank)})"
    return value_text(blank)


def _shape(node: Node) -> tuple[object, ...]:
    """Return a tree without its values."""
    match node:
        case Compare(tag=tag, op=op):
            return ("compare", tag, op)
        case In(tag=tag):
            return ("in", tag)
        case Between(tag=tag):
            return ("between", tag)
    parts = tuple(_shape(part) for part in children(node))
    return (type(node).__name__, getattr(node, "tag", getattr(node, "audience_id", "")), parts)
