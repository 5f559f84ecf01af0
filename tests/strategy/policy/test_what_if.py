"""What a change would touch is said before it is made, and is what it then touches."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bihuan.offer import Catalogue
from bihuan.strategy import Campaign, OrgTree, PolicyBook, PolicyChange, load_campaign
from bihuan.strategy.policy import Authority, PolicyStatement, parse_statement

from .test_book import ABOUT, CITY, LIMITS, PROVINCE, UNIT, statements, unchecked

Make = Callable[..., PolicyBook]
CUSTOMERS = pa.table(
    {"org_unit_id": ["grid-111"] * 3 + ["grid-121"] * 2 + ["grid-211"] * 4 + [None]}
)
CAMPAIGN = """
campaign_id: packs
title: {zh: 加装包, en: Packs}
goal: {metric: ordered, target: 0.01, reason: {zh: a, en: a}, needs: {zh: a, en: a},
       starts_on: 2026-11-01, ends_on: 2026-11-30}
audience: everyone
control_share: 0.1
channels:
  sms: {capacity: 100, unit_cost: 0.05, capacity_by_unit: {UNITS}}
scripts: {warm: {zh: 您好, en: Hello}, cold: {zh: 买, en: Buy}}
mix:
  - offer: pack_10
    promotion: {zh: a, en: a}
    channels: {sms: {script: warm, acceptance: 0.1}}
  - offer: pack_20
    promotion: {zh: a, en: a}
    channels: {sms: {script: cold, acceptance: 0.1}}
"""


def campaign(folder: Path, catalogue: Catalogue, units: str = "{}") -> Campaign:
    path = folder / "packs.txt"
    path.write_text(CAMPAIGN.replace("{UNITS}", units), encoding="utf-8")
    return load_campaign(path, catalogue)


def put(text: str) -> PolicyChange:
    return PolicyChange.put(parse_statement(text))


class TestWhatIf:
    def test_it_names_units_offers_customers_and_limits(self, book: Make) -> None:
        policies = book(province=PROVINCE)
        impact = policies.what_if(
            put("{policy_id: n, unit: county-11, kind: vas, status: approved, budget: 5}"),
            customers=CUSTOMERS,
        )
        assert impact.units == impact.offers == ()  # no such offer is sold
        impact = policies.what_if(
            put("{policy_id: n, unit: city-1, kind: addon, status: approved, price: {high: 15}}"),
            customers=CUSTOMERS,
        )
        assert set(impact.units) == set(policies.tree.subtree("city-1"))
        assert impact.offers == ("pack_10", "pack_20")
        assert impact.customers == {"grid-111": 3, "grid-121": 2}
        assert impact.customer_count == 5
        (field,) = impact.fields
        assert (field.unit_id, field.facet, field.before, field.after) == (
            "city-1", "price.high", "30", "15",
        )  # fmt: skip
        assert impact.is_in_force
        assert not impact.conflicts
        assert policies.resolve("grid-111", "pack_10").price_band == (5.0, 30.0)  # nothing done

    def test_units_that_are_tighter_already_are_not_touched(self, book: Make) -> None:
        county = """
  - {policy_id: k, unit: county-11, kind: addon, status: approved, caps: {any: {days: 7, most: 1}}}
"""
        impact = book(province=PROVINCE, county=county).what_if(
            put("{policy_id: n, unit: city-1, kind: addon, status: approved,"
                " caps: {any: {days: 7, most: 1}}}")
        )  # fmt: skip
        assert set(impact.units) == {"city-1", "county-12", "grid-121"}

    def test_a_tighter_frame_shows_whom_it_would_put_in_conflict(self, book: Make) -> None:
        policies = book(province=PROVINCE, city=CITY)
        tighter = PROVINCE.replace("high: 30", "high: 12").split("\n  - ")[2]
        impact = policies.what_if(put(tighter))
        (conflict,) = impact.conflicts
        assert (conflict.policy_id, conflict.against_policy) == ("c1-addon", "p-addon")
        draft = policies.what_if(put(tighter.replace("approved", "draft")))
        assert not draft.conflicts  # a draft may be written; those below then have time
        assert not draft.is_in_force
        approve = policies.revised({"p-addon": parse_statement(tighter)}).what_if(
            PolicyChange.approve(parse_statement(tighter))
        )
        assert approve.conflicts == impact.conflicts

    def test_several_changes_are_judged_together(self, book: Make) -> None:
        policies = book(province=PROVINCE, city=CITY)
        frame = put(PROVINCE.replace("high: 30", "high: 12").split("\n  - ")[2])
        city = put(CITY.replace("high: 15", "high: 11").strip().removeprefix("- "))
        assert policies.what_if(frame).conflicts
        both = policies.what_if([frame, city])
        assert not both.conflicts
        assert set(both.units) == set(policies.tree.unit_ids)
        found = {(f.unit_id, f.facet, f.before, f.after) for f in both.fields}
        assert found == {
            ("province", "price.high", "30", "12"), ("city-1", "price.high", "15", "11"),
        }  # fmt: skip

    def test_a_draft_tells_what_it_would_change(self, book: Make) -> None:
        impact = book(province=PROVINCE).what_if(
            put("{policy_id: n, unit: city-2, kind: addon, status: draft, max_discount: 0.1}")
        )
        assert not impact.is_in_force
        assert [(f.before, f.after) for f in impact.fields] == [("0.3", "0.1")]

    def test_a_list_of_offers_touches_those_that_go(self, book: Make) -> None:
        impact = book(province=PROVINCE).what_if(
            put("{policy_id: n, unit: city-1, kind: addon, status: approved, offers: [pack_10]}")
        )
        assert impact.offers == ("pack_20",)

    def test_campaigns_that_would_break_are_told_how(
        self, book: Make, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        policies = book(province=PROVINCE)
        plan = campaign(tmp_path, catalogue)
        elsewhere = campaign(tmp_path, catalogue, "{city-2: 50}")
        change = put("{policy_id: n, unit: city-1, kind: addon, status: approved,"
                     " price: {high: 15}}")  # fmt: skip
        (found,) = policies.what_if(change, campaigns=[plan]).campaigns
        assert found.campaign_id == "packs"
        assert found.offers == ("pack_10", "pack_20")
        assert [(v.kind, v.offer_id, v.unit_id) for v in found.broken] == [
            ("price", "pack_20", "city-1")
        ]
        assert policies.what_if(change, campaigns=[elsewhere]).campaigns == ()
        after = policies.revised({"n": change.statement})
        (back,) = after.what_if(PolicyChange.withdraw("n"), campaigns=[plan]).campaigns
        assert back.mended == found.broken

    @settings(
        max_examples=120, deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )  # fmt: skip
    @given(statements(), UNIT, ABOUT, LIMITS, st.sampled_from(["p0", "p1", "new"]), st.data())
    def test_the_change_made_is_what_was_foretold(
        self, tree: OrgTree, catalogue: Catalogue, found: list[PolicyStatement],
        unit: str, about: tuple[str | None, str | None], limits: dict, policy_id: str,
        data: st.DataObject,
    ) -> None:  # fmt: skip
        before = unchecked(found, tree, catalogue)
        if before.conflicts():  # a written book has none
            before = unchecked(found[:1], tree, catalogue)
        if before.conflicts():
            before = unchecked([], tree, catalogue)
        status = data.draw(st.sampled_from(["approved", "draft"]))
        new = PolicyStatement(policy_id, unit, *about, status, limits, "new")
        is_out = before.find(policy_id) is not None and data.draw(st.booleans())
        change = PolicyChange.withdraw(policy_id) if is_out else PolicyChange.put(new)
        foretold = before.what_if(change)
        after = before.revised({policy_id: change.statement})
        assert set(foretold.conflicts) == set(after.conflicts())
        if not foretold.is_in_force:
            return
        touched = {
            (u, o)
            for u in tree.unit_ids
            for o in ("pack_10", "pack_20", "plan_99", "line_100")
            if self.view(before, u, o) != self.view(after, u, o)
        }
        assert set(foretold.units) == {u for u, _ in touched}
        assert set(foretold.offers) == {o for _, o in touched}

    def view(self, policies: PolicyBook, unit: str, offer: str) -> object:
        limits = {
            facet: offer in limit.value if facet == "offers" else limit.value
            for facet, limit in policies.resolve(unit, offer).limits.items()
        }
        return {f: v for f, v in limits.items() if (f, v) != ("offers", True)}

    def test_the_foretelling_can_be_wrong(
        self, book: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: looking at the changed unit alone misses those below it."""
        policies = book(province=PROVINCE, city=CITY)
        tighter = put(PROVINCE.replace("high: 30", "high: 12").split("\n  - ")[2])
        after = policies.revised({"p-addon": tighter.statement})
        assert after.conflicts()
        assert after.conflicts(["province"]) == ()
        monkeypatch.setattr(OrgTree, "subtree", lambda self, unit: (unit,))
        assert set(policies.what_if(tighter).conflicts) != set(after.conflicts())


class TestCheckCampaign:
    def kinds(self, found: tuple) -> list[tuple[str, str, str, bool]]:
        return [(v.kind, v.offer_id, v.unit_id, v.is_blocking) for v in found]

    def test_a_campaign_that_keeps_all_policies_has_none(
        self, book: Make, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        policies = book(province=PROVINCE.replace("0.3", "1.0"))
        assert policies.check_campaign(campaign(tmp_path, catalogue), catalogue) == ()

    @pytest.mark.parametrize(
        ("what", "kind"),
        [
            ("channels: [app]", "channel"),
            ("price: {high: 19}", "price"),
            ("price: {low: 21}", "price"),
            ("max_discount: 0.2", "discount"),  # 30 given for 120 paid
            ("scripts: [warm]", "script"),
            ("offers: [pack_10]", "offer"),
            ("budget: 500", "budget"),
        ],
    )
    def test_each_rule_is_held_against_it(
        self, book: Make, catalogue: Catalogue, tmp_path: Path, what: str, kind: str
    ) -> None:
        text = f"  - {{policy_id: x, unit: province, kind: addon, status: approved, {what}}}"
        found = book(some=text).check_campaign(campaign(tmp_path, catalogue), catalogue)
        assert (kind, "pack_20", "province", True) in self.kinds(found)
        assert "some.yaml.policies[0] (x)" in found[0].message["zh"]
        assert "some.yaml.policies[0] (x)" in found[0].message["en"]
        draft = book(some=text.replace("approved", "draft"))
        kinds = {v.kind for v in draft.check_campaign(campaign(tmp_path, catalogue))}
        assert kinds == {"unapproved"}

    def test_hours_are_held_against_those_in_which_the_channel_is_worked(
        self, book: Make, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        from bihuan.strategy import Hours

        policies = book(province=PROVINCE.replace("0.3", "1.0"))
        plan = campaign(tmp_path, catalogue)
        late = {"sms": Hours.parse(["19:00-22:00"])}
        found = policies.check_campaign(plan, contact_hours=late)
        assert {v.kind for v in found} == {"hours"}
        assert "19:00-22:00" in found[0].message["en"]
        early = {"sms": Hours.parse(["09:00-11:00"])}
        assert policies.check_campaign(plan, contact_hours=early) == ()

    def test_what_one_city_forbids_takes_out_a_part_and_does_not_block(
        self, book: Make, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        policies = book(province=PROVINCE.replace("0.3", "1.0"), city=CITY)
        found = policies.check_campaign(campaign(tmp_path, catalogue))
        assert self.kinds(found) == [
            ("script", "pack_20", "city-1", False),
            ("price", "pack_20", "city-1", False),
        ]
        inside = policies.check_campaign(campaign(tmp_path, catalogue, "{county-12: 9}"))
        assert {v.kind for v in inside if v.is_blocking} == {"script", "price"}
        outside = policies.check_campaign(campaign(tmp_path, catalogue, "{city-2: 9}"))
        assert outside == ()

    def test_a_unit_that_is_none_is_told(
        self, book: Make, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        found = book(province=PROVINCE.replace("0.3", "1.0")).check_campaign(
            campaign(tmp_path, catalogue, "{city-7: 9}")
        )
        assert self.kinds(found) == [("unit", "", "city-7", True)]
        assert "sms" in found[0].message["en"]

    def test_a_frame_alone_is_no_strategy(
        self, book: Make, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        text = CAMPAIGN.replace("{UNITS}", "{}").replace("  sms:", "  account_manager:")
        text = text.replace("pack_10", "line_100").replace("{sms:", "{account_manager:")
        text = text[: text.index("  - offer: pack_20")]
        path = tmp_path / "line.txt"
        path.write_text(text, encoding="utf-8")
        plan = load_campaign(path, catalogue)
        frame = """
  - {policy_id: p, unit: province, kind: leased_line, status: approved, price: {low: 500}}
"""
        found = book(frame=frame).check_campaign(plan)
        assert self.kinds(found) == [("undecided", "line_100", "province", True)]
        city = "  - {policy_id: c, unit: city-1, kind: leased_line, status: approved, budget: 1}"
        part = [v for v in book(frame=frame, city=city).check_campaign(plan)
                if v.kind == "undecided"]  # fmt: skip
        assert self.kinds(tuple(part)) == [("undecided", "line_100", "province", False)]
        assert "1 of 3 units (county-21" in part[0].message["en"]


class TestRights:
    def test_without_rights_everybody_may_decide(self, tree: OrgTree, catalogue: Catalogue) -> None:
        statement = parse_statement("{policy_id: x, unit: grid-111, status: approved, budget: 1}")
        assert PolicyBook([statement], Authority({}), tree, catalogue)
