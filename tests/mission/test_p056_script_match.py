"""P056: scripts are matched in one place and go to the channels together with the strategy."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from types import SimpleNamespace

import pyarrow as pa
import pytest

from bihuan.delivery import FileChannel, GatePolicy, ListLayout
from bihuan.kernel import UserError
from bihuan.strategy import ForbiddenWordError, TiedScriptsError

from .by_hand import define, open_at, read
from .shop import open_shop, sale, tag_values

MIX = {"data_pack_1g": "sms", "data_pack_5g": "outbound", "top_up_auto": "app"}


@pytest.fixture(scope="module")
def shop(operator, tmp_path_factory) -> SimpleNamespace:
    """A campaign decided and deployed; its assignments with what is said to each customer."""
    found = open_shop(operator, tmp_path_factory.mktemp("p056") / "operator")
    ws = found.ws
    for file in ws.policies.files:
        file.unlink()
    define(ws, "campaigns", "packs", sale("packs", MIX, maximum=300))
    ws.decide("packs", found.last)
    found.rows = ws.deploy("packs", found.last).assignments(ws.view).read()
    found.said = ws.scripts.for_rows(found.rows, found.last, language="zh")
    return found


@pytest.mark.mission("P056")
class TestCentralMatch:
    """A-12: 以数据中台的策略匹配及话术匹配为依托, fed to channel execution with the strategy."""

    def test_every_assignment_carries_its_script(self, shop) -> None:
        senior = {c: v["is_senior"] for c, v in tag_values(shop.ws, shop.last, "is_senior").items()}
        for row in shop.said.to_pylist():
            expected = {
                "sms": ("pack-sms", 2),
                "outbound": ("pack-call-senior" if senior[row["customer_id"]] else "pack-call", 1),
                "app": ("general", 1),
            }[row["channel"]]
            assert (row["script_id"], row["version"]) == expected
        assert {"pack-sms", "pack-call", "general"} <= set(shop.said["script_id"].to_pylist())
        assert shop.said.num_rows == shop.rows.num_rows > 100

    def test_assignments_keep_all_else(self, shop) -> None:
        kept = [name for name in shop.rows.column_names if name != "script_id"]
        assert shop.said.select(kept).equals(shop.rows.select(kept))

    def test_who_is_not_contacted_is_told_nothing(self, shop) -> None:
        decisions = shop.ws.decisions("packs", shop.last).decisions
        said = shop.ws.scripts.for_rows(decisions, shop.last).to_pylist()
        silent = [row for row in said if row["offer_id"] is None]
        assert silent
        assert {row["script_id"] for row in silent} == {row["text"] for row in silent} == {None}
        assert all(row["text"] for row in said if row["offer_id"] is not None)

    def test_the_text_is_filled_from_the_customers_own_tags(self, shop) -> None:
        dou = {c: v["dou"] for c, v in tag_values(shop.ws, shop.last, "dou").items()}
        checked = 0
        for row in shop.said.to_pylist():
            if row["script_id"] == "pack-sms" and row["arm"] == "A":
                checked += 1
                assert row["text"] == (
                    f"您近期月均用流量 {dou[row['customer_id']]:.0f} MB，轻量流量包 1 GB每月 5 元起，"
                    "回复 1 办理，拒收回复 R。"
                )
        assert checked > 10

    def test_a_clerk_hears_the_same_as_the_list_says(self, shop) -> None:
        for row in shop.said.to_pylist()[::7]:
            one = shop.ws.scripts.match(
                row["offer_id"], row["channel"], row["customer_id"], shop.last
            )
            assert (one.script_id, one.version, one.arm, one.text["zh"]) == (
                row["script_id"], row["version"], row["arm"], row["text"],
            )  # fmt: skip
            assert one.why["zh"]
            assert one.why["en"]

    def test_another_day_another_list_the_same_words(self, shop) -> None:
        again = open_at(shop.folder / "ws")
        part = shop.rows.take(list(range(shop.rows.num_rows - 1, 0, -3)))
        before = {
            (r["customer_id"], r["offer_id"]): (r["arm"], r["text"]) for r in shop.said.to_pylist()
        }
        for row in again.scripts.for_rows(part, shop.last, language="zh").to_pylist():
            assert before[row["customer_id"], row["offer_id"]] == (row["arm"], row["text"])

    def test_the_lists_of_the_channels_carry_the_words(self, shop, tmp_path) -> None:
        shutil.copytree(shop.folder / "ws", tmp_path / "ws")
        ws = open_at(tmp_path / "ws")
        details = ws.scripts.list_details(shop.rows, shop.last, language="zh")
        layout = ListLayout(
            details=details, titles={"spoken": {"zh": "对客话术", "en": "To be said"}}
        )
        channel = FileChannel(tmp_path / "lists", clock=ws.clock, layout=layout)
        ws.send("packs", channel, policy=GatePolicy.for_lists())
        expected = {r["customer_id"]: r["text"] for r in shop.said.to_pylist()}
        seen = {}
        for file in (tmp_path / "lists").rglob("*.csv"):
            with file.open(encoding="utf-8-sig", newline="") as lines:
                for row in csv.DictReader(lines):
                    seen[row["客户编号"]] = row["对客话术"]
        assert seen == expected
        twice = pa.concat_tables([shop.rows, shop.rows.slice(0, 2)])
        with pytest.raises(UserError, match="2 customers have several"):
            ws.scripts.list_details(twice, shop.last)

    def test_the_command_line_tells_it_too(self, shop, shell) -> None:
        row = next(r for r in shop.said.to_pylist() if r["channel"] == "sms")
        done = shell("script", "match", row["customer_id"], row["offer_id"], "sms",
                     "--as-of", str(shop.last), workspace=shop.folder / "ws")  # fmt: skip
        assert done.code == 0, done.err
        assert done.result["text"]["zh"] == row["text"]


@pytest.mark.mission("P056")
class TestVersionsAndArms:
    """A-12: versions and arms, so that wordings can be compared (话术优化)."""

    def test_the_newest_approved_version_is_said(self, shop) -> None:
        versions = {s.version: s.status for s in shop.ws.scripts.book.scripts
                    if s.script_id == "pack-sms"}  # fmt: skip
        assert versions == {1: "retired", 2: "approved"}
        assert set(shop.said.filter(_is(shop.said, "pack-sms"))["version"].to_pylist()) == {2}

    def test_the_arms_split_as_planned_and_nobody_hears_both(self, shop) -> None:
        arms = Counter(shop.said.filter(_is(shop.said, "pack-sms"))["arm"].to_pylist())
        n = sum(arms.values())
        assert set(arms) == {"A", "B"}
        assert abs(arms["A"] - n / 2) < 2.6 * (n / 4) ** 0.5  # one in a hundred by chance

    def test_the_lot_has_nothing_to_do_with_who_the_customer_is(self, shop) -> None:
        arpu = {c: float(v["arpu"] or 0) for c, v in tag_values(shop.ws, shop.last, "arpu").items()}
        ids = shop.ws.members("everyone", shop.last)["customer_id"].combine_chunks()
        book = shop.ws.scripts.book
        table = book.match_table(ids, "data_pack_1g", "sms", {}).to_pylist()
        mean = {
            arm: sum(v := [arpu[r["customer_id"]] for r in table if r["arm"] == arm]) / len(v)
            for arm in "AB"
        }
        assert mean["A"] == pytest.approx(mean["B"], rel=0.1)


@pytest.mark.mission("P056")
class TestControl:
    """A-12: what one place matches, one place can control."""

    def test_a_city_that_allows_other_scripts_hears_others(self, shop, tmp_path) -> None:
        shutil.copytree(shop.folder / "ws", tmp_path / "ws")
        ws = open_at(tmp_path / "ws")
        define(ws, "policies", "city", "policies:\n  - {policy_id: c, unit: city-1301, kind: addon,"
               " status: approved, scripts: [general]}\n")  # fmt: skip
        grid = {r["customer_id"]: r["org_unit_id"] for r in read(ws, "customer", shop.last)}
        tree = ws.policies.tree()
        said = ws.scripts.for_rows(shop.rows, shop.last).to_pylist()
        inside = [r for r in said if "city-1301" in tree.path(grid[r["customer_id"]])]
        assert inside
        assert {r["script_id"] for r in inside} == {"general"}
        before = {r["assignment_id"]: r["script_id"] for r in shop.said.to_pylist()}
        for row in said:
            if "city-1301" not in tree.path(grid[row["customer_id"]]):
                assert row["script_id"] == before[row["assignment_id"]]
        some = next(r for r in inside if r["channel"] == "sms")
        one = ws.scripts.match(some["offer_id"], "sms", some["customer_id"], shop.last)
        assert one.script_id == "general"

    def test_a_forbidden_word_goes_nowhere(self, shop, tmp_path) -> None:
        shutil.copytree(shop.folder / "ws", tmp_path / "ws")
        ws = open_at(tmp_path / "ws")
        define(ws, "scripts", "bold", "scripts:\n  - {script_id: bold, title: {zh: 大胆, en: Bold}, status: approved,"
               " offers: [data_pack_1g], text: {zh: 全 网 最 优 惠, en: Take it}}\n")  # fmt: skip
        with pytest.raises(ForbiddenWordError, match="absolute claim") as caught:
            ws.scripts.for_rows(shop.rows, shop.last)
        assert "bold.yaml" in str(caught.value)
        (ws.layout.root / "scripts" / "bold.yaml").unlink()
        define(ws, "campaigns", "bold", sale("bold", {"data_pack_1g": "sms"},
                                             words='{zh: "流量永久免费", en: "Free forever!"}'))  # fmt: skip
        assert [w.word for w in ws.scripts.check_campaign("bold")["words"]] == [
            "永久免费",
            "free forever",
        ]
        assert ws.scripts.check_campaign("packs") == {}

    def test_two_scripts_that_fit_equally_well_are_told_before_anyone_is_called(
        self, shop, tmp_path
    ) -> None:
        shutil.copytree(shop.folder / "ws", tmp_path / "ws")
        ws = open_at(tmp_path / "ws")
        define(ws, "scripts", "more", "scripts:\n  - {script_id: more, title: {zh: 又一, en: More}, status: approved,"
               " kinds: [addon], channels: [outbound], audience: arpu >= 50, text: {zh: 您好, en: Hello}}\n")  # fmt: skip
        with pytest.raises(TiedScriptsError, match=r"more\.yaml"):
            ws.scripts.for_rows(shop.rows, shop.last)

    def test_an_exclusive_offer_is_spoken_of_as_one(self, shop) -> None:
        """Also E-26: the words of VIP status go with the script."""
        one = shop.ws.scripts.match("vip_fee_mid_12", "outbound", shop.rows["customer_id"][0].as_py(),
                                    shop.last)  # fmt: skip
        assert one.script_id == "contract-call"
        assert "贵宾" in one.text["zh"]


def _is(said, script: str):
    import pyarrow.compute as pc

    return pc.equal(said["script_id"], script)
