"""Each touchpoint gets the strategies that suit it, and the customers who like to come there."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bihuan.kernel.document import DocumentError
from bihuan.offer import Catalogue, UnknownOfferError
from bihuan.strategy import (
    OrgTree,
    TouchpointBook,
    TouchpointCustomers,
    TouchpointDeployment,
    UnknownUnitError,
    deploy_touchpoints,
    preference_shares,
)
from bihuan.strategy.policy import OrgUnit
from bihuan.strategy.touchpoint import UnknownTouchpointError

OFFERS = """
offers:
  - {offer_id: a, title: {zh: 甲, en: A}, kind: addon, products: [a], price: 10, margin: 5,
     months: 6, channels: [hall, app]}
  - {offer_id: b, title: {zh: 乙, en: B}, kind: addon, products: [b], price: 20, margin: 5,
     months: 6, channels: [hall, app]}
"""
FILE = """
abilities:
  screen: {weight: 3, title: {zh: 屏, en: Screen}}
  order: {weight: 1, title: {zh: 受理, en: Order}}
kinds:
  - {kind: own, channel: hall, abilities: [screen, order]}
  - {kind: kiosk, channel: hall, abilities: [order]}
  - {kind: page, channel: app, abilities: [screen, order]}
touchpoints:
  - {touchpoint_id: home, kind: page, unit: province, title: {zh: 首页, en: Home}}
  - {touchpoint_id: H3, abilities: []}
preference: {hall: score_hall, app: score_app}
strategies:
  - {strategy_id: popup, title: {zh: 弹屏, en: Pop-up}, action: {zh: 弹, en: Pop up}, kinds: [own],
     digitisation: {low: 0.8}, needs: [screen], preference: 0.4, offers: [a, b], priority: 2}
  - {strategy_id: paper, title: {zh: 清单, en: List}, action: {zh: 打印, en: Print},
     digitisation: {high: 0.5}, preference: 0.4, offers: [b]}
  - {strategy_id: floor, title: {zh: 楼层, en: Floor}, action: {zh: 展示, en: Show}, kinds: [page],
     preference: 0.4, offers: [a]}
"""
OUTLETS = pa.table(
    {
        "outlet_id": ["H1", "H2", "H3", "H4"],
        "org_unit_id": ["county-1", "county-1", "county-2", "county-2"],
        "name_zh": ["一厅", "二厅", "三厅", "四厅"],
        "name_en": ["One", "Two", "Three", None],
        "kind": ["own", "kiosk", "own", "own"],
        "seat_count": [3, 1, 2, 2],
        "status": ["open", "open", "open", "closed"],
    }
)
Make = Callable[..., TouchpointBook]


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    path = tmp_path_factory.mktemp("offers") / "offers.yaml"
    path.write_text(OFFERS, encoding="utf-8")
    return Catalogue.load(path)


@pytest.fixture
def load(tmp_path: Path, shops: Catalogue) -> Make:
    def make(old: str = "", new: str = "") -> TouchpointBook:
        assert old in FILE
        path = tmp_path / "touchpoints.yaml"
        path.write_text(FILE.replace(old, new, 1) if old else FILE, encoding="utf-8")
        return TouchpointBook.load(path, shops)

    return make


@pytest.fixture(scope="module")
def tree() -> OrgTree:
    units = [("province", "province", None), ("county-1", "county", "province"),
             ("grid-1", "grid", "county-1"), ("county-2", "county", "province"),
             ("county-3", "county", "province")]  # fmt: skip
    return OrgTree(OrgUnit(unit, tier, parent, {}) for unit, tier, parent in units)


def customers(n: int = 400, **changes: object) -> TouchpointCustomers:
    """Of four, the first two like the hall, the third the app, of the fourth nothing is known."""
    kind = np.arange(n) % 4
    fields: dict[str, object] = {
        "customer_id": pa.array([f"C{i:05d}" for i in range(n)]),
        "org_unit_id": pa.array(["grid-1" if i < n // 2 else "county-2" for i in range(n)]),
        "preference": preference_shares(
            {"hall": np.where(kind < 2, 3.0 - kind, 0.0), "app": np.where(kind == 2, 2.0, 0.0)}
        ),
    }
    return TouchpointCustomers(**(fields | changes))  # type: ignore[arg-type]


def offered(found: TouchpointDeployment) -> dict[str, Counter[tuple[str, str]]]:
    result: dict[str, Counter[tuple[str, str]]] = {}
    for row in found.rows.to_pylist():
        result.setdefault(row["touchpoint_id"], Counter())[row["strategy_id"], row["offer_id"]] += 1
    return result


class TestDegree:
    def test_it_is_the_weighted_share_of_abilities(self, load: Make) -> None:
        found = {t.touchpoint_id: t for t in load().touchpoints(OUTLETS)}
        assert {name: t.degree for name, t in found.items()} == {
            "H1": 1.0, "H2": 0.25, "H3": 0.0, "home": 1.0,
        }  # fmt: skip
        assert "H4" not in found  # closed
        assert found["H1"].size == 3
        assert found["H3"].title == {"zh": "三厅", "en": "Three"}

    def test_an_outlet_of_a_kind_that_nobody_described_is_told(self, load: Make) -> None:
        strange = OUTLETS.set_column(4, "kind", pa.array(["tent", "own", "own", "own"]))
        with pytest.raises(DocumentError, match="'H1' is of the kind 'tent'"):
            load().touchpoints(strange)

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("needs: [screen]", "needs: [scren]", "names 'scren'"),
            ("channel: app", "channel: ap", "unknown channel 'ap'"),
            ("kinds: [page]", "kinds: [pge]", "names 'pge'"),
            ("strategy_id: floor", "strategy_id: paper", "stands twice"),
            ("touchpoint_id: H3", "touchpoint_id: home", "stands twice"),
            ("kind: page, channel", "kind: own, channel", "stands twice"),
            ("weight: 3", "weight: 0", "weight is 0"),
            ("offers: [b]", "offers: []", "offers is empty"),
            ("preference: {hall", "preference: {hal", "unknown channel 'hal'"),
        ],
    )
    def test_a_wrong_field_is_named(self, load: Make, old: str, new: str, told: str) -> None:
        with pytest.raises(DocumentError, match=told) as caught:
            load(old, new)
        assert "touchpoints.yaml" in str(caught.value)

    def test_an_unknown_offer_is_told(self, load: Make) -> None:
        with pytest.raises(UnknownOfferError, match="'c'"):
            load("offers: [b]", "offers: [c]")


class TestDeploy:
    def test_digital_and_plain_outlets_get_other_strategies(
        self, load: Make, tree: OrgTree
    ) -> None:
        book = load()
        found = deploy_touchpoints(book, book.touchpoints(OUTLETS), customers(), tree, seed=7)
        got = offered(found)
        assert set(got["H1"]) == {("popup", "a")}
        assert set(got["H2"]) == {("paper", "b")}
        assert got["H3"] == {("paper", "b"): 100}
        assert got["home"] == {("floor", "a"): 100}
        # who has no place to go to, or of whom nothing is known, is counted
        assert dict(found.left_out) == {"no_touchpoint": 0, "no_preference": 100, "no_strategy": 0}
        ids = found.rows["customer_id"].to_pylist()
        assert len(ids) == len(set(ids)) == 300

    def test_customers_of_a_unit_are_shared_by_size(self, load: Make, tree: OrgTree) -> None:
        book = load()
        found = deploy_touchpoints(book, book.touchpoints(OUTLETS), customers(4000), tree, seed=7)
        sizes = {name: sum(counter.values()) for name, counter in offered(found).items()}
        assert sizes["H1"] / (sizes["H1"] + sizes["H2"]) == pytest.approx(0.75, abs=0.04)

    def test_a_customer_comes_to_one_hall_whoever_else_is_asked_about(
        self, load: Make, tree: OrgTree
    ) -> None:
        book = load()
        stations = book.touchpoints(OUTLETS)
        whole = deploy_touchpoints(book, stations, customers(), tree, seed=7).rows.to_pylist()
        part = deploy_touchpoints(book, stations, customers(40, org_unit_id=pa.array(
            ["grid-1"] * 40)), tree, seed=7).rows.to_pylist()  # fmt: skip
        home = {row["customer_id"]: row["touchpoint_id"] for row in whole}
        assert all(home[row["customer_id"]] == row["touchpoint_id"] for row in part)

    def test_who_is_known_to_use_a_hall_is_met_there(self, load: Make, tree: OrgTree) -> None:
        book = load()
        usual = {"hall": pa.array(["H3"] + [None] * 398 + ["home"])}  # a page is no hall
        found = deploy_touchpoints(
            book, book.touchpoints(OUTLETS), customers(usual=usual), tree, seed=7
        )
        assert "C00000" in found.of("H3")["customer_id"].to_pylist()

    def test_lists_begin_with_those_who_like_it_most(self, load: Make, tree: OrgTree) -> None:
        share = np.linspace(0.3, 1.0, 400)
        book = load()
        found = deploy_touchpoints(
            book, book.touchpoints(OUTLETS), customers(preference={"hall": share}), tree
        )
        for name in ("H1", "H2", "H3"):
            rows = found.of(name).to_pylist()
            assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
            likes = [row["preference"] for row in rows]
            assert likes == sorted(likes, reverse=True)
            assert min(likes) >= 0.4  # the strategies' threshold
        assert found.left_out["no_strategy"] == int((share < 0.4).sum())

    def test_audience_offer_and_policy_are_kept(self, load: Make, tree: OrgTree) -> None:
        book = load()
        odd = np.arange(400) % 8 < 4
        found = deploy_touchpoints(
            book,
            book.touchpoints(OUTLETS),
            customers(audiences={"floor": odd}, eligible={"a": ~odd}),
            tree,
            permits=lambda unit, offer, channel: (unit, offer) != ("county-2", "b"),
        )
        got = offered(found)
        assert "home" not in got  # its only offer is for the others
        assert set(got["H1"]) == {("popup", "a"), ("popup", "b")}  # the next offer of the strategy
        assert "H3" not in got  # not allowed in that county

    def test_customers_elsewhere_have_no_hall(self, load: Make, tree: OrgTree) -> None:
        book = load(
            "  - {touchpoint_id: home, kind: page, unit: province, title: {zh: 首页, en: Home}}"
        )
        units = pa.array(["county-3", None, "grid-1", "grid-1"])
        found = deploy_touchpoints(
            book, book.touchpoints(OUTLETS),
            customers(4, org_unit_id=units, preference={"hall": np.ones(4)}), tree,
        )  # fmt: skip
        assert found.rows.num_rows == 2
        assert found.left_out["no_touchpoint"] == 2

    def test_the_summary_says_what_comes_first(self, load: Make, tree: OrgTree) -> None:
        book = load()
        found = deploy_touchpoints(
            book, book.touchpoints(OUTLETS),
            customers(eligible={"a": np.arange(400) % 3 > 0}), tree, seed=7,
        )  # fmt: skip
        rows = [row for row in found.summary().to_pylist() if row["touchpoint_id"] == "H1"]
        assert [(row["place"], row["offer_id"]) for row in rows] == [(1, "a"), (2, "b")]
        assert rows[0]["customers"] > rows[1]["customers"]
        assert sum(r["customers"] for r in found.summary().to_pylist()) == found.rows.num_rows

    def test_unknown_touchpoints_and_units_are_told(self, load: Make, tree: OrgTree) -> None:
        book = load()
        found = deploy_touchpoints(book, book.touchpoints(OUTLETS), customers(4), tree)
        with pytest.raises(UnknownTouchpointError, match="'H9'"):
            found.of("H9")
        wrong = load("unit: province", "unit: provinz")
        stations = wrong.touchpoints(OUTLETS)
        with pytest.raises(UnknownUnitError, match="provinz"):
            deploy_touchpoints(wrong, stations, customers(4), tree)
        with pytest.raises(DocumentError, match="kind is missing"):
            book.touchpoints()  # H3 is listed, and there is no such outlet

    def test_nobody_gives_empty_lists(self, load: Make, tree: OrgTree) -> None:
        book = load()
        found = deploy_touchpoints(book, book.touchpoints(OUTLETS), customers(0), tree)
        assert found.rows.num_rows == found.summary().num_rows == 0

    def test_ignoring_preference_would_send_everyone_everywhere(
        self, load: Make, tree: OrgTree
    ) -> None:
        """Seeded defect: every channel counts as liked by everyone."""
        book = load()
        blind = customers(preference={"hall": np.ones(400), "app": np.ones(400)})
        found = deploy_touchpoints(book, book.touchpoints(OUTLETS), blind, tree)
        ids = found.rows["customer_id"].to_pylist()
        assert len(ids) == 2 * len(set(ids))
        right = deploy_touchpoints(book, book.touchpoints(OUTLETS), customers(), tree)
        assert right.rows.num_rows < found.rows.num_rows / 2
