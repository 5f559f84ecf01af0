"""What holds for a unit and an offer, who said it, and what may not be said."""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bihuan.audience import Everyone
from bihuan.kernel.document import DocumentError
from bihuan.offer import Catalogue, Margin, Offer, UnknownOfferError
from bihuan.strategy import (
    OrgTree,
    PolicyBook,
    PolicyChange,
    PolicyConflictError,
    UnknownUnitError,
)
from bihuan.strategy.policy import Authority, Cap, Hours, OrgUnit, PolicyStatement
from bihuan.strategy.policy.limit import is_within

Make = Callable[..., PolicyBook]
PROVINCE = """
  - {policy_id: p-all, unit: province, status: approved, channels: [sms, app, outbound, hall],
     caps: {any: {days: 7, most: 2}, outbound: {days: 90, most: 1}},
     hours: {any: [08:00-21:00]}}
  - {policy_id: p-addon, unit: province, kind: addon, status: approved,
     price: {low: 5, high: 30}, max_discount: 0.3, channels: [sms, app]}
"""
CITY = """
  - {policy_id: c1-addon, unit: city-1, kind: addon, status: approved,
     price: {high: 15}, hours: {sms: [09:00-12:00, 14:00-20:00]}, scripts: [warm, short]}
"""


class TestResolve:
    def test_each_field_says_which_level_and_file_set_it(self, book: Make) -> None:
        policy = book(province=PROVINCE, city=CITY).resolve("grid-111", "pack_10")
        assert policy.price_band == (5.0, 15.0)
        assert policy.max_discount == 0.3
        assert policy.channels == {"sms", "app"}
        assert policy.scripts == {"warm", "short"}
        assert str(policy.hours("sms")) == "09:00-12:00, 14:00-20:00"
        assert str(policy.hours("app")) == "08:00-21:00"
        assert policy.caps("outbound") == (Cap(90, 1),)
        assert policy.caps() == (Cap(7, 2),)
        high = policy.set_by("price.high")
        assert (high.tier, high.statement.unit_id) == ("city", "city-1")
        assert high.statement.place == "city.yaml.policies[0] (c1-addon)"
        assert [s.tier for s in policy.limits["price.high"].trail] == ["province", "city"]
        assert policy.set_by("price.low").statement.policy_id == "p-addon"
        assert policy.set_by("budget") is None
        rows = [row for row in policy.rows() if row["field"] == "price.high"]
        assert [(row["said"], row["left"]) for row in rows] == [("30", "30"), ("15", "15")]

    def test_another_city_and_another_kind_are_not_touched(self, book: Make) -> None:
        policies = book(province=PROVINCE, city=CITY)
        assert policies.resolve("grid-211", "pack_10").price_band == (5.0, 30.0)
        plan = policies.resolve("grid-111", "plan_99")
        assert plan.price_band == (0.0, float("inf"))
        assert plan.max_discount is None
        assert plan.channels == {"sms", "app", "outbound", "hall"}

    def test_who_decides_follows_from_the_kind_of_offer(self, book: Make) -> None:
        policies = book(province=PROVINCE)
        assert policies.resolve("grid-111", "pack_10").decided_by == ("province", "city-1")
        assert policies.resolve("grid-111", "plan_99").decided_by == ("city-1",)
        line = policies.resolve("grid-111", "line_100")
        assert line.framed_by == ("province",)
        assert line.decided_by == ("city-1", "county-11")
        assert not line.is_decided  # nobody below the frame has said anything

    def test_a_list_of_offers_closes_the_others(self, book: Make) -> None:
        text = "  - {policy_id: a, unit: city-1, kind: addon, status: approved, offers: [pack_10]}"
        policies = book(city=text)
        assert policies.resolve("grid-111", "pack_10").is_offered
        assert not policies.resolve("grid-111", "pack_20").is_offered
        assert not policies.resolve("grid-111", "pack_20").allows("sms")
        assert policies.resolve("grid-111", "plan_99").is_offered
        assert policies.resolve("grid-211", "pack_20").is_offered

    def test_a_draft_does_not_hold_before_it_is_approved(self, book: Make) -> None:
        policies = book(province=PROVINCE, city=CITY.replace("approved", "draft"))
        assert policies.resolve("grid-111", "pack_10").price_band == (5.0, 30.0)
        assert policies.resolve("grid-111", "pack_10", drafts=True).price_band == (5.0, 15.0)

    def test_unknown_units_and_offers_are_named(self, book: Make) -> None:
        policies = book(province=PROVINCE)
        with pytest.raises(UnknownUnitError, match="grid-999"):
            policies.resolve("grid-999", "pack_10")
        with pytest.raises(UnknownOfferError, match="pack_11"):
            policies.resolve("grid-111", "pack_11")


class TestConflicts:
    def test_a_child_that_loosens_is_told_with_both_places_and_values(self, book: Make) -> None:
        with pytest.raises(PolicyConflictError) as caught:
            book(province=PROVINCE, city=CITY.replace("high: 15", "high: 40"))
        (conflict,) = caught.value.conflicts
        assert (conflict.kind, conflict.facet) == ("looser", "price.high")
        assert (conflict.unit_id, conflict.value) == ("city-1", "40")
        assert (conflict.against_unit, conflict.against_value) == ("province", "30")
        for language in ("zh", "en"):
            text = caught.value.text(language)
            assert "city.yaml.policies[0] (c1-addon)" in text
            assert "province.yaml.policies[1] (p-addon)" in text
            assert "40" in text
            assert "30" in text

    @pytest.mark.parametrize(
        ("what", "facet"),
        [
            ("price: {low: 4}", "price.low"),
            ("max_discount: 0.4", "max_discount"),
            ("channels: [sms, outbound]", "channels"),
            ("caps: {outbound: {days: 90, most: 2}}", "caps.outbound"),
            ("caps: {any: {days: 7, most: 3}}", "caps.any"),
            ("caps: {sms: {days: 7, most: 5}}", "caps.sms"),  # looser than that of all channels
            ("hours: {any: [08:00-21:30]}", "hours.any"),
            ("hours: {sms: [07:00-09:00]}", "hours.sms"),
        ],
    )
    def test_every_field_is_held_against_what_stands_above(
        self, book: Make, what: str, facet: str
    ) -> None:
        text = f"  - {{policy_id: c, unit: city-1, kind: addon, status: approved, {what}}}"
        with pytest.raises(PolicyConflictError) as caught:
            book(province=PROVINCE, city=text)
        assert {c.facet for c in caught.value.conflicts} == {facet}
        assert {c.kind for c in caught.value.conflicts} == {"looser"}

    def test_the_check_is_what_refuses_them(
        self, book: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: a comparison that finds nothing looser lets the child through."""
        monkeypatch.setattr(
            "bihuan.strategy.policy.conflict.is_looser", lambda facet, child, above: False
        )
        policies = book(province=PROVINCE, city=CITY.replace("high: 15", "high: 40"))
        # and even then the resolved view gives nobody more than stands above
        assert policies.resolve("grid-111", "pack_10").price_band == (5.0, 30.0)

    def test_one_offer_may_not_be_looser_than_its_kind(self, book: Make) -> None:
        text = (
            "  - {policy_id: x, unit: city-1, offer: pack_20, status: approved, price: {high: 20}}"
        )
        with pytest.raises(PolicyConflictError, match="to 20, which is looser than 15"):
            book(province=PROVINCE, city=CITY, more=text)

    def test_a_rule_for_all_does_not_loosen_one_for_few_above_it(self, book: Make) -> None:
        city = """
  - {policy_id: c, unit: city-1, status: approved, channels: [sms, app, outbound]}
"""
        policies = book(province=PROVINCE, city=city)
        assert policies.resolve("grid-111", "pack_10").channels == {"sms", "app"}
        assert policies.resolve("grid-111", "plan_99").channels == {"sms", "app", "outbound"}

    def test_rules_that_leave_nothing_are_told(self, book: Make) -> None:
        city = "  - {policy_id: c, unit: city-1, status: approved, channels: [outbound, hall]}"
        with pytest.raises(PolicyConflictError) as caught:
            book(province=PROVINCE, city=city)
        (conflict,) = caught.value.conflicts
        assert conflict.kind == "nothing_left"
        assert conflict.against_policy == "p-addon"

    def test_hours_of_one_channel_outside_those_of_all_leave_nothing(self, book: Make) -> None:
        above = """
  - {policy_id: p, unit: province, status: approved, hours: {sms: [09:00-12:00]}}
"""
        below = "  - {policy_id: c, unit: city-1, status: approved, hours: {any: [14:00-20:00]}}"
        with pytest.raises(PolicyConflictError, match="nothing is left"):
            book(province=above, city=below)

    def test_a_price_band_that_closes_is_told(self, book: Make) -> None:
        above = (
            "  - {policy_id: p, unit: province, offer: pack_10, status: approved, price: {low: 9}}"
        )
        below = "  - {policy_id: c, unit: city-1, kind: addon, status: approved, price: {high: 8}}"
        with pytest.raises(PolicyConflictError, match="nothing is left"):
            book(province=above, city=below)

    def test_one_unit_says_a_thing_once(self, book: Make) -> None:
        text = CITY + CITY.replace("c1-addon", "again").replace("high: 15", "high: 12")
        with pytest.raises(PolicyConflictError) as caught:
            book(province=PROVINCE, city=text)
        assert {c.kind for c in caught.value.conflicts} == {"twice"}
        draft = text.replace("again, unit: city-1, kind: addon, status: approved",
                             "again, unit: city-1, kind: addon, status: draft")  # fmt: skip
        assert len(book(province=PROVINCE, city=draft).statements) == 4  # a revision being written

    @pytest.mark.parametrize(
        ("about", "what", "who"),
        [
            ("unit: county-11, kind: plan", "offers: [plan_99]", "plan: city"),
            ("unit: province, kind: plan", "price: {low: 50}", "plan: city"),
            ("unit: county-11, kind: addon", "max_discount: 0.1", "addon: province / city"),
            ("unit: province, kind: leased_line", "offers: [line_100]", "city / county"),
            ("unit: province, kind: leased_line", "scripts: [s]", "city / county"),
            ("unit: grid-111, kind: leased_line", "price: {low: 50}", "city / county"),
            ("unit: county-11, offer: plan_99", "scripts: [s]", "plan: city"),
            ("unit: county-11", "max_discount: 0.1", "plan: city"),  # no back door through "all"
        ],
    )
    def test_who_may_not_decide_is_refused(
        self, book: Make, about: str, what: str, who: str
    ) -> None:
        with pytest.raises(PolicyConflictError, match=re.escape(who)) as caught:
            book(some=f"  - {{policy_id: x, {about}, status: approved, {what}}}")
        assert {c.kind for c in caught.value.conflicts} == {"no_right"}
        assert "_rights.yaml.decides" in str(caught.value)

    @pytest.mark.parametrize(
        ("about", "what"),
        [
            ("unit: city-1, kind: plan", "offers: [plan_99]"),
            ("unit: province, kind: leased_line", "price: {low: 500, high: 9000}"),
            ("unit: county-11, kind: leased_line", "offers: [line_100]"),
            ("unit: city-1, kind: leased_line", "max_discount: 0.1"),
            ("unit: province, kind: addon", "offers: [pack_10, pack_20]"),
            ("unit: county-11, kind: plan", "caps: {any: {days: 7, most: 1}}"),
            ("unit: grid-111", "hours: {any: [10:00-17:00]}"),
            ("unit: county-11, kind: vas", "offers: []"),  # no rule names it
        ],
    )
    def test_who_decides_may_and_everyone_may_spare_customers(
        self, book: Make, about: str, what: str
    ) -> None:
        assert book(some=f"  - {{policy_id: x, {about}, status: approved, {what}}}")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("{policy_id: x, unit: city-9, status: draft, budget: 1}", "No org unit .* 'city-9'"),
            ("{policy_id: x, unit: city-1, offer: pac_10, status: draft, budget: 1}", "'pac_10'"),
            ("{policy_id: x, unit: city-1, status: draft, offers: [pac_10]}", "'pac_10'"),
            ("{policy_id: x, unit: city-1, status: live, budget: 1}", "status is 'live'"),
            ("{policy_id: x, unit: city-1, status: draft, kind: adon, budget: 1}", "is 'adon'"),
            ("{policy_id: x, unit: city-1, status: draft, chanels: [sms]}", "chanels is not"),
            ("{policy_id: x, unit: city-1, status: draft, channels: [smz]}", "channel 'smz'"),
            ("{policy_id: x, unit: city-1, status: draft, hours: {sms: [9-10]}}", "'9-10' is not"),
            ("{policy_id: x, unit: city-1, status: draft, price: {low: 9, high: 8}}", "ends below"),
            ("{policy_id: x, unit: city-1, status: draft, caps: {sms: {days: 0, most: 1}}}", "day"),
            ("{policy_id: x, unit: city-1, status: draft}", "says nothing"),
            ("{policy_id: x, unit: city-1, status: draft, channels: []}", "channels is empty"),
            ("{policy_id: x, unit: city-1, status: draft, hours: {sms: []}}", "is empty"),
            ("{policy_id: x, unit: city-1, status: draft, kind: vas, offer: pack_10, budget: 1}",
             "stands beside kind"),
        ],
    )  # fmt: skip
    def test_a_wrong_statement_is_named_with_its_file(
        self, book: Make, text: str, told: str
    ) -> None:
        with pytest.raises(Exception, match=told) as caught:
            book(wrong=f"  - {text}")
        assert "wrong.yaml" in str(caught.value)
        assert "wrong.yaml" in caught.value.text("zh")

    def test_ids_and_rights_are_given_once(self, book: Make) -> None:
        with pytest.raises(DocumentError, match=r"two.yaml.*has the id of one.yaml"):
            book(one=CITY, two=CITY)
        with pytest.raises(DocumentError, match="tier"):
            book(rights="decides: {plan: [citi]}".replace("citi", "tier"))


class TestAllowed:
    def test_it_says_what_each_unit_alone_would_say(self, book: Make, tree: OrgTree) -> None:
        policies = book(province=PROVINCE, city=CITY)
        candidates = [("pack_10", "sms"), ("pack_20", "sms"), ("pack_10", "outbound"),
                      ("plan_99", "hall"), ("line_100", "account_manager")]  # fmt: skip
        rng = np.random.default_rng(1)
        units = rng.choice(tree.unit_ids, 500).tolist()
        mask = policies.allowed(pa.array(units), candidates)
        assert mask.shape == (500, 5)
        for row, unit in zip(mask, units, strict=True):
            for is_allowed, (offer, channel) in zip(row, candidates, strict=True):
                policy = policies.resolve(unit, offer)
                low, high = policy.price_band
                price = policies.catalogue.get(offer).price
                assert is_allowed == (policy.allows(channel) and low <= price <= high)
        assert not mask[[u.startswith("grid-1") for u in units], 1].any()  # 20 > 15
        assert mask[[u.startswith("grid-2") for u in units], 1].all()

    def test_customers_without_a_unit_keep_the_limits_of_the_top(self, book: Make) -> None:
        policies = book(province=PROVINCE, city=CITY)
        units = pa.chunked_array([["grid-111", None], [None]], pa.string())
        mask = policies.allowed(units, [("pack_20", "sms"), ("pack_20", "outbound")])
        assert mask.tolist() == [[False, False], [True, False], [True, False]]
        assert policies.allowed(pa.array([], pa.string()), [("pack_20", "sms")]).shape == (0, 1)

    def test_a_unit_that_is_not_in_the_tree_is_told(self, book: Make) -> None:
        with pytest.raises(UnknownUnitError, match="1 org units are not in the tree: old-7"):
            book(province=PROVINCE).allowed(pa.array(["old-7", "grid-111"]), [("pack_10", "sms")])

    def test_units_under_the_same_policies_are_one_group(self, book: Make) -> None:
        groups = book(province=PROVINCE, city=CITY).groups(
            pa.array(["grid-111", "grid-112", "grid-121", "grid-211", None])
        )
        assert groups.code.tolist()[:3] == [groups.code[0]] * 3
        assert len(set(groups.code.tolist())) == 3
        assert groups.units[groups.code[0]] == "city-1"


# ------------------------------------------------------------------------------------ properties

CHANNELS = ("sms", "app", "hall")
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "channels": st.sets(st.sampled_from(CHANNELS), min_size=1).map(frozenset),
        "price.low": st.integers(0, 20).map(float),
        "price.high": st.integers(5, 40).map(float),
        "max_discount": st.integers(0, 4).map(lambda k: k / 10),
        "caps.any": st.builds(lambda d, m: (Cap(d, m),), st.integers(1, 9), st.integers(0, 3)),
        "caps.sms": st.builds(lambda d, m: (Cap(d, m),), st.integers(1, 9), st.integers(0, 3)),
        "hours.any": st.builds(
            lambda a, n: Hours(((a * 60, (a + n) * 60),)), st.integers(6, 14), st.integers(1, 9)
        ),
        "offers": st.sets(st.sampled_from(["pack_10", "pack_20", "plan_99"])).map(frozenset),
        "budget": st.integers(1, 9).map(float),
    },
).filter(bool)
UNIT = st.sampled_from(["province", "city-1", "county-11", "grid-111", "city-2"])
ABOUT = st.sampled_from([(None, None), ("addon", None), (None, "pack_10"), ("plan", None)])


@st.composite
def statements(draw: st.DrawFn) -> list[PolicyStatement]:
    count = draw(st.integers(1, 7))
    return [
        PolicyStatement(
            f"p{i}", draw(UNIT), *draw(ABOUT), draw(st.sampled_from(["approved", "draft"])),
            draw(LIMITS), f"file.yaml.policies[{i}]",
        )
        for i in range(count)
    ]  # fmt: skip


def unchecked(found: list[PolicyStatement], tree: OrgTree, catalogue: Catalogue) -> PolicyBook:
    return PolicyBook([], Authority({}), tree, catalogue).revised({s.policy_id: s for s in found})


class TestInheritance:
    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(statements())
    def test_no_limit_is_looser_than_that_of_any_unit_above(
        self, tree: OrgTree, catalogue: Catalogue, found: list[PolicyStatement]
    ) -> None:
        """It holds for any statements, also such as would be refused."""
        self.assert_inherits(unchecked(found, tree, catalogue))

    def test_the_property_can_fail(
        self, tree: OrgTree, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: the last to speak wins, as in most tools of this kind."""
        monkeypatch.setattr("bihuan.strategy.policy.resolved.meet", lambda facet, one, other: other)
        found = [
            PolicyStatement("a", "province", None, None, "approved", {"budget": 5.0}, "f"),
            PolicyStatement("b", "city-1", None, None, "approved", {"budget": 9.0}, "f"),
        ]
        with pytest.raises(AssertionError):
            self.assert_inherits(unchecked(found, tree, catalogue))

    def assert_inherits(self, policies: PolicyBook) -> None:
        tree = policies.tree
        for unit in tree.unit_ids:
            parent = tree.get(unit).parent_id
            for offer in ("pack_10", "pack_20", "plan_99"):
                here = policies.resolve(unit, offer)
                for above in tree.path(unit):
                    for facet, limit in policies.resolve(above, offer).limits.items():
                        assert facet in here.limits
                        assert is_within(facet, here.limits[facet].value, limit.value)
                        for channel in CHANNELS:
                            assert policies.resolve(above, offer).allows(channel) or not (
                                here.allows(channel)
                            )
                if parent is not None and not policies.speaks(unit):
                    assert here.limits == policies.resolve(parent, offer).limits

    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(statements())
    def test_a_book_without_conflicts_leaves_something_to_everybody(
        self, tree: OrgTree, catalogue: Catalogue, found: list[PolicyStatement]
    ) -> None:
        policies = unchecked(found, tree, catalogue)
        if policies.conflicts():
            with pytest.raises(PolicyConflictError):
                PolicyBook(found, Authority({}), tree, catalogue)
            return
        for unit in tree.unit_ids:
            for offer in ("pack_10", "pack_20", "plan_99"):
                policy = policies.resolve(unit, offer)
                assert policy.channels is None or policy.channels
                assert policy.price_band[0] <= policy.price_band[1]
                hours = policy.hours("sms")
                assert hours is None or hours.ranges
        for statement in policies.statements:  # and every approved word counts as it was said
            if statement.is_approved and statement.offer_id == "pack_10":
                policy = policies.resolve(statement.unit_id, "pack_10")
                for facet, value in statement.limits.items():
                    if not facet.startswith(("caps", "hours")):
                        assert policy.limits[facet].value == value


class TestProvince:
    """14,000 units and 1,000 offers: what is alike is worked out once."""

    CITIES, COUNTIES, GRIDS, OFFERS = 11, 15, 28, 1000

    @pytest.fixture(scope="class")
    @classmethod
    def province(cls) -> PolicyBook:
        units = [OrgUnit("p", "province", None, {})]
        said = [
            PolicyStatement("p", "p", None, None, "approved", {"caps.any": (Cap(7, 3),)}, "f"),
        ]
        for c in range(cls.CITIES):
            units.append(OrgUnit(f"c{c}", "city", "p", {}))
            said.append(
                PolicyStatement(f"c{c}", f"c{c}", "vas", None, "approved", {"budget": 5.0}, "f")
            )
            for k in range(cls.COUNTIES):
                units.append(OrgUnit(f"k{c}-{k}", "county", f"c{c}", {}))
                for g in range(cls.GRIDS):
                    grid = f"g{c}-{k}-{g}"
                    units.append(OrgUnit(grid, "grid", f"k{c}-{k}", {}))
                    units.append(OrgUnit(f"{grid}-ceo", "ceo", grid, {}))
                    units.append(OrgUnit(f"{grid}-seller", "seller", f"{grid}-ceo", {}))
        kinds = ("addon", "plan", "vas", "contract")
        offers = [
            Offer(f"o{i}", {"zh": "", "en": ""}, kinds[i % 4], (), float(i % 90), 12, Margin(1.0),
                  0.0, Everyone(), frozenset(), frozenset({"sms"}))
            for i in range(cls.OFFERS)
        ]  # fmt: skip
        return PolicyBook(said, Authority({}), OrgTree(units), Catalogue(offers))

    def test_each_view_is_worked_out_once(
        self, province: PolicyBook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from bihuan.strategy.policy import conflict

        calls = []
        work = conflict.resolve_limits
        monkeypatch.setattr(
            conflict, "resolve_limits", lambda *args: calls.append(1) or work(*args)
        )
        book = province.revised({})  # nothing remembered yet
        assert len(book.tree) == 1 + 11 + 11 * 15 + 11 * 15 * 28 * 3
        for unit in book.tree.unit_ids[::40]:
            for offer in range(0, self.OFFERS, 50):
                book.resolve(unit, f"o{offer}")
        sellers = pa.array([unit for unit in book.tree.unit_ids if unit.endswith("seller")] * 20)
        mask = book.allowed(sellers, [(f"o{i}", "sms") for i in range(36)])
        assert mask.shape == (len(sellers), 36)
        # the province and eleven cities, four kinds of offer each
        assert len(calls) <= (1 + self.CITIES) * 4

    def test_what_if_in_the_whole_province_looks_only_where_something_is_said(
        self, province: PolicyBook
    ) -> None:
        change = PolicyStatement("n", "p", None, None, "approved", {"max_discount": 0.2}, "new", {})
        impact = province.what_if(PolicyChange.put(change))
        assert len(impact.units) == len(province.tree)
        assert len(impact.offers) == self.OFFERS
        # the top for four kinds, each city for the kind of which it speaks
        assert len(impact.fields) == 4 + self.CITIES
