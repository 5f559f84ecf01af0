"""The simulated operator is repeatable, keeps its contracts, and its figures hang together."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from sqlglot import parse_one

from bihuan.data import DuckDBEngine, Lake, load_contracts
from bihuan.kernel import Cancelled, CancelToken, SilentProgress, SystemClock, UserError
from bihuan.twin import TwinReport, TwinSettings, generate_operator

SETTINGS = TwinSettings(customers=3_000, months=6, seed=5)


def generate(folder: Path, settings: TwinSettings = SETTINGS) -> tuple[Lake, TwinReport]:
    lake = Lake(folder)
    report = generate_operator(
        settings, lake, load_contracts(), offer_ids=("a", "b"),
        clock=SystemClock(), progress=SilentProgress(),
    )  # fmt: skip
    return lake, report


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, TwinReport]:
    return generate(tmp_path_factory.mktemp("twin"))


class TestGenerateOperator:
    def test_every_table_keeps_its_contract(self, twin: tuple[Lake, TwinReport]) -> None:
        view = twin[0].view()
        contracts = load_contracts()
        for table in view.tables:
            contract = contracts[table]
            for day in view.dates(table):
                rows = view.get(table, day).read()
                assert rows.schema.names == list(contract.names)
                for column in contract.columns:
                    values = rows[column.name]
                    if not column.nullable:
                        assert values.null_count == 0, (table, column.name)
                    if column.codes is not None:
                        found = set(values.drop_null().unique().to_pylist())
                        assert found <= set(column.codes), (table, column.name)
                keys = rows.select(list(contract.key)).group_by(list(contract.key)).aggregate([])
                assert keys.num_rows == rows.num_rows, table

    def test_months_end_where_asked(self, twin: tuple[Lake, TwinReport]) -> None:
        assert twin[0].view().dates("usage") == (
            date(2026, 5, 31), date(2026, 6, 30), date(2026, 7, 31),
            date(2026, 8, 31), date(2026, 9, 30), date(2026, 10, 31),
        )  # fmt: skip

    def test_same_seed_gives_the_same_operator(
        self, tmp_path: Path, twin: tuple[Lake, TwinReport]
    ) -> None:
        lake, report = generate(tmp_path)
        last = SETTINGS.last
        for table in ("usage", "bill", "subscription", "customer"):
            assert lake.view().get(table, last).read() == twin[0].view().get(table, last).read()
        assert (report.truth.leave == twin[1].truth.leave).all()

    def test_another_seed_gives_another(
        self, tmp_path: Path, twin: tuple[Lake, TwinReport]
    ) -> None:
        lake, _ = generate(tmp_path, TwinSettings(customers=3_000, months=1, seed=6))
        last = SETTINGS.last
        assert lake.view().get("bill", last).read() != twin[0].view().get("bill", last).read()

    def test_who_left_has_no_usage_later(self, twin: tuple[Lake, TwinReport]) -> None:
        view = twin[0].view()
        days = view.dates("usage")
        left = view.get("subscription", days[2]).read()
        gone = set(left.filter(left["left_in_month"])["customer_id"].to_pylist())
        later = set(view.get("usage", days[3]).read()["customer_id"].to_pylist())
        assert gone
        assert not gone & later

    def test_figures_hang_together(self, twin: tuple[Lake, TwinReport]) -> None:
        view = twin[0].view()
        query = parse_one(
            """select corr(u.data_mb, b.amount::double) as data_bill,
                      avg(case when s.contract_ends_on is null then s.left_in_month::int end) free,
                      avg(case when s.contract_ends_on is not null then s.left_in_month::int end)
                          bound
               from subscription s
               left join usage u on u.customer_id = s.customer_id and u.as_of = s.as_of
               left join bill b on b.customer_id = s.customer_id and b.as_of = s.as_of""",
            dialect="duckdb",
        )
        sources = {
            name: view.upto(name, SETTINGS.last) for name in ("subscription", "usage", "bill")
        }
        row = DuckDBEngine().query(query, sources).to_pylist()[0]
        assert row["data_bill"] > 0.1
        assert row["free"] > 1.5 * row["bound"]

    def test_truth_is_of_those_still_there(self, twin: tuple[Lake, TwinReport]) -> None:
        lake, report = twin
        last = lake.view().get("subscription", SETTINGS.last).read()
        here = last.filter(np.array(last["status"].to_pylist()) != "disconnected")
        assert set(report.truth.customer_ids.tolist()) == set(here["customer_id"].to_pylist())

    def test_nobody_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="at least one customer"):
            generate(tmp_path, TwinSettings(customers=0))

    def test_can_be_cancelled(self, tmp_path: Path) -> None:
        token = CancelToken()
        token.cancel()
        with pytest.raises(Cancelled):
            generate_operator(
                SETTINGS, Lake(tmp_path), load_contracts(),
                clock=SystemClock(), progress=SilentProgress(token),
            )  # fmt: skip
        assert Lake(tmp_path).view().tables == ()
