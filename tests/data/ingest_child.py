"""A process that ingests and dies on request; started by test_ingest_kill.py.

It loads everything once and forks for every line of JSON on its standard input, so that one run
costs a fraction of a second. Answers are lines: the process id of the fork, then how it ended.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bihuan.data import lake as lake_module
from bihuan.data import quarantine as quarantine_module

STEPS = {
    "block converted": ("bihuan.data.convert", "Plan", "convert"),
    "part closed": ("bihuan.data.part_file", "PartFile", "close"),
    "duplicates removed": ("bihuan.data.loading", None, "rewrite_without"),
    "old file linked": ("bihuan.data.loading", None, "link_file"),
    "batch committed": ("bihuan.data.quarantine", "BatchWriter", "commit"),
    "batch described": ("bihuan.data.quarantine", None, "_save"),
    "snapshot settled": ("bihuan.data.lake", "Lake", "_settle"),
    "lake committed": ("bihuan.data.lake", "Lake", "_commit"),
    "file replaced": ("bihuan.data.lake", None, "write_atomically"),
    "batch marked": ("bihuan.data.quarantine", "Quarantine", "mark_replayed"),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(step: str, when: str, nth: int) -> None:
    """Kill this process before or after the ``nth`` call of a step."""
    module_name, class_name, name = STEPS[step]
    owner: Any = importlib.import_module(module_name)
    owner = getattr(owner, class_name) if class_name else owner
    real = getattr(owner, name)
    calls = [0]

    def wrapped(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        is_it = calls[0] == nth
        if is_it and when == "before":
            die()
        result = real(*args, **options)
        if is_it and when == "after":
            die()
        return result

    setattr(owner, name, wrapped)


def torn_head(path: Path, content: bytes) -> None:
    """Write the HEAD in place, in two halves: the defect that renaming prevents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name != "HEAD.json":
        path.write_bytes(content)
        return
    path.write_bytes(content[: len(content) // 2])
    die()


def head_first(self: Any, publication: Any) -> None:
    """Name the new snapshots in the HEAD before their files are in place."""
    head = self._head()
    for table, as_of, staging, _ in publication._pending:
        head["tables"].setdefault(table, {})[as_of.isoformat()] = staging.name
    head["version"] += 1
    lake_module.write_atomically(self.root / "HEAD.json", json.dumps(head).encode())
    die()


def one_table_at_a_time(self: Any, publication: Any) -> None:
    """Publish each table by a HEAD of its own: half of the tables may be new."""
    pending, publication._pending = publication._pending, []
    for entry in pending:
        publication._pending = [entry]
        commit(self, publication)
        die()


def late_batch(self: Any) -> None:
    """Forget the bad rows until the good ones are published, and die in between."""
    del self


commit = lake_module.Lake._commit
DEFECTS: dict[str, Callable[[], None]] = {
    "torn head": lambda: setattr(lake_module, "write_atomically", torn_head),
    "head first": lambda: setattr(lake_module.Lake, "_commit", head_first),
    "one table at a time": lambda: setattr(lake_module.Lake, "_commit", one_table_at_a_time),
    "late batch": lambda: setattr(quarantine_module.BatchWriter, "commit", late_batch),
}


def run(order: dict[str, Any]) -> None:
    # beside this script, which is started as one
    room = importlib.import_module("ingest_fixtures").Room(Path(order["root"]))
    if order.get("defect"):
        DEFECTS[order["defect"]]()
    if order.get("crash"):
        arm(*order["crash"])
    if order["action"] == "replay":
        room.replay(order["batch"], order["mapping"])
    else:
        room.ingest(Path(order["file"]), order["mapping"], append=order["action"] == "append")


def main() -> None:
    importlib.import_module("ingest_fixtures")  # once, before the forks
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            code = 1
            try:
                run(order)
                code = 0
            finally:
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
