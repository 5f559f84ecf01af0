"""Who uses which tag: campaigns, offers, rules, scenes, filters, recipes and models, by file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from bihuan.audience import AudienceError, parse, tags_of
from bihuan.kernel.document import read_yaml
from bihuan.tag import TagDictionary

KINDS = ("campaigns", "offers", "rules", "scenes", "filters", "cohorts", "models", "recipes")
"""Folders of a workspace whose files name tags."""

_RULES = frozenset(
    {"audience", "eligibility", "condition", "population", "label", "within", "goal", "where"}
)
"""Fields that hold an audience's text."""
_NAMES = frozenset({"features", "tags", "columns", "risk_tag", "rank_by", "score", "by"})
"""Fields that hold the name of a tag, or a list of names."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def tag_uses(root: Path, dictionary: TagDictionary) -> dict[str, tuple[str, ...]]:
    """Return, for each tag that is used by a definition file, the files that use it.

    A name counts where the file's form expects a tag or a rule over tags; a word in a title does
    not. A template whose text is not yet a rule is searched for words that are tags.

    Parameters
    ----------
    root
        The workspace's folder.
    dictionary
        The tags; they may be named by name or by title.

    Returns
    -------
    dict[str, tuple[str, ...]]
        Files as ``campaigns/spring.yaml``, sorted.
    """
    by_title = {title.casefold(): tag.name for tag in dictionary for title in tag.title.values()}
    uses: dict[str, set[str]] = {}
    for kind in KINDS:
        for path in sorted((root / kind).glob("*.yaml")):
            for word in _words_of(path):
                name = word if word in dictionary else by_title.get(word.casefold())
                if name is not None:
                    uses.setdefault(name, set()).add(f"{kind}/{path.name}")
    return {name: tuple(sorted(files)) for name, files in sorted(uses.items())}


def _words_of(path: Path) -> set[str]:
    try:
        content = read_yaml(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, yaml.YAMLError):
        return set()  # whoever loads the file is told what is wrong with it
    return set(_walk(content))


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in _RULES and isinstance(inner, str):
                yield from _rule_words(inner)
            elif key in _NAMES:
                yield from _names(inner)
                yield from _walk(inner)
            else:
                yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _rule_words(text: str) -> Iterable[str]:
    try:
        return tags_of(parse(text))
    except AudienceError:
        return _WORD.findall(_QUOTED.sub(" ", text))


def _names(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield item
