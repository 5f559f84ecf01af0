"""The tag dictionary: every tag, what it stands on, and who stands on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from bihuan.data import ColumnType, TableContract, load_contracts
from bihuan.kernel import UserError, canonical_json
from bihuan.tag.bind import BoundTag, bind_tags, with_codes
from bihuan.tag.definition import Layer, State, TagDefinition
from bihuan.tag.expression import nearest
from bihuan.tag.load import load_definitions
from bihuan.tag.tree import TagBranch, build_tree

LIBRARY_FOLDER = Path(__file__).parent / "library"
"""Sample tags over the built-in contracts: ours, to start from, not any operator's."""


_LAYER_TITLES: Mapping[Layer, Mapping[str, str]] = {
    Layer.BASE: {"zh": "基础标签", "en": "Base tags"},
    Layer.PORTRAIT: {"zh": "画像标签", "en": "Portrait tags"},
    Layer.MARKETING: {"zh": "营销标签", "en": "Marketing tags"},
}
_HEADS: Mapping[str, Mapping[str, str]] = {  # head of the column: key of the row
    "zh": {
        **{"名称": "name", "标题": "title_{}", "内涵": "meaning_{}", "统计口径": "definition_{}"},
        **{"数据来源": "all_sources", "层级": "level", "类目": "category", "手段": "means"},
        **{
            "单位": "unit",
            "周期": "refresh",
            "责任人": "owner",
            "版本": "version",
            "状态": "state",
        },
    },
    "en": {
        **{"Name": "name", "Title": "title_{}", "Meaning": "meaning_{}"},
        **{"Definition": "definition_{}", "Sources": "all_sources", "Level": "level"},
        **{"Category": "category", "Means": "means", "Unit": "unit", "Refresh": "refresh"},
        **{"Owner": "owner", "Version": "version", "State": "state"},
    },
}


_ROW = pa.schema(
    [
        *((name, pa.string()) for name in ("name", "title_zh", "title_en", "meaning_zh")),
        *((name, pa.string()) for name in ("meaning_en", "definition_zh", "definition_en")),
        *((name, pa.list_(pa.string())) for name in ("sources", "tags", "all_sources")),
        *((name, pa.string()) for name in ("level", "layer", "library", "means", "category")),
        *((name, pa.string()) for name in ("type", "unit", "codes", "expression", "model")),
        ("window_months", pa.int64()),
        *((name, pa.string()) for name in ("default", "thresholds", "owner", "refresh")),
        *(("version", pa.int64()), ("state", pa.string())),
    ]
)


class UnknownTagError(UserError):
    """There is no tag of that name, or several of that title."""


@dataclass(frozen=True, slots=True)
class TagField:
    """What a reader of tag values must know of one tag.

    Parameters
    ----------
    name
        The tag's name.
    type
        Type of its values.
    codes
        The values it may have; None where the domain is open.
    title
        Title by language.
    """

    name: str
    type: ColumnType
    codes: frozenset[str] | None
    title: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a tag stands on and who stands on it.

    Parameters
    ----------
    tag
        Its name.
    columns, tags
        ``table.column`` and tags that its own expression reads.
    all_columns, all_tags
        The same, through all tags below it.
    users, all_users
        Tags that read it, and those that read it through others.
    """

    tag: str
    columns: tuple[str, ...]
    tags: tuple[str, ...]
    all_columns: tuple[str, ...]
    all_tags: tuple[str, ...]
    users: tuple[str, ...]
    all_users: tuple[str, ...]


class TagDictionary:
    """All tags, checked against the contracts and against each other.

    Parameters
    ----------
    definitions
        The tags; names are unique.
    contracts
        Contracts of the lake tables by name; None takes the built-in ones.

    Raises
    ------
    TagDefinitionError
        Naming file, line, tag, field and position of everything that is wrong: unknown names,
        aggregates in the wrong place, types that do not fit, cycles, layers that depend on later
        layers, live tags that depend on tags that are not live.
    """

    def __init__(
        self,
        definitions: Iterable[TagDefinition],
        contracts: Mapping[str, TableContract] | None = None,
    ) -> None:
        self.contracts = dict(_built_in() if contracts is None else contracts)
        self._tags: dict[str, TagDefinition] = {}
        for tag in definitions:
            if tag.name in self._tags:
                raise tag.problem(
                    "this name is taken.",
                    remedy="Give one of the two another name.",
                    zh="名称已被使用，请更换其中一个。",
                    at="name",
                )
            self._tags[tag.name] = with_codes(tag, self.contracts)
        self._bound = bind_tags(self._tags, self.contracts)

    @classmethod
    def load(
        cls, *paths: Path, contracts: Mapping[str, TableContract] | None = None
    ) -> TagDictionary:
        """Read the tags of YAML files and of folders of them.

        Parameters
        ----------
        *paths
            Files or folders; a tag of the same name in a later one replaces the earlier.
        contracts
            As in the class.

        Raises
        ------
        TagDefinitionError
            As in the class.
        """
        tags = {tag.name: tag for path in paths for tag in load_definitions(path)}
        return cls(tags.values(), contracts)

    def __len__(self) -> int:
        return len(self._tags)

    def __iter__(self) -> Iterator[TagDefinition]:
        return (self._tags[name] for name in self._bound)

    def __contains__(self, name: object) -> bool:
        return name in self._tags

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tags, each after those it is made from."""
        return tuple(self._bound)

    def find(self, name: str) -> TagDefinition | None:
        """Return the tag of that name, or None."""
        return self._tags.get(name)

    def get(self, name: str) -> TagDefinition:
        """Return the tag of that name.

        Raises
        ------
        UnknownTagError
            With the nearest names.
        """
        if name in self._tags:
            return self._tags[name]
        raise unknown_tag(name, self._tags)

    def bound(self, name: str) -> BoundTag:
        """Return the tag with its checked expression; raise as :meth:`get`."""
        self.get(name)
        return self._bound[name]

    def live(self, subject: str) -> tuple[TagDefinition, ...]:
        """Return the live tags of a subject, each after those it is made from."""
        return self.select(subject=subject, state=State.LIVE)

    def schema(self, subject: str) -> dict[str, TagField]:
        """Return the fields of the live tags of a subject, by name."""
        return {tag.name: field_of(tag) for tag in self.live(subject)}

    def select(
        self,
        *,
        subject: str | None = None,
        layer: str | None = None,
        library: str | None = None,
        category: str | None = None,
        state: str | None = None,
    ) -> tuple[TagDefinition, ...]:
        """Return the tags that fit all that is given, each after those it is made from.

        Parameters
        ----------
        subject, layer, library, state
            Exact values.
        category
            A path; every tag at it or below it.
        """
        return tuple(
            tag
            for tag in self
            if subject in (None, tag.subject)
            and layer in (None, tag.layer)
            and library in (None, tag.library)
            and state in (None, tag.state)
            and (category is None or f"{tag.category}/".startswith(f"{category.strip('/')}/"))
        )

    def categories(self) -> dict[str, int]:
        """Return every path of the tag tree with the number of tags at it or below, sorted."""
        counts: dict[str, int] = {}
        for tag in self:
            parts = tag.category.strip("/").split("/")
            for depth in range(1, len(parts) + 1):
                path = "/".join(parts[:depth])
                counts[path] = counts.get(path, 0) + 1
        return dict(sorted(counts.items()))

    def tree(self, subject: str | None = None) -> TagBranch:
        """Return the live tags, of one subject or of all, in the tree of their categories."""
        return build_tree(self.select(subject=subject, state=State.LIVE))

    def lineage(self, name: str) -> Lineage:
        """Return what a tag stands on and who stands on it; raise as :meth:`get`."""
        self.get(name)
        all_tags = self._reach(name, lambda tag: self._bound[tag].upstream)
        all_users = self._reach(name, lambda tag: self._users.get(tag, ()))
        columns = {column for tag in (name, *all_tags) for column in self._columns(tag)}
        return Lineage(
            tag=name,
            columns=self._columns(name),
            tags=self._bound[name].upstream,
            all_columns=tuple(sorted(columns)),
            all_tags=all_tags,
            users=self._users.get(name, ()),
            all_users=all_users,
        )

    def tags_on(self, table: str, column: str | None = None) -> tuple[str, ...]:
        """Return the tags that stand, at any distance, on a lake table or on one column of it."""
        wanted = f"{table}.{column}." if column else f"{table}."
        return tuple(
            name
            for name in self._bound
            if any(f"{found}."[: len(wanted)] == wanted for found in self.lineage(name).all_columns)
        )

    def group(self, name: str) -> str:
        """Return the group in which a tag is derived.

        The group of a tag with a source or a model is that table; the others go by layer and by
        how many steps they stand above tags of earlier layers: ``portrait_1``, ``portrait_2``.
        """
        tag = self.get(name)
        return tag.group or f"{tag.layer}_{self._levels[name]}"

    def rank(self, name: str) -> tuple[int, int]:
        """Return a tag's place in the order of derivation: a group comes after lower ranks."""
        tag = self.get(name)
        if tag.table is not None:
            return (0, 0)
        return (1 + list(Layer).index(tag.layer), self._levels[name])

    def to_table(self) -> pa.Table:
        """Return the dictionary as a table, one row per tag, by layer and name.

        Columns: name, titles, meaning (内涵) and definition (口径) by language, the source fields
        and tags it is made from, level (the subject at which it applies), layer, library, means,
        category, type, unit, codes, expression, model, window, thresholds, owner, refresh period,
        version and state.
        """
        order = sorted(self, key=lambda tag: (list(Layer).index(tag.layer), tag.name))
        return pa.Table.from_pylist([self._row(tag) for tag in order], schema=_ROW)

    def to_json(self) -> str:
        """Return the same as JSON, a list of objects."""
        return json.dumps(self.to_table().to_pylist(), ensure_ascii=False, indent=1)

    def to_markdown(self, language: str = "zh") -> str:
        """Return the same as Markdown, a table for each layer, in ``zh`` or ``en``."""
        heads = _HEADS[language]
        lines = []
        for layer in Layer:
            tags = sorted(self.select(layer=layer), key=lambda tag: (tag.category, tag.name))
            if tags:
                lines += ["", f"## {_LAYER_TITLES[layer][language]}", ""]
                lines += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
            for tag in tags:
                cells = [_cell(self._row(tag)[key.format(language)]) for key in heads.values()]
                lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines[1:]) + "\n"

    def _row(self, tag: TagDefinition) -> dict[str, Any]:
        lineage = self.lineage(tag.name)
        texts = {
            f"{key}_{language}": getattr(tag, key)[language]
            for key in ("title", "meaning", "definition")
            for language in ("zh", "en")
        }
        words = ("layer", "library", "means", "type", "refresh", "state")
        plain = ("unit", "category", "expression", "model", "window_months", "owner", "version")
        return {
            "name": tag.name,
            **texts,
            "level": tag.subject.value,
            "sources": list(lineage.columns),
            "tags": list(lineage.tags),
            "all_sources": list(lineage.all_columns),
            **{key: str(getattr(tag, key)) for key in words},
            **{key: getattr(tag, key) for key in plain},
            "default": None if tag.default is None else str(tag.default),
            "codes": canonical_json(tag.codes) if tag.codes else None,
            "thresholds": canonical_json(dict(tag.thresholds)) if tag.thresholds else None,
        }

    def with_definition(self, tag: TagDefinition) -> TagDictionary:
        """Return a dictionary in which ``tag`` is added or takes the place of its namesake.

        Raises
        ------
        TagDefinitionError
            As in the class; also if the tag that is replaced is live and comes out otherwise
            than before although its version is not a later one.
        """
        old = self.find(tag.name)
        if old is not None and old.state is State.LIVE and tag.version <= old.version:
            require_same_values(old.calculation_id, tag)
        return TagDictionary([*(t for t in self if t.name != tag.name), tag], self.contracts)

    @cached_property
    def _users(self) -> dict[str, tuple[str, ...]]:
        users: dict[str, list[str]] = {}
        for name in self._bound:
            for used in self._bound[name].upstream:
                users.setdefault(used, []).append(name)
        return {name: tuple(found) for name, found in users.items()}

    @cached_property
    def _levels(self) -> dict[str, int]:
        levels: dict[str, int] = {}
        for name in self._bound:
            tag = self._tags[name]
            if tag.table is None:
                same = [
                    levels[used]
                    for used in self._bound[name].upstream
                    if used in levels and self._tags[used].layer is tag.layer
                ]
                levels[name] = 1 + max(same, default=0)
        return levels

    def _columns(self, name: str) -> tuple[str, ...]:
        tag, columns = self._tags[name], self._bound[name].expression.columns
        if tag.table is None:
            return ()
        # count(*) reads no column but the one by which the rows are the subject's
        return tuple(f"{tag.table}.{column}" for column in columns or (tag.id_column,))

    def _reach(self, name: str, step: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        front = list(step(name))
        while front:
            tag = front.pop(0)
            if tag not in found:
                found[tag] = None
                front.extend(step(tag))
        return tuple(sorted(found))


@cache
def _built_in() -> Mapping[str, TableContract]:
    """Contracts that come with the package; files that do not change while it runs."""
    return load_contracts()


def field_of(tag: TagDefinition) -> TagField:
    """Return what a reader of a tag's values must know."""
    codes = None if tag.codes is None else frozenset(tag.codes)
    return TagField(tag.name, tag.type, codes, tag.title)


def unknown_tag(name: str, known: Iterable[str]) -> UnknownTagError:
    """Make the error for a name that is not one of ``known``."""
    near = nearest(name, known)
    return UnknownTagError(
        f"There is no tag '{name}'.",
        remedy=f"Did you mean {near}?" if near else "List the tags to see their names.",
        zh=f"没有名为 {name} 的标签" + (f"，是否应为 {near}？" if near else "，请查看标签列表。"),
    )


def require_same_values(calculation_id: str, tag: TagDefinition) -> None:
    """Check that a live tag is counted as it was, for its version says that it is.

    Raises
    ------
    TagDefinitionError
        If it is not.
    """
    if tag.calculation_id != calculation_id:
        raise tag.problem(
            f"it is live as version {tag.version}, and this changes what it says.",
            remedy=f"Write version: {tag.version + 1}.",
            zh=f"第 {tag.version} 版已上线，修改口径须升级版本：version: {tag.version + 1}。",
            at="version",
        )


def _cell(value: Any) -> str:
    """Write one cell of a Markdown table."""
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return " ".join(text.replace("|", "\\|").split())
