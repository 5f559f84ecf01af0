"""Tag files changed by the program as a careful person would: one item, the rest untouched.

An item is found by its place in the YAML text and only its own lines are written anew, so that
comments, order and layout of everything else stay. What comes out is read back and compared: no
other tag may have changed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from bihuan.kernel import UserError
from bihuan.kernel.document import read_yaml
from bihuan.tag.definition import TagDefinition
from bihuan.tag.load import load_definitions, parse_definitions

NEW_PAGE = "# Tags that came in over the tag desk.\ntags:\n"
_ORDER = tuple(f.name for f in fields(TagDefinition) if f.name != "origin")
_USUAL: Mapping[str, Any] = {
    f.name: f.default if f.default is not MISSING else {}
    for f in fields(TagDefinition)
    if f.default is not MISSING or f.default_factory is not MISSING
}


class TagPageError(UserError):
    """A tag's file cannot be changed by the program."""


@dataclass(frozen=True, slots=True)
class Page:
    """One YAML file of tags.

    Parameters
    ----------
    path
        Where it is.
    text
        What it says.
    """

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Page:
        """Read a file as it is."""
        return cls(path, path.read_text(encoding="utf-8-sig"))

    def tags(self) -> dict[str, TagDefinition]:
        """Return its tags by name."""
        return {tag.name: tag for tag in parse_definitions(self.text, self.path)}

    def with_fields(self, changes: Mapping[str, Mapping[str, str | int]]) -> Page:
        """Set single fields of some tags.

        Parameters
        ----------
        changes
            New values by field, by tag.
        """
        edits: list[tuple[int, int, str]] = []
        for item in self._items():
            name = _name_of(item)
            for key, value in changes.get(name, {}).items():
                edits.append(_edit(item, key, _scalar(_plain(value))))
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return self._checked(text, set(changes))

    def with_tag(self, tag: TagDefinition) -> Page:
        """Write a tag: in the place of its namesake, or at the end."""
        defaults = self._defaults()
        lines = _item_lines(tag, defaults)
        items = self._items()
        old = next((i for i, item in enumerate(items) if _name_of(item) == tag.name), None)
        whole = self.text.splitlines()
        if old is None:
            at = _end(items, len(items) - 1, whole) if items else len(whole)
            indent = " " * (items[0].start_mark.column - 2) if items else "  "
            whole[at:at] = [indent + line for line in lines]
        else:
            item = items[old]
            first, last = item.start_mark.line, _end(items, old, whole)
            indent = whole[first][: item.start_mark.column - 2]
            if indent.strip():
                raise _by_hand(self.path, tag.name)
            whole[first:last] = [indent + line for line in lines]
        return self._checked("\n".join(whole) + "\n", {tag.name})

    def _items(self) -> list[yaml.MappingNode]:
        root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            return []
        for key, value in root.value:
            if key.value == "tags":
                return list(value.value) if isinstance(value, yaml.SequenceNode) else []
        return []

    def _defaults(self) -> Mapping[str, Any]:
        content = read_yaml(self.text)
        return (content or {}).get("defaults") or {}

    def _checked(self, text: str, touched: set[str]) -> Page:
        """Return the page with the new text, if it says the same of every other tag."""
        before, after = self.tags() if self.text != NEW_PAGE else {}, Page(self.path, text).tags()
        for name in before.keys() | after.keys():
            if name not in touched and before.get(name) != after.get(name):
                raise _by_hand(self.path, name)
        return Page(self.path, text)


def pages_of(folder: Path) -> dict[str, Page]:
    """Return, for every tag of a folder, the file that holds it."""
    found: dict[str, Page] = {}
    for path in sorted(folder.glob("*.yaml")):
        page = Page.read(path)
        for tag in load_definitions(path):
            found[tag.name] = page
    return found


def to_mapping(tag: TagDefinition, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a tag as the plain fields of its YAML form, without those that say nothing.

    Parameters
    ----------
    tag
        The tag.
    defaults
        Fields that the file sets for all of its tags, and that must be contradicted here.
    """
    given: dict[str, Any] = {}
    for name in _ORDER:
        value = getattr(tag, name)
        usual = tag.subject.library if name == "library" else _USUAL.get(name, MISSING)
        if value != usual or name in (defaults or {}):
            given[name] = _plain(value)
    return given


def to_yaml(tag: TagDefinition) -> str:
    """Return a tag as the text of a file of its own."""
    return "tags:\n" + "".join(f"  {line}\n" for line in _item_lines(tag, {}))


def _item_lines(tag: TagDefinition, defaults: Mapping[str, Any]) -> list[str]:
    text = yaml.safe_dump(
        [to_mapping(tag, defaults)],
        allow_unicode=True, sort_keys=False, default_flow_style=None, width=10_000,
    )  # fmt: skip
    return text.splitlines()


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [_plain(item) for item in value]
    return value


def _name_of(item: yaml.Node) -> str:
    pairs = item.value if isinstance(item, yaml.MappingNode) else []
    return next((str(value.value) for key, value in pairs if key.value == "name"), "")


def _edit(item: yaml.MappingNode, key: str, new: str) -> tuple[int, int, str]:
    """Return start, end and text of the edit that gives a field of an item its value."""
    for found, value in item.value:
        if found.value == key:
            return value.start_mark.index, value.end_mark.index, new
    found, value = next((k, v) for k, v in item.value if k.value == "name")
    at = value.end_mark.index
    if item.flow_style:
        return at, at, f", {key}: {new}"
    return at, at, f"\n{' ' * found.start_mark.column}{key}: {new}"


def _scalar(value: str | int) -> str:
    text = yaml.safe_dump([value], allow_unicode=True, default_flow_style=True, width=10_000)
    return text.strip()[1:-1]


def _end(items: list[yaml.MappingNode], at: int, lines: list[str]) -> int:
    """Return the number of the line after an item; blank lines and comments below are not its."""
    item = items[at]
    end = items[at + 1].start_mark.line if at + 1 < len(items) else _below(item, lines)
    while end > item.start_mark.line + 1 and (
        not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")
    ):
        end -= 1
    return end


def _below(item: yaml.MappingNode, lines: list[str]) -> int:
    """Return the number of the first line under the last item that stands left of it."""
    for number in range(item.start_mark.line + 1, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) < item.start_mark.column - 1:
            return number
    return len(lines)


def _by_hand(path: Path, name: str) -> TagPageError:
    return TagPageError(
        f"{path.name} is laid out so that '{name}' cannot be changed by the program.",
        remedy="Write its tags as a list of items, one field per line, or change it by hand.",
        zh=f"{path.name} 的写法使程序无法修改标签 {name}，请改为逐行书写的列表，或手工修改。",
    )
