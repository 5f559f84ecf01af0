"""The tag dictionary, as callers read it."""

from __future__ import annotations

from typing import Any

from bihuan.server.app.errors import missing
from bihuan.server.app.service import Service
from bihuan.tag import TagDefinition


def find(
    service: Service, text: str, subject: str, after: str, limit: int
) -> tuple[list[TagDefinition], str | None]:
    """Return tags by name whose name or title contains ``text``, and the name to go on after.

    Parameters
    ----------
    service
        The running service.
    text
        Part of a name or title in either language, any case; empty: all.
    subject
        Only tags of this subject; empty: all.
    after
        Name of the last tag seen; empty: from the start.
    limit
        How many at most.
    """
    wanted = text.casefold()
    dictionary = service.workspace.dictionary
    found: list[TagDefinition] = []
    for name in sorted(dictionary.names):
        if name <= after:
            continue
        tag = dictionary.get(name)
        if subject and tag.subject.value != subject:
            continue
        if wanted and wanted not in " ".join((name, *tag.title.values())).casefold():
            continue
        if len(found) == limit:
            return found, found[-1].name
        found.append(tag)
    return found, None


def describe(tag: TagDefinition) -> dict[str, Any]:
    """Return a tag in plain values."""
    return {
        "name": tag.name,
        "title": dict(tag.title),
        "meaning": dict(tag.meaning),
        "definition": dict(tag.definition),
        "category": tag.category,
        "layer": tag.layer.value,
        "subject": tag.subject.value,
        "means": tag.means.value,
        "type": tag.type.value,
        "unit": tag.unit,
        "state": tag.state.value,
        "owner": tag.owner,
        "refresh": tag.refresh.value,
        "codes": {code: dict(title) for code, title in tag.codes.items()} if tag.codes else None,
    }


def describe_whole(service: Service, name: str) -> dict[str, Any]:
    """Return a tag in plain values, with where it comes from and what is made of it.

    Raises
    ------
    NotFoundError
        If there is no such tag.
    """
    dictionary = service.workspace.dictionary
    tag = dictionary.find(name)
    if tag is None:
        raise missing("tag", "标签", name)
    lineage = dictionary.lineage(name)
    return {
        **describe(tag),
        "expression": tag.expression,
        "columns": list(lineage.all_columns),
        "tags": list(lineage.tags),
        "users": list(lineage.users),
    }
