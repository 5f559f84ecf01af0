"""Run one benchmark: ``python -m bench NAME [--size N] [--instance DIR] [--out DIR]``.

Prints a readable table and, as its last line, one JSON object with every figure.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

NAMES = ("ingest", "derive", "audience", "allocation", "decisions", "deploy", "serve", "kills")


def main() -> None:
    """Parse the command line, run the benchmark and print what it found."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--size", type=int, help="rows or customers; each has a default")
    parser.add_argument("--instance", type=Path, help="folder of a public instance")
    parser.add_argument("--out", type=Path, help="folder for results")
    arguments = parser.parse_args()
    module = importlib.import_module(f"bench.{arguments.name}")
    result: dict[str, Any] = module.run(arguments.size, arguments.instance, arguments.out)
    _show(result.pop("table", []))
    print(json.dumps({"bench": arguments.name, **result}, ensure_ascii=False))


def _show(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = Table(*rows[0].keys())
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console().print(table)


def _text(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
