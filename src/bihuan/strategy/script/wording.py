"""Words that must not be said: a list that the operator keeps, looked for in every text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from bihuan.kernel import UserError
from bihuan.kernel.document import Document

_CJK = re.compile(r"[\u3400-\u9fff]")
_BLANK = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]+")


class ForbiddenWordError(UserError):
    """A text says what must not be said."""


@dataclass(frozen=True, slots=True)
class ForbiddenWord:
    """A word that no text may hold.

    Parameters
    ----------
    word
        As people write it.
    why
        Why not, by language.
    """

    word: str
    why: Mapping[str, str]


@dataclass(frozen=True)
class WordList:
    """Forbidden words, found also where blanks, width or case hide them.

    Parameters
    ----------
    words
        The words.

    Examples
    --------
    >>> words = WordList((ForbiddenWord("最低价", {}), ForbiddenWord("best price", {})))
    >>> [hit.word for hit in words.find("全网最 低 价,the BEST  price ever")]
    ['最低价', 'best price']
    >>> words.find("bestprices")
    ()
    """

    words: tuple[ForbiddenWord, ...]

    @cached_property
    def _patterns(self) -> tuple[tuple[ForbiddenWord, re.Pattern[str]], ...]:
        return tuple((word, _pattern(word.word)) for word in self.words)

    def find(self, text: str) -> tuple[ForbiddenWord, ...]:
        """Return the forbidden words of a text, in the order of the list."""
        plain = unicodedata.normalize("NFKC", text).casefold()
        return tuple(word for word, pattern in self._patterns if pattern.search(plain))

    def require_none(self, texts: Mapping[str, str], place: str) -> None:
        """Refuse texts that hold a forbidden word.

        Parameters
        ----------
        texts
            By language.
        place
            Where they stand, for the message.

        Raises
        ------
        ForbiddenWordError
            Names place, language, word and reason.
        """
        for language, text in texts.items():
            for hit in self.find(text):
                raise ForbiddenWordError(
                    f"{place} ({language}) says '{hit.word}': {hit.why.get('en', 'forbidden')}.",
                    remedy="Say it in other words.",
                    zh=f"{place}({language})含有禁用词“{hit.word}”："
                    f"{hit.why.get('zh', '禁止使用')}。请改写。",
                )


def read_words(parts: Iterable[Document]) -> tuple[ForbiddenWord, ...]:
    """Read the entries under ``forbidden:`` of script files."""
    found = []
    for part in parts:
        part.allow("word", "why")
        if not part.text("word"):
            raise part.refuse("word", "is empty", "Write the word.")
        found.append(ForbiddenWord(part.text("word"), part.titles("why")))
    return tuple(found)


def _pattern(word: str) -> re.Pattern[str]:
    """Let blanks stand between the signs of a Chinese word, and bound a Latin one."""
    plain = unicodedata.normalize("NFKC", word).casefold().strip()
    if _CJK.search(plain):
        signs = [re.escape(sign) for sign in _BLANK.sub("", plain)]
        return re.compile(_BLANK.pattern.replace("+", "*").join(signs))
    words = [re.escape(part) for part in plain.split()]
    return re.compile(r"(?<!\w)" + r"\s+".join(words) + r"(?!\w)")
