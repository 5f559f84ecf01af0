"""P057: the province gives the frame, city and county set the concrete strategy."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import pyarrow as pa
import pytest

from bihuan.cli import main
from bihuan.kernel import UserError
from bihuan.strategy import PolicyChange, PolicyConflictError

from .by_hand import define, open_at, read
from .shop import open_shop, planned, sale

LINES = """
offers:
  - {offer_id: line_100, title: {zh: 互联网专线 100M, en: Leased line 100}, kind: leased_line,
     products: [line_100], price: 1000, months: 12, margin: 2000, channels: [account_manager, outbound]}
"""
LINE_CAMPAIGN = """
campaign_id: lines
title: {zh: 专线提速, en: Faster lines}
goal: {metric: ordered, target: 0.01, reason: {zh: 提速, en: speed}, needs: {zh: 带宽, en: bandwidth},
       starts_on: 2026-11-01, ends_on: 2026-11-30}
audience: everyone
control_share: 0.1
channels: {account_manager: {capacity: 50, unit_cost: 4}}
scripts: {words: {zh: 您好, en: Hello}}
mix:
  - offer: line_100
    promotion: {zh: 免调测费, en: no set-up fee}
    channels: {account_manager: {script: words, acceptance: 0.2}}
"""


@pytest.fixture(scope="module")
def shop(operator, tmp_path_factory) -> SimpleNamespace:
    """The simulated province with the sample policies, a leased line, and two campaigns."""
    found = open_shop(operator, tmp_path_factory.mktemp("p057") / "operator")
    define(found.ws, "offers", "lines", LINES)
    define(found.ws, "campaigns", "lines", LINE_CAMPAIGN)
    define(found.ws, "campaigns", "packs", sale("packs", {"data_pack_5g": "sms", "plan_99": "sms"},
                                                maximum=400))  # fmt: skip
    found.ws = open_at(found.folder / "ws")
    return found


@pytest.fixture
def own(shop, tmp_path) -> SimpleNamespace:
    shutil.copytree(shop.folder / "ws", tmp_path / "ws")
    return SimpleNamespace(ws=open_at(tmp_path / "ws"), last=shop.last, folder=tmp_path)


def cities_of(ws, last) -> dict[str, str]:
    """Return each customer's city by walking up the rows of org_unit."""
    above = {row["org_unit_id"]: row["parent_id"] for row in read(ws, "org_unit", last)}
    tier = {row["org_unit_id"]: row["tier"] for row in read(ws, "org_unit", last)}
    found = {}
    for row in read(ws, "customer", last):
        unit = row["org_unit_id"]
        while unit is not None and tier[unit] != "city":
            unit = above[unit]
        found[row["customer_id"]] = unit
    return found


def city_policy(city: str, **limits: object) -> str:
    fields = ", ".join(f"{name}: {value}" for name, value in limits.items())
    return (
        f"{{policy_id: {city}-line, unit: {city}, kind: leased_line, status: approved, {fields}}}"
    )


@pytest.mark.mission("P057")
class TestFrame:
    """A-94: 省层级可以给出框架性指导策略."""

    def test_the_frame_holds_in_every_unit_of_the_province(self, shop) -> None:
        book = shop.ws.policies.book(shop.last)
        for unit in book.tree.at_tier("grid"):
            policy = book.resolve(unit, "line_100")
            low, high = policy.price_band
            assert low >= 300
            assert high == float("inf")
            assert policy.max_discount <= 0.3
            assert policy.framed_by == ("province",)
            assert not policy.allows("sms")

    def test_the_province_frames_and_does_not_set_the_strategy(self, own) -> None:
        for limits in ("offers: [line_100]", "scripts: [general]", "budget: 5000"):
            text = (
                f"{{policy_id: x, unit: province, kind: leased_line, status: approved, {limits}}}"
            )
            with pytest.raises(PolicyConflictError, match="city / county decide"):
                own.ws.policies.put(text)
        assert own.ws.policies.put(
            "{policy_id: x, unit: province, offer: line_100, status: approved, price: {high: 5000}}"
        )

    def test_a_frame_alone_does_not_let_a_campaign_run(self, own) -> None:
        found = own.ws.policies.check_campaign("lines")
        assert [(v.kind, v.unit_id) for v in found if v.kind == "undecided"] == [
            ("undecided", "province")
        ]
        for city in own.ws.policies.tree().at_tier("city"):
            if city != "city-1301":
                own.ws.policies.put(city_policy(city, max_discount=0.1))
        assert own.ws.policies.check_campaign("lines") == ()
        # taken back in one city: the others go on
        own.ws.policies.withdraw("city-1302-line")
        (left,) = own.ws.policies.check_campaign("lines")
        assert (left.kind, left.is_blocking) == ("undecided", False)

    def test_a_lower_level_that_loosens_the_frame_is_refused_with_both_places(self, own) -> None:
        before = {f.name: f.read_bytes() for f in own.ws.policies.files}
        with pytest.raises(PolicyConflictError) as caught:
            own.ws.policies.put(city_policy("city-1302", max_discount=0.4))
        for language in ("zh", "en"):
            text = caught.value.text(language)
            assert "province.yaml" in text
            assert "city-1302" in text
            assert "0.4" in text
            assert "0.3" in text
        assert {f.name: f.read_bytes() for f in own.ws.policies.files} == before


@pytest.mark.mission("P057")
class TestConcreteStrategy:
    """A-95: 具体策略制订则由贴近营销执行层的市或区县层级负责."""

    def test_city_and_county_fill_the_frame_and_the_view_says_who_did(self, own) -> None:
        own.ws.policies.put(city_policy("city-1302", max_discount=0.2, price="{low: 400}"))
        own.ws.policies.put(
            "{policy_id: k, unit: county-130201, kind: leased_line, status: approved, price: {low: 600}}"
        )
        policy = own.ws.policies.resolve("grid-130201-1", "line_100")
        assert policy.is_decided
        assert policy.decided_by == ("city-1302", "county-130201")
        said = {
            facet: [(step.tier, step.statement.unit_id) for step in limit.trail]
            for facet, limit in policy.limits.items()
        }
        assert said["price.low"] == [
            ("province", "province"), ("city", "city-1302"), ("county", "county-130201"),
        ]  # fmt: skip
        assert said["max_discount"][-1] == ("city", "city-1302")
        assert policy.set_by("price.low").statement.place.startswith("county-130201.yaml")
        other = own.ws.policies.resolve("grid-130202-1", "line_100")
        assert other.price_band[0] == 400
        elsewhere = own.ws.policies.resolve("grid-130301-1", "line_100")
        assert elsewhere.price_band[0] == 300
        assert not elsewhere.is_decided

    def test_units_that_may_not_decide_are_refused(self, own) -> None:
        with pytest.raises(PolicyConflictError, match="city / county decide"):
            own.ws.policies.put(
                "{policy_id: g, unit: grid-130201-1, kind: leased_line, status: approved, budget: 9}"
            )

    def test_plan_changes_are_the_citys_and_packs_the_provinces_or_the_citys(self, own) -> None:
        """Also A-48 (加装包: 省或市统一) and A-49 (改套餐: 市一级，不再下放至区县)."""
        put = own.ws.policies.put
        with pytest.raises(PolicyConflictError, match="plan: city decide"):
            put(
                "{policy_id: a, unit: county-130201, kind: plan, status: approved, offers: [plan_99]}"
            )
        with pytest.raises(PolicyConflictError, match="addon: province / city decide"):
            put(
                "{policy_id: b, unit: county-130201, kind: addon, status: approved, max_discount: 0.1}"
            )
        assert put(
            "{policy_id: c, unit: city-1302, kind: plan, status: approved, offers: [plan_99]}"
        )
        assert put(
            "{policy_id: d, unit: province, offer: data_pack_5g, status: approved, price: {high: 20}}"
        )
        for grid in ("grid-130201-1", "grid-130206-4"):
            assert not own.ws.policies.resolve(grid, "plan_59").is_offered

    def test_decisions_keep_what_each_city_has_laid_down(self, own) -> None:
        """The sample city 1301 pushes no plan changes by text message; the others may."""
        plan = own.ws.decide("packs", own.last)
        city = cities_of(own.ws, own.last)
        got = Counter(
            (row["offer_id"], city[row["customer_id"]] == "city-1301")
            for row in plan.decisions.to_pylist()
            if row["offer_id"] is not None
        )
        assert got["plan_99", True] == 0
        assert got["plan_99", False] > 0
        assert got["data_pack_5g", True] > 0
        assert planned(own.ws, "packs", own.last)


@pytest.mark.mission("P057")
class TestWhatIf:
    """A-94, A-95: before a level speaks, it sees what its word would touch."""

    def test_it_counts_units_customers_and_campaigns_and_changes_nothing(self, own) -> None:
        change = PolicyChange.put(own.ws.policies.statement(
            "{policy_id: n, unit: city-1302, offer: data_pack_5g, status: approved, channels: [app]}"
        ))  # fmt: skip
        before = {f.name: f.read_bytes() for f in own.ws.policies.files}
        impact = own.ws.policies.what_if(change)
        customers = [c for c, city in cities_of(own.ws, own.last).items() if city == "city-1302"]
        assert impact.customer_count == len(customers) > 50
        assert impact.offers == ("data_pack_5g",)
        assert set(impact.units) == set(own.ws.policies.tree().subtree("city-1302"))
        (campaign,) = impact.campaigns
        assert campaign.campaign_id == "packs"
        assert [(v.kind, v.unit_id, v.is_blocking) for v in campaign.broken] == [
            ("channel", "city-1302", False)
        ]
        assert {f.name: f.read_bytes() for f in own.ws.policies.files} == before
        written = own.ws.policies.put(change.statement)
        assert written.impact == impact
        mask = own.ws.policies.allowed(
            pa.array(["grid-130201-1", "grid-130301-1"]), [("data_pack_5g", "sms")], own.last
        )
        assert mask.tolist() == [[False], [True]]

    def test_a_tighter_frame_is_drafted_shown_and_approved(self, own) -> None:
        policies = own.ws.policies
        policies.put(city_policy("city-1302", max_discount=0.25))
        policies.put(
            "{policy_id: tight, unit: province, offer: line_100, status: draft, max_discount: 0.2}"
        )
        blocked = [v.kind for v in policies.check_campaign("lines") if v.is_blocking]
        assert "unapproved" in blocked
        # a rule for one offer does not undo the city's rule for the kind: it only tightens it
        assert policies.resolve("grid-130201-1", "line_100").max_discount == 0.25
        written = policies.approve("tight")
        assert written.file.name == "province.yaml"
        assert policies.resolve("grid-130201-1", "line_100").max_discount == 0.2
        text = written.file.read_text(encoding="utf-8")
        assert "# Sample policies of our own" in text  # what people wrote stays

    def test_a_conflict_below_stops_the_approval(self, own) -> None:
        policies = own.ws.policies
        policies.put(city_policy("city-1302", max_discount=0.25))
        frame = policies.book().get("leased-line-frame")
        text = "{policy_id: frame-2, unit: province, kind: leased_line, status: draft, max_discount: 0.1}"
        policies.put(text)
        impact = policies.what_if(PolicyChange.approve(policies.book().get("frame-2")))
        assert {c.policy_id for c in impact.conflicts} >= {"city-1302-line", "city-1301-lines"}
        with pytest.raises(PolicyConflictError):
            policies.approve("frame-2")
        assert policies.book().get("frame-2").status == "draft"
        assert policies.book().get("leased-line-frame") == frame


@pytest.mark.mission("P057")
class TestCommandLine:
    @pytest.fixture
    def command(self, own, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
        """Run a command of ``bihuan policy`` in this process: exit code, output, message."""

        def run(*words: str) -> tuple[int, str, str]:
            monkeypatch.setattr(
                sys, "argv", ["bihuan", "policy", *words, "-w", str(own.folder / "ws")]
            )
            try:
                main()
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
            return code, *capsys.readouterr()

        return run

    def test_show_says_which_level_said_what(self, own, shell) -> None:
        shown = shell("policy", "show", "grid-130101-1", "line_100", workspace=own.folder / "ws")
        assert shown.code == 0, shown.err
        low = [row for row in shown.result["limits"] if row["field"] == "price.low"]
        assert [(row["tier"], row["left"]) for row in low] == [("province", "300"), ("city", "500")]

    def test_check_what_if_and_put(self, own, command) -> None:
        code, out, _ = command("check", "lines", "--json")
        assert code == 0  # the strategy is missing in ten cities, not in all
        assert {v["kind"] for v in json.loads(out)["violations"]} == {"undecided"}
        file = own.folder / "tighter.yaml"
        text = "{policy_id: n, unit: city-1302, status: approved, hours: {sms: [10:00-18:00]}}"
        file.write_text(text, encoding="utf-8")
        code, out, _ = command("what-if", str(file), "--json")
        assert (code, json.loads(out)["conflicts"]) == (0, [])
        assert json.loads(out)["customer_count"] > 50
        file.write_text(text.replace("10:00", "07:00"), encoding="utf-8")
        code, _, err = command("put", str(file))
        assert code == UserError.exit_code
        assert "08:00-21:00" in err
        assert command("what-if")[0] == UserError.exit_code
        file.write_text(text, encoding="utf-8")
        assert command("put", str(file))[0] == 0
        assert "n" in {s.policy_id for s in own.ws.policies.book().statements}
        assert command("withdraw", "n")[0] == 0

    def test_a_campaign_that_cannot_run_ends_with_code_2(self, own, command) -> None:
        own.ws.policies.withdraw("city-1301-lines")
        code, out, _ = command("check", "lines")
        assert code == UserError.exit_code
        assert "只有框架" in out


class TestSeveralLevels:
    """Parts of P071: B-08, B-09, B-15, B-28, E-04 are shown by the levels above."""

    def test_a_county_may_spare_its_customers_on_its_own(self, own) -> None:
        """B-09: 支撑本地网创新型营销与维系需求, within what is laid down from above (B-08)."""
        own.ws.policies.put(
            "{policy_id: spare, unit: county-130201, status: approved,"
            " hours: {outbound: [10:00-12:00]}, caps: {any: {days: 7, most: 1}}}"
        )
        policy = own.ws.policies.resolve("grid-130201-1", "data_pack_5g")
        assert str(policy.hours("outbound")) == "10:00-12:00"
        assert policy.set_by("caps.any").tier == "county"
        with pytest.raises(PolicyConflictError):
            own.ws.policies.put(
                "{policy_id: more, unit: county-130202, status: approved, hours: {outbound: [08:00-22:00]}}"
            )
