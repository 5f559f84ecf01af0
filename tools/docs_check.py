"""Hold the documents against the code: links, coverage, commands, READMEs, registry hosts.

Exit code 1 and one line per finding.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
HOSTS = "pypi" + r"\.org|pythonhosted" + r"\.org|npmjs" + r"\.org|deb\.debian" + r"\.org"


def broken_links() -> list[str]:
    """Return relative links in Markdown that lead nowhere."""
    return [
        f"{path.relative_to(ROOT)}: link to {target} leads nowhere"
        for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in LINK.findall(path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]


def undocumented_commands() -> list[str]:
    """Return commands of the command line that docs/guide/cli.md does not name."""
    from bihuan.cli import command_names

    text = (ROOT / "docs" / "guide" / "cli.md").read_text(encoding="utf-8")
    return [
        f"docs/guide/cli.md: command '{name}' is not documented"
        for name in command_names()
        if f"bihuan {name}" not in text
    ]


def stale_coverage() -> list[str]:
    """Return a finding if docs/coverage.md is not what the tests say."""
    from coverage import PAGE, page

    fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
    return [] if fresh else ["docs/coverage.md is stale: run  python tools/coverage.py"]


def unpaired_readme() -> list[str]:
    """Return a finding if the two READMEs do not have the same sections."""
    counts = {
        name: len(re.findall(r"^## ", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("README.md", "README.zh-CN.md")
    }
    return [] if len(set(counts.values())) == 1 else [f"READMEs differ in sections: {counts}"]


def leaks() -> list[str]:
    """Return lines that name a registry's host."""
    run = subprocess.run(
        ["git", "grep", "-nIE", HOSTS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [f"registry host named: {line}" for line in run.stdout.splitlines()]


def main() -> int:
    """Run every check and print the findings."""
    checks = (broken_links, undocumented_commands, stale_coverage, unpaired_readme, leaks)
    findings = [finding for check in checks for finding in check()]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
