"""Write the table of docs/operations/settings.md from the settings themselves."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from bihuan.server.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "operations" / "settings.md"
MARK = "<!-- settings -->"


def rows() -> list[str]:
    """Return the lines of the table: environment variable, default, meaning."""
    lines = ["| environment variable | default | what it says |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        value = field.default
        if value is PydanticUndefined or value is None or isinstance(value, SecretStr):
            value = ""
        shown = (
            f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else ""
        )
        lines.append(f"| `BIHUAN_{name.upper()}` | {shown} | {field.description} |")
    return lines


def main() -> None:
    """Write the table between the marks of the page."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    tail = rest.partition(MARK)[2]
    PAGE.write_text(f"{head}{MARK}\n" + "\n".join(rows()) + f"\n{MARK}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
