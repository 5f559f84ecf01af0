"""Binding: from what was written to what can be read.

Names and titles become tag names, literals take their tag's type, saved audiences take the place
of ``Member``. A literal that its tag can never equal is settled here, exactly: for an integer tag
``age > 58.5`` becomes ``age >= 59``, ``age = 58.5`` nobody, ``age != 58.5`` everybody whose age
is known. So a reader only ever compares a tag with a value that the tag could have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import NoReturn, TypeAlias

from bihuan.audience.algebra import (
    And,
    Between,
    Compare,
    Flag,
    In,
    Member,
    Missing,
    Nobody,
    Node,
    Not,
    Or,
    Span,
    all_of,
    require_depth,
)
from bihuan.audience.literal import AudienceError, Value, day_of, literal_kind
from bihuan.audience.text import to_text, value_text
from bihuan.audience.words import RESERVED, excerpt, nearest, place
from bihuan.data import ColumnType
from bihuan.kernel import UserError
from bihuan.tag import TagField
from bihuan.tag import UnknownTagError as UnknownTagError

_Known: TypeAlias = Compare | In | Between | Flag | Missing
_STEP = {ColumnType.INTEGER: Fraction(1), ColumnType.MONEY: Fraction(1, 100)}
_LIMIT = {  # the greatest value that a column of the type can hold
    ColumnType.INTEGER: Fraction(2**63 - 1),
    ColumnType.MONEY: Fraction(10**18 - 1, 100),
}
_ORDERED = (ColumnType.INTEGER, ColumnType.MONEY, ColumnType.NUMBER, ColumnType.DATE)


class TagTypeError(AudienceError):
    """A tag is compared in a way that its type does not have."""


class UnknownCodeError(AudienceError):
    """A coded tag is compared with a code that it cannot have."""


class UnknownAudienceError(AudienceError):
    """An audience names a saved audience that there is not."""


class AudienceCycleError(AudienceError):
    """Saved audiences name each other in a circle."""


def bind(
    node: Node, fields: Mapping[str, TagField], saved: Mapping[str, Node] | None = None
) -> Node:
    """Check an audience against the tags there are and make it ready for every reader.

    Parameters
    ----------
    node
        As written.
    fields
        The tags by name, with type, codes and title.
    saved
        Saved audiences by id, as written; they are bound too.

    Returns
    -------
    Node
        Without ``Member``; tags by name; literals of the tags' types: ``bool``, ``int`` for
        integers, ``int`` or ``Decimal`` of at most two decimals for money, ``float`` for numbers,
        ``str``, ``date``. Binding it again changes nothing.

    Raises
    ------
    UnknownTagError
        With the nearest names, and the place if the tree came from a text.
    TagTypeError
        If tag and literal do not fit, for example an order of codes or a number for a text.
    UnknownCodeError
        With the nearest codes.
    UnknownAudienceError, AudienceCycleError
        For ``Member``; the message names the circle.
    AudienceTooLargeError
        If saved audiences make the tree too large.

    Examples
    --------
    >>> from bihuan.audience.text import parse, to_text
    >>> fields = {"age": TagField("age", ColumnType.INTEGER, None, {"zh": "年龄", "en": "Age"})}
    >>> to_text(bind(parse("年龄 > 58.5 and age != 60"), fields))
    'age >= 59 and age != 60'
    """
    return _Binder(fields, saved or {}).bound(node)


@dataclass
class _Binder:
    fields: Mapping[str, TagField]
    saved: Mapping[str, Node]
    path: tuple[str, ...] = ()
    level: int = 1
    done: dict[str, Node] = field(default_factory=dict)

    @cached_property
    def by_title(self) -> Mapping[str, list[str]]:
        """Names of the tags by title; most audiences name their tags, and hundreds have titles."""
        found: dict[str, list[str]] = {}
        for name, tag in self.fields.items():
            for title in set(tag.title.values()):
                found.setdefault(title, []).append(name)
        return found

    def bound(self, node: Node) -> Node:
        match node:
            case And(parts=parts) | Or(parts=parts):
                return type(node)(tuple(self.inner(part) for part in parts))
            case Not(part=part):
                return Not(self.inner(part))
            case Member():
                return self.member(node)
            case Compare() | In() | Between() | Flag() | Missing():
                return self.condition(node)
        return node

    def inner(self, node: Node) -> Node:
        """Bind a part, one level deeper: saved audiences must not exhaust the stack."""
        self.level = require_depth(self.level + 1)
        bound = self.bound(node)
        self.level -= 1
        return bound

    def member(self, node: Member) -> Node:
        wanted = node.audience_id
        if wanted in self.path:
            circle = " → ".join((*self.path[self.path.index(wanted) :], wanted))
            raise AudienceCycleError(
                f"Saved audiences name each other in a circle: {circle}.",
                remedy="Take one of the references out.",
                zh=f"已保存的客户群循环引用：{circle}。请去掉其中一处引用。",
            )
        if wanted not in self.saved:
            _refuse(UnknownAudienceError, node, _unknown_audience(wanted, self.saved))
        if wanted not in self.done:
            self.done[wanted] = self.resolved(wanted)
        return self.done[wanted]

    def resolved(self, wanted: str) -> Node:
        outer, self.path = self.path, (*self.path, wanted)
        require_depth(len(self.path))
        try:
            return self.bound(self.saved[wanted])
        except (UnknownTagError, TagTypeError, UnknownCodeError) as error:
            raise type(error)(
                f"Saved audience '{wanted}': {error.message}",
                remedy=error.remedy,
                zh=f"已保存的客户群“{wanted}”:{error.zh}",
            ) from error
        finally:
            self.path = outer

    def condition(self, node: _Known) -> Node:
        tag = self.tag(node)
        node = replace(node, tag=tag.name)
        match node:
            case Flag():
                return _flag(node, tag)
            case Compare():
                return _compare(node, tag)
            case In():
                return _in(node, tag)
            case Between():
                return _between(node, tag)
        return node

    def tag(self, node: _Known) -> TagField:
        found = self.fields.get(node.tag)
        if found is not None:
            return found
        names = self.by_title.get(node.tag, [])
        if len(names) == 1:
            return self.fields[names[0]]
        if names:
            _refuse(UnknownTagError, node, _ambiguous(node.tag, sorted(names)))
        words = _unknown_tag(node.tag, self.fields, self.by_title)
        return _refuse(UnknownTagError, node, words)


# -------------------------------------------------------------------------- conditions by tag type


def _flag(node: Flag, tag: TagField) -> Node:
    if tag.type is not ColumnType.BOOLEAN:
        example = {ColumnType.STRING: "= 'x'", ColumnType.DATE: ">= 2026-01-31"}.get(
            tag.type, ">= 80"
        )
        words = (
            f"'{tag.name}' is a {tag.type.value} tag and cannot stand alone",
            f"Say what to compare it with, for example  {tag.name} {example}.",
            f"标签 {tag.name} 不是是/否标签，不能单独使用",
            f"请写明比较条件，例如 {tag.name} {example}。",
        )
        _refuse(TagTypeError, node, words)
    return node


def _compare(node: Compare, tag: TagField) -> Node:
    if node.op in ("=", "!="):
        node = replace(node, value=_coded(node, tag, node.value, 0))
    else:
        _require_order(node, tag)
        node = replace(node, value=_typed(node, tag, node.value, 0))
    return _on_grid(node, tag.type)


def _in(node: In, tag: TagField) -> Node:
    values = tuple(_coded(node, tag, value, i) for i, value in enumerate(node.values))
    possible = tuple(value for value in values if _is_possible(tag.type, value))
    return replace(node, values=possible) if possible else Nobody()


def _between(node: Between, tag: TagField) -> Node:
    _require_order(node, tag)
    low, high = _typed(node, tag, node.low, 0), _typed(node, tag, node.high, 1)
    if _is_possible(tag.type, low) and _is_possible(tag.type, high):
        return replace(node, low=low, high=high)
    above = _on_grid(Compare(tag.name, ">=", low, span=node.span), tag.type)
    below = _on_grid(Compare(tag.name, "<=", high, span=node.span), tag.type)
    return all_of((above, below))


def _on_grid(node: Compare, kind: ColumnType) -> Node:
    """Move a bound to the nearest value that the tag can have, without changing who is in."""
    if _is_possible(kind, node.value):
        return node
    known = Not(Missing(node.tag, span=node.span))
    if node.op in ("=", "!="):
        return Nobody() if node.op == "=" else known
    step, limit = _STEP[kind], _LIMIT[kind]
    steps = Fraction(node.value) / step  # type: ignore[arg-type]
    is_upper = node.op in ("<", "<=")
    moved = (math.floor(steps) if is_upper else math.ceil(steps)) * step
    if abs(moved) > limit:
        return known if (moved > 0) == is_upper else Nobody()
    bound = Decimal(moved.numerator) / Decimal(moved.denominator)
    return replace(node, op="<=" if is_upper else ">=", value=bound)


def _is_possible(kind: ColumnType, value: Value) -> bool:
    """Whether a tag of that type can have this value, which is of the tag's family."""
    if kind not in _STEP:
        return True
    exact = Fraction(value)  # type: ignore[arg-type]
    return (exact / _STEP[kind]).denominator == 1 and abs(exact) <= _LIMIT[kind]


def _require_order(node: Compare | Between, tag: TagField) -> None:
    if tag.type in _ORDERED or (tag.type is ColumnType.STRING and tag.codes is None):
        return
    if tag.type is ColumnType.TIMESTAMP:
        return  # refused with its own words when the literal is typed
    what, zh = ("codes", "编码") if tag.type is ColumnType.STRING else ("true or false", "是/否")
    words = (
        f"'{tag.name}' holds {what}, which have no order",
        "Use =, != or in (...).",
        f"标签 {tag.name} 的取值为{zh}，没有大小之分",
        "请使用 =、!= 或 in (...)。",
    )
    _refuse(TagTypeError, node, words)


# ----------------------------------------------------------------------------- literals by tag type


def _typed(node: _Known, tag: TagField, value: Value, index: int) -> Value:
    """Return the literal in the tag's type; ``index`` says which of the node's literals it is."""
    convert = _LITERALS.get(tag.type)
    if convert is None:
        words = (
            f"'{tag.name}' is a moment in time, which only  is missing  can ask about",
            "Make a date tag of it and compare that.",
            f"标签 {tag.name} 是时间戳，只能判断是否为空",
            "请先制成日期标签再比较。",
        )
        _refuse(TagTypeError, node, words, index)
    converted = convert(value)
    if converted is None:
        _refuse(TagTypeError, node, _misfit(tag, value), index)
    return converted


def _coded(node: _Known, tag: TagField, value: Value, index: int) -> Value:
    """Return the literal in the tag's type; refuse one that is none of the tag's codes."""
    converted = _typed(node, tag, value, index)
    if tag.codes is not None and str(converted) not in tag.codes:
        _refuse(UnknownCodeError, node, _unknown_code(tag, str(converted)), index)
    return converted


def _number(value: Value) -> int | Decimal | None:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, (bool, str, date)):
        return None
    return value


def _double(value: Value) -> float | None:
    number = _number(value)
    double = math.inf if number is None else float(number)
    return double if math.isfinite(double) else None


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) else None


def _boolean(value: Value) -> bool | None:
    return value if isinstance(value, bool) else None


def _day(value: Value) -> date | None:
    if isinstance(value, str):
        try:
            return day_of(value)
        except ValueError:
            return None
    return value if isinstance(value, date) else None


_LITERALS: Mapping[ColumnType, Callable[[Value], Value | None]] = {
    ColumnType.INTEGER: _number,
    ColumnType.MONEY: _number,
    ColumnType.NUMBER: _double,
    ColumnType.STRING: _text,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.DATE: _day,
}
_EXAMPLES: Mapping[ColumnType, tuple[str, str]] = {
    ColumnType.INTEGER: ("a number without quotes, for example 80", "不带引号的数字，例如 80"),
    ColumnType.MONEY: ("a number without quotes, for example 58.37", "不带引号的数字，例如 58.37"),
    ColumnType.NUMBER: ("a number without quotes, for example 0.5", "不带引号的数字，例如 0.5"),
    ColumnType.STRING: ("a text in quotes, for example 'x'", "带引号的文字，例如 'x'"),
    ColumnType.BOOLEAN: ("true or false", "真或假"),
    ColumnType.DATE: ("a date, for example 2026-01-31", "日期，例如 2026-01-31"),
}


# --------------------------------------------------------------------------------------- messages

_Words: TypeAlias = tuple[str, str, str, str]
"""Problem and remedy in English, then both in Chinese."""


def _misfit(tag: TagField, value: Value) -> _Words:
    kind = {"double": "number"}.get(literal_kind(value), literal_kind(value))
    shown, (example, zh) = value_text(value), _EXAMPLES[tag.type]
    return (
        f"'{tag.name}' is a {tag.type.value} tag and cannot be compared with the {kind} {shown}",
        f"Give {example}.",
        f"标签 {tag.name}({tag.type.value})不能与 {shown} 比较",
        f"请填写{zh}。",
    )


def _unknown_code(tag: TagField, code: str) -> _Words:
    codes = sorted(tag.codes or ())
    close = nearest(code, codes)
    choice = ", ".join(f"'{known}'" for known in (close or codes[:8]))
    lead, zh = ("Did you mean", "是否想写") if close else ("It can be", "可选")
    more = ", ..." if not close and len(codes) > 8 else ""
    return (
        f"'{tag.name}' never has the code '{code}'",
        f"{lead}: {choice}{more}" + ("?" if close else "."),
        f"标签 {tag.name} 没有编码“{code}”",
        f"{zh}:{choice}{more}。",
    )


def _ambiguous(title: str, names: list[str]) -> _Words:
    choice = ", ".join(names)
    return (
        f"{len(names)} tags have the title '{title}'",
        f"Use the name: {choice}.",
        f"有 {len(names)} 个标签名为“{title}”",
        f"请使用标签名：{choice}。",
    )


def _unknown_tag(
    tag: str, fields: Mapping[str, TagField], by_title: Mapping[str, list[str]]
) -> _Words:
    hidden = next((word for word in sorted(RESERVED, key=len, reverse=True)
                   if word in tag and word != tag and not word.isascii()), None)  # fmt: skip
    problem, zh = f"there is no tag '{tag}'", f"没有标签“{tag}”"
    close = nearest(tag, [*fields, *by_title])
    if close:
        choice = ", ".join(close)
        return problem, f"Did you mean: {choice}?", zh, f"是否想写：{choice}?"
    if hidden is not None:
        return (
            problem,
            f"If '{hidden}' is meant as a word of the condition, put blanks around it.",
            zh,
            f"如果“{hidden}”是条件用语，请在其前后加空格。",
        )
    return problem, "List the tags to see their names.", zh, "请查看标签目录中的名称。"


def _unknown_audience(wanted: str, saved: Mapping[str, Node]) -> _Words:
    choice = ", ".join(nearest(wanted, saved) or sorted(saved)[:8])
    problem, zh = f"there is no saved audience '{wanted}'", f"没有已保存的客户群“{wanted}”"
    if not choice:
        return problem, "None is saved yet; save it first.", zh, "尚未保存任何客户群，请先保存。"
    return problem, f"Did you mean: {choice}?", zh, f"是否想写：{choice}?"


def _refuse(
    error: type[UserError], node: _Known | Member, words: _Words, index: int | None = None
) -> NoReturn:
    """Raise with the place in the text, or with the condition where there is none."""
    problem, remedy, zh, zh_remedy = words
    where, zh_where, shown = _place(node, node.span, index)
    raise error(
        f"{where}: {problem}.{shown}",
        remedy=remedy,
        zh=f"{zh_where}:{zh}。{shown.rstrip(' ')}{zh_remedy}",
    )


def _place(node: Node, span: Span | None, index: int | None) -> tuple[str, str, str]:
    if span is None:
        text = to_text(node)
        text = text if len(text) <= 80 else f"{text[:79]}…"
        return f"In the condition {text}", f"条件 {text}", ""
    start, end = (span.start, span.end) if index is None else span.values[index]
    line, column = place(span.text, start)
    shown = "\n" + excerpt(span.text, start, end).rstrip() + "\n   "
    return f"Line {line}, column {column}", f"第 {line} 行第 {column} 列", shown
