"""P049: product mix, tariff, promotion strategy and channels for each goal and group."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

import bihuan as bh
from bihuan.strategy import plan_text

PROMOTION = "    promotion: {zh: 购机立减, en: handset discount}"
APP = "app: {script: push, acceptance: 0.12}"


def load(
    tmp_path: Path, tools, text: str, offers: str | None = None
) -> tuple[bh.Workspace, object]:
    """Lay out a workspace with one campaign and load it."""
    ws = tools.open_at(tmp_path / "ws")
    tools.define(ws, "offers", "offers", offers or tools.offers)
    tools.define(ws, "campaigns", "orders-2026-11", text)
    return ws, ws.campaign("orders-2026-11")


@pytest.mark.mission("P049")
class TestMixIsDesigned:
    """G-25: 产品组合、资费设计、促销策略、推广渠道."""

    def test_g25_the_plan_document_shows_all_four(self, carried, tools) -> None:
        ws = carried.ws
        text = plan_text(ws.campaign(carried.campaign_id), ws.catalogue, "zh")
        lines = {
            offer["offer_id"]: line
            for offer in yaml.safe_load(tools.offers)["offers"]
            for line in text.splitlines()
            if offer["title"]["zh"] in line
        }
        assert len(lines) == 3
        for words in ("购机合约 24 个月", "10", "24", "购机立减", "outbound", "app"):
            assert words in lines["keep_24"], words  # product, tariff, term, promotion, channels
        assert "20" in lines["data_pack"]
        assert "首月半价" in lines["data_pack"]
        assert "sms" not in lines["keep_24"]

    def test_g25_an_offer_may_join_products_and_has_its_tariff(
        self, tmp_path, tools, campaign_file
    ) -> None:
        ws, campaign = load(tmp_path, tools, campaign_file())
        pack = ws.catalogue.get("data_pack")
        assert pack.products == ("data_5g", "video_pass")
        assert (pack.price, pack.months) == (20, 6)
        assert [(item.offer_id, kind) for item, kind in campaign.candidates()] == [
            ("keep_12", "outbound"),
            ("keep_12", "sms"),
            ("keep_24", "outbound"),
            ("keep_24", "app"),
            ("data_pack", "sms"),
            ("data_pack", "app"),
        ]

    @pytest.mark.parametrize(
        ("wrong", "right", "words"),
        [
            (PROMOTION + "\n", "", r"mix\[1\]\.promotion"),
            (PROMOTION, "    promotion: 购机立减", "both languages"),
            (APP, "sms: {script: text, acceptance: 0.1}", "not a channel of offer 'keep_24'"),
            (APP, "hall: {script: push, acceptance: 0.1}", "has no capacity and cost"),
            (APP, "app: {script: shout, acceptance: 0.1}", "'shout'"),
            ("- offer: keep_24", "- offer: keep_25", "Did you mean: keep_24"),
        ],
    )
    def test_g25_a_mix_with_a_hole_is_refused(
        self, tmp_path, tools, campaign_file, wrong: str, right: str, words: str
    ) -> None:
        text = campaign_file()
        assert wrong in text
        with pytest.raises(bh.UserError, match=words):
            load(tmp_path, tools, text.replace(wrong, right))


@pytest.mark.mission("P049")
class TestMixIsKept:
    """针对每一个特定目标下的目标用户群: what is decided stays within the mix of goal and group."""

    def test_g25_only_offers_and_channels_of_the_mix_within_their_limits(
        self, carried, tools
    ) -> None:
        sent = Counter((row["offer_id"], row["channel"]) for row in carried.assignments)
        campaign = carried.ws.campaign(carried.campaign_id)
        assert set(sent) <= {(item.offer_id, kind) for item, kind in campaign.candidates()}
        by_channel, by_offer = Counter(), Counter()
        for (offer, channel), n in sent.items():
            by_channel[channel] += n
            by_offer[offer] += n
        assert by_channel["outbound"] <= 220
        assert by_channel["sms"] <= 500
        assert by_channel["app"] <= 300
        assert by_offer["keep_24"] <= 150  # the maximum of the mix
        assert len(by_offer) == 3  # every part of the mix found its customers

    def test_g25_each_offer_goes_to_its_own_group(self, carried) -> None:
        ws = carried.ws
        names = ["has_contract", "tenure_months", "arpu", "dou"]
        rows = ws.tags(carried.last).read(ws.engine, names).to_pylist()
        who = {row["customer_id"]: row for row in rows}
        meets = {
            "keep_12": lambda v: not v["has_contract"],
            "keep_24": lambda v: (
                not v["has_contract"] and v["tenure_months"] >= 12 and v["arpu"] >= 60
            ),
            "data_pack": lambda v: v["dou"] is not None and v["dou"] >= 4000,
        }
        for row in carried.assignments:
            assert meets[row["offer_id"]](who[row["customer_id"]]), row

    def test_g25_the_script_of_the_mix_is_on_the_list(self, carried) -> None:
        scripts = {"outbound": "call", "sms": "text", "app": "push"}
        assert all(row["script_id"] == scripts[row["channel"]] for row in carried.assignments)
        text = "".join(
            p.read_text(encoding="utf-8-sig") for p in carried.ws.layout.lists.rglob("*.csv")
        )
        assert text.count("您好，这里是客户服务。") == sum(
            row["channel"] == "outbound" for row in carried.assignments
        )

    def test_g25_who_holds_an_excluded_product_is_not_offered(
        self, own_operator, tools, campaign_file
    ) -> None:
        """互斥: the mix of a group leaves out what does not go together."""
        ws, last = own_operator.ws, own_operator.last
        holders = [f"c{i:09d}" for i in range(0, 2500, 3)]
        held = pa.table(
            {
                "subscription_id": [f"s{customer}" for customer in holders],
                "product_id": ["rival_pack"] * len(holders),
                "customer_id": holders,
                "status": ["active"] * len(holders),
            }
        )
        tools.extract(ws, held, "holding", last)
        offers = tools.offers.replace(
            'eligibility: "dou >= 4000"\n',
            'eligibility: "dou >= 4000"\n    excludes: [rival_pack]\n',
        )
        assert "rival_pack" in offers
        tools.define(ws, "offers", "offers", offers)
        tools.define(ws, "campaigns", "orders-2026-11", campaign_file())
        rows = ws.decide("orders-2026-11", last).decisions.to_pylist()
        packs = {row["customer_id"] for row in rows if row["offer_id"] == "data_pack"}
        assert packs
        assert not packs & set(holders)
