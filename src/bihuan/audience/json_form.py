"""The JSON form: what is stored and what travels to the console.

::

    {"version": 1, "tree": {"op": "and", "parts": [
        {"op": ">=", "tag": "arpu", "value": {"number": "58.37"}},
        {"op": "not", "part": {"op": "flag", "tag": "has_contract"}},
        {"op": "in", "tag": "city", "values": ["石家庄"]},
        {"op": "between", "tag": "joined_on", "low": {"date": "2026-01-31"}, "high": ...},
        {"op": "missing", "tag": "city"}, {"op": "member", "audience_id": "loyal"},
        {"op": "everyone"}, {"op": "nobody"}]}}

Numbers are written as text, because a JSON number loses digits in most readers; plain JSON
numbers are accepted on the way in.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from bihuan.audience.algebra import (
    MAX_DEPTH,
    OPERATORS,
    And,
    Between,
    Compare,
    Everyone,
    Flag,
    In,
    Member,
    Missing,
    Nobody,
    Node,
    Not,
    Or,
)
from bihuan.audience.literal import AudienceError, Value, day_of, literal, literal_key
from bihuan.kernel import DefectError

VERSION = 1


class AudienceFormError(AudienceError):
    """A JSON document does not have the form of an audience; the message names the path."""


def to_json(node: Node) -> dict[str, Any]:
    """Write an audience as plain dicts, lists, strings and booleans.

    Examples
    --------
    >>> to_json(Compare("arpu", ">=", 80))["tree"]
    {'op': '>=', 'tag': 'arpu', 'value': {'number': '80'}}
    """
    return {"version": VERSION, "tree": tree_json(node)}


def from_json(document: object) -> Node:
    """Read what :func:`to_json` writes.

    Parameters
    ----------
    document
        As parsed by ``json.loads``.

    Returns
    -------
    Node
        Equal to the one that was written.

    Raises
    ------
    AudienceFormError
        For another version, an unknown key, a missing key, a wrong type; with the path, for
        example ``$.tree.parts[1].value``.

    Examples
    --------
    >>> node = And((Flag("has_contract"), Compare("arpu", ">=", Decimal("58.37"))))
    >>> from_json(to_json(node)) == node
    True
    """
    whole = _fields(document, "$", "version", "tree")
    if whole["version"] != VERSION or isinstance(whole["version"], bool):
        _refuse(
            "$.version",
            f"is {_short(whole['version'])}",
            f"Write the audience in version {VERSION}.",
        )
    return _read(whole["tree"], "$.tree", 1)


def tree_json(node: Node) -> dict[str, Any]:
    """Write a tree without the envelope."""
    write = _WRITERS.get(type(node))
    if write is None:
        raise DefectError(f"No JSON form for a {type(node).__name__}.")
    return write(node)


_WRITERS: dict[type[Node], Callable[[Any], dict[str, Any]]] = {
    And: lambda node: {"op": "and", "parts": [tree_json(part) for part in node.parts]},
    Or: lambda node: {"op": "or", "parts": [tree_json(part) for part in node.parts]},
    Not: lambda node: {"op": "not", "part": tree_json(node.part)},
    Compare: lambda node: {"op": node.op, "tag": node.tag, "value": _value_json(node.value)},
    In: lambda node: {
        "op": "in",
        "tag": node.tag,
        "values": [_value_json(value) for value in node.values],
    },
    Between: lambda node: {
        "op": "between",
        "tag": node.tag,
        "low": _value_json(node.low),
        "high": _value_json(node.high),
    },
    Flag: lambda node: {"op": "flag", "tag": node.tag},
    Missing: lambda node: {"op": "missing", "tag": node.tag},
    Member: lambda node: {"op": "member", "audience_id": node.audience_id},
    Everyone: lambda _: {"op": "everyone"},
    Nobody: lambda _: {"op": "nobody"},
}


def _value_json(value: Value) -> Any:
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, date):
        return {"date": value.isoformat()}
    return {"number": str(literal(Decimal(str(literal_key(value)[1]))))}


_Reader = Callable[[Mapping[str, Any], str, int], Node]


def _read(raw: object, path: str, depth: int) -> Node:
    if depth > MAX_DEPTH:
        _refuse(
            path, f"is nested more than {MAX_DEPTH} levels deep", "Save a part of it by itself."
        )
    op = raw.get("op") if isinstance(raw, Mapping) else None
    found = _READERS.get(op) if isinstance(op, str) else None
    if found is None:
        known = " ".join(_READERS)
        _refuse(path, f"has no known op ({_short(op)})", f"Use one of: {known}.")
    keys, reader = found
    fields = _fields(raw, path, "op", *keys)
    try:
        return reader(fields, path, depth)
    except AudienceFormError:
        raise
    except AudienceError as error:
        raise AudienceFormError(
            f"{path}: {error.message}", remedy=error.remedy, zh=f"{path}:{error.zh}"
        ) from error


def _parts(fields: Mapping[str, Any], path: str, depth: int) -> tuple[Node, ...]:
    raw = _list(fields, "parts", path)
    return tuple(_read(part, f"{path}.parts[{i}]", depth + 1) for i, part in enumerate(raw))


def _in(fields: Mapping[str, Any], path: str, depth: int) -> Node:
    del depth
    raw = _list(fields, "values", path)
    values = tuple(_value(value, f"{path}.values[{i}]") for i, value in enumerate(raw))
    return In(_text(fields, "tag", path), values)


def _compare(fields: Mapping[str, Any], path: str, depth: int) -> Node:
    del depth
    value = _value(fields["value"], f"{path}.value")
    return Compare(_text(fields, "tag", path), fields["op"], value)


def _between(fields: Mapping[str, Any], path: str, depth: int) -> Node:
    del depth
    low, high = (_value(fields[end], f"{path}.{end}") for end in ("low", "high"))
    return Between(_text(fields, "tag", path), low, high)


_READERS: dict[str, tuple[tuple[str, ...], _Reader]] = {
    "and": (("parts",), lambda f, path, depth: And(_parts(f, path, depth))),
    "or": (("parts",), lambda f, path, depth: Or(_parts(f, path, depth))),
    "not": (("part",), lambda f, path, depth: Not(_read(f["part"], f"{path}.part", depth + 1))),
    **dict.fromkeys(OPERATORS, (("tag", "value"), _compare)),
    "in": (("tag", "values"), _in),
    "between": (("tag", "low", "high"), _between),
    "flag": (("tag",), lambda f, path, _: Flag(_text(f, "tag", path))),
    "missing": (("tag",), lambda f, path, _: Missing(_text(f, "tag", path))),
    "member": (("audience_id",), lambda f, path, _: Member(_text(f, "audience_id", path))),
    "everyone": ((), lambda _f, _path, _: Everyone()),
    "nobody": ((), lambda _f, _path, _: Nobody()),
}


def _value(raw: object, path: str) -> Value:
    try:
        return _literal(raw, path)
    except AudienceFormError:
        raise
    except AudienceError as error:
        raise AudienceFormError(
            f"{path}: {error.message}", remedy=error.remedy, zh=f"{path}:{error.zh}"
        ) from error


def _literal(raw: object, path: str) -> Value:
    if isinstance(raw, float):
        return literal(Decimal(repr(raw)))
    if isinstance(raw, (bool, str, int, Decimal)):
        return literal(raw)
    if isinstance(raw, Mapping) and set(raw) == {"number"} and isinstance(raw["number"], str):
        return literal(_parsed(Decimal, raw["number"], f"{path}.number", "58.37"))
    if isinstance(raw, Mapping) and set(raw) == {"date"} and isinstance(raw["date"], str):
        return literal(_parsed(day_of, raw["date"], f"{path}.date", "2026-01-31"))
    return _refuse(
        path,
        f"is not a value ({_short(raw)})",
        'Write a string, true or false, {"number": "58.37"} or {"date": "2026-01-31"}.',
    )


def _parsed(read: Callable[[str], Any], text: str, path: str, example: str) -> Any:
    try:
        if text.strip() != text or "_" in text:
            raise ValueError(text)
        return read(text)
    except (ValueError, InvalidOperation):
        _refuse(path, f"cannot be read ({text!r})", f"Write it like {example}.")


def _fields(raw: object, path: str, *keys: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        _refuse(path, f"must be an object, not {_short(raw)}", f"Give the keys {', '.join(keys)}.")
    for key in raw:
        if key not in keys:
            _refuse(f"{path}.{key}", "is not a known key", f"Known here: {', '.join(keys)}.")
    for key in keys:
        if key not in raw:
            _refuse(f"{path}.{key}", "is missing", "Add it.")
    return raw


def _list(fields: Mapping[str, Any], key: str, path: str) -> list[Any]:
    value = fields[key]
    if not isinstance(value, list):
        _refuse(f"{path}.{key}", f"must be a list, not {_short(value)}", "Write [ ... ].")
    return value


def _text(fields: Mapping[str, Any], key: str, path: str) -> str:
    value = fields[key]
    if not isinstance(value, str) or not value:
        _refuse(f"{path}.{key}", f"must be a name, not {_short(value)}", "Write it as a string.")
    return value


_short = reprlib.repr  # a refused document may be large


def _refuse(path: str, problem: str, remedy: str) -> NoReturn:
    raise AudienceFormError(
        f"The audience's JSON at {path} {problem}.",
        remedy=remedy,
        zh=f"客户群 JSON 在 {path} 处有误({problem})。{remedy}",
    )
