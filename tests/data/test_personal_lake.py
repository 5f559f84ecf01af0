"""Personal columns at rest: canaries through ingest, quarantine, replay, erasure and retention."""

from __future__ import annotations

import importlib
import json
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bihuan.data import DuckDBEngine, Lake, Quarantine, load_contracts, resolve_identity
from bihuan.data.mapping import SourceMapping
from bihuan.data.mapping_file import load_mapping
from bihuan.data.personal import (
    DataCipher,
    DataKeys,
    KeysError,
    Protector,
    Subject,
    erase_from_quarantine,
    erase_subject,
    find_expired,
    find_left,
    mask_clear,
    protect,
    protect_lake,
    remove_expired,
    reveal_values,
    sealed_name,
    subject_of,
)
from bihuan.data.publish import UnprotectedError
from bihuan.kernel import FixedClock, SilentProgress

CONTRACTS = load_contracts()
OCTOBER, NOVEMBER = date(2026, 10, 31), date(2026, 11, 30)
CLOCK = FixedClock(datetime(2026, 12, 1, tzinfo=UTC))
ENGINE = DuckDBEngine(threads=1)
MAPPING = """
mapping: crm
meaning: {zh: 客户系统, en: CRM}
source: {format: csv, delimiter: ",", encoding: utf-8}
tables:
  customer:
    columns:
      customer_id: id
      name: name
      joined_on: {column: joined, date_format: "%Y-%m-%d"}
  subscription:
    columns:
      subscription_id: line
      customer_id: id
      number: phone
      service: {constant: mobile}
      status: {constant: active}
      activated_on: {column: joined, date_format: "%Y-%m-%d"}
"""
CANARIES = 2_000
EVERY_BAD = 40
"""One row in this many is wrong in one of five ways."""


def number(at: int) -> str:
    return f"1389{at:07d}"


def name(at: int) -> str:
    return f"金丝雀{at:05d}号"


def rows(start: int = 0, count: int = CANARIES, *, good: bool = False) -> list[str]:
    lines = []
    for at in range(start, start + count):
        fields = [f"c{at}", name(at), number(at), f"s{at}", "2020-01-01", f"备用{number(at)}"]
        if at % EVERY_BAD == 0 and not good:
            match at // EVERY_BAD % 5:
                case 0:
                    fields[4] = "2020-02-30"  # a date that is none
                case 1:
                    fields[4] = number(at)  # a number in another column
                case 2:
                    fields.append(number(at))  # too many fields
                case 3:
                    fields[0] = ""  # no customer
                case 4:
                    fields[3] = f"s{at + 1}"  # the key of the next row
        lines.append(",".join(fields))
    return lines


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(["id,name,phone,line,joined,note", *lines]) + "\n", "utf-8")
    return path


@pytest.fixture
def mapping(tmp_path) -> SourceMapping:
    path = tmp_path / "definitions" / "crm.yaml"
    path.parent.mkdir()
    path.write_text(MAPPING, "utf-8")
    return load_mapping(path)


@pytest.fixture
def space(tmp_path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def lake(space) -> Lake:
    return Lake(space / "lake")


@pytest.fixture(params=["aes-siv", "sm4"])
def protector(request) -> Protector:
    return Protector(DataCipher(DataKeys.fresh(request.param)))


def take_in(lake, mapping, source, as_of=OCTOBER, *, protector, **given):
    from bihuan.data import ingest

    return ingest(
        lake, mapping, source, as_of, contracts=CONTRACTS, clock=CLOCK, progress=SilentProgress(),
        protector=protector, **given,
    )  # fmt: skip


CANARY = re.compile(r"(?<![0-9A-Za-z])1389000[0-9]{4}(?![0-9A-Za-z])|金丝雀\d{5}号")
"""Any of the 4,000 canaries: 2,000 numbers and 2,000 names; a random token holds none by chance."""


def in_clear(root: Path) -> list[str]:
    """Return the files below ``root`` in which a canary stands, Parquet unpacked."""
    found = []
    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            rows = pq.read_table(path, partitioning=None).to_pydict()
            text += json.dumps(rows, default=str, ensure_ascii=False)
        if CANARY.search(text):
            found.append(str(path.relative_to(root)))
    return found


class TestIngest:
    def test_no_canary_stands_in_clear(self, space, lake, mapping, protector, tmp_path, caplog):
        source = write(tmp_path / "crm.csv", rows())
        report = take_in(lake, mapping, source, protector=protector)
        assert report.quarantine_id is not None
        stored = {table.table: table.rows_stored for table in report.tables}
        assert stored["subscription"] > 1_900
        assert in_clear(space) == []
        assert not CANARY.search(caplog.text)

    def test_defect_without_the_protector_the_scan_finds_them(self, space, lake, mapping, tmp_path):
        take_in(lake, mapping, write(tmp_path / "crm.csv", rows()), protector=None)
        found = in_clear(space)
        assert any(path.startswith("lake/subscription/") for path in found)
        assert any(path.startswith("lake/customer/") for path in found)
        assert any(path.startswith("quarantine/") for path in found)

    def test_defect_without_the_guard_quarantine_tells(
        self, space, lake, mapping, protector, tmp_path, monkeypatch
    ):
        module = importlib.import_module("bihuan.data.ingest")
        monkeypatch.setattr(module, "guard_of", lambda *_: None)
        take_in(lake, mapping, write(tmp_path / "crm.csv", rows()), protector=protector)
        assert {path.split("/")[0] for path in in_clear(space)} == {"quarantine"}

    def test_a_refused_ingest_tells_nothing_in_its_message(
        self, space, lake, mapping, protector, tmp_path
    ):
        bad = [line.replace("2020-01-01", number(at)) for at, line in enumerate(rows(1, 30))]
        with pytest.raises(Exception, match="are bad") as error:
            take_in(lake, mapping, write(tmp_path / "crm.csv", bad), protector=protector)
        told = str(error.value) + error.value.zh
        assert not CANARY.search(told)
        assert in_clear(space) == []

    def test_the_schema_is_still_the_contract(self, lake, mapping, protector, tmp_path):
        take_in(lake, mapping, write(tmp_path / "crm.csv", rows()), protector=protector)
        for table in ("customer", "subscription"):
            snapshot = lake.view().get(table)
            assert snapshot.read().schema == CONTRACTS[table].schema
            sealed = lake.view().get(sealed_name(table))
            assert sealed.rows == snapshot.rows
            key = CONTRACTS[table].key[0]
            assert sealed.read([key]) == snapshot.read([key])

    def test_the_keeper_of_the_keys_reads_them_again(self, lake, mapping, protector, tmp_path):
        take_in(lake, mapping, write(tmp_path / "crm.csv", rows()), protector=protector)
        wanted = {f"s{at}": number(at) for at in range(201, 230) if at % EVERY_BAD}

        def revealed(cipher):
            return reveal_values(
                lake.view(), CONTRACTS["subscription"], "number",
                where=("subscription_id", wanted), cipher=cipher, engine=ENGINE,
            )  # fmt: skip

        assert revealed(protector.cipher) == wanted
        with pytest.raises(KeysError, match="no keys are at hand"):
            revealed(None)
        with pytest.raises(KeysError, match="sealed with other keys"):
            revealed(DataCipher(DataKeys.fresh()))

    def test_joins_go_on_by_tokens(self, lake, mapping, protector, tmp_path):
        lines = rows(1, 10)
        lines.append(f"c900,同号,{number(3)},s900,2020-01-01,")
        take_in(lake, mapping, write(tmp_path / "crm.csv", lines), protector=protector)
        index = resolve_identity(lake.view(), OCTOBER, ENGINE)
        token = protector.cipher.blind(number(5), "phone")
        assert index.find_customer_by_number(token) == "c5"
        assert index.conflicts.num_rows == 1  # the same number live on two mobile lines

    def test_ingesting_again_changes_nothing(self, lake, mapping, protector, tmp_path):
        source = write(tmp_path / "crm.csv", rows())
        take_in(lake, mapping, source, protector=protector)
        version = lake.view().version
        assert take_in(lake, mapping, source, protector=protector).unchanged
        assert lake.view().version == version

    def test_appending_carries_the_sealed_rows_along(
        self, space, lake, mapping, protector, tmp_path
    ):
        take_in(lake, mapping, write(tmp_path / "1.csv", rows(1, 50)), protector=protector)
        more = [*rows(101, 50), rows(1, 1)[0].replace("s1,", "s1,")]
        take_in(
            lake, mapping, write(tmp_path / "2.csv", more), protector=protector, append=True,
            max_bad_share=0.5,
        )  # fmt: skip
        table, sealed = lake.view().get("subscription"), lake.view().get("subscription__sealed")
        assert table.rows == sealed.rows > 90
        assert table.read(["subscription_id", "number"]) == sealed.read(
            ["subscription_id", "number"]
        )
        assert in_clear(space) == []

    def test_appending_to_clear_rows_is_refused(self, lake, mapping, protector, tmp_path):
        take_in(lake, mapping, write(tmp_path / "1.csv", rows(1, 30)), protector=None)
        source = write(tmp_path / "2.csv", rows(101, 30))
        with pytest.raises(UnprotectedError, match="before there were keys"):
            take_in(lake, mapping, source, protector=protector, append=True)

    def test_appending_under_other_keys_is_refused(self, lake, mapping, protector, tmp_path):
        take_in(lake, mapping, write(tmp_path / "1.csv", rows(1, 30)), protector=protector)
        other = Protector(DataCipher(DataKeys.fresh()))
        source = write(tmp_path / "2.csv", rows(101, 30))
        with pytest.raises(KeysError, match="sealed with other keys"):
            take_in(lake, mapping, source, protector=other, append=True)

    def test_replay_opens_what_was_set_aside(self, space, lake, mapping, protector, tmp_path):
        from bihuan.data import replay

        report = take_in(lake, mapping, write(tmp_path / "crm.csv", rows()), protector=protector)
        quarantine = Quarantine(space / "quarantine")
        before = {t.table: t.rows_stored for t in report.tables}
        mended = tmp_path / "definitions" / "mended.yaml"
        lines = [line for line in MAPPING.splitlines() if "joined" not in line]
        mended.write_text("\n".join(lines), "utf-8")
        again = replay(
            lake, quarantine, report.quarantine_id, load_mapping(mended), contracts=CONTRACTS,
            clock=CLOCK, progress=SilentProgress(), protector=protector,
        )  # fmt: skip
        stored = {t.table: t.rows_stored for t in again.tables}
        assert stored["subscription"] >= 20
        assert (
            lake.view().get("subscription").rows == before["subscription"] + stored["subscription"]
        )
        assert lake.view().get("subscription__sealed").rows == lake.view().get("subscription").rows
        found = reveal_values(
            lake.view(), CONTRACTS["subscription"], "number", where=("subscription_id", ["s0"]),
            cipher=protector.cipher, engine=ENGINE,
        )  # fmt: skip
        assert found == {"s0": number(0)}
        assert in_clear(space) == []


class TestProtectLake:
    def test_protects_what_lay_in_clear_and_is_done_once(
        self, space, lake, mapping, protector, tmp_path
    ):
        take_in(lake, mapping, write(tmp_path / "crm.csv", rows(good=True)), protector=None)
        kept = lake.view().get("subscription").read(["subscription_id", "status", "activated_on"])
        done = protect_lake(lake, CONTRACTS, protector, CLOCK)
        assert done == [("customer", OCTOBER), ("subscription", OCTOBER)]
        assert in_clear(space / "lake") == []
        now = lake.view().get("subscription").read(["subscription_id", "status", "activated_on"])
        assert now == kept
        assert protect_lake(lake, CONTRACTS, protector, CLOCK) == []

    def test_killed_half_way_it_goes_on(
        self, space, lake, mapping, protector, tmp_path, monkeypatch
    ):

        module = importlib.import_module("bihuan.data.personal.protect")
        take_in(lake, mapping, write(tmp_path / "crm.csv", rows(good=True)), protector=None)
        whole = module._protect_snapshot

        def killed(lake, snapshot, *rest):
            if snapshot.table == "subscription":
                raise KeyboardInterrupt
            whole(lake, snapshot, *rest)

        monkeypatch.setattr(module, "_protect_snapshot", killed)
        with pytest.raises(KeyboardInterrupt):
            protect_lake(lake, CONTRACTS, protector, CLOCK)
        monkeypatch.undo()
        protect_lake(lake, CONTRACTS, protector, CLOCK)
        assert in_clear(space / "lake") == []


class TestProtect:
    def test_keeps_order_and_missing(self, protector):
        contract = CONTRACTS["off_net_profile"]
        table = contract.schema.empty_table().to_pydict()
        table = {column: [None] * 3 for column in table}
        table["customer_id"] = ["a", "b", "c"]
        table["number"] = ["13812348000", None, "13812348000"]
        schema = pa.schema([field.with_nullable(True) for field in contract.schema])
        safe, sealed = protect(pa.table(table, schema=schema), contract, protector.cipher)
        tokens = safe["number"].to_pylist()
        assert tokens[0] == tokens[2] == protector.cipher.blind("13812348000", "phone")
        assert tokens[1] is None
        assert sealed["number_mask"].to_pylist() == ["138****8000", None, "138****8000"]
        assert protector.cipher.decrypt(sealed["number_cipher"][0].as_py(), "phone") == (
            "13812348000"
        )

    def test_what_is_protected_stays(self, protector):
        contract = CONTRACTS["subscription"]
        columns = {n: [None] for n in contract.names} | {"number": ["13812348000"]}
        schema = pa.schema([field.with_nullable(True) for field in contract.schema])
        once, _ = protect(pa.table(columns, schema=schema), contract, protector.cipher)
        twice, sealed = protect(once, contract, protector.cipher)
        assert twice == once
        assert sealed["number_cipher"].to_pylist() == [None]

    def test_a_token_shows_as_stars(self, protector):
        token = protector.cipher.blind("13812348000", "phone")
        assert mask_clear(token, "phone") == "***"
        assert mask_clear("13812348000", "phone") == "138****8000"
        assert mask_clear(None, "phone") is None


@pytest.fixture
def filled(space, lake, mapping, protector, tmp_path) -> Lake:
    for month, as_of in (("10", OCTOBER), ("11", NOVEMBER)):
        source = write(tmp_path / f"crm-{month}.csv", rows())
        take_in(lake, mapping, source, as_of, protector=protector)
    accounts = {n: [None] * 3 for n in CONTRACTS["account"].names}
    accounts |= {"account_id": ["a7", "a8", "a9"], "customer_id": ["c7", "c8", "c9"]}
    lines = {n: [None] * 2 for n in ("subscription_id", "account_id", "minutes")}
    lines |= {"subscription_id": ["s7", "s8"], "minutes": ["1", "2"], "account_id": [None, "a7"]}
    with lake.publication(CLOCK) as publication:
        publication.add("account", NOVEMBER, pa.table(accounts))
        publication.add("line_use", NOVEMBER, pa.table(lines))
        publication.add(
            "friend", NOVEMBER, pa.table({"customer_id": ["c8", "c7"], "friend_id": ["c7", "c9"]})
        )
    return lake


class TestErase:
    def test_the_customer_is_gone_from_every_file(self, space, filled, protector):
        subject = subject_of(filled.view(), "c7")
        assert subject == Subject("c7", frozenset(("a7",)), frozenset(("s7",)))
        assert find_left(space, subject.ids) != []
        before = {t: filled.view().get(t).rows for t in filled.view().tables}
        done = erase_subject(filled, subject, CONTRACTS, CLOCK)
        assert find_left(space, subject.ids) == []
        after = {t: filled.view().get(t).rows for t in filled.view().tables}
        lost = {t: before[t] - after[t] for t in before if before[t] != after[t]}
        assert lost == {
            "account": 1, "customer": 1, "customer__sealed": 1, "friend": 1, "line_use": 1,
            "subscription": 1, "subscription__sealed": 1,
        }  # fmt: skip
        assert {(e.table, e.as_of) for e in done} >= {("customer", OCTOBER), ("friend", NOVEMBER)}

    def test_other_peoples_rows_stay_without_the_id(self, filled):
        erase_subject(filled, subject_of(filled.view(), "c7"), CONTRACTS, CLOCK)
        assert filled.view().get("friend").read().to_pylist() == [
            {"customer_id": "c8", "friend_id": None}
        ]
        assert filled.view().get("line_use").read().to_pylist() == [
            {"subscription_id": "s8", "account_id": None, "minutes": "2"}
        ]

    def test_untouched_tables_keep_their_snapshots(self, filled):
        with filled.publication(CLOCK) as publication:
            publication.add("staff", NOVEMBER, pa.table({"staff_id": ["x"]}))
        before = filled.view().heads["staff"]
        erase_subject(filled, Subject("c7"), CONTRACTS, CLOCK)
        assert filled.view().heads["staff"] == before

    def test_killed_after_any_table_a_second_run_finishes(self, space, filled, monkeypatch):
        module = importlib.import_module("bihuan.data.personal.erase")
        subject = subject_of(filled.view(), "c7")
        whole, runs = module._rewrite, 0
        for allowed in range(1, 7):

            def killed(*given, left=allowed):
                nonlocal runs
                runs += 1
                if runs > left:
                    raise KeyboardInterrupt
                return whole(*given)

            runs = 0
            monkeypatch.setattr(module, "_rewrite", killed)
            try:
                erase_subject(filled, subject, CONTRACTS, CLOCK)
            except KeyboardInterrupt:
                continue
            break
        monkeypatch.undo()
        erase_subject(filled, subject, CONTRACTS, CLOCK)
        assert find_left(space, subject.ids) == []

    def test_quarantine_loses_the_customers_rows(self, space, filled, protector):
        quarantine = Quarantine(space / "quarantine")
        subject = Subject("c80", frozenset(), frozenset(("s80",)))  # a row with too many fields
        assert erase_from_quarantine(quarantine, subject, protector.cipher) == 4
        assert erase_from_quarantine(quarantine, subject, protector.cipher) == 0
        for batch in quarantine.list_batches():
            assert batch.rows == quarantine.rows(batch.id).num_rows

    def test_an_emptied_batch_is_removed(self, space, lake, mapping, protector, tmp_path):
        source = write(tmp_path / "crm.csv", rows(0, 30))
        take_in(lake, mapping, source, protector=protector)
        quarantine = Quarantine(space / "quarantine")
        assert erase_from_quarantine(quarantine, Subject("c0"), protector.cipher) == 2
        assert quarantine.list_batches() == ()

    def test_defect_skipping_a_table_is_found_by_the_scan(self, space, filled, monkeypatch):
        module = importlib.import_module("bihuan.data.personal.erase")
        names = module._names
        monkeypatch.setattr(
            module, "_names", lambda path, ids: "subscription" not in str(path) and names(path, ids)
        )
        subject = subject_of(filled.view(), "c7")
        erase_subject(filled, subject, CONTRACTS, CLOCK)
        monkeypatch.undo()
        assert {found.place.split("/")[1] for found in find_left(space, subject.ids)} == {
            "subscription",
            "subscription__sealed",
        }

    def test_the_scan_reads_across_pieces_and_by_whole_ids(self, tmp_path, monkeypatch):
        monkeypatch.setattr(importlib.import_module("bihuan.data.personal.erase"), "_PIECE", 7)
        (tmp_path / "a.txt").write_text("xxxx c77 c7 (c7) c7-1 1c7 c7", "utf-8")
        found = find_left(tmp_path, frozenset(("c7",)))
        assert [(f.place, f.times) for f in found] == [("a.txt", 3)]


class TestRetention:
    def test_old_months_go_and_the_newest_stays(self, space, filled):
        quarantine = Quarantine(space / "quarantine")
        today = date(2028, 11, 1)
        due = find_expired(filled, quarantine, CONTRACTS, today)
        assert {expiry.place for expiry in due if expiry.kind == "state"} == {
            f"{table}@2026-10-31"
            for table in ("customer", "customer__sealed", "subscription", "subscription__sealed")
        }
        assert len([expiry for expiry in due if expiry.kind == "quarantine"]) == 2
        assert filled.view().find("customer", OCTOBER) is not None  # a dry run
        assert remove_expired(filled, quarantine, CONTRACTS, today) == due
        assert filled.view().find("customer", OCTOBER) is None
        assert not list((filled.root / "customer" / "2026-10-31").glob("*"))
        assert filled.view().get("customer").as_of == NOVEMBER
        assert quarantine.list_batches() == ()
        assert remove_expired(filled, quarantine, CONTRACTS, today) == ()
        assert remove_expired(filled, quarantine, CONTRACTS, date(2099, 1, 1)) == ()

    @pytest.mark.parametrize(
        ("today", "gone"), [(date(2028, 10, 30), False), (date(2028, 10, 31), True)]
    )
    def test_the_period_ends_on_its_day(self, space, filled, today, gone):
        quarantine = Quarantine(space / "quarantine")
        due = find_expired(filled, quarantine, CONTRACTS, today)
        assert ("customer@2026-10-31" in {expiry.place for expiry in due}) is gone

    def test_other_periods_may_be_set(self, space, filled):
        quarantine = Quarantine(space / "quarantine")
        due = find_expired(filled, quarantine, CONTRACTS, date(2027, 1, 1), {"state": 2})
        assert {expiry.kind for expiry in due} == {"state"}
