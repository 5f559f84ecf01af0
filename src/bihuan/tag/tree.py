"""The tag tree: first-, second- and third-level categories with the tags that stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bihuan.kernel import UserError
from bihuan.tag.definition import TagDefinition
from bihuan.tag.expression import nearest


class UnknownCategoryError(UserError):
    """There is no category of that path."""


@dataclass(frozen=True, slots=True)
class TagBranch:
    """One category of the tree, with what is below it.

    Parameters
    ----------
    name
        Its own name; empty at the root.
    path
        Names from the first level down, ``/`` between them; empty at the root.
    count
        Number of tags at it or below it.
    tags
        Names of the tags at it, in the dictionary's order.
    branches
        Categories below it, sorted by name.
    """

    name: str
    path: str
    count: int
    tags: tuple[str, ...]
    branches: tuple[TagBranch, ...]

    @property
    def depth(self) -> int:
        """Greatest number of levels below it."""
        return max((1 + branch.depth for branch in self.branches), default=0)

    def walk(self) -> Iterator[TagBranch]:
        """Give every category below it, each before those below that."""
        for branch in self.branches:
            yield branch
            yield from branch.walk()

    def all_tags(self) -> tuple[str, ...]:
        """Return the names of the tags at it and below it."""
        below = (name for branch in self.branches for name in branch.all_tags())
        return (*self.tags, *below)

    def get(self, path: str) -> TagBranch:
        """Return the category of a path that begins at this one.

        Raises
        ------
        UnknownCategoryError
            With the nearest names.
        """
        if not path.strip("/"):
            return self
        first, _, rest = path.strip("/").partition("/")
        for branch in self.branches:
            if branch.name == first:
                return branch.get(rest)
        names = [branch.name for branch in self.branches]
        near = nearest(first, names) or ", ".join(names)
        raise UnknownCategoryError(
            f"There is no category '{first}' under '{self.path or '/'}'.",
            remedy=f"There is: {near}." if near else "It has no categories below it.",
            zh=f"“{self.path or '/'}”下没有类目“{first}”，现有：{'、'.join(names) or '无'}。",
        )

    def to_text(self) -> str:
        """Return the tree as indented text, one category per line with its count.

        Examples
        --------
        >>> leaf = TagBranch("人口", "自然/人口", 2, ("age", "gender"), ())
        >>> print(TagBranch("", "", 2, (), (TagBranch("自然", "自然", 2, (), (leaf,)),)).to_text())
        自然 (2)
          人口 (2)
        """
        return "\n".join(
            f"{'  ' * branch.path.count('/')}{branch.name} ({branch.count})"
            for branch in self.walk()
        )


def build_tree(tags: Iterable[TagDefinition]) -> TagBranch:
    """Put tags into the tree of their categories.

    Parameters
    ----------
    tags
        In the order in which a category shows them.
    """
    return _branch("", "", [(tag.category.strip("/").split("/"), tag.name) for tag in tags])


def _branch(name: str, path: str, members: list[tuple[list[str], str]]) -> TagBranch:
    below: dict[str, list[tuple[list[str], str]]] = {}
    for parts, tag in members:
        if parts:
            below.setdefault(parts[0], []).append((parts[1:], tag))
    prefix = f"{path}/" if path else ""
    return TagBranch(
        name=name,
        path=path,
        count=len(members),
        tags=tuple(tag for parts, tag in members if not parts),
        branches=tuple(_branch(key, f"{prefix}{key}", below[key]) for key in sorted(below)),
    )
