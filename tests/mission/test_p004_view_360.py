"""P004: the 360-degree view of a customer, with preferences as rankings."""

from __future__ import annotations

import shutil
from datetime import date, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import bihuan as bh
from bihuan.data import DuckDBEngine
from bihuan.kernel import FixedClock

from .by_hand import NOW, OCTOBER, extract, open_at, read
from .user_centre import by_customer, history, tags_of, user_centre

SAMPLE = 20


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The user centre, with customers of whom much is known; read only."""
    found = user_centre(tmp_path_factory)
    rows = by_customer(read(found.ws, "subscription", OCTOBER))
    private = {r["customer_id"] for r in read(found.ws, "opt_out", OCTOBER)
               if r["kind"] == "no_profiling"}  # fmt: skip
    people = sorted(c for c, lines in rows.items() if len(lines) > 1 and c not in private)
    return SimpleNamespace(ws=found.ws, folder=found.folder, people=people[:SAMPLE],
                           private=sorted(private), lines=rows)  # fmt: skip


@pytest.fixture
def own(centre: SimpleNamespace, tmp_path) -> bh.Workspace:
    """A copy that a test may change."""
    shutil.copytree(centre.folder / "ws", tmp_path / "ws")
    return open_at(tmp_path / "ws")


def plain(record) -> dict[str, object]:
    """Return a record as the row it was read from."""
    return {fact.name: fact.value for fact in record.facts}


@pytest.mark.mission("P004")
class TestBasicView:
    """B-16: 客户、账户、用户基本资料 - the basic view of customer, account and user."""

    def test_b16_it_shows_the_rows_as_they_stand_in_the_lake(self, centre) -> None:
        tables = {name: by_customer(read(centre.ws, name, OCTOBER))
                  for name in ("customer", "account", "subscription")}  # fmt: skip
        for customer in centre.people:
            view = centre.ws.view360(customer, OCTOBER)
            assert [plain(view.customer)] == tables["customer"][customer]
            assert [plain(r) for r in view.accounts] == tables["account"][customer]
            lines = sorted(tables["subscription"][customer], key=lambda r: r["subscription_id"])
            assert [plain(r) for r in view.subscriptions] == lines

    def test_b16_codes_are_told_in_both_languages(self, centre) -> None:
        view = centre.ws.view360(centre.people[0], "2026-10-31")
        facts = {fact.name: fact for fact in view.subscriptions[-1].facts}
        titles = {"active": ("在用", "active"), "suspended": ("停机", "suspended"),
                  "disconnected": ("离网", "disconnected")}  # fmt: skip
        assert tuple(facts["status"].text.values()) == titles[facts["status"].value]
        assert facts["monthly_fee"].unit == "currency"
        assert "用户状态" in view.to_text("zh")
        assert "Status" in view.to_text("en")

    def test_b16_each_user_is_connected_to_what_serves_it(self, centre) -> None:
        """Customer, address, resource, product, channel, staff: the six resources of D-11."""
        read_by = {name: {r[key]: r for r in read(centre.ws, name, OCTOBER)} for name, key in (
            ("address", "address_id"), ("resource", "resource_id"), ("product", "product_id"),
            ("staff", "staff_id"), ("channel", "channel_id"))}  # fmt: skip
        managed = [r["customer_id"] for r in read(centre.ws, "customer", OCTOBER)
                   if r["manager_staff_id"]]  # fmt: skip
        for customer in (*centre.people[:5], *managed[:5]):
            view = centre.ws.view360(customer, OCTOBER)
            for line, way in zip(view.subscriptions, view.connections, strict=True):
                for name in ("address", "resource", "product"):
                    record = getattr(way, name)
                    assert plain(record) == read_by[name][line[f"{name}_id"]], name
                manager = view.customer["manager_staff_id"]
                assert (way.staff is None) == (manager is None)
                if manager:
                    assert plain(way.staff) == read_by["staff"][manager]
                    assert plain(way.channel) == read_by["channel"][way.staff["channel_id"]]

    def test_b16_an_unknown_customer_is_named(self, centre) -> None:
        with pytest.raises(bh.UserError, match="'nobody'"):
            centre.ws.view360("nobody", OCTOBER)


@pytest.mark.mission("P004")
class TestFeatures:
    """B-17: 价值取向、性格特征 - value orientation and personality."""

    def test_b17_value_orientation_is_by_the_rule_that_the_dictionary_tells(self, centre) -> None:
        names = ("arpu", "discount_share", "device_price")
        base = tags_of(centre.ws, names)
        limits = centre.ws.dictionary.get("value_orientation").thresholds
        for customer in centre.people:
            arpu, discount, price = (base[customer][name] for name in names)
            if arpu is None:
                expected = None
            elif (discount is not None and discount >= limits["discount"]) or (
                price is not None and price <= limits["cheap"] and arpu < limits["low"]
            ):
                expected = "thrift"
            elif (price is not None and price >= limits["dear"]) or arpu >= limits["high"]:
                expected = "quality"
            else:
                expected = "balance"
            assert centre.ws.view360(customer, OCTOBER).tag("value_orientation") == expected

    def test_b17_personality_says_that_people_judged_by_experience(self, centre) -> None:
        view = centre.ws.view360(centre.people[0], OCTOBER)
        for name in ("novelty_seeker", "cautious", "sociable", "self_reliant", "punctual"):
            mark = view.features[name]
            assert (mark.means, mark.as_of) == ("experience", OCTOBER)
            assert "经验规则" in centre.ws.dictionary.get(name).meaning["zh"]

    def test_b17_who_refuses_profiling_is_not_profiled(self, centre) -> None:
        view = centre.ws.view360(centre.private[0], OCTOBER)
        assert view.refuses_profiling
        assert (view.features, view.preferences) == ({}, {})
        assert {mark.layer for mark in view.tags.walk()} == {"base"}
        assert plain(view.customer)["customer_id"] == centre.private[0]
        assert not centre.ws.view360(centre.people[0], OCTOBER).refuses_profiling


def order(scores: dict[str, float]) -> list[tuple[str, float]]:
    """Rank by hand: the greatest first, of equals the one listed first, nothing at nought."""
    ranked = sorted(scores.items(), key=lambda item: -item[1])  # stable
    return [(code, pytest.approx(score)) for code, score in ranked if score > 0]


def ranking(view, kind: str) -> list[tuple[str, float | None]]:
    places = view.preferences.get(kind, ())
    assert [place.rank for place in places] == list(range(1, len(places) + 1))
    return [(place.code, place.score) for place in places]


@pytest.mark.mission("P004")
class TestPreferences:
    """B-18: 服务、产品、渠道等偏好程度的排序信息 - rankings by degree."""

    def test_b18_products_by_what_was_ordered_and_is_held(self, centre) -> None:
        orders = by_customer(history(centre.ws, "product_order", 12))
        held = by_customer(read(centre.ws, "holding", OCTOBER))
        phones = by_customer(read(centre.ws, "terminal", OCTOBER))
        products = {"data_pack": {"data_pack_10", "data_pack_30"}, "video": {"video_vip"},
                    "music": {"music_vip", "caller_tune"}}  # fmt: skip
        several = 0
        for customer in centre.people:
            done = [r["category"] for r in orders[customer]
                    if r["status"] == "done" and r["kind"] != "cancel"]  # fmt: skip
            active = {r["product_id"] for r in held[customer] if r["status"] == "active"}
            scores = {kind: 2.0 * done.count(kind) + bool(active & ids)
                      for kind, ids in products.items()}  # fmt: skip
            scores["device"] = 2.0 * done.count("device") + any(
                r["is_contract_phone"] for r in phones[customer]
            )
            scores["broadband"] = 2.0 * done.count("broadband") + any(
                line["service"] == "broadband" and line["status"] != "disconnected"
                for line in centre.lines[customer]
            )
            view = centre.ws.view360(customer, OCTOBER)
            assert ranking(view, "product") == order(scores), customer
            several += len(view.preferences.get("product", ())) > 1
        assert several > 5

    def test_b18_channels_by_orders_tickets_payments_and_answers(self, centre) -> None:
        orders = by_customer(history(centre.ws, "product_order", 12))
        tickets = by_customer(history(centre.ws, "ticket", 12))
        contacts = by_customer(history(centre.ws, "contact", 12))
        payments = by_customer(history(centre.ws, "payment", 6))
        for customer in centre.people:
            done = [r["channel"] for r in orders[customer] if r["status"] == "done"]
            paid = [r["channel"] for r in payments[customer]]
            scores = {}
            for channel in ("app", "hall", "sms", "outbound", "wechat", "web"):
                answers = [r["is_success"] for r in contacts[customer] if r["channel"] == channel]
                rate = sum(answers) / len(answers) if answers else 0.0
                share = paid.count(channel) / len(paid) if paid else 0.0
                scores[channel] = 3.0 * done.count(channel)
                if channel in ("app", "hall", "outbound"):
                    scores[channel] += sum(r["channel_id"] == channel for r in tickets[customer])
                if channel in ("app", "hall", "wechat"):
                    scores[channel] += 4 * share
                if channel in ("app", "sms", "outbound", "wechat"):
                    scores[channel] += 2 * rate
            view = centre.ws.view360(customer, OCTOBER)
            assert ranking(view, "channel") == order(scores), customer

    def test_b18_services_by_use(self, centre) -> None:
        usage = by_customer(history(centre.ws, "usage", 3))
        hours = by_customer(history(centre.ws, "broadband_usage", 3))
        for customer in centre.people:

            def mean(rows, column: str) -> float:
                months = {r["months_ago"] for r in rows}
                return sum(r[column] for r in rows) / len(months) if months else 0.0

            scores = {
                "data": mean(usage[customer], "data_mb") / 10_000,
                "voice": mean(usage[customer], "voice_minutes") / 150,
                "message": mean(usage[customer], "sms_count") / 8,
                "broadband": mean(hours[customer], "online_hours") / 150,
            }
            view = centre.ws.view360(customer, OCTOBER)
            assert ranking(view, "service") == order(scores), customer

    def test_b18_the_first_places_are_tags_that_planners_can_choose_by(self, centre) -> None:
        first = {c: v["preferred_channel_1"] for c, v in
                 tags_of(centre.ws, ("preferred_channel_1",)).items()}  # fmt: skip
        for channel in ("app", "hall"):
            expected = sum(value == channel for value in first.values())
            assert expected > 0
            assert (
                centre.ws.count(f"preferred_channel_1 = '{channel}'", OCTOBER).members == expected
            )


@pytest.mark.mission("P004")
class TestTagsInTheView:
    """B-05, B-32, B-35: the public tag library is part of the 360-degree view."""

    def test_b35_every_tag_with_a_value_stands_in_its_category(self, centre) -> None:
        customer = centre.people[0]
        view = centre.ws.view360(customer, OCTOBER)
        profile = centre.ws.tags(OCTOBER).profile(customer)
        shown = {mark.fact.name: mark.fact.value for mark in view.tags.walk()}
        assert shown == {name: value for name, value in profile.items() if value is not None}
        assert len(shown) > 300
        seen = []
        for first in view.tags.groups:
            for second in first.groups:
                for third in second.groups:
                    assert third.tags, third.path
                    seen += [(mark.fact.name, third.path) for mark in third.tags]
        assert dict(seen) == {name: centre.ws.dictionary.get(name).category for name in shown}

    def test_b05_consumption_and_need_are_both_there(self, centre) -> None:
        groups = {g.name: g for g in centre.ws.view360(centre.people[0], OCTOBER).tags.groups}
        below = {group.name for group in groups["基本特征"].groups}
        assert {"消费特征", "使用特征", "需求特征"} <= below


@pytest.mark.mission("P004")
class TestTimeline:
    """B-05: what happened to the customer within twelve months, newest first."""

    def test_it_has_every_row_of_the_customer_and_no_other(self, centre) -> None:
        tables = {"event": "event_id", "ticket": "ticket_id", "contact": "contact_id",
                  "product_order": "order_id", "payment": "payment_id"}  # fmt: skip
        rows = {name: by_customer(history(centre.ws, name, 12)) for name in (*tables, "bill")}
        for customer in centre.people[:8]:
            view = centre.ws.view360(customer, OCTOBER)
            for name, key in tables.items():
                shown = [e.record[key] for e in view.timeline if e.record.table == name]
                assert sorted(shown) == sorted(r[key] for r in rows[name][customer]), name
            bills = [e.record["amount"] for e in view.timeline if e.kind == "bill"]
            assert sorted(bills) == sorted(r["amount"] for r in rows["bill"][customer])

    def test_it_runs_backwards(self, centre) -> None:
        for customer in centre.people[:8]:
            days = [e.at.date() if isinstance(e.at, datetime) else e.at
                    for e in centre.ws.view360(customer, OCTOBER).timeline]  # fmt: skip
            assert len(days) > 12
            assert days == sorted(days, reverse=True)

    def test_what_came_after_the_date_is_not_shown(self, centre) -> None:
        june = centre.ws.view360(centre.people[0], "2026-06-30")
        assert june.subscriptions[0].as_of == date(2026, 6, 30)
        assert max(entry.record.as_of for entry in june.timeline) == date(2026, 6, 30)
        assert "tag__customer" in june.missing  # no tags were derived for June, and it says so


@pytest.mark.mission("P004")
class TestTimelyAccurateComplete:
    """B-19: 及时、准确、完整 - timely, accurate and complete data for campaigns."""

    def test_b19_every_piece_says_of_what_date_it_is(self, centre) -> None:
        view = centre.ws.view360(centre.people[0], OCTOBER)
        records = [view.customer, *view.accounts, *view.subscriptions]
        records += [way.address for way in view.connections]
        assert {record.as_of for record in records} == {OCTOBER}
        assert all(entry.record.as_of <= OCTOBER for entry in view.timeline)
        assert {mark.as_of for mark in view.tags.walk()} == {OCTOBER}

    def test_b19_what_is_delivered_is_seen_at_once(self, own, centre) -> None:
        customer = centre.people[0]
        rows = own.view.get("account", OCTOBER).read()
        is_mine = pc.equal(rows["customer_id"], customer)
        balance = pc.if_else(is_mine, pa.scalar("9876.54").cast(pa.decimal128(18, 2)),
                             rows["balance"])  # fmt: skip
        rows = rows.set_column(rows.column_names.index("balance"), "balance", balance)
        extract(own, rows, "account", OCTOBER)
        assert str(own.view360(customer, OCTOBER).accounts[0]["balance"]) == "9876.54"

    def test_b19_what_is_lacking_is_named(self, own, centre) -> None:
        shutil.rmtree(own.layout.lake)
        extract(own, pa.table({"customer_id": ["C1"], "kind": ["individual"]}), "customer", OCTOBER)
        view = own.view360("C1", OCTOBER)
        assert {"account", "subscription", "bill", "tag__customer"} <= set(view.missing)
        assert (view.accounts, view.timeline, view.connections) == ((), (), ())

    def test_b19_only_the_customers_own_rows_are_read(self, centre) -> None:
        class Watched(DuckDBEngine):
            most = 0

            def query(self, query, sources):
                rows = super().query(query, sources)
                self.most = max(self.most, rows.num_rows)
                return rows

        engine = Watched(threads=1)
        clock = FixedClock(NOW + timedelta(minutes=1))
        ws = bh.open_workspace(centre.folder / "ws", clock=clock, engine=engine)
        view = ws.view360(centre.people[0], OCTOBER)
        assert engine.most == 1  # one row per query, with the customer's rows as lists
        assert len(view.timeline) > 12
