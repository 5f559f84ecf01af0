"""What a first import loads: no web framework, no learner, no chart library."""

import subprocess
import sys

HEAVY = (
    "fastapi", "sqlalchemy", "lightgbm", "sklearn", "altair", "typst", "jinja2", "pandas",
    "pyspark",
)  # fmt: skip


def loaded(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_face_loads_nothing_heavy() -> None:
    assert loaded("import bihuan; bihuan.open_workspace") == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert loaded("import jinja2") == {"jinja2"}
