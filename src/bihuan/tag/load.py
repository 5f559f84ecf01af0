"""Tags read from YAML: file, line, tag and field of all that is wrong, in one message."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from bihuan.data import ColumnType
from bihuan.kernel.document import YAML_LOADER
from bihuan.tag.definition import (
    Layer,
    Library,
    Means,
    Place,
    Refresh,
    State,
    Subject,
    TagDefinition,
    TagDefinitionError,
    Text,
    tag_problem,
)
from bihuan.tag.expression import Threshold, nearest

_REQUIRED = tuple(
    f.name for f in fields(TagDefinition) if f.default is MISSING and f.default_factory is MISSING
)
_FIELDS = tuple(f.name for f in fields(TagDefinition) if f.name != "origin")
_ENUMS: Mapping[str, type[enum.StrEnum]] = {
    "layer": Layer,
    "library": Library,
    "subject": Subject,
    "means": Means,
    "type": ColumnType,
    "refresh": Refresh,
    "state": State,
}
_TEXTS = ("title", "meaning", "definition")
_THRESHOLD = re.compile(r"[a-z][a-z0-9_]*")


def load_definitions(path: Path) -> tuple[TagDefinition, ...]:
    """Read every tag of a YAML file, or of the ``*.yaml`` files of a folder by name.

    A file is a mapping with a list under ``tags:``; a mapping under ``defaults:`` holds fields
    that all of its tags share.

    Raises
    ------
    TagDefinitionError
        Naming each problem found in any of the files, not just the first.
    """
    found: dict[str, TagDefinition] = {}
    problems: list[TagDefinitionError] = []
    if not path.exists():
        raise TagDefinitionError(
            f"There are no tag definitions at '{path}'.",
            remedy="Give a YAML file, or the folder that holds the YAML files.",
            zh=f"'{path}' 不存在，请给出标签定义的 YAML 文件或其文件夹。",
        )
    for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
        try:
            for item in _read(file):
                _collect(item, found, problems)
        except TagDefinitionError as error:
            problems.append(error)
    if problems:
        raise TagDefinitionError.of(problems)
    return tuple(found.values())


def parse_definitions(text: str, path: Path) -> tuple[TagDefinition, ...]:
    """Read every tag of the text of a file; ``path`` is for messages. Raises as when loading."""
    found: dict[str, TagDefinition] = {}
    problems: list[TagDefinitionError] = []
    for item in _items(text, path):
        _collect(item, found, problems)
    if problems:
        raise TagDefinitionError.of(problems)
    return tuple(found.values())


def _collect(
    item: tuple[str, Any, Mapping[str, Any]],
    found: dict[str, TagDefinition],
    problems: list[TagDefinitionError],
) -> None:
    origin, raw, defaults = item
    try:
        definition = parse_definition(raw, origin=origin, defaults=defaults)
    except TagDefinitionError as error:
        problems.append(error)
        return
    if earlier := found.get(definition.name):
        problems.append(
            definition.problem(
                f"this name is taken by {earlier.origin}.",
                remedy="Give one of the two another name.",
                zh=f"名称已被 {earlier.origin} 使用，请更换其中一个。",
            )
        )
    found[definition.name] = definition


def _read(path: Path) -> list[tuple[str, Any, Mapping[str, Any]]]:
    """Return origin, raw mapping and file defaults of each tag of one file."""
    try:
        return _items(path.read_text(encoding="utf-8-sig"), path)
    except UnicodeDecodeError as error:
        raise _not_yaml(path, error) from error


def _items(text: str, path: Path) -> list[tuple[str, Any, Mapping[str, Any]]]:
    try:
        loader = YAML_LOADER(text)
        root = loader.get_single_node()
        _refuse_twice(root, path)
        content = loader.construct_document(root) if root is not None else None
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from error
    if not isinstance(content, dict) or not isinstance(content.get("tags"), list):
        raise TagDefinitionError(
            f"{path} has no list under 'tags:'.",
            remedy="Write the file as a mapping with a list of tags under 'tags:'.",
            zh=f"{path} 中没有 tags 列表，请在 tags: 下逐个列出标签。",
        )
    defaults = content.get("defaults") or {}
    if set(content) - {"tags", "defaults"} or not isinstance(defaults, dict):
        raise TagDefinitionError(
            f"{path} has other top-level fields: {', '.join(sorted(map(str, content)))}.",
            remedy="A file of tags has 'tags' and, if wanted, a mapping under 'defaults'.",
            zh=f"{path} 的顶层字段有误：只允许 tags 列表与 defaults 映射。",
        )
    lines = _lines_of_tags(root)
    return [
        (f"{path}:{line}", raw, defaults) for line, raw in zip(lines, content["tags"], strict=True)
    ]


def _not_yaml(path: Path, error: Exception) -> TagDefinitionError:
    said = " ".join(str(error).split())
    return TagDefinitionError(
        f"{path} is not YAML: {said}.",
        remedy="Mend the file; it must be UTF-8.",
        zh=f"{path} 不是合法的 YAML 文件（须为 UTF-8）：{said}。",
    )


def _lines_of_tags(root: yaml.Node | None) -> list[int]:
    """Return the line at which each item under ``tags`` starts."""
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    return [
        item.start_mark.line + 1
        for key, value in pairs
        if key.value == "tags"
        for item in value.value
    ]


def _refuse_twice(node: yaml.Node | None, path: Path) -> None:
    """Refuse a key that stands twice in one mapping; YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise TagDefinitionError(
                    f"{path}:{line}: the field {key.value!r} stands twice.",
                    remedy="Keep one of the two.",
                    zh=f"{path}：{line}：字段 {key.value!r} 重复，请只保留一个。",
                )
            seen.add(key.value)
            _refuse_twice(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_twice(child, path)


def parse_definition(
    raw: Any, *, origin: str = "", defaults: Mapping[str, Any] | None = None
) -> TagDefinition:
    """Make a tag of a mapping such as one item of a YAML list.

    Parameters
    ----------
    raw
        Fields by name.
    origin
        Where it stands, for messages.
    defaults
        Fields that hold where ``raw`` does not give them.

    Raises
    ------
    TagDefinitionError
        If a field is unknown, missing or of the wrong form.
    """
    name = raw.get("name", "?") if isinstance(raw, dict) else "?"
    if not isinstance(raw, dict) or not isinstance(name, str):
        raise TagDefinitionError(
            f"{origin}: this is not a tag: {str(raw)[:60]!r}.",
            remedy="A tag is a mapping with a name.",
            zh=f"{origin}：此处不是标签定义，标签须为带 name 的映射。",
        )
    values = {**(defaults or {}), **raw}
    place = Place(name, origin)
    for key in values:
        if key not in _FIELDS:
            near = nearest(str(key), _FIELDS)
            raise tag_problem(
                place,
                f"unknown field {key!r}.",
                remedy=f"Did you mean {near}?" if near else f"Fields: {', '.join(_FIELDS)}.",
                zh=f"未知字段 {key!r}" + (f"，是否应为 {near}？" if near else "。"),
            )
    if missing := [key for key in _REQUIRED if values.get(key) in (None, "")]:
        raise tag_problem(
            place,
            f"missing field {', '.join(map(repr, missing))}.",
            remedy="Every tag has a title, a meaning, a definition, an owner and a category.",
            zh=f"缺少字段 {'、'.join(missing)}。",
        )
    parsed = {key: _parse_field(place, key, value) for key, value in values.items()}
    return replace(TagDefinition(**parsed), origin=origin)


def _parse_field(place: Place, key: str, value: Any) -> Any:
    if value is None:
        return None
    if kind := _ENUMS.get(key):
        if value not in [member.value for member in kind]:
            allowed = ", ".join(member.value for member in kind)
            raise tag_problem(
                place,
                f"unknown {key} {value!r}.",
                remedy=f"Choose one of: {allowed}.",
                zh=f"未知的 {key} {value!r}，可选：{allowed}。",
            )
        return kind(value)
    if key in _TEXTS:
        return _parse_text(place, key, value)
    if key == "codes":
        return _parse_codes(place, value)
    if key == "thresholds":
        return _parse_thresholds(place, value)
    if key in ("version", "window_months"):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _wrong(place, key, "a whole number from 1 up", "不小于 1 的整数")
    elif key != "default" and not isinstance(value, str):
        raise _wrong(place, key, "a text", "文本")
    return value


def _parse_text(place: Place, key: str, value: Any) -> Text:
    whole = isinstance(value, dict) and set(value) == {"zh", "en"}
    if not whole or not all(isinstance(t, str) and t.strip() for t in value.values()):
        raise _wrong(place, key, "a text in both zh and en", "含 zh 与 en 两种语言的文本")
    return {language: text.strip() for language, text in value.items()}


def _parse_codes(place: Place, value: Any) -> Mapping[str, Text]:
    if not isinstance(value, dict) or not value:
        raise _wrong(place, "codes", "a mapping from code to title", "编码到名称的映射")
    if any(isinstance(code, bool) or not isinstance(code, (str, int)) for code in value):
        raise _wrong(place, "codes", "a mapping whose codes are texts (quote yes/no)", "文本编码")
    return {str(code): _parse_text(place, f"codes.{code}", text) for code, text in value.items()}


def _parse_thresholds(place: Place, value: Any) -> Mapping[str, Threshold]:
    whole = isinstance(value, dict) and all(
        isinstance(key, str)
        and _THRESHOLD.fullmatch(key)
        and (_is_plain(item) or (isinstance(item, list) and item and all(map(_is_plain, item))))
        for key, item in value.items()
    )
    if not whole:
        raise _wrong(place, "thresholds", "a mapping from name to a value or list", "阈值映射")
    return {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}


def _is_plain(value: Any) -> bool:
    """Tell whether a threshold can be this single value."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (str, int, date))


def _wrong(place: Place, key: str, wanted: str, wanted_zh: str) -> TagDefinitionError:
    return tag_problem(place, f"{key!r} must be {wanted}.", zh=f"{key} 须为{wanted_zh}。")
