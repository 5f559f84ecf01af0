"""P022: behaviour on the digital channels in five categories, 61 tags, and what they are worth."""

from __future__ import annotations

import shutil
from datetime import date
from types import SimpleNamespace

import pyarrow as pa
import pytest

import bihuan as bh
from bihuan.kernel import UserError
from bihuan.tag import LIBRARY_FOLDER
from bihuan.twin import TwinSettings, generate_operator, surround_digital

OCTOBER, JULY = date(2026, 10, 31), date(2026, 7, 31)
CATEGORIES = ("办理中途流失", "访问浏览", "成功订购", "活动分享引流", "关键触点点击")
LOG = """
meaning: {zh: 电子渠道页面轨迹日志, en: Page log of the digital channels}
tables:
  event:
    columns:
      event_id: 序号
      customer_id: 客户
      kind: {column: 动作, codes: {浏览: visit, 配置: configure, 提交: submit, 订购: order, 分享: share, 分享到访: share_visit, 点击: click}}
      occurred_at: {column: 时间, date_format: "%Y-%m-%d %H:%M:%S"}
      business: {column: 业务, codes: {家宽: broadband, 4G套餐: plan_4g, 5G套餐: plan_5g, 流量包: data_pack}}
      channel: 渠道
      touchpoint: {column: 触点, codes: {搜索: search, 首页横幅: home_banner}}
      shared_by: 分享人
      amount: 金额
"""
EVENTS: dict[date, list[tuple[str, ...]]] = {
    date(2026, 8, 31): [
        ("C", "浏览", "2026-08-03 09:00:00", "流量包", "app", "", "", ""),
        ("C", "配置", "2026-08-03 09:02:00", "流量包", "app", "", "", ""),
        ("C", "提交", "2026-08-03 09:04:00", "流量包", "app", "", "", ""),
        ("C", "订购", "2026-08-03 09:06:00", "流量包", "app", "", "", "20"),
        ("F", "浏览", "2026-08-09 10:00:00", "家宽", "web", "", "", ""),
    ],
    date(2026, 10, 31): [
        ("A", "点击", "2026-10-05 09:00:00", "家宽", "app", "搜索", "", ""),
        ("A", "浏览", "2026-10-05 09:01:00", "家宽", "app", "", "", ""),
        ("A", "配置", "2026-10-05 09:02:00", "家宽", "app", "", "", ""),
        ("B", "浏览", "2026-10-06 09:00:00", "家宽", "app", "", "", ""),
        ("B", "配置", "2026-10-06 09:02:00", "家宽", "app", "", "", ""),
        ("B", "提交", "2026-10-06 09:03:00", "家宽", "app", "", "", ""),
        ("B", "订购", "2026-10-06 09:05:00", "家宽", "app", "", "", "79"),
        ("B", "分享", "2026-10-06 09:09:00", "家宽", "app", "", "", ""),
        ("C", "浏览", "2026-10-20 09:00:00", "流量包", "wechat", "", "", ""),
        ("C", "提交", "2026-10-20 09:04:00", "流量包", "wechat", "", "", ""),
        ("D", "分享到访", "2026-10-21 09:00:00", "4G套餐", "wechat", "", "B", ""),
        ("D", "浏览", "2026-10-21 09:01:00", "4G套餐", "wechat", "", "", ""),
        ("D", "订购", "2026-10-21 09:07:00", "4G套餐", "wechat", "", "", "59"),
        ("E", "点击", "2026-10-22 09:00:00", "5G套餐", "app", "首页横幅", "", ""),
        ("E", "浏览", "2026-10-22 09:01:00", "5G套餐", "app", "", "", ""),
    ],
}


@pytest.fixture(scope="module")
def log(tmp_path_factory, tools) -> SimpleNamespace:
    """Six customers whose every step is written down here."""
    folder = tmp_path_factory.mktemp("log")
    ws: bh.Workspace = tools.open_at(folder / "ws")
    shutil.copy(LIBRARY_FOLDER / "channel_behaviour.yaml", ws.layout.root / "tags" / "channel.yaml")
    tools.define(ws, "mappings", "log", LOG)
    tools.extract(ws, pa.table({"customer_id": list("ABCDEF")}), "customer", OCTOBER)
    header = ("序号", "客户", "动作", "时间", "业务", "渠道", "触点", "分享人", "金额")
    for month, events in EVENTS.items():
        rows = [header, *((f"{month:%m}{i}", *event) for i, event in enumerate(events))]
        report = ws.ingest(tools.write_csv(folder / f"{month}.csv", rows, "gbk"), "log", month)
        assert (report.rows_stored, report.rows_quarantined) == (len(events), 0)
    ws.refresh_tags(OCTOBER)
    return SimpleNamespace(ws=ws, folder=folder)


def who(ws: bh.Workspace, audience: str) -> str:
    """Return the ids of an audience's members in one word."""
    return "".join(ws.members(audience, OCTOBER)["customer_id"].to_pylist())


@pytest.mark.mission("P022")
class TestFiveCategories:
    """C-08 to C-12, each on trajectories that were written down by hand."""

    def test_c08_lost_midway_through_handling(self, log) -> None:
        assert who(log.ws, "channel_lost_broadband") == "A"  # B went on to order
        assert (
            who(log.ws, "channel_lost_data_pack") == "C"
        )  # ordered in August, broke off in October
        assert who(log.ws, "channel_lost_step_data_pack = 'submit'") == "C"
        assert who(log.ws, "channel_lost_business_count > 0") == "AC"

    def test_c09_visiting_and_browsing(self, log) -> None:
        assert who(log.ws, "channel_visits_broadband_3m > 0") == "ABF"
        assert who(log.ws, "channel_visits_broadband_1m > 0") == "AB"
        assert who(log.ws, "channel_days_since_visit <= 10") == "DE"

    def test_c10_ordered_successfully(self, log) -> None:
        assert who(log.ws, "channel_ordered_broadband") == "B"
        assert who(log.ws, "channel_ordered_data_pack") == "C"
        assert who(log.ws, "channel_order_amount >= 59") == "BD"
        assert who(log.ws, "channel_last_ordered = 'plan_4g'") == "D"

    def test_c11_led_in_by_shared_activities(self, log) -> None:
        assert who(log.ws, "channel_led_in_plan_4g > 0") == "D"
        assert who(log.ws, "channel_led_to_order_plan_4g") == "D"
        assert who(log.ws, "channel_brought_customers = 1 and channel_shares = 1") == "B"

    def test_c12_clicked_key_touchpoints(self, log) -> None:
        assert who(log.ws, "channel_clicks_on_search = 1") == "A"
        assert (
            who(log.ws, "channel_clicks_plan_5g = 1 and channel_clicks_on_home_banner = 1") == "E"
        )


@pytest.mark.mission("P022")
class TestStock:
    """C-07, C-13, C-14."""

    def test_c13_five_categories_with_61_tags_in_all(self, log) -> None:
        dictionary = log.ws.dictionary
        counts = [
            len(dictionary.select(category=f"渠道行为/{name}", state="live")) for name in CATEGORIES
        ]
        assert min(counts) >= 10
        assert sum(counts) == len(dictionary.select(category="渠道行为")) == 61

    @pytest.mark.parametrize("business", ["家庭宽带", "4G套餐", "5G套餐", "流量包"])
    def test_c14_every_category_has_tags_of_the_key_businesses(self, log, business: str) -> None:
        for name in CATEGORIES:
            assert log.ws.dictionary.select(category=f"渠道行为/{name}/{business}"), name

    def test_c07_production_uses_them_as_they_are(self, log) -> None:
        audience = (
            "(channel_lost_broadband or channel_lost_data_pack) and channel_lost_business_count = 1"
        )
        found = log.ws.members(
            audience, OCTOBER, ["channel_lost_days_broadband", "channel_last_ordered"]
        )
        assert found.to_pylist() == [
            {"customer_id": "A", "channel_lost_days_broadband": 26, "channel_last_ordered": None},
            {"customer_id": "C", "channel_lost_days_broadband": None, "channel_last_ordered": "data_pack"},
        ]  # fmt: skip
        assert log.ws.refresh_tags(OCTOBER).pending == {}


@pytest.fixture(scope="module")
def operator_online(tmp_path_factory, tools) -> SimpleNamespace:
    """A simulated operator and six months of its customers' page trajectories."""
    folder = tmp_path_factory.mktemp("online")
    ws: bh.Workspace = tools.open_at(folder / "ws")
    shutil.copy(LIBRARY_FOLDER / "channel_behaviour.yaml", ws.layout.root / "tags" / "channel.yaml")
    settings = TwinSettings(customers=2000, months=1, last=OCTOBER, seed=7)
    generate_operator(settings, ws.lake, ws.contracts, clock=ws.clock, progress=ws.progress)
    tools.extract(ws, ws.view.get("customer", OCTOBER).read(), "customer", JULY)
    surround_digital(ws.lake, OCTOBER, ws.contracts, months=6, seed=7, clock=ws.clock)
    return SimpleNamespace(ws=ws)


@pytest.mark.mission("P022")
class TestValueOfTags:
    """C-61: mine the value of tag data: which behaviour tells who will order later."""

    def orders(self, ws: bh.Workspace, business: str) -> set[str]:
        """Who ordered in August to October, from the log."""
        return {
            row["customer_id"]
            for month in ws.view.dates("event")
            if month > JULY
            for row in ws.view.get("event", month).read().to_pylist()
            if row["kind"] == "order" and row["business"] == business and row["customer_id"]
        }

    def test_c61_counts_and_lift_are_those_of_the_log(self, operator_online) -> None:
        ws: bh.Workspace = operator_online.ws
        found = ws.portraits.rank("channel_ordered_data_pack", JULY, OCTOBER, category="渠道行为")
        ordered = self.orders(ws, "data_pack")
        assert (found.rows, found.events) == (2000, len(ordered))
        lost = {
            row["customer_id"]
            for row in ws.tags(JULY).read(ws.engine, ["channel_lost_data_pack"]).to_pylist()
            if row["channel_lost_data_pack"]
        }
        by_hand = (len(ordered & lost) / len(lost)) / (len(ordered) / 2000)
        assert found["channel_lost_data_pack"].figures.lift == pytest.approx(by_hand)
        assert by_hand > 1.2

    def test_c61_behaviour_on_the_business_itself_tells_most(self, operator_online) -> None:
        found = operator_online.ws.portraits.rank(
            "channel_ordered_broadband", JULY, OCTOBER, category="渠道行为"
        )
        values = {tag.tag: tag.value for tag in found.tags}
        assert values["channel_visits_broadband_3m"] > 2 * values["channel_clicks_on_bill_page"]
        best = [tag.tag for tag in found.tags][:10]
        assert sum("broadband" in name or "business" in name for name in best) >= 5

    def test_c61_an_answer_that_was_known_already_is_refused(self, operator_online) -> None:
        with pytest.raises(UserError, match="looks back 3 months"):
            operator_online.ws.portraits.rank(
                "channel_ordered_broadband", date(2026, 9, 30), OCTOBER, category="渠道行为"
            )
