"""One thing of every kind at one unit, and callers of every role around it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from bihuan.server.app.service import Service
from bihuan.server.control import Control, UnitOfWork

TARGET = "county-a1"
"""Unit that every seeded thing belongs to."""
CALLERS = {
    "own": "county-a1",
    "above": "city-a",
    "top": "province",
    "below": "grid-a11",
    "sibling": "county-a2",
    "elsewhere": "county-b1",
}
"""Where callers hold their post, by relation to :data:`TARGET`."""
BODIES: dict[str, dict[str, Any]] = {
    "POST /teams/{team_id}/mergers": {"others": ["seed-other_team"]},
}
"""What the body of an operation must say to make sense of the seeds, beside its schema."""
REACHING = frozenset(("own", "above", "top"))


class _TakenBack(Exception):
    pass


class RehearsedControl(Control):
    """A control database in which every unit of work is taken back when it is done.

    So every cell of the matrix meets the same world, whatever the cells before have done.
    """

    @contextmanager
    def work(self, *args: Any, **options: Any) -> Iterator[UnitOfWork]:
        try:
            with super().work(*args, **options) as work:
                yield work
                work.session.flush()
                work.session.expunge_all()  # as after a commit, what was read can still be read
                raise _TakenBack
        except _TakenBack:
            pass


def sample(schema: dict[str, Any], components: dict[str, Any], known: dict[str, str]) -> Any:  # noqa: C901, PLR0911, PLR0912 - one case per kind of schema
    """Return a value that fits a JSON schema: its example, or the least that is allowed."""
    if "$ref" in schema:
        return sample(components[schema["$ref"].rsplit("/", 1)[-1]], components, known)
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "example" in schema:
        return schema["example"]
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return sample(schema[key][0], components, known)
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {
            name: known.get(name) or sample(part, components, known)
            for name, part in schema.get("properties", {}).items()
            if name in schema.get("required", ()) or name in known
        }
    if kind == "array":
        return [sample(schema["items"], components, known)] * max(schema.get("minItems", 0), 0)
    if kind == "integer":
        return int(max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1))
    if kind == "number":
        return float(max(schema.get("minimum", 0.1), 0.1))
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    formats = {"date": "2026-11-30", "date-time": "2026-11-30T00:00:00Z"}
    if schema.get("format") in formats:
        return formats[schema["format"]]
    return "x" * max(schema.get("minLength", 1), 1)


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint of the OpenAPI document."""

    method: str
    path: str
    gate: str
    action: str
    body: Any
    content: bytes
    query: str = ""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    def url(self, ids: dict[str, str]) -> str:
        return re.sub(r"{(\w+)}", lambda found: ids[found[1]], self.path)


def operations(document: dict[str, Any], known: dict[str, str]) -> list[Operation]:
    """Return every endpoint of an OpenAPI document with a body that fits."""
    components = document["components"]["schemas"]
    found = []
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            content = told.get("requestBody", {}).get("content", {}).get("application/json")
            body = sample(content["schema"], components, known) if content else None
            name = f"{method.upper()} {path.removeprefix('/api/v1')}"
            if name in BODIES:
                body = {**body, **BODIES[name]}
            encoded = b"" if body is None else json.dumps(body).encode()
            gate, action = told["x-gate"], told.get("x-permission", "")
            asked = {
                given["name"]: known.get(given["name"])
                or sample(given["schema"], components, known)
                for given in told.get("parameters", ())
                if given["in"] == "query" and given.get("required")
            }
            query = urlencode(asked)
            found.append(Operation(method.upper(), path, gate, action, body, encoded, query))
    return found


Seed = Callable[[UnitOfWork, Service], str]
YEAR = timedelta(days=300)
