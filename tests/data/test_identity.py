"""Who is who, who belongs together, and why; strangers are never put together."""

from __future__ import annotations

import hashlib
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from sqlglot import exp

from bihuan.data import SnapshotNotFoundError
from bihuan.data.identity import (
    STANDARD_RULES,
    IdentityError,
    LinkRule,
    publish_identity,
    resolve_identity,
)
from bihuan.data.identity.resolve import _components

OCTOBER = date(2026, 10, 31)
GROUP, ADDRESS_PAYER, NUMBER = STANDARD_RULES


def grouping(index) -> set[frozenset[str]]:
    """The customers of each group of more than one."""
    members: dict[str, set[str]] = {}
    for row in index.groups.to_pylist():
        members.setdefault(row["group_id"], set()).add(row["customer_id"])
    return {frozenset(group) for group in members.values() if len(group) > 1}


@pytest.fixture
def province(publish):
    """Eight customers.

    a and b carry one group id; c pays for d at the same address; b has the broadband and e the
    fixed line of one number; f and g both claim mobile number 88; h lives alone, disconnected.
    """
    publish(
        "customer",
        customer_id=list("abcdefgh"),
        group_id=["G1", "G1", *[None] * 6],
        address_id=[None, None, "A1", "A1", "A9", None, None, None],
    )
    publish("account", account_id=["k1", "k2", "k3"], customer_id=["c", "e", "b"])
    return publish(
        "subscription",
        subscription_id=["s1", "s2", "s3", "s4", "s5", "s6", "s7"],
        account_id=["k1", "k1", None, None, None, None, "unknown"],
        customer_id=["c", "d", "b", "e", "f", "g", "h"],
        number=["11", "22", "77", "77", "88", "88", "88"],
        service=["mobile", "mobile", "broadband", "fixed_voice", "mobile", "mobile", "iptv"],
        status=["active", "active", "active", "suspended", "active", "active", "disconnected"],
    )


@pytest.fixture
def index(province, engine):
    return resolve_identity(province, OCTOBER, engine)


class TestLookUp:
    def test_a_number_leads_to_who_uses_it(self, index):
        assert index.find_customer_by_number("22") == "d"
        assert index.find_customer_by_number("none") is None

    def test_a_number_of_two_customers_leads_to_nobody(self, index):
        assert index.find_customer_by_number("88") is None
        assert index.find_subscriptions("88").column("subscription_id").to_pylist() == ["s5", "s6"]

    def test_disconnected_subscriptions_are_shown_only_when_asked_for(self, index):
        assert index.find_subscriptions("88", live=False).num_rows == 3

    def test_an_account_leads_to_who_pays(self, index):
        assert index.find_customer_by_account("k1") == "c"
        assert index.find_customer_by_account("unknown") is None

    def test_a_subscription_leads_to_who_uses_it_and_who_pays(self, index):
        assert index.find_customer_by_subscription("s2") == "d"
        rows = {row["subscription_id"]: row for row in index.subscriptions.to_pylist()}
        assert rows["s2"]["payer_customer_id"] == "c"
        assert rows["s7"]["payer_customer_id"] is None

    def test_many_numbers_are_looked_up_at_once(self, index):
        found = index.customers_of_numbers(pa.array(["22", "88", None, "none", "11"]))
        assert found.to_pylist() == ["d", None, None, None, "c"]

    def test_a_customer_comes_with_everything_that_carries_an_id(self, index):
        found = index.get_customer("b")
        assert found.subscription_ids == ("s3",)
        assert found.numbers == ("77",)
        assert found.account_ids == ("k3",)
        assert found.member_ids == ("a", "b", "e")
        assert found.reasons == (("group", "G1"), ("number", "77"))

    def test_a_customer_linked_to_nobody_is_a_group_of_one(self, index):
        found = index.get_customer("h")
        assert found.member_ids == ("h",)
        assert found.reasons == ()
        assert found.subscription_ids == ()  # the only one is disconnected

    def test_an_unknown_customer_is_refused(self, index):
        with pytest.raises(IdentityError, match="'z'"):
            index.get_customer("z")


class TestGrouping:
    def test_each_rule_groups_by_its_reason(self, index):
        assert grouping(index) == {frozenset("abe"), frozenset("cd")}
        reasons = {(row["rule"], row["value"]) for row in index.links.to_pylist()}
        assert reasons == {("group", "G1"), ("address_payer", "A1|c"), ("number", "77")}

    @pytest.mark.parametrize(
        ("rules", "groups"),
        [
            ([GROUP], {frozenset("ab")}),
            ([NUMBER], {frozenset("be")}),
            ([ADDRESS_PAYER], {frozenset("cd")}),
            ([GROUP, ADDRESS_PAYER], {frozenset("ab"), frozenset("cd")}),
            ([], set()),
        ],
    )
    def test_a_rule_left_out_links_nobody(self, province, engine, rules, groups):
        assert grouping(resolve_identity(province, OCTOBER, engine, rules)) == groups

    def test_a_rule_put_in_and_taken_out_leaves_no_trace(self, province, engine, index):
        before = resolve_identity(province, OCTOBER, engine, [GROUP])
        resolve_identity(province, OCTOBER, engine)
        after = resolve_identity(province, OCTOBER, engine, [GROUP])
        assert after.groups.equals(before.groups)
        assert after.links.equals(before.links)
        assert not after.groups.equals(index.groups)

    def test_the_group_id_is_the_hash_of_its_smallest_customer(self, index):
        ids = {row["customer_id"]: row["group_id"] for row in index.groups.to_pylist()}
        assert ids["e"] == hashlib.sha256(b"a").hexdigest()[:20]
        assert ids["h"] == hashlib.sha256(b"h").hexdigest()[:20]

    def test_every_customer_is_in_exactly_one_group_of_the_right_size(self, index):
        rows = index.groups.to_pylist()
        assert [row["customer_id"] for row in rows] == list("abcdefgh")
        for row in rows:
            assert row["size"] == sum(other["group_id"] == row["group_id"] for other in rows)

    def test_one_address_with_different_payers_is_no_household(self, publish, engine):
        publish("customer", customer_id=["a", "b"], address_id=["A1", "A1"])
        publish("account", account_id=["1", "2"], customer_id=["a", "b"])
        view = publish(
            "subscription",
            subscription_id=["s", "t"],
            account_id=["1", "2"],
            customer_id=["a", "b"],
            status=["active", "active"],
        )
        assert grouping(resolve_identity(view, OCTOBER, engine)) == set()

    def test_one_payer_at_different_addresses_is_no_household(self, publish, engine):
        publish("customer", customer_id=["boss", "x", "y"], address_id=["A1", "A2", "A3"])
        publish("account", account_id=["1"], customer_id=["boss"])
        view = publish(
            "subscription",
            subscription_id=["s", "t"],
            account_id=["1", "1"],
            customer_id=["x", "y"],
            status=["active", "active"],
        )
        assert grouping(resolve_identity(view, OCTOBER, engine)) == set()

    def test_the_installation_address_goes_before_the_customers(self, publish, engine):
        publish("customer", customer_id=["a", "b"], address_id=["A1", "A2"])
        publish("account", account_id=["1"], customer_id=["a"])
        view = publish(
            "subscription",
            subscription_id=["s"],
            account_id=["1"],
            customer_id=["b"],
            address_id=["A1"],
            status=["active"],
        )
        assert grouping(resolve_identity(view, OCTOBER, engine)) == {frozenset("ab")}

    def test_a_number_given_to_somebody_else_later_links_nobody(self, publish, engine):
        publish("customer", customer_id=["old", "new"])
        view = publish(
            "subscription",
            subscription_id=["s", "t"],
            customer_id=["old", "new"],
            number=["13800000000", "13800000000"],
            service=["mobile", "broadband"],
            status=["disconnected", "active"],
        )
        index = resolve_identity(view, OCTOBER, engine)
        assert grouping(index) == set()
        assert index.conflicts.num_rows == 0
        assert index.find_customer_by_number("13800000000") == "new"


class TestGuards:
    def shop(self, publish, n):
        """``n`` strangers with the number of one shop; two of them also carry a group id."""
        ids = [f"c{i:03d}" for i in range(n)]
        publish("customer", customer_id=ids, group_id=["G", "G", *[None] * (n - 2)])
        return publish(
            "subscription",
            subscription_id=[f"s{i}" for i in range(n)],
            customer_id=ids,
            number=["400"] * n,
            service=[f"kind{i}" for i in range(n)],
            status=["active"] * n,
        )

    def test_a_value_shared_by_too_many_links_nobody_and_is_reported(self, publish, engine):
        index = resolve_identity(self.shop(publish, 51), OCTOBER, engine)
        assert grouping(index) == {frozenset(["c000", "c001"])}
        assert index.ignored.to_pylist() == [
            {"rule": "number", "value": "400", "customers": 51, "reason": "shared_by_too_many"}
        ]

    def test_a_value_shared_by_just_enough_links_them(self, publish, engine):
        index = resolve_identity(self.shop(publish, 50), OCTOBER, engine)
        assert {len(group) for group in grouping(index)} == {50}
        assert index.ignored.num_rows == 0

    def test_without_the_guard_strangers_would_be_one_household(self, publish, engine):
        view = self.shop(publish, 120)
        index = resolve_identity(view, OCTOBER, engine, max_share=10**9)
        assert {len(group) for group in grouping(index)} == {120}

    def chain(self, publish, n):
        """A chain: customers 2i and 2i+1 have one group id, 2i+1 and 2i+2 one number."""
        ids = [f"c{i:04d}" for i in range(n)]
        publish("customer", customer_id=ids, group_id=[f"G{i // 2}" for i in range(n)])
        return publish(
            "subscription",
            subscription_id=[f"s{i}" for i in range(n)],
            customer_id=ids,
            number=[f"n{(i + 1) // 2}" for i in range(n)],
            service=["mobile", "broadband"] * (n // 2),
            status=["active"] * n,
        )

    def test_a_long_chain_falls_back_to_the_most_trusted_rule(self, publish, engine):
        index = resolve_identity(self.chain(publish, 400), OCTOBER, engine)
        assert {len(group) for group in grouping(index)} == {2}
        assert {row["rule"] for row in index.links.to_pylist()} == {"group"}
        assert set(index.ignored.column("reason").to_pylist()) == {"group_too_large"}
        assert set(index.ignored.column("rule").to_pylist()) == {"number"}

    def test_a_short_chain_stays_together(self, publish, engine):
        index = resolve_identity(self.chain(publish, 200), OCTOBER, engine)
        assert {len(group) for group in grouping(index)} == {200}

    def test_a_chain_elsewhere_does_not_cost_others_their_links(self, publish, engine):
        n = 400
        ids = [f"c{i:04d}" for i in range(n)] + ["x", "y"]
        publish("customer", customer_id=ids, group_id=[f"G{i // 2}" for i in range(n)] + [None] * 2)
        view = publish(
            "subscription",
            subscription_id=[f"s{i}" for i in range(n + 2)],
            customer_id=ids,
            number=[f"n{(i + 1) // 2}" for i in range(n)] + ["z", "z"],
            service=["mobile", "broadband"] * (n // 2 + 1),
            status=["active"] * (n + 2),
        )
        assert frozenset("xy") in grouping(resolve_identity(view, OCTOBER, engine))


class TestConflicts:
    def test_a_number_live_twice_in_one_service_is_a_conflict_and_no_link(self, index):
        assert index.conflicts.to_pylist() == [
            {
                "number": "88",
                "service": "mobile",
                "subscriptions": 2,
                "customers": 2,
                "first": "s5",
                "last": "s6",
            }
        ]
        assert frozenset("fg") not in grouping(index)

    def test_one_number_in_two_services_of_one_customer_is_none(self, publish, engine):
        publish("customer", customer_id=["a"])
        view = publish(
            "subscription",
            subscription_id=["s", "t"],
            customer_id=["a", "a"],
            number=["66", "66"],
            service=["broadband", "iptv"],
            status=["active", "active"],
        )
        index = resolve_identity(view, OCTOBER, engine)
        assert index.conflicts.num_rows == 0
        assert index.find_customer_by_number("66") == "a"


class TestResolveIdentity:
    def test_customers_alone_are_enough(self, publish, engine):
        view = publish("customer", customer_id=["b", "a"], group_id=["G", "G"])
        index = resolve_identity(view, OCTOBER, engine)
        assert grouping(index) == {frozenset("ab")}
        assert index.subscriptions.num_rows == 0
        assert index.find_customer_by_number("1") is None

    def test_without_customers_there_is_no_identity(self, publish, engine):
        view = publish("account", account_id=["1"], customer_id=["a"])
        with pytest.raises(SnapshotNotFoundError, match="customer"):
            resolve_identity(view, OCTOBER, engine)

    def test_an_empty_customer_table_gives_an_empty_index(self, lake, clock, rows, engine):
        with lake.publication(clock) as publication:
            publication.add("customer", OCTOBER, rows("customer", customer_id=["a"]).slice(0, 0))
        assert resolve_identity(lake.view(), OCTOBER, engine).groups.num_rows == 0

    def test_a_customer_known_only_from_a_subscription_is_kept(self, publish, engine):
        publish("customer", customer_id=["a"])
        view = publish(
            "subscription", subscription_id=["s"], customer_id=["ghost"], status=["active"]
        )
        index = resolve_identity(view, OCTOBER, engine)
        assert index.groups.column("customer_id").to_pylist() == ["a", "ghost"]

    def test_a_rule_of_ones_own(self, publish, engine):
        view = publish("customer", customer_id=["a", "b", "c"], manager_staff_id=["m", "m", None])
        rule = LinkRule(
            "manager",
            {"zh": "同一客户经理", "en": "same manager"},
            ("customer",),
            lambda: exp.select("customer_id", "manager_staff_id AS value").from_("customer"),
        )
        assert grouping(resolve_identity(view, OCTOBER, engine, [rule])) == {frozenset("ab")}

    def test_two_rules_of_one_name_are_refused(self, province, engine):
        with pytest.raises(IdentityError, match="one name"):
            resolve_identity(province, OCTOBER, engine, [GROUP, GROUP])

    def test_the_result_does_not_depend_on_the_order_of_rows(self, lake, clock, rows, engine):
        random = np.random.default_rng(2)
        n = 500
        columns = {
            "customer_id": [f"c{i}" for i in range(n)],
            "group_id": [f"G{g}" if g < 150 else None for g in random.integers(0, 300, n)],
        }
        found = []
        for _ in range(2):
            order = random.permutation(n)
            shuffled = {name: [values[i] for i in order] for name, values in columns.items()}
            with lake.publication(clock) as publication:
                publication.add("customer", OCTOBER, rows("customer", **shuffled))
            found.append(resolve_identity(lake.view(), OCTOBER, engine))
        assert found[0].groups.equals(found[1].groups)
        assert found[0].links.equals(found[1].links)

    def test_it_agrees_with_a_plain_union_find(self):
        random = np.random.default_rng(8)
        n_customers, n_values, n_links = 300, 120, 260
        customer = random.integers(0, n_customers, n_links)
        value = random.integers(0, n_values, n_links)
        parent = list(range(n_customers + n_values))

        def root(x):
            while parent[x] != x:
                x = parent[x]
            return x

        for c, v in zip(customer.tolist(), value.tolist(), strict=True):
            parent[root(c)] = root(n_customers + v)
        label = _components(customer, value, n_customers)
        roots = [root(c) for c in range(n_customers)]
        for i in range(n_customers):
            assert [label[j] == label[i] for j in range(n_customers)] == [
                roots[j] == roots[i] for j in range(n_customers)
            ]


class TestPublishIdentity:
    def test_groups_links_and_conflicts_become_tables_with_their_lineage(
        self, lake, clock, index, province
    ):
        publish_identity(index, lake, clock)
        view = lake.view()
        assert view.get("identity__group").read().equals(index.groups)
        assert view.get("identity__link").rows == index.links.num_rows
        assert view.get("identity__conflict").rows == 1
        assert view.get("identity__ignored").rows == 0
        upstream = {province.get(table).id for table in ("customer", "account", "subscription")}
        assert set(view.get("identity__group").lineage["snapshots"]) == upstream
