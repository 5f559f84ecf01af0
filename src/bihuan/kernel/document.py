"""Reading the YAML documents that planners and analysts edit, with errors that name the field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from bihuan.kernel.errors import UserError

LANGUAGES = ("zh", "en")
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where it was built


def read_yaml(text: str) -> Any:
    """Return what a YAML text says, as plain values; several times faster than ``safe_load``.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML, or asks for more than plain values.
    """
    return yaml.load(text, Loader=YAML_LOADER)


class DocumentError(UserError):
    """A document does not have the form that its reader expects."""


class Document:
    """One mapping inside a YAML file, knowing where it stands.

    Parameters
    ----------
    value
        The mapping as parsed.
    where
        File and path of fields so far (``offers.yaml: offers[3]``).

    Examples
    --------
    >>> Document({"price": "cheap"}, "offers.yaml: offers[0]").number("price")
    Traceback (most recent call last):
    ...
    bihuan.kernel.document.DocumentError: offers.yaml: offers[0].price must be a number, not \
'cheap'. Write for example 12.5.
    """

    def __init__(self, value: Any, where: str) -> None:
        self.where = where
        if not isinstance(value, Mapping):
            self._refuse("", f"must hold named fields, not {value!r}", "Write  name: value  lines.")
        self._value: Mapping[str, Any] = value

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a YAML file whose top is a mapping.

        Raises
        ------
        DocumentError
            If the file is absent, not UTF-8, not YAML, or not a mapping.
        """
        try:
            value = read_yaml(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DocumentError(
                f"{path.name} cannot be read: {error}.",
                remedy="Save it as YAML in UTF-8.",
                zh=f"{path.name} 无法读取：{error}。请保存为 UTF-8 编码的 YAML 文件。",
            ) from error
        return cls(value, path.name)

    def allow(self, *fields: str) -> Document:
        """Refuse fields with other names, which are most often misspelt ones; return self."""
        extra = sorted(set(self._value) - set(fields))
        if extra:
            self._refuse(str(extra[0]), "is not a known field", f"Known: {', '.join(fields)}.")
        return self

    def has(self, field: str) -> bool:
        """Whether the field is there and not null."""
        return self._value.get(field) is not None

    def fields(self) -> list[str]:
        """Return the names of the fields, in the order written."""
        return [str(key) for key in self._value]

    def raw(self, field: str) -> Any:
        """Return the value as parsed; refuse if the field is absent."""
        if not self.has(field):
            self._refuse(field, "is missing", "Add it.")
        return self._value[field]

    def text(self, field: str, default: str | None = None) -> str:
        """Return a text; numbers are taken as their text."""
        if default is not None and not self.has(field):
            return default
        value = self.raw(field)
        if isinstance(value, (Mapping, list, bool)):
            self._refuse(field, f"must be a text, not {value!r}", "Put it in quotes.")
        return str(value).strip()

    def choice(self, field: str, allowed: Collection[str], default: str | None = None) -> str:
        """Return a text that is one of ``allowed``."""
        value = self.text(field, default)
        if value not in allowed:
            self._refuse(field, f"is '{value}'", f"Choose one of: {', '.join(sorted(allowed))}.")
        return value

    def number(
        self,
        field: str,
        default: float | None = None,
        *,
        low: float = float("-inf"),
        high: float = float("inf"),
    ) -> float:
        """Return a number within ``low`` and ``high``, both included."""
        if default is not None and not self.has(field):
            return default
        value = self.raw(field)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._refuse(field, f"must be a number, not {value!r}", "Write for example 12.5.")
        if not low <= value <= high:
            self._refuse(field, f"is {value}", f"Choose a number from {low:g} to {high:g}.")
        return float(value)

    def whole(self, field: str, default: int | None = None, *, low: int = 0) -> int:
        """Return a whole number of at least ``low``."""
        value = self.number(field, None if default is None else float(default), low=low)
        if value != int(value):
            self._refuse(field, f"is {value}", "Choose a whole number.")
        return int(value)

    def flag(self, field: str, default: bool | None = None) -> bool:
        """Return true or false."""
        if default is not None and not self.has(field):
            return default
        value = self.raw(field)
        if not isinstance(value, bool):
            self._refuse(field, f"must be true or false, not {value!r}", "Write true or false.")
        return bool(value)

    def day(self, field: str) -> date:
        """Return a date, written as 2026-10-31."""
        value = self.raw(field)
        if isinstance(value, str):
            try:
                value = date.fromisoformat(value)
            except ValueError:
                value = None
        if type(value) is not date:
            self._refuse(field, "is not a date", "Write it as 2026-10-31.")
        return date.fromisoformat(str(value))

    def titles(self, field: str, default: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """Return a text in both languages, written as ``{zh: ..., en: ...}``."""
        if default is not None and not self.has(field):
            return default
        value = self.raw(field)
        if not isinstance(value, Mapping) or set(value) != set(LANGUAGES):
            self._refuse(field, "needs both languages", "Write {zh: ..., en: ...}.")
        return {language: str(value[language]).strip() for language in LANGUAGES}

    def texts(self, field: str) -> tuple[str, ...]:
        """Return a list of texts; empty if the field is absent."""
        return tuple(str(item) for item in self._items(field))

    def part(self, field: str) -> Document:
        """Return the mapping inside ``field``."""
        return Document(self.raw(field), f"{self.where}.{field}")

    def find_part(self, field: str) -> Document | None:
        """Return the mapping inside ``field``, or None if the field is absent."""
        return self.part(field) if self.has(field) else None

    def parts(self, field: str) -> list[Document]:
        """Return the mappings of a list; empty if the field is absent."""
        return [
            Document(item, f"{self.where}.{field}[{index}]")
            for index, item in enumerate(self._items(field))
        ]

    def refuse(self, field: str, problem: str, remedy: str) -> DocumentError:
        """Make the error that says what is wrong with a field, for the caller to raise."""
        place = f"{self.where}.{field}" if field else self.where
        return DocumentError(
            f"{place} {problem}.", remedy=remedy, zh=f"{place} 有误({problem})。{remedy}"
        )

    def _items(self, field: str) -> list[Any]:
        if not self.has(field):
            return []
        value = self._value[field]
        if not isinstance(value, list):
            self._refuse(field, f"must be a list, not {value!r}", "Write  - item  lines.")
        return list(value)

    def _refuse(self, field: str, problem: str, remedy: str) -> None:
        raise self.refuse(field, problem, remedy)
