"""Editing a policy file in place: what people wrote around a statement stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml

from bihuan.kernel.document import Document, DocumentError, read_yaml
from bihuan.strategy.policy.impact import PolicyChange
from bihuan.strategy.policy.statement import PolicyStatement, read_statement


def parse_statement(text: str, where: str = "new policy") -> PolicyStatement:
    """Read one statement from its YAML text.

    Parameters
    ----------
    text
        The fields of one entry of ``policies:``.
    where
        What to call it in messages.

    Raises
    ------
    DocumentError
        If it is no such text; names the field.
    """
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise DocumentError(
            f"{where} is not YAML: {error}.",
            remedy="Correct the place named.",
            zh=f"{where} 不是有效的 YAML:{error}。请更正。",
        ) from error
    return read_statement(Document(value, where))


def edit_text(text: str, change: PolicyChange) -> str:
    """Return the text of a policy file after a change.

    Comments and order stay; an approval changes one word.

    Parameters
    ----------
    text
        The file as it is; may be empty.
    change
        What to put in or take out.

    Raises
    ------
    DocumentError
        If the list is written in one pair of brackets, where nothing can be put in safely.
    """
    entries = _entries(text)
    found = next((e for e in _items(entries) if _id_of(e) == change.policy_id), None)
    if change.statement is None:
        return text if found is None else _cut(text, found)
    if found is None:
        return _append(text, entries, change.statement)
    old = read_statement(Document(read_yaml(_source(text, found)), ""))
    if replace(old, status=change.statement.status, place="") == replace(
        change.statement, place=""
    ):
        status = _value_of(found, "status")
        return _splice(text, status.start_mark.index, status.end_mark.index,
                       change.statement.status)  # fmt: skip
    begin, end = _span(text, found)
    return _splice(text, begin, end, _dump(change.statement, found.start_mark.column))


def _entries(text: str) -> yaml.Node | None:
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(top, yaml.MappingNode):
        return None
    return next((value for key, value in top.value if key.value == "policies"), None)


def _items(entries: yaml.Node | None) -> list[yaml.MappingNode]:
    return list(entries.value) if isinstance(entries, yaml.SequenceNode) else []


def _value_of(entry: yaml.MappingNode, name: str) -> Any:
    return next((value for key, value in entry.value if key.value == name), None)


def _id_of(entry: yaml.MappingNode) -> str:
    node = _value_of(entry, "policy_id")
    return "" if node is None else str(node.value).strip()


def _span(text: str, node: yaml.Node) -> tuple[int, int]:
    """Return where a node begins and ends, without the blank and comment lines after it."""
    begin, end = node.start_mark.index, node.end_mark.index
    lines = text[begin:end].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return begin, begin + len("".join(lines).rstrip())


def _source(text: str, node: yaml.Node) -> str:
    begin, end = _span(text, node)
    return " " * node.start_mark.column + text[begin:end]


def _splice(text: str, begin: int, end: int, new: str) -> str:
    return text[:begin] + new + text[end:]


def _cut(text: str, entry: yaml.MappingNode) -> str:
    """Take out an entry with its dash and its line end."""
    begin, end = _span(text, entry)
    line = text.rfind("\n", 0, begin) + 1
    after = text.find("\n", end)
    return text[:line] + ("" if after < 0 else text[after + 1 :])


def _dash(text: str, entry: yaml.MappingNode) -> int:
    """Return the column of the dash before an entry."""
    line = text.rfind("\n", 0, entry.start_mark.index) + 1
    return text.index("-", line) - line


def _append(text: str, entries: yaml.Node | None, statement: PolicyStatement) -> str:
    items = _items(entries)
    if isinstance(entries, yaml.SequenceNode) and entries.flow_style and items:
        raise DocumentError(
            "The list under policies: is written in brackets.",
            remedy="Write one  - policy_id: ...  per statement, then try again.",
            zh="policies: 下的列表写在方括号内。请改为每条政策以  - policy_id: ...  开头。",
        )
    if items:
        _, end = _span(text, items[-1])
        column = _dash(text, items[-1]) + 2
        return _splice(text, end, end, "\n" + _item(statement, column))
    if entries is not None:  # an empty list, or nothing after the colon
        begin, end = entries.start_mark.index, entries.end_mark.index
        return _splice(text, begin, end, "\n" + _item(statement, 4)).rstrip() + "\n"
    head = text if not text.strip() or text.endswith("\n") else text + "\n"
    return f"{head}policies:\n{_item(statement, 4)}\n"


def _item(statement: PolicyStatement, column: int) -> str:
    return " " * (column - 2) + "- " + _dump(statement, column)


def _dump(statement: PolicyStatement, column: int) -> str:
    text = yaml.safe_dump(
        statement.to_document(), allow_unicode=True, sort_keys=False, default_flow_style=None,
        width=96 - column,
    )  # fmt: skip
    return text.rstrip().replace("\n", "\n" + " " * column)
