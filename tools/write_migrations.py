"""Write what the tables have and the newest migration lacks, for developers.

``python tools/write_migrations.py "what changed"`` compares the tables with an empty SQLite
database brought to the newest form, and writes one migration more.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa
from alembic import command

from bihuan.server.control import Table, migrate, open_engine
from bihuan.server.control.row_security import secured_tables
from bihuan.server.control.upgrade import config_over, revisions


def write(message: str, only: set[str] | None = None) -> Path | None:
    """Write one migration for the tables ``only`` (all if None); None if nothing changed."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/control.db")
        migrate(engine)
        before = set(sa.inspect(engine).get_table_names())
        number = f"{len(revisions()) + 1:04d}"
        with engine.begin() as connection:
            config = config_over(connection)
            config.attributes["only"] = before | (only or set(Table.metadata.tables))
            script = command.revision(config, message=message, rev_id=number, autogenerate=True)
        path = Path(script.path)  # type: ignore[union-attr]
        _secure(path, (only or set(Table.metadata.tables)) - before)
        return path


def _secure(path: Path, new: set[str]) -> None:
    """Put the new tables under row security at the end of the upgrade."""
    wanted = {name: kind for name, kind in secured_tables().items() if name in new}
    if not wanted:
        return
    text = path.read_text(encoding="utf-8")
    listed = ", ".join(f'"{name}": "{kind}"' for name, kind in sorted(wanted.items()))
    text = text.replace("\n\n\ndef downgrade", "\n    secure(op, SECURED)\n\n\ndef downgrade")
    text = text.replace('"""Take back."""\n', '"""Take back."""\n    unsecure(op, SECURED)\n')
    text = text.replace("depends_on = None\n", f"depends_on = None\nSECURED = {{{listed}}}\n")
    text = text.replace(
        "import bihuan.server.control.base\n",
        "import bihuan.server.control.base\n"
        "from bihuan.server.control.row_security import secure, unsecure\n",
    )
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    print(write(" ".join(sys.argv[1:]) or "change"))
