"""Power customers get what their class is entitled to, and are left alone when it would annoy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bihuan.audience import parse
from bihuan.kernel.document import DocumentError
from bihuan.offer import (
    Catalogue,
    Facts,
    PowerServiceError,
    PowerServices,
    ProfileFacts,
    Service,
    UnknownOfferError,
    load_power_services,
)

from .make import offer

FILE = """
power_services: test
title: {zh: 测试, en: Test}
channel_tag: channel
classes:
  - class: premium
    title: {zh: 优质客户, en: Premium customer}
    audience: "bill >= 300 and not risk"
    services:
      - {service: vip_counter, title: {zh: VIP 专柜, en: VIP counter}}
      - {service: overdraft, title: {zh: 电费透支, en: Overdraft}, share: 0.5, of: bill, most: 400}
      - service: prepayment_discount
        title: {zh: 预缴优惠, en: Prepayment discount}
        steps: [{from: 500, share: 0.01}, {from: 2000, share: 0.02}]
    offers: [quality, check]
    channels: {pay: [app, hall], apply: [hall]}
    hint: {zh: 请引导至专柜, en: Lead to the counter}
  - class: standard
    title: {zh: 标准客户, en: Standard customer}
    audience: "bill >= 0"
    offers: [check]
    channels: {pay: [app, hall]}
    hint: {zh: 按标准服务, en: Serve as usual}
cautions:
  - audience: "is_heavy"
    text: {zh: 近期有投诉, en: Complained of late}
"""
CATALOGUE = Catalogue(
    [offer("quality", eligibility=parse("arpu >= 10")), offer("check"), offer("unused")]
)


@pytest.fixture
def services(tmp_path: Path) -> PowerServices:
    path = tmp_path / "classes.yaml"
    path.write_text(FILE, encoding="utf-8")
    return load_power_services(path, CATALOGUE)


def read(profile: dict[str, Any], services: PowerServices, fields: Any) -> Facts:
    reader = ProfileFacts(services.needs(CATALOGUE), fields)
    return reader.read(profile, customer_id="c1")


def arranged(profile: dict[str, Any], services: PowerServices, fields: Any) -> dict[str, Any]:
    facts = read(profile, services, fields)
    return dict(services.arrange(CATALOGUE, facts).to_pylist()[0])


class TestArrange:
    def test_a_premium_customer_gets_the_class_s_services(
        self, services: PowerServices, fields: Any
    ) -> None:
        row = arranged({"bill": 641.5, "arpu": 20, "channel": "app"}, services, fields)
        assert row == {
            "customer_id": "c1",
            "class": "premium",
            "vip_counter": True,
            "overdraft": 320.0,  # half the bill, whole units
            "prepayment_discount": 0.02,
            "offers": ["quality", "check"],
            "leave_alone": False,
        }

    def test_the_overdraft_is_capped_and_never_for_a_risk(
        self, services: PowerServices, fields: Any
    ) -> None:
        assert arranged({"bill": 5000}, services, fields)["overdraft"] == 400.0
        risky = arranged({"bill": 5000, "risk": True}, services, fields)
        assert (risky["class"], risky["overdraft"], risky["vip_counter"]) == (
            "standard",
            None,
            False,
        )

    def test_only_offers_open_to_the_customer(self, services: PowerServices, fields: Any) -> None:
        assert arranged({"bill": 400, "arpu": 5}, services, fields)["offers"] == ["check"]

    def test_who_is_in_no_class_gets_nothing(self, services: PowerServices, fields: Any) -> None:
        row = arranged({}, services, fields)
        assert (row["class"], row["offers"], row["overdraft"]) == (None, [], None)

    def test_who_would_be_annoyed_keeps_services_and_gets_no_offers(
        self, services: PowerServices, fields: Any
    ) -> None:
        row = arranged({"bill": 641.5, "arpu": 20, "is_heavy": True}, services, fields)
        assert (row["offers"], row["leave_alone"], row["vip_counter"]) == ([], True, True)

    def test_an_arrangement_blind_to_cautions_is_caught(
        self, services: PowerServices, fields: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: offers in spite of a caution."""
        monkeypatch.setattr(
            PowerServices, "_leave", lambda _self, facts: np.zeros(len(facts), dtype=bool)
        )
        assert arranged({"bill": 641.5, "is_heavy": True}, services, fields)["offers"] != []


class TestHint:
    def test_says_class_entitlements_and_offers(self, services: PowerServices, fields: Any) -> None:
        facts = read({"bill": 641.5, "arpu": 20}, services, fields)
        hint = services.hint(CATALOGUE, facts)
        assert hint.offers == ("quality", "check")
        assert hint.text["zh"] == (
            "优质客户。请引导至专柜。可享：VIP 专柜、电费透支、预缴优惠。电费透支额度 320。"
            "可推荐：产品quality、产品check。"
        )
        assert "Overdraft up to 320" in hint.text["en"]

    def test_says_why_not_to_market(self, services: PowerServices, fields: Any) -> None:
        facts = read({"bill": 400, "arpu": 20, "is_heavy": True}, services, fields)
        hint = services.hint(CATALOGUE, facts)
        assert (hint.offers, hint.cautions[0]["en"]) == ((), "Complained of late")
        assert hint.text["zh"].endswith("近期有投诉。本次不做营销。")

    def test_is_for_one_customer(self, services: PowerServices) -> None:
        with pytest.raises(PowerServiceError, match="one customer, not for 0"):
            services.hint(CATALOGUE, Facts(np.array([])))


class TestPositionChannels:
    def test_takes_the_channel_that_most_members_use(
        self, services: PowerServices, fields: Any
    ) -> None:
        used = ["hall", "hall", "app", None, "fax"]
        many = [read({"bill": 400, "channel": name}, services, fields) for name in used]
        facts = Facts(
            ids=np.array(range(5)),
            flags={k: np.concatenate([f.flags[k] for f in many]) for k in many[0].flags},
            numbers={k: np.concatenate([f.numbers[k] for f in many]) for k in many[0].numbers},
            texts={"channel": _joined(many)},
        )
        rows = services.position_channels(facts).to_pylist()
        pay = next(row for row in rows if row["business"] == "pay" and row["class"] == "premium")
        assert (pay["channel"], pay["users"], pay["members"], pay["share"]) == ("hall", 2, 5, 0.5)
        empty = next(row for row in rows if row["class"] == "standard")
        assert (empty["channel"], empty["members"], empty["share"]) == ("app", 0, None)


class TestService:
    @pytest.mark.parametrize(
        ("amount", "off"), [(0, 0), (499.99, 0), (500, 5.0), (1999, 19.99), (2000, 40.0)]
    )
    def test_discount_steps(self, amount: float, off: float) -> None:
        service = Service("prepayment_discount", {}, steps=((500, 0.01), (2000, 0.02)))
        assert service.discount(amount) == off

    def test_an_unknown_bill_grants_no_overdraft(
        self, services: PowerServices, fields: Any
    ) -> None:
        granted = services.classes[0].find_service("overdraft")
        assert granted is not None
        assert np.isnan(granted.overdraft(read({}, services, fields))).all()


class TestLoad:
    @pytest.mark.parametrize(
        ("old", "new", "error", "told"),
        [
            ("offers: [check]", "offers: [chek]", UnknownOfferError, "chek"),
            ("{from: 2000,", "{from: 400,", DocumentError, "steps do not rise"),
            ("pay: [app, hall], apply", "pay: [], apply", DocumentError, "channels.pay is empty"),
            ("service: vip_counter", "service: vip_lounge", DocumentError, "vip_lounge"),
            ("share: 0.01", "share: 0.9", DocumentError, "share is 0.9"),
        ],
    )
    def test_a_wrong_field_is_named(
        self, tmp_path: Path, old: str, new: str, error: type[Exception], told: str
    ) -> None:
        path = tmp_path / "classes.yaml"
        path.write_text(FILE.replace(old, new), encoding="utf-8")
        with pytest.raises(error, match=told):
            load_power_services(path, CATALOGUE)


def _joined(many: list[Facts]) -> Any:
    import pyarrow as pa

    return pa.concat_arrays([facts.texts["channel"] for facts in many])
