"""The text form that planners type: ``arpu >= 80 and not has_contract and city in ('石家庄')``.

===================  ===========================================  ==============================
what                 written as                                   in Chinese
===================  ===========================================  ==============================
comparison           ``= != < <= > >=`` (also ``== <> ≠ ≤ ≥``)     等于 不等于 小于 小于等于 大于
                                                                  大于等于 不大于 不小于 低于 高于
                                                                  不低于 不高于 超过 不超过 至少
                                                                  至多
one of a list        ``city in ('a', 'b')``                       城市 属于 ('a'、'b')
a range, both ends   ``tenure between 12 and 24``                 在网月数 介于 12 和 24 之间
true                 ``has_contract``, ``has_contract = true``    ... 等于 是 (真 / 否 假)
no value             ``city is missing``                          城市 为空, 城市 缺失
saved audience       ``audience('loyal')``                        客户群('loyal')
join                 ``and``, ``or``                              且 并且 与, 或 或者
everybody else       ``not``, ``x not in (...)``,                 非 不, 不属于, 不介于, 不为空
                     ``x not between ...``, ``x is not missing``
all, none            ``everyone``, ``nobody``                     所有客户, 无客户
===================  ===========================================  ==============================

``not`` binds closest, then ``and``, then ``or``; parentheses as usual. The word ``not`` (非, 不,
and the ``not`` of ``not in``) always takes the complement, so it lets customers in whose tag is
missing; ``!=`` and 不等于 are comparisons and leave them out.

A tag is named by its name or, where that is unique, its title. A name with blanks or signs stands
in backticks: ```月均 收入```. Strings stand in straight or curly quotes; a straight quote inside is
doubled. Dates are written ``2026-01-31``, with or without quotes. Words must be set apart by
blanks or signs: ``月均收入 大于 80``. Full-width signs are read like the others.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, NoReturn

from bihuan.audience.algebra import (
    And,
    AudienceTooLargeError,
    Between,
    Compare,
    Everyone,
    Flag,
    In,
    Member,
    Missing,
    Nobody,
    Node,
    Not,
    Or,
    Span,
)
from bihuan.audience.literal import LiteralError, Value
from bihuan.audience.words import (
    COMPARISONS,
    RESERVED,
    AudienceSyntaxError,
    Token,
    is_plain_name,
    nearest,
    place,
    syntax_error,
    tokens_of,
)
from bihuan.kernel import DefectError

TEXT_DEPTH = 48  # levels of parentheses and NOT; less than a tree may have, see algebra.MAX_DEPTH
TEXT_SIZE = 20_000  # conditions and listed values

_Expected = tuple[str, str]
_A_CONDITION: _Expected = ("a condition such as  arpu >= 80", "条件，例如 arpu >= 80")
_A_VALUE: _Expected = (
    "a value such as  80, 'text', 2026-01-31 or true",
    "取值，例如 80、'文字'、2026-01-31 或 真",
)
_A_JOIN: _Expected = ("'and', 'or' or the end", "“且”“或”或者结尾")


def parse(text: str) -> Node:
    """Read the text form of an audience.

    Parameters
    ----------
    text
        See the table at the top of this module. At most 48 levels of parentheses and NOT and
        20,000 conditions and listed values.

    Returns
    -------
    Node
        As written: nothing is reordered, names and types are not checked yet (see ``bind``).

    Raises
    ------
    AudienceSyntaxError
        With position, the line with a caret, and what was expected.
    AudienceTooLargeError
        Above the limits.

    Examples
    --------
    >>> parse("arpu >= 80 and not has_contract")
    And(parts=(Compare(tag='arpu', op='>=', value=80), Not(part=Flag(tag='has_contract'))))
    >>> try:
    ...     parse("arpu >= and x")
    ... except AudienceSyntaxError as error:
    ...     print(error.message.splitlines()[0], error.position)
    Line 1, column 9: expected a value such as  80, 'text', 2026-01-31 or true, found 'and'. 8
    """
    return _Parser(text).whole()


def to_text(node: Node) -> str:
    """Write an audience so that :func:`parse` reads the same tree again.

    Examples
    --------
    >>> to_text(Not(In("city", ("石家庄", "o'clock"))))
    "city not in ('石家庄', 'o''clock')"
    """
    match node:
        case Or(parts=parts):
            return " or ".join(_inside(part, Or) for part in parts)
        case And(parts=parts):
            return " and ".join(_inside(part, And, Or) for part in parts)
        case Not(part=part):
            return _negated(part)
    return _condition(node)


# ------------------------------------------------------------------------------------- writing


def _inside(part: Node, *looser: type[Node]) -> str:
    return f"({to_text(part)})" if isinstance(part, looser) else to_text(part)


def _negated(part: Node) -> str:
    match part:
        case Missing(tag=tag):
            return f"{_name(tag)} is not missing"
        case In(tag=tag) | Between(tag=tag):
            return f"{_name(tag)} not {_condition(part)[len(_name(tag)) + 1 :]}"
        case Flag() | Member() | Everyone() | Nobody():
            return f"not {_condition(part)}"
    return f"not ({to_text(part)})"


def _condition(node: Node) -> str:
    write = _WRITERS.get(type(node))
    if write is None:
        raise DefectError(f"No text form for a {type(node).__name__}.")
    return write(node)


_WRITERS: dict[type[Node], Callable[[Any], str]] = {
    Compare: lambda node: f"{_name(node.tag)} {node.op} {value_text(node.value)}",
    In: lambda node: f"{_name(node.tag)} in ({', '.join(map(value_text, node.values))})",
    Between: lambda node: (
        f"{_name(node.tag)} between {value_text(node.low)} and {value_text(node.high)}"
    ),
    Flag: lambda node: _name(node.tag),
    Missing: lambda node: f"{_name(node.tag)} is missing",
    Member: lambda node: f"audience({value_text(node.audience_id)})",
    Everyone: lambda _: "everyone",
    Nobody: lambda _: "nobody",
}


def value_text(value: Value) -> str:
    """Write one literal as it stands in a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return value.isoformat() if isinstance(value, date) else str(value)


def _name(tag: str) -> str:
    return tag if is_plain_name(tag) else "`" + tag.replace("`", "``") + "`"


# ------------------------------------------------------------------------------------- reading


class _Parser:
    """Recursive descent over the tokens; one method per level of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens_of(text)
        self.index = 0
        self.nesting = 0
        self.terms = 0

    def whole(self) -> Node:
        node = self._any()
        if self._next().kind != "end":
            self._fail(_A_JOIN)
        return node

    def _any(self) -> Node:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self) -> Node:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self) -> Node:
        token = self._next()
        if self._take("not"):
            return Not(self._deeper(self._one))
        if self._take("("):
            node = self._deeper(self._any)
            self._expect(")")
            return node
        if self._take("everyone"):
            return Everyone()
        if self._take("nobody"):
            return Nobody()
        self._count_term()
        if self._take("audience"):
            return self._member(token)
        name = self._take("name")
        if name is None:
            self._fail(_A_CONDITION)
        return self._about(name)

    def _member(self, word: Token) -> Node:
        self._expect("(")
        token = self._take("literal")
        if token is None or not isinstance(token.value, str) or not token.value:
            self._fail(("the id of an audience in quotes", "带引号的客户群编号"), token)
        self._expect(")")
        return Member(token.value, span=Span(self.text, word.start, token.end))

    def _about(self, name: Token) -> Node:
        tag = str(name.value)
        comparison = self._take("comparison")
        if comparison:
            return self._compare(name, comparison)
        negated = self._peek_negated_set()
        if self._take("in"):
            node: Node = self._in(name)
        elif self._take("between"):
            node = self._between(name)
        elif self._take("is"):
            negated = self._take("not") is not None
            self._expect("missing")
            node = Missing(tag, span=self._span(name))
        else:
            return Flag(tag, span=self._span(name))
        return Not(node) if negated else node

    def _peek_negated_set(self) -> bool:
        """Take the ``not`` of ``not in`` and ``not between``."""
        following = self.tokens[min(self.index + 1, len(self.tokens) - 1)].kind
        if self._next().kind == "not" and following in ("in", "between"):
            self.index += 1
            return True
        return False

    def _compare(self, name: Token, comparison: Token) -> Node:
        token = self._value()
        op = COMPARISONS[str(comparison.value)]
        try:
            return Compare(str(name.value), op, token.value, span=self._span(name, token))
        except LiteralError as error:
            raise self._at(token, error) from error

    def _in(self, name: Token) -> Node:
        self._expect("(")
        tokens: list[Token] = []
        while not self._take(")"):
            if tokens:
                self._expect(",")
            tokens.append(self._value())
            self._count_term()
        values = tuple(token.value for token in tokens)
        try:
            return In(str(name.value), values, span=self._span(name, *tokens))
        except LiteralError as error:
            raise self._at(tokens[0], error) from error

    def _between(self, name: Token) -> Node:
        low = self._value()
        if not (self._take("and") or self._take("upto")):
            self._fail(("'and' between the two ends of the range", "区间两端之间的“和”"))
        high = self._value()
        self._take("ending")
        try:
            span = self._span(name, low, high)
            return Between(str(name.value), low.value, high.value, span=span)
        except LiteralError as error:
            raise self._at(low, error) from error

    def _value(self) -> Token:
        token = self._next()
        if token.kind in ("true", "false"):
            self.index += 1
            return Token("literal", token.start, token.end, token.kind == "true")
        found = self._take("literal")
        if found is None:
            self._fail(_A_VALUE)
        return found

    def _deeper(self, level: Callable[[], Node]) -> Node:
        self.nesting += 1
        if self.nesting > TEXT_DEPTH:
            where = self._where(self.tokens[self.index - 1])
            raise AudienceTooLargeError(
                f"{where[0]}: more than {TEXT_DEPTH} levels of parentheses and 'not'.",
                remedy="Save a part as an audience of its own and name it with audience('id').",
                zh=f"{where[1]}：括号与“非”嵌套超过 {TEXT_DEPTH} 层，"
                "请将一部分另存为客户群后引用。",
            )
        node = level()
        self.nesting -= 1
        return node

    def _count_term(self) -> None:
        self.terms += 1
        if self.terms > TEXT_SIZE:
            raise AudienceTooLargeError(
                f"The text has more than {TEXT_SIZE:,} conditions and values.",
                remedy="Load a long list as a table and make a tag of it.",
                zh=f"条件与取值超过 {TEXT_SIZE:,} 项，请将长名单导入为数据表并制成标签。",
            )

    def _span(self, name: Token, *values: Token) -> Span:
        return Span(self.text, name.start, name.end, tuple((v.start, v.end) for v in values))

    def _next(self) -> Token:
        return self.tokens[self.index]

    def _take(self, kind: str) -> Token | None:
        token = self.tokens[self.index]
        if token.kind != kind:
            return None
        self.index += 1
        return token

    def _expect(self, kind: str) -> None:
        if not self._take(kind):
            self._fail((f"'{kind}'", f"“{kind}”"))

    def _where(self, token: Token) -> tuple[str, str]:
        line, column = place(self.text, token.start)
        return f"Line {line}, column {column}", f"第 {line} 行第 {column} 列"

    def _fail(self, expected: _Expected, token: Token | None = None) -> NoReturn:
        found = token or self._next()
        word = self.text[found.start : found.end]
        seen = (f"'{word}'", f"“{word}”") if word else ("the end", "结尾")
        remedy = _hint(found, expected, word)
        raise syntax_error(
            self.text,
            found.start,
            found.end,
            (f"expected {expected[0]}, found {seen[0]}", f"应为{expected[1]}，却是{seen[1]}"),
            remedy,
        )

    def _at(self, token: Token, error: LiteralError) -> AudienceSyntaxError:
        zh = error.zh.rstrip("。")
        return syntax_error(
            self.text, token.start, token.end, (error.message.rstrip("."), zh), (error.remedy, "")
        )


def _hint(token: Token, expected: _Expected, word: str) -> tuple[str, str]:
    if expected is _A_VALUE and token.kind == "missing":
        return "Write  x is missing  instead.", "请写成：标签 为空。"
    if expected is _A_VALUE and token.kind == "name":
        if word[:1].isdigit():
            return "Write the number without a unit.", "数字后面不要写单位。"
        return f"Put a text in quotes: '{word}'.", f"文字取值请加引号:'{word}'。"
    close = nearest(word.lower(), RESERVED, 1) if token.kind == "name" else []
    if close:
        return f"Did you mean '{close[0]}'?", f"是否想写“{close[0]}”?"
    return "Write what is expected there.", "请按提示修改。"
