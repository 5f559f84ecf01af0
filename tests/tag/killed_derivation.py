"""A process that derives tags and is killed on the way; driven line by line by its test.

It imports everything once and forks for each order, so that a trial costs a derivation and not
an import. An order is one line of JSON::

    {"root": ..., "point": ["engine.write", "after", 2]}   die by own hand at a named step
    {"root": ..., "delay": 0.031}                           be killed from outside after a time
    {"root": ...}                                           run to the end

The answer is one line: ``{"code": exit code or minus the signal, "seconds": ...}``. With
``defective`` as its argument every group is published as soon as it is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import bihuan.data.lake as lake_module
from bihuan.data import DuckDBEngine, Lake
from bihuan.kernel import FixedClock, SilentProgress
from bihuan.tag import TagDictionary, derive, parse_definition

AS_OF = date(2026, 10, 31)
STEPS: dict[str, tuple[Any, str]] = {
    "engine.write": (DuckDBEngine, "write"),
    "lake.settle": (Lake, "_settle"),
    "lake.commit": (Lake, "_commit"),
    "lake.write_atomically": (lake_module, "write_atomically"),
}


def definitions() -> list:
    """Two base tags of two sources, a portrait tag of both, a marketing tag above."""
    text = {"zh": "测试", "en": "Test"}
    shared = {
        "subject": "customer", "means": "statistics", "type": "number", "category": "测试",
        "owner": "tests", "state": "live", "title": text, "meaning": text, "definition": text,
    }  # fmt: skip
    tags = [
        {"name": "paid", "layer": "base", "source": "bill", "expression": "max(amount)"},
        {"name": "used", "layer": "base", "source": "usage", "expression": "max(data_mb)"},
        {"name": "both", "layer": "portrait", "expression": "paid + used"},
        {"name": "twice", "layer": "marketing", "expression": "both * 2"},
    ]
    return [parse_definition(shared | tag) for tag in tags]


def die_at(step: str, when: str, number: int) -> None:
    """Arrange that this process kills itself before or after the n-th call of a step."""
    owner, name = STEPS[step]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if when == "before" and calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if when == "after" and calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


class EagerPublication:
    """The defect: what is written is published at once, group by group."""

    def __init__(self, lake: Lake, clock: FixedClock) -> None:
        self._context = (lake, clock)

    def __enter__(self) -> EagerPublication:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def folder(self, table: str, as_of: date, *, lineage: Any) -> Any:
        lake, clock = self._context

        @contextlib.contextmanager
        def at_once():
            with (
                Lake.publication(lake, clock) as publication,
                publication.folder(table, as_of, lineage=lineage) as folder,
            ):
                yield folder
            target = lake.view().get(table, as_of).files[0].parent
            folder.symlink_to(target)  # the run goes on reading what it staged

        return at_once()


class EagerLake(Lake):
    """A lake with the defect."""

    def publication(self, clock: FixedClock) -> Any:
        return EagerPublication(self, clock)


def run(order: dict[str, Any], *, defective: bool) -> None:
    """Derive once."""
    if "point" in order:
        die_at(*order["point"])
    lake = (EagerLake if defective else Lake)(Path(order["root"]))
    derive(
        TagDictionary(definitions()),
        lake,
        AS_OF,
        engine=DuckDBEngine(threads=1),
        clock=FixedClock(datetime.fromtimestamp(order["moment"], UTC)),
        progress=SilentProgress(),
    )


def main() -> None:
    """Fork for each order."""
    defective = "defective" in sys.argv
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        start = time.perf_counter()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(order, defective=defective)
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                os._exit(code)
        if "delay" in order:
            time.sleep(order["delay"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        answer = {"code": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - start}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
