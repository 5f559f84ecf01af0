"""The words and signs of the text form, and where in a text they stand."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from bihuan.audience.algebra import Operator
from bihuan.audience.literal import AudienceError, LiteralError, Value, literal

COMPARISONS: dict[str, Operator] = {
    **dict.fromkeys(("=", "==", "等于"), "="),
    **dict.fromkeys(("!=", "<>", "≠", "不等于"), "!="),
    **dict.fromkeys(("<", "小于", "低于"), "<"),
    **dict.fromkeys(("<=", "≤", "小于等于", "不大于", "不高于", "不超过", "至多"), "<="),
    **dict.fromkeys((">", "大于", "高于", "超过"), ">"),
    **dict.fromkeys((">=", "≥", "大于等于", "不小于", "不低于", "不少于", "至少"), ">="),
}
"""Every spelling of a comparison."""

WORDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("and", "且", "并且", "与"), ("and",)),
    **dict.fromkeys(("or", "或", "或者"), ("or",)),
    **dict.fromkeys(("not", "非", "不"), ("not",)),
    **dict.fromkeys(("in", "属于"), ("in",)),
    "不属于": ("not", "in"),
    **dict.fromkeys(("between", "介于"), ("between",)),
    "不介于": ("not", "between"),
    **dict.fromkeys(("和", "到", "至"), ("upto",)),
    "之间": ("ending",),
    "is": ("is",),
    **dict.fromkeys(("missing", "null"), ("missing",)),
    **dict.fromkeys(("为空", "缺失"), ("is", "missing")),
    **dict.fromkeys(("不为空", "不缺失"), ("is", "not", "missing")),
    **dict.fromkeys(("true", "真", "是"), ("true",)),
    **dict.fromkeys(("false", "假", "否"), ("false",)),
    **dict.fromkeys(("everyone", "所有客户"), ("everyone",)),
    **dict.fromkeys(("nobody", "无客户"), ("nobody",)),
    **dict.fromkeys(("audience", "客户群"), ("audience",)),
}
"""Every word of the language and the kinds of token that it stands for."""

RESERVED = frozenset(WORDS) | {word for word in COMPARISONS if word[0].isalpha()}
"""What cannot be a tag's name unless it stands in backticks."""

_CLOSERS = {"'": "'", '"': '"', "“": "“”", "”": "“”", "‘": "‘’", "’": "‘’", "＇": "＇", "＂": "＂"}
_SIGNS = re.compile(r">=|<=|!=|<>|==|[=<>≥≤≠(),]")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![\w-])")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?(?!\w)")
_NAME = re.compile(r"\w+")
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {
    ord("、"): ord(","),
    ord("\u3000"): ord(" "),
}


class AudienceSyntaxError(AudienceError):
    """A text is not an audience.

    Parameters
    ----------
    message, remedy, zh
        As for every :class:`~bihuan.kernel.UserError`; the message ends with the line and a caret.
    position
        Index of the first wrong character, 0-based.
    line, column
        The same as line and column, 1-based.
    """

    def __init__(
        self, message: str, *, remedy: str, zh: str, position: int, line: int, column: int
    ) -> None:
        super().__init__(message, remedy=remedy, zh=zh)
        self.position = position
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text: ``value`` is a literal, a name, or the spelling of a sign."""

    kind: str  # name, literal, a sign, a word of the language, comparison, end
    start: int
    end: int
    value: Value = ""


def tokens_of(text: str) -> list[Token]:
    """Cut a text into tokens; the last is of kind ``end``."""
    folded = text.translate(_FULL_WIDTH)  # one character for one, so positions stay
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        character = folded[position]
        if character.isspace():
            position += 1
        elif text[position] in _CLOSERS:
            tokens.append(_string(text, position))
            position = tokens[-1].end
        elif character == "`":
            tokens.append(_quoted_name(text, position))
            position = tokens[-1].end
        else:
            found = _plain_tokens(text, folded, position)
            tokens.extend(found)
            position = found[-1].end
    return [*tokens, Token("end", len(text), len(text))]


def _plain_tokens(text: str, folded: str, start: int) -> list[Token]:
    if found := _DATE.match(folded, start):
        return [Token("literal", start, found.end(), _day(text, found))]
    if found := _NUMBER.match(folded, start):
        return [Token("literal", start, found.end(), _number(text, found))]
    if found := _SIGNS.match(folded, start):
        sign = found.group()
        if sign in COMPARISONS:
            return [Token("comparison", start, found.end(), sign)]
        return [Token(sign, start, found.end(), sign)]
    return _word_tokens(text, folded, start)


def _word_tokens(text: str, folded: str, start: int) -> list[Token]:
    found = _NAME.match(folded, start)
    if found is None:
        problem = (f"the sign '{text[start]}' has no meaning here", f"此处不能使用“{text[start]}”")
        remedy = ("Put names with signs in backticks.", "带符号的名称请放在反引号中。")
        raise syntax_error(text, start, start + 1, problem, remedy)
    word, end = found.group(), found.end()
    if word in COMPARISONS:
        return [Token("comparison", start, end, word)]
    return [Token(kind, start, end, word) for kind in WORDS.get(word.lower(), ("name",))]


def _string(text: str, start: int) -> Token:
    opener = text[start]
    closers = _CLOSERS[opener]
    return _enclosed(text, start, closers, kind="literal", doubled=opener in "'\"")


def _quoted_name(text: str, start: int) -> Token:
    token = _enclosed(text, start, text[start], kind="name", doubled=True)
    if not token.value:
        problem = ("a name in backticks is empty", "反引号中的名称为空")
        raise syntax_error(text, start, token.end, problem, ("Write a tag name.", "请填写标签名。"))
    return token


def _enclosed(text: str, start: int, closers: str, *, kind: str, doubled: bool) -> Token:
    content: list[str] = []
    position = start + 1
    while position < len(text):
        character = text[position]
        if character not in closers:
            content.append(character)
        elif doubled and text[position + 1 : position + 2] == character:
            content.append(character)
            position += 1
        else:
            return Token(kind, start, position + 1, "".join(content))
        position += 1
    problem = (f"the quote {text[start]} is never closed", f"引号 {text[start]} 没有闭合")
    raise syntax_error(text, start, start + 1, problem, ("Close it.", "请补上引号。"))


def _day(text: str, found: re.Match[str]) -> date:
    try:
        return date.fromisoformat(found.group())
    except ValueError as error:
        problem = (f"there is no day {found.group()}", f"不存在日期 {found.group()}")
        remedy = ("Write a day of the calendar.", "请填写有效日期。")
        raise syntax_error(text, found.start(), found.end(), problem, remedy) from error


def _number(text: str, found: re.Match[str]) -> Value:
    try:
        return literal(Decimal(found.group()))
    except LiteralError as error:
        problem = (error.message.rstrip("."), error.zh.rstrip("。"))
        raise syntax_error(text, found.start(), found.end(), problem, (error.remedy, "")) from error


def is_plain_name(tag: str) -> bool:
    """Whether a tag's name can stand in a text without backticks."""
    return (
        _PLAIN_NAME.fullmatch(tag) is not None
        and tag.translate(_FULL_WIDTH) == tag
        and tag.lower() not in RESERVED
    )


def excerpt(text: str, start: int, end: int) -> str:
    """Show the line of ``text`` around a place, with a row of carets below it.

    Full-width characters count two columns, as terminals show them.

    Examples
    --------
    >>> print(excerpt("月均 > 80", 3, 4), end="")
        月均 > 80
             ^
    """
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    left, right = max(line_start, start - 60), min(line_end, start + 60)
    before = ("…" if left > line_start else "") + text[left:start]
    after = text[start:right] + ("…" if right < line_end else "")
    carets = "^" * max(1, _columns(text[start : min(end, right)]))
    return f"    {before}{after}\n    {' ' * _columns(before)}{carets}\n"


def place(text: str, position: int) -> tuple[int, int]:
    """Return line and column of a position, both from 1."""
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known words that look most like ``word``, best first; empty if none does."""
    return difflib.get_close_matches(word, list(known), n=count, cutoff=0.6)


def syntax_error(
    text: str, start: int, end: int, problem: tuple[str, str], remedy: tuple[str, str]
) -> AudienceSyntaxError:
    """Make the error for a place; ``problem`` and ``remedy`` in English and in Chinese."""
    line, column = place(text, start)
    shown = excerpt(text, start, end)
    return AudienceSyntaxError(
        f"Line {line}, column {column}: {problem[0]}.\n{shown.rstrip()}\n   ",
        remedy=remedy[0],
        zh=f"第 {line} 行第 {column} 列：{problem[1]}。\n{shown}{remedy[1]}",
        position=start,
        line=line,
        column=column,
    )


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
