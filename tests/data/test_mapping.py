"""Mapping files: what they may say, and that every mistake is named with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihuan.data.contract import load_contracts
from bihuan.data.mapping import (
    ColumnMapping,
    MappingError,
    check_columns,
    check_contracts,
    near,
    stored_value,
    template_parts,
)
from bihuan.data.mapping_file import load_mapping

from .ingest_fixtures import Room

WHOLE = """
mapping: billing
meaning: {zh: 账务, en: Billing}
source: {format: csv, delimiter: "|", encoding: gb18030, skip_lines: 1, quote: none}
missing: ["", NA]
unknown_codes: missing
timezone: Asia/Shanghai
tables:
  meter:
    when: {state: [open]}
    distinct: true
    columns:
      meter_id: {template: "M-{num}"}
      kind: {column: sex, codes: {"男": a, "女": b}, unknown_codes: quarantine}
      level: {column: kb, factor: 0.001, missing: ["-1"]}
      since: {column: opened, date_format: ["%d/%m/%Y", "%Y%m%d"]}
      label: {constant: x}
  owning:
    melt: {columns: {ring: r, net: {DSL: d}}, keep: ["Y", DSL]}
    columns:
      meter_id: num
      product_id: {melt: name}
"""


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def wrong(room: Room, text: str) -> MappingError:
    def load() -> None:
        check_contracts(room.mapping(text), room.contracts)

    with pytest.raises(MappingError) as caught:
        load()
    assert caught.value.zh
    return caught.value


class TestLoadMapping:
    def test_reads_everything(self, room: Room) -> None:
        mapping = room.mapping(WHOLE)
        assert mapping.name == "billing"
        assert (mapping.source.delimiter, mapping.source.quote) == ("|", "")
        meter, owning = mapping.tables["meter"], mapping.tables["owning"]
        assert meter.when == {"state": ("open",)}
        assert meter.columns["kind"].unknown_codes == "quarantine"
        assert meter.columns["label"] == ColumnMapping(
            constant="x", unknown_codes="missing", missing=("", "NA")
        )
        assert meter.columns["level"].missing == ("-1",)
        assert meter.columns["since"].date_formats == ("%d/%m/%Y", "%Y%m%d")
        assert owning.columns["meter_id"].column == "num"
        assert owning.melt is not None
        assert owning.melt.columns == {"ring": "r", "net": {"DSL": "d"}}
        assert mapping.sources == ("num", "sex", "kb", "opened", "state", "ring", "net")
        check_contracts(mapping, room.contracts)

    def test_the_name_of_the_file_is_the_default_name(self, room: Room) -> None:
        assert room.mapping("tables: {meter: {columns: {meter_id: id}}}").name == "mapping"

    def test_fingerprint_follows_the_meaning_not_the_form(self, room: Room) -> None:
        short = "tables: {meter: {columns: {meter_id: id}}}"
        same = "tables:\n  meter:\n    columns:\n      meter_id: {column: id}\n# a remark\n"
        assert room.mapping(short).fingerprint == room.mapping(same).fingerprint
        other = room.mapping("missing: [NA]\n" + short).fingerprint
        assert other != room.mapping(short).fingerprint

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("tables: {}", "field tables: no table"),
            ("tables: {meter: {columns: {}}}", r"tables\.meter\.columns: no column"),
            ("tabels: {}", r"field tabels: no such field.*tables"),
            (
                "tables: {meter: {columns: {meter_id: {colum: id}}}}",
                r"meter\.columns\.meter_id\.colum: no such field.*column",
            ),
            ("tables: {meter: {columns: {meter_id: {trim: no}}}}", "needs exactly one of"),
            (
                "tables: {meter: {columns: {meter_id: {column: a, constant: b}}}}",
                "needs exactly one of",
            ),
            ("tables: {meter: {columns: {meter_id: [a]}}}", "meter_id: must be text"),
            ("tables: {meter: {columns: {meter_id: {template: x}}}}", r"has no \{column\}"),
            (
                "tables: {meter: {columns: {is_on: {column: f, codes: {Yes: true}}}}}",
                r"codes: YAML read an unquoted key as True.*quotes",
            ),
            ("missing: [NA, no]\ntables: {}", r"missing\[1\]: must be text.*quotes"),
            ("unknown_codes: drop\ntables: {}", "'drop' is not allowed"),
            ("timezone: Asia/Shijiazhuang\ntables: {meter: {columns: {a: b}}}", "not a time zone"),
            ("source: {encoding: gbk2}\ntables: {meter: {columns: {a: b}}}", "not a text encoding"),
            ('source: {delimiter: "||"}\ntables: {meter: {columns: {a: b}}}', "one ASCII char"),
            ("source: {format: dbf}\ntables: {meter: {columns: {a: b}}}", "'dbf' is not allowed"),
            ("source: {skip_lines: -1}\ntables: {meter: {columns: {a: b}}}", "whole number >= 0"),
            (
                'tables: {meter: {columns: {since: {column: d, date_format: "%Y%"}}}}',
                "'%Y%' is not a date form",
            ),
            (
                'tables: {meter: {columns: {since: {column: d, date_format: [unix, "%Y"]}}}}',
                "unix stands alone",
            ),
            ("tables: {meter: {columns: {label: {melt: name}}}}", "has no melt block"),
            (
                "tables: {owning: {melt: {keep: [Y]}, columns: {meter_id: id}}}",
                "no column is melted",
            ),
            ("tables: {meter: {columns: {label: {column: a, codes: {x: }}}}}", "needs a value"),
            ("a: [", "is not YAML"),
            ("tables: {meter: {columns: {label: a, label: b}}}", "'label' stands twice"),
        ],
    )
    def test_mistakes_are_named_with_file_and_field(self, room: Room, text: str, told: str) -> None:
        error = wrong(room, text)
        assert error.message.startswith("mapping.yaml")
        assert re.search(told, str(error)), str(error)

    def test_an_absent_file(self, tmp_path: Path) -> None:
        with pytest.raises(MappingError, match="no mapping file"):
            load_mapping(tmp_path / "none.yaml")

    def test_a_file_that_is_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "m.yaml"
        path.write_bytes("mapping: 账务\n".encode("gbk"))
        with pytest.raises(MappingError, match=r"m\.yaml is not YAML.*UTF-8"):
            load_mapping(path)


class TestCheckContracts:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("tables: {metre: {columns: {meter_id: a}}}", r"tables\.metre: no such table.*meter"),
            (
                "tables: {meter: {columns: {meter_id: a, lable: b}}}",
                r"columns\.lable: no such column.*label",
            ),
            ("tables: {meter: {columns: {label: a}}}", "'meter_id' is required"),
            (
                "tables: {meter: {columns: {meter_id: a, kind: {constant: c}}}}",
                r"kind\.constant: 'c' is not a code of kind",
            ),
            (
                "tables: {meter: {columns: {meter_id: a, kind: {column: s, codes: {x: c}}}}}",
                r"kind\.codes\.x: 'c' is not a code",
            ),
            (
                "tables: {meter: {columns: {meter_id: a, count: {column: s, default: 32}}}}",
                r"count\.default: '32' is outside",
            ),
            (
                "tables: {meter: {columns: {meter_id: a, count: {constant: 1.5}}}}",
                "does not fit a column of type integer",
            ),
            (
                "tables: {meter: {columns: {meter_id: a, label: {constant: true}}}}",
                "does not fit a column of type string",
            ),
            (
                "tables: {meter: {columns: {meter_id: a, label: {column: b, factor: 2}}}}",
                "only",
            ),
            (
                'tables: {meter: {columns: {meter_id: a, label: {column: b, date_format: "%Y"}}}}',
                "date_format is for",
            ),
            (
                "tables: {meter: {columns: {meter_id: a, kind: {column: b, unknown_codes: keep}}}}",
                "contract has no codes",
            ),
        ],
    )
    def test_what_does_not_fit_is_named(self, room: Room, text: str, told: str) -> None:
        assert re.search(told, str(wrong(room, text)))

    def test_the_built_in_contracts_can_be_mapped(self, room: Room) -> None:
        mapping = room.mapping(
            "tables: {customer: {columns: {customer_id: id, gender: {column: g, codes: {m: M}}}}}"
        )
        check_contracts(mapping, load_contracts())


class TestCheckColumns:
    def test_gives_the_columns_that_are_not_used(self, room: Room) -> None:
        mapping = room.mapping(WHOLE)
        have = ["num", "sex", "kb", "opened", "state", "ring", "net", "more"]
        assert check_columns(mapping, have) == ("more",)

    def test_names_what_is_lacking_and_what_is_near(self, room: Room) -> None:
        mapping = room.mapping("tables: {meter: {columns: {meter_id: cust_no, label: nm}}}")
        with pytest.raises(MappingError, match=r"have: cust_no, nm.*CUST_NO") as caught:
            check_columns(mapping, ["CUST_NO", "NAME"])
        assert "CUST_NO" in caught.value.zh

    def test_pseudo_columns_need_no_source(self, room: Room) -> None:
        mapping = room.mapping("tables: {meter: {columns: {meter_id: _row, since: _as_of}}}")
        assert check_columns(mapping, ["a"]) == ("a",)


class TestStoredValue:
    @pytest.mark.parametrize(
        ("column", "value", "stored"),
        [
            ("count", "3", 3),
            ("count", 3.0, 3),
            ("level", "1e2", 100.0),
            ("label", 7, "7"),
            ("is_on", False, False),
        ],
    )
    def test_takes_the_type_of_the_column(
        self, room: Room, column: str, value: object, stored: object
    ) -> None:
        assert stored_value(room.contracts["meter"][column], value) == stored  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("count", "x"),
            ("level", "nan"),
            ("is_on", "yes"),
            ("since", "2026-02-30"),
            ("fee", "¥1"),
        ],
    )
    def test_refuses_what_does_not_fit(self, room: Room, column: str, value: object) -> None:
        with pytest.raises(ValueError, match="does not fit"):
            stored_value(room.contracts["meter"][column], value)  # type: ignore[arg-type]


class TestTemplateParts:
    @given(st.lists(st.tuples(st.text("ab-"), st.text("xy", min_size=1)), max_size=4))
    def test_can_be_put_together_again(self, parts: list[tuple[str, str]]) -> None:
        template = "".join(f"{text}{{{name}}}" for text, name in parts)
        assert template_parts(template) == parts


def test_near_proposes_or_lists() -> None:
    assert near("Usage", ["usage", "bill"]) == "Did you mean usage?"
    assert near("zzz", ["usage", "bill"]) == "Choose one of: bill, usage."
