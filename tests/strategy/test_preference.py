"""The preferred way of contact: smoothed by segment, own history where there is any, honest."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import betaln

from bihuan.audience import parse
from bihuan.data import Lake, load_contracts
from bihuan.kernel import FixedClock, random_stream
from bihuan.strategy import preference as room
from bihuan.strategy.preference import (
    INBOUND,
    PreferenceError,
    PreferenceRequest,
    channel_preference_matrix,
    fit_ways,
    preferred_channel,
)

AS_OF = date(2026, 10, 31)
CLOCK = FixedClock(datetime(2026, 11, 2, 6, tzinfo=UTC))
KINDS = {"age_band": "string", "is_disconnected": "boolean"}
WAYS = ("outbound", "sms")


def contact(number: int, customer: str, channel: str, ok: bool, result: str = "") -> dict:
    return {"contact_id": f"k{number}", "customer_id": customer, "channel": channel,
            "contacted_at": datetime(2026, 10, 5, 3, tzinfo=UTC),
            "result": result or ("accepted" if ok else "refused"), "is_success": ok}  # fmt: skip


def store(lake: Lake, table: str, rows: list[dict], as_of: date = AS_OF) -> None:
    schema = load_contracts()[table].schema
    with lake.publication(CLOCK) as publication:
        publication.add(table, as_of, pa.Table.from_pylist(rows, schema=schema))


class Town:
    """Customers whose true chances by way are known."""

    def __init__(self, make_tags, folder, n: int, seed: int) -> None:
        rng = random_stream(seed, "preference")
        self.ids = [f"c{i:05d}" for i in range(n)]
        self.band = rng.integers(0, 2, n)
        # the young like text, the old like calls; each customer deviates by a Beta draw
        means = np.array([[0.05, 0.3], [0.25, 0.1]])[self.band]
        self.chance = rng.beta(means * 12, (1 - means) * 12)
        rows, number = [], 0
        self.tried = rng.poisson(1.5, (n, 2))
        self.won = np.zeros((n, 2), dtype=np.int64)
        for i in range(n):
            for way in range(2):
                for _ in range(self.tried[i, way]):
                    ok = bool(rng.random() < self.chance[i, way])
                    self.won[i, way] += ok
                    rows.append(contact(number, self.ids[i], WAYS[way], ok))
                    number += 1
        self.lake = Lake(folder / "lake")
        store(self.lake, "contact", rows)
        people = [{"customer_id": c, "age_band": ("young", "senior")[b], "is_disconnected": False}
                  for c, b in zip(self.ids, self.band, strict=True)]  # fmt: skip
        self.tags = make_tags(KINDS, people)
        self.request = PreferenceRequest(self.tags)

    def estimated(self, table: pa.Table) -> np.ndarray:
        found = np.full((len(self.ids), 2), np.nan)
        for row in table.to_pylist():
            if row["channel"] in WAYS:
                found[self.ids.index(row["customer_id"]), WAYS.index(row["channel"])] = row[
                    "chance"
                ]
        return found


@pytest.fixture(scope="module")
def town(make_tags, tmp_path_factory) -> Town:
    return Town(make_tags, tmp_path_factory.mktemp("town"), 3000, 4)


@pytest.fixture(scope="module")
def preference(town, engine) -> pa.Table:
    return preferred_channel(town.request, town.lake.view(), engine=engine)


def loss(truth: np.ndarray, estimate: np.ndarray) -> float:
    """Return the expected log loss of the next contact; the smaller, the better."""
    p = np.clip(estimate, 1e-4, 1 - 1e-4)
    return float(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())


class TestFitWays:
    def test_finds_mean_strength_and_segments(self, town, engine) -> None:
        by_way = {p.way: p for p in fit_ways(town.request, town.lake.view(), engine=engine)}
        assert set(by_way) == set(WAYS)
        call = by_way["outbound"]
        assert call.mean == pytest.approx(town.chance[:, 0].mean(), abs=0.015)
        assert call.by_segment["senior"] > 0.2 > 0.09 > call.by_segment["young"]
        assert call.contacts == town.tried[:, 0].sum()
        # two segments of 12 pseudo-contacts each, mixed, vary more than either
        assert 3 < call.strength < 20

    def test_the_optimum_is_one(self) -> None:
        """Independent check: the fitted likelihood is not beaten on a grid."""
        rng = np.random.default_rng(1)
        n = rng.integers(1, 8, 400).astype(float)
        k = rng.binomial(n.astype(int), rng.beta(2, 6, 400)).astype(float)
        mean, strength = room._beta_binomial(n, k, np.ones(400))

        def likelihood(m: float, s: float) -> float:
            a, b = m * s, (1 - m) * s
            return float((betaln(k + a, n - k + b) - betaln(a, b)).sum())

        best = likelihood(mean, strength)
        for m in np.linspace(0.05, 0.6, 12):
            for s in (1.0, 2, 4, 8, 16, 50):
                assert likelihood(m, s) <= best + 1e-3

    def test_no_history_is_refused(self, town, engine, tmp_path) -> None:
        with pytest.raises(PreferenceError, match="no contact in the 12 months"):
            fit_ways(town.request, Lake(tmp_path / "empty").view(), engine=engine)


class TestPreferredChannel:
    def test_every_customer_has_every_way_ranked_once(self, town, preference) -> None:
        assert preference.num_rows == 2 * len(town.ids)
        rows = preference.to_pylist()
        for first, second in zip(rows[::2], rows[1::2], strict=True):
            assert (first["rank"], second["rank"]) == (1, 2)
            assert first["chance"] >= second["chance"]
            assert first["customer_id"] == second["customer_id"]

    def test_it_foretells_better_than_each_customers_own_rate(self, town, preference) -> None:
        """The seeded defect: rates without smoothing; one success out of one would be certain."""
        overall = town.won.sum(axis=0) / town.tried.sum(axis=0)
        with np.errstate(invalid="ignore"):
            raw = np.where(town.tried > 0, town.won / town.tried, overall)
        smoothed = loss(town.chance, town.estimated(preference))
        assert smoothed < loss(town.chance, raw)
        assert smoothed < loss(town.chance, np.broadcast_to(overall, town.chance.shape))
        segments = np.array([[town.chance[town.band == b, w].mean() for w in range(2)]
                             for b in range(2)])[town.band]  # fmt: skip
        assert smoothed < loss(town.chance, segments)

    def test_estimates_are_between_own_rate_and_segment(self, town, preference, engine) -> None:
        priors = {p.way: p for p in fit_ways(town.request, town.lake.view(), engine=engine)}
        row = next(r for r in preference.to_pylist() if r["contacts"] >= 3 and r["basis"] == "own")
        i, w = town.ids.index(row["customer_id"]), WAYS.index(row["channel"])
        prior = priors[row["channel"]].by_segment[("young", "senior")[town.band[i]]]
        s, n, k = priors[row["channel"]].strength, town.tried[i, w], town.won[i, w]
        assert row["chance"] == pytest.approx((prior * s + k) / (s + n))
        assert row["contacts"] == n

    def test_without_own_contacts_the_segment_speaks(self, town, preference) -> None:
        for row in preference.to_pylist()[:200]:
            i, w = town.ids.index(row["customer_id"]), WAYS.index(row["channel"])
            assert row["basis"] == ("own" if town.tried[i, w] else "segment")

    def test_what_a_customer_says_stands_above_any_estimate(self, town, engine) -> None:
        last = preferred_channel(town.request, town.lake.view(), engine=engine).to_pylist()[1]
        stated = pa.table({"customer_id": [last["customer_id"]], "channel": [last["channel"]]})
        request = PreferenceRequest(town.tags, stated=stated)
        first = preferred_channel(request, town.lake.view(), engine=engine).to_pylist()[0]
        assert (first["channel"], first["rank"], first["basis"]) == (last["channel"], 1, "stated")

    def test_only_those_asked_about(self, town, engine) -> None:
        request = PreferenceRequest(town.tags, within=parse("age_band = 'senior'"))
        found = preferred_channel(request, town.lake.view(), engine=engine)
        assert found.num_rows == 2 * int(town.band.sum())


class TestRefusals:
    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, town, engine, make_tags, tmp_path_factory):
        lake = Lake(tmp_path_factory.mktemp("refusals") / "lake")
        rows = [contact(i, c, w, i % 4 == 0) for i, (c, w) in
                enumerate((c, w) for c in town.ids[:40] for w in WAYS)]  # fmt: skip
        store(lake, "contact", rows)
        opt_outs = [
            {"customer_id": town.ids[0], "kind": "no_marketing", "channel": "sms"},
            {"customer_id": town.ids[1], "kind": "no_marketing", "channel": "all"},
            {"customer_id": town.ids[2], "kind": "no_profiling", "channel": "sms"},
        ]
        store(lake, "opt_out", [row | {"since": AS_OF} for row in opt_outs])
        return preferred_channel(town.request, lake.view(), engine=engine)

    def test_a_refused_way_has_no_row_and_a_refusing_customer_none_at_all(
        self, town, found
    ) -> None:
        of = {c: [r["channel"] for r in found.to_pylist() if r["customer_id"] == c]
              for c in town.ids[:4]}  # fmt: skip
        assert of[town.ids[0]] == ["outbound"]
        assert of[town.ids[1]] == of[town.ids[2]] == []
        assert len(of[town.ids[3]]) == 2

    def test_ranks_have_no_gap_where_a_way_is_refused(self, town, found) -> None:
        (row,) = [r for r in found.to_pylist() if r["customer_id"] == town.ids[0]]
        assert row["rank"] == 1


class TestInbound:
    def test_the_calls_a_customer_makes_are_a_way_of_their_own(
        self, town, engine, tmp_path
    ) -> None:
        lake = Lake(tmp_path / "lake")
        rows = [contact(i, c, "outbound", i % 3 == 0) for i, c in enumerate(town.ids[:60])]
        rows += [contact(100 + i, c, "outbound", False, "no_answer")
                 for i, c in enumerate(town.ids[:60])]  # fmt: skip
        store(lake, "contact", rows)
        for month in (date(2026, 8, 31), date(2026, 9, 30), AS_OF):
            store(lake, "voice_usage", [
                {"subscription_id": f"s{c}", "customer_id": c, "own_service_calls": int(i < 10)}
                for i, c in enumerate(town.ids[:60])
            ], month)  # fmt: skip
        (prior,) = [p for p in fit_ways(town.request, lake.view(), engine=engine)
                    if p.way == INBOUND]  # fmt: skip
        assert prior.scale == pytest.approx((20 + 1) / (60 + 2))  # of the talks that took place
        rows = preferred_channel(town.request, lake.view(), engine=engine).to_pylist()
        found = {(r["customer_id"], r["channel"]): r for r in rows}
        often, never = found[town.ids[0], INBOUND], found[town.ids[50], INBOUND]
        assert often["contacts"] == never["contacts"] == 3  # months
        assert often["chance"] > 3 * never["chance"]


class TestChannelPreferenceMatrix:
    TABLE = pa.table(
        {
            "customer_id": ["a", "a", "b"],
            "channel": ["sms", "outbound", "outbound"],
            "rank": [1, 2, 1],
            "chance": [0.3, 0.1, 0.3],
            "contacts": [1, 0, 2],
            "basis": ["own", "segment", "own"],
        }
    )

    def test_factors_are_relative_to_the_channel(self) -> None:
        found = channel_preference_matrix(
            self.TABLE, pa.array(["a", "b", "z"]), ["sms", "outbound", "hall"]
        )
        np.testing.assert_allclose(found, [[1, 0.5, 1], [0, 1.5, 1], [1, 1, 1]])

    def test_factors_are_bounded(self) -> None:
        chances = pa.array([0.9, 0.0001, 0.3])
        table = self.TABLE.set_column(3, "chance", chances)
        found = channel_preference_matrix(table, pa.array(["a"]), ["outbound"], most=3)
        np.testing.assert_allclose(found, [[1 / 3]])

    def test_a_filter_keeps_the_ways_liked_best(self) -> None:
        found = channel_preference_matrix(
            self.TABLE, pa.array(["a", "b", "z"]), ["sms", "outbound"], mode="filter", keep=1
        )
        assert found.tolist() == [[True, False], [False, True], [True, True]]

    def test_the_first_of_these_channels_counts_not_of_all(self) -> None:
        found = channel_preference_matrix(
            self.TABLE, pa.array(["a"]), ["outbound", "hall"], mode="filter", keep=1
        )
        assert found.tolist() == [[True, False]]
