"""What a preparation recipe is, and how its options are read with the place of every mistake."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from sqlglot import exp

from bihuan.data.prepare.expression import ExpressionError, parse_expression
from bihuan.kernel import UserError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class RecipeError(UserError):
    """A recipe cannot be read, or asks for something that cannot be done."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recipe.

    Parameters
    ----------
    kind
        ``select``, ``join``, ``calculate``, ``group`` ...; see :mod:`bihuan.data.prepare`.
    options
        What it does, as in the YAML file.
    line
        Line of the file, counted from 1; 0 if the step was written in Python.
    """

    kind: str
    options: Any
    line: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a table for analysis is prepared.

    Parameters
    ----------
    name
        Snake case; the prepared table is published as ``prepared__<name>``.
    steps
        At least one; the first is a ``select``.
    meaning
        What one row of the result is, by language.
    file
        Name of the file it was read from, for messages; empty if written in Python.

    Raises
    ------
    RecipeError
        If the name is not a plain word or there is no step.
    """

    name: str
    steps: tuple[Step, ...]
    meaning: Mapping[str, str] = field(default_factory=dict)
    file: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RecipeError(
                f"'{self.name}' cannot name a recipe.",
                remedy="Use small letters, digits and underscores, beginning with a letter.",
                zh=f"配方名 {self.name!r} 不合规，只能用小写字母、数字和下划线，且以字母开头。",
            )
        if not self.steps or self.steps[0].kind != "select":
            raise RecipeError(
                f"Recipe '{self.name}' does not begin with a select step.",
                remedy="Say first from which table it takes its rows.",
                zh=f"配方 {self.name} 的第一步必须是 select。",
            )


class _Loader(yaml.SafeLoader):
    """Reads YAML safely, and as YAML 1.2 does: on, off, yes and no are words.

    YAML 1.1 makes booleans of them, so an option ``on`` and a code ``no`` would be lost.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":bool")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises
    ------
    RecipeError
        If the file is not a recipe; the message names file, line and field.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        root = yaml.compose(text, Loader=_Loader)
        raw = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        raise RecipeError(
            f"{path.name}{line} is not YAML: {getattr(error, 'problem', None) or error}.",
            remedy="Quote texts that hold ': ' or '#', and check the indentation.",
            zh=f"{path.name}{line} 不是合法的 YAML，请检查缩进和引号。",
        ) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("steps"), list) or "recipe" not in raw:
        raise RecipeError(
            f"{path.name} is not a recipe: it needs 'recipe' (its name) and 'steps' (a list).",
            zh=f"{path.name} 不是配方：需要 recipe（名称）和 steps（步骤列表）。",
        )
    lines = _step_lines(root)
    steps = []
    for number, entry in enumerate(raw["steps"], start=1):
        if not isinstance(entry, dict) or len(entry) != 1:
            raise RecipeError(
                f"{path.name} line {lines[number - 1]}, step {number} is not one step.",
                remedy="Write '- kind: {options}', for example '- filter: amount > 0'.",
                zh=f"{path.name} 第 {lines[number - 1]} 行，第 {number} 步的写法不对。",
            )
        kind, options = next(iter(entry.items()))
        steps.append(Step(str(kind), options, lines[number - 1]))
    return Recipe(str(raw["recipe"]), tuple(steps), dict(raw.get("meaning") or {}), path.name)


def _step_lines(root: Any) -> list[int]:
    for key, value in root.value:
        if key.value == "steps":
            return [node.start_mark.line + 1 for node in value.value]
    return []


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one step, read with the place of every mistake.

    Parameters
    ----------
    raw
        As written.
    place
        Names file, line and step, for messages.
    columns
        The columns that the step may use.
    """

    raw: Any
    place: str
    columns: Collection[str]

    def wrong(self, field: str, message: str, *, remedy: str = "", zh: str = "") -> RecipeError:
        """Return the error of one field."""
        at = f"{self.place}, {field}" if field else self.place
        return RecipeError(f"{at}: {message}", remedy=remedy, zh=f"{at}：{zh}" if zh else "")

    def mapping(self, known: Iterable[str] = ()) -> Mapping[str, Any]:
        """Return the options as a mapping; ``known`` are the only names allowed, if given."""
        if not isinstance(self.raw, dict):
            raise self.wrong("", "a mapping is needed.", zh="需要键值形式。")
        allowed = list(known)
        for name in self.raw:
            if allowed and name not in allowed:
                raise self.wrong(
                    str(name),
                    "there is no such option.",
                    remedy=f"Options: {', '.join(allowed)}.",
                    zh=f"没有这个选项，可用：{'、'.join(allowed)}。",
                )
        return {str(name): value for name, value in self.raw.items()}

    def expression(
        self, field: str, text: Any, grouping: Collection[str] | None = None
    ) -> exp.Expr:
        """Read an expression over the step's columns."""
        if isinstance(text, bool | int | float):
            text = str(text)
        if not isinstance(text, str):
            raise self.wrong(field, "an expression is needed.", zh="需要一个表达式。")
        try:
            return parse_expression(text, self.columns, grouping)
        except ExpressionError as error:
            zh = error.zh.removesuffix("。")
            raise self.wrong(field, error.message, remedy=error.remedy, zh=f"{zh}。") from error

    def names(self, field: str, value: Any, within: Collection[str] | None = None) -> list[str]:
        """Read a list of column names, each of which must exist and occur once."""
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple) or not value:
            raise self.wrong(field, "a list of columns is needed.", zh="需要字段列表。")
        have = self.columns if within is None else within
        for name in value:
            if name not in have:
                near = difflib.get_close_matches(str(name), list(have), n=3)
                hint = f"Did you mean {' or '.join(near)}?" if near else f"Have: {', '.join(have)}."
                raise self.wrong(
                    field, f"there is no column '{name}'.", remedy=hint, zh=f"没有 {name} 这一列。"
                )
        if len(set(value)) != len(value):
            raise self.wrong(field, "a column is named twice.", zh="字段重复。")
        return [str(name) for name in value]

    def choice(self, field: str, value: Any, among: Sequence[str]) -> str:
        """Read one of a few words."""
        if value not in among:
            raise self.wrong(
                field,
                f"'{value}' is not possible.",
                remedy=f"Choose one of: {', '.join(among)}.",
                zh=f"不能是 {value}，可选：{'、'.join(among)}。",
            )
        return str(value)

    def number(self, field: str, value: Any, low: float, high: float) -> float:
        """Read a number within ``low`` and ``high``, both included."""
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise self.wrong(
                field,
                f"a number from {low:g} to {high:g} is needed, not {value!r}.",
                zh=f"需要 {low:g} 到 {high:g} 之间的数，而不是 {value!r}。",
            )
        return float(value)

    def new_name(self, field: str, value: Any) -> str:
        """Read the name of a new column."""
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.wrong(field, "a column name is needed.", zh="需要字段名。")
        return value
