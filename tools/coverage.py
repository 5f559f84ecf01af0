"""Write docs/coverage.md: which requirement groups an acceptance test proves.

``python tools/coverage.py`` writes the page; ``--check`` fails if it is stale.
"""

from __future__ import annotations

import ast
import csv
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "coverage.md"


def proofs(folder: Path) -> dict[str, list[str]]:
    """Return the tests that carry ``@pytest.mark.mission(group)``, by group."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                for group in _groups(node):
                    found.setdefault(group, []).append(f"{path.name}::{node.name}")
    return found


def _groups(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    groups = []
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("mark.mission"):
            groups += [str(ast.literal_eval(argument)) for argument in decorator.args]
    return groups


def page() -> str:
    """Return the page's text."""
    found = proofs(ROOT / "tests" / "mission")
    with (ROOT / "docs" / "requirement-groups.csv").open(encoding="utf-8") as file:
        groups = list(csv.DictReader(file))
    known = {group["group"] for group in groups}
    unknown = sorted(set(found) - known)
    if unknown:
        sys.exit(f"Tests are marked with groups that do not exist: {', '.join(unknown)}")
    lines = [
        "# What is proved",
        "",
        "Each requirement group counts as proved when an acceptance test in `tests/mission` shows,",
        "through the public face, a result that matters to a user. Written by `tools/coverage.py`.",
        "",
        f"**{len(found)} of {len(groups)} groups proved.**",
        "",
        "| group | area | what | proved by |",
        "|---|---|---|---|",
    ]
    for group in groups:
        tests = "<br>".join(f"`{test}`" for test in found.get(group["group"], []))
        lines.append(f"| {group['group']} | {group['area']} | {group['title']} | {tests} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != page():
            sys.exit("docs/coverage.md is stale: run  python tools/coverage.py")
    else:
        PAGE.write_text(page(), encoding="utf-8")
