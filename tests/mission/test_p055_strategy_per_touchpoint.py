"""P055: strategies are deployed per touchpoint: each shop its own (千人千店)."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest

from bihuan.pack import PACKS

from .by_hand import define, open_at, read
from .user_centre import tags_of, user_centre

SCORES = ("app", "hall", "sms", "outbound", "wechat", "web")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """The user centre with the sample strategies and without the sample policies."""
    source = user_centre(tmp_path_factory)
    folder = tmp_path_factory.mktemp("p055")
    shutil.copytree(source.folder / "ws", folder / "ws")
    ws = open_at(folder / "ws")
    ws.install(PACKS["sample"])
    for file in ws.policies.files:
        file.unlink()
    ws = open_at(folder / "ws")
    return SimpleNamespace(ws=ws, last=source.last, found=ws.touchpoints.deploy(source.last))


@pytest.mark.mission("P055")
class TestPreference:
    """A-08: 基于客户触点偏好 ... 的千人千店策略部署."""

    def test_everyone_is_met_only_where_they_like_to_be(self, world) -> None:
        scores = tags_of(world.ws, tuple(f"channel_score_{c}" for c in SCORES))
        for row in world.found.rows.to_pylist():
            mine = scores[row["customer_id"]]
            known = {c: max(float(mine[f"channel_score_{c}"] or 0), 0) for c in SCORES}
            share = known[row["channel"]] / sum(known.values())
            assert row["preference"] == pytest.approx(share)
            assert share >= (0.3 if row["channel"] == "outbound" else 0.2)

    def test_every_customer_is_on_a_list_or_counted_as_left_out(self, world) -> None:
        kept = world.ws.suppress("everyone", world.last).kept["customer_id"].to_pylist()
        listed = set(world.found.rows["customer_id"].to_pylist())
        assert listed <= set(kept)
        assert len(listed) + sum(world.found.left_out.values()) == len(kept)
        assert listed

    def test_each_outlet_has_a_list_of_its_own_ranked_by_preference(self, world) -> None:
        halls = defaultdict(list)
        for row in world.found.rows.to_pylist():
            if row["channel"] == "hall":
                halls[row["touchpoint_id"]].append(row)
        assert len(halls) > 20
        seen: Counter[str] = Counter()
        for rows in halls.values():
            assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
            for one in {row["strategy_id"] for row in rows}:
                liked = [row["preference"] for row in rows if row["strategy_id"] == one]
                assert liked == sorted(liked, reverse=True)
            seen.update(row["customer_id"] for row in rows)
        assert set(seen.values()) == {1}  # nobody is invited to two halls

    def test_customers_go_to_a_hall_of_their_own_county(self, world) -> None:
        county = {r["org_unit_id"]: r["parent_id"] for r in read(world.ws, "org_unit", world.last)}
        grid = {r["customer_id"]: r["org_unit_id"] for r in read(world.ws, "customer", world.last)}
        outlet = {r["outlet_id"]: r["org_unit_id"] for r in read(world.ws, "outlet", world.last)}
        for row in world.found.rows.to_pylist():
            if row["channel"] == "hall":
                assert outlet[row["touchpoint_id"]] == county[grid[row["customer_id"]]]


@pytest.mark.mission("P055")
class TestDigitisation:
    """A-08: 触点数字化: a hall that can recognise the customer does other things than a kiosk."""

    def test_the_strategy_follows_the_degree(self, world) -> None:
        kind = {r["outlet_id"]: r["kind"] for r in read(world.ws, "outlet", world.last)}
        degree = {t.touchpoint_id: t.degree for t in world.ws.touchpoints.all(world.last)}
        by_strategy = defaultdict(set)
        for row in world.found.rows.to_pylist():
            if row["channel"] == "hall":
                by_strategy[row["strategy_id"]].add(row["touchpoint_id"])
        assert {kind[t] for t in by_strategy["screen-popup"]} == {"own", "franchised"}
        assert all(degree[t] >= 0.6 for t in by_strategy["screen-popup"])
        assert {kind[t] for t in by_strategy["paper-list"]} == {"partner", "kiosk"} | (
            {"franchised"} & {kind[t] for t in by_strategy["paper-list"]}
        )
        assert all(degree[t] <= 0.6 for t in by_strategy["paper-list"])

    def test_closed_outlets_get_nothing(self, world) -> None:
        state = {r["outlet_id"]: r["status"] for r in read(world.ws, "outlet", world.last)}
        used = set(world.found.rows["touchpoint_id"].to_pylist()) & set(state)
        assert {state[outlet] for outlet in used} == {"open"}
        assert "closed" in state.values() or "refit" in state.values()

    def test_an_outlet_that_gets_a_screen_changes_its_strategy(self, world, tmp_path) -> None:
        shutil.copytree(world.ws.layout.root, tmp_path / "ws")
        ws = open_at(tmp_path / "ws")
        plain = next(
            row["touchpoint_id"]
            for row in world.found.rows.to_pylist()
            if row["strategy_id"] == "paper-list"
        )
        every = "[recognise, show, order, self_service, feedback]"
        define(ws, "touchpoints", "refitted",
               f"touchpoints: [{{touchpoint_id: {plain}, abilities: {every}}}]\n"
               "strategies:\n  - {strategy_id: new-hall, title: {zh: 新厅, en: New hall}, action: {zh: 弹屏, en: Pop up},"
               " digitisation: {low: 0.9}, needs: [show], preference: 0.2, offers: [data_pack_5g, data_pack_1g], priority: 9,"
               " kinds: [own, franchised, partner, kiosk]}\n")  # fmt: skip
        again = open_at(tmp_path / "ws").touchpoints.deploy(world.last)
        assert {r["strategy_id"] for r in again.of(plain).to_pylist()} == {"new-hall"}

    def test_offers_are_those_the_customer_may_have(self, world) -> None:
        rows = world.found.rows.to_pylist()
        may = {
            offer: set(world.ws.members(_text(world, offer), world.last)["customer_id"].to_pylist())
            for offer in {row["offer_id"] for row in rows}
        }
        assert all(row["customer_id"] in may[row["offer_id"]] for row in rows)

    def test_the_summary_says_what_each_shop_offers_first(self, world) -> None:
        summary = world.found.summary().to_pylist()
        first = {r["touchpoint_id"]: r for r in summary if r["place"] == 1}
        for name, row in first.items():
            counts = Counter(
                (r["strategy_id"], r["offer_id"]) for r in world.found.of(name).to_pylist()
            )
            assert counts[row["strategy_id"], row["offer_id"]] == max(counts.values())
            assert row["customers"] == max(counts.values())
        assert len({(r["strategy_id"], r["offer_id"]) for r in first.values()}) > 2


@pytest.mark.mission("P055")
def test_the_policy_of_the_outlets_unit_is_kept(world, tmp_path) -> None:
    """A-08 with the levels of P057: a county that may not sell a pack does not see it."""
    shutil.copytree(world.ws.layout.root, tmp_path / "ws")
    ws = open_at(tmp_path / "ws")
    sold = Counter(world.found.rows["offer_id"].to_pylist())
    assert sold["data_pack_5g"]
    define(ws, "policies", "stop", "policies:\n  - {policy_id: stop, unit: city-1301, status: approved,"
           " offer: data_pack_5g, offers: []}\n")  # fmt: skip
    found = ws.touchpoints.deploy(world.last)
    unit = {t.touchpoint_id: t.unit_id for t in found.touchpoints}
    tree = ws.policies.tree()
    inside = [
        row["offer_id"]
        for row in found.rows.to_pylist()
        if "city-1301" in tree.path(unit[row["touchpoint_id"]])
    ]
    assert inside
    assert "data_pack_5g" not in inside
    assert "data_pack_5g" in found.rows["offer_id"].to_pylist()


def _text(world: SimpleNamespace, offer: str) -> str:
    from bihuan.audience import to_text

    return to_text(world.ws.catalogue.get(offer).eligibility)
