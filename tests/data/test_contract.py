"""The built-in contracts are whole, and a wrong contract file is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from bihuan.data import ColumnType, TableContract, load_contract, load_contracts
from bihuan.data.contract import CONTRACT_FOLDER, ContractError

CORE = {
    "customer", "account", "subscription", "customer_group", "address", "resource", "product",
    "channel", "staff", "org_unit", "holding", "customer_list", "opt_out", "usage", "bill",
    "ticket", "contact", "event",
}  # fmt: skip
TABLES = sorted(path.stem for path in CONTRACT_FOLDER.glob("*.yaml"))
STATE = CORE - {"usage", "bill", "ticket", "contact", "event"}


def broken_references(contracts: dict[str, TableContract]) -> list[str]:
    broken = []
    for contract in contracts.values():
        for column in contract.columns:
            if column.references is not None:
                table, _, name = column.references.partition(".")
                target = contracts.get(table)
                if target is None or name not in target or target[name].type is not column.type:
                    broken.append(f"{contract.name}.{column.name} -> {column.references}")
    return broken


class TestBuiltInContracts:
    def test_every_table_of_the_lake_has_one(self, contracts):
        assert sorted(contracts) == TABLES
        assert set(TABLES) >= CORE

    def test_the_file_carries_the_name_of_its_table(self):
        for path in CONTRACT_FOLDER.glob("*.yaml"):
            assert load_contract(path).name == path.stem

    @pytest.mark.parametrize("table", TABLES)
    def test_tables_columns_and_codes_are_told_in_chinese_and_english(self, contracts, table):
        contract = contracts[table]
        texts = [contract.meaning, *(column.meaning for column in contract.columns)]
        texts += [title for c in contract.columns for title in (c.codes or {}).values()]
        for text in texts:
            assert set(text) == {"zh", "en"}, text
            assert all(value.strip() for value in text.values()), text

    @pytest.mark.parametrize("table", TABLES)
    def test_key_columns_are_never_missing(self, contracts, table):
        contract = contracts[table]
        assert all(not contract[name].nullable for name in contract.key)

    @pytest.mark.parametrize("table", sorted(CORE))
    def test_grain_says_whether_rows_are_state_period_or_event(self, contracts, table):
        grain = contracts[table].grain
        if table in STATE:
            assert grain == "state"
        else:
            assert grain == ("period" if table in ("usage", "bill") else "event")

    def test_references_point_to_columns_that_exist_and_have_the_same_type(self, contracts):
        assert broken_references(contracts) == []

    def test_a_reference_to_nowhere_would_be_seen(self, contracts, tmp_path):
        text = (CONTRACT_FOLDER / "account.yaml").read_text(encoding="utf-8")
        (tmp_path / "account.yaml").write_text(
            text.replace("customer.customer_id", "customer.id"), encoding="utf-8"
        )
        assert broken_references(load_contracts([tmp_path])) == [
            "account.customer_id -> customer.id"
        ]

    def test_units_stand_where_a_number_alone_says_nothing(self, contracts):
        assert contracts["bill"]["amount"].unit == "currency"
        assert contracts["usage"]["data_mb"].unit == "MB"
        assert contracts["usage"]["voice_minutes"].unit == "minute"
        assert contracts["address"]["longitude"].unit == "degree"
        for contract in contracts.values():
            for column in contract.columns:
                if column.type is ColumnType.MONEY:
                    assert column.unit == "currency", f"{contract.name}.{column.name}"

    def test_ranges_are_the_agreed_ones(self, contracts):
        def span(table, column):
            return contracts[table][column].minimum, contracts[table][column].maximum

        assert span("customer", "birth_year") == (1900, 2100)
        assert span("usage", "active_days") == (0, 31)
        assert span("usage", "data_mb") == (0, None)
        assert span("ticket", "severity") == (1, 5)
        assert span("address", "latitude") == (-90, 90)
        assert span("bill", "amount") == (None, None)  # a credit note is negative

    def test_codes_are_the_agreed_ones(self, contracts):
        def codes(table, column):
            return set(contracts[table][column].codes)

        assert codes("subscription", "status") == {"active", "suspended", "disconnected"}
        assert codes("contact", "result") == {
            "not_delivered",
            "no_answer",
            "refused",
            "interested",
            "accepted",
        }
        assert codes("opt_out", "channel") == codes("channel", "kind") | {"all"}
        assert codes("contact", "channel") == codes("channel", "kind")

    def test_schema_stores_money_exactly_and_time_in_utc(self, contracts):
        schema = contracts["event"].schema
        assert schema.field("amount").type == pa.decimal128(18, 2)
        assert schema.field("occurred_at").type == pa.timestamp("us", tz="UTC")
        assert not schema.field("event_id").nullable


class TestLoadContracts:
    def test_a_later_folder_replaces_a_table(self, tmp_path):
        (tmp_path / "bill.yaml").write_text(
            "table: bill\nmeaning: {zh: 账单, en: Bill}\nkey: [a]\n"
            "columns: {a: {type: string, meaning: {zh: 甲, en: A}}}\n",
            encoding="utf-8",
        )
        contracts = load_contracts([tmp_path])
        assert contracts["bill"].names == ("a",)
        assert contracts["usage"].names[0] == "subscription_id"


class TestLoadContract:
    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("table: x\nkey: [a]\ncolumns: {a: {type: text, meaning: {}}}\nmeaning: {}", "text"),
            ("table: x\nkey: [b]\ncolumns: {a: {type: string, meaning: {}}}\nmeaning: {}", "b"),
            ("table: x\nkey: []\ncolumns: {a: {type: string, meaning: {}}}\nmeaning: {}", "key"),
            ("- 1\n- 2\n", "x.yaml"),
            ("table: x\n", "x.yaml"),
        ],
    )
    def test_a_file_that_is_no_contract_is_refused(self, tmp_path: Path, text, named):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ContractError) as caught:
            load_contract(path)
        assert named in str(caught.value)
