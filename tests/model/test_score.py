"""Scores at work: reasons in words, drift, and the table that tags read."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bihuan.data import Lake
from bihuan.kernel import FixedClock, UserError
from bihuan.model import LabelledFrame, ModelSpec, build_model, publish_scores
from bihuan.model.frame import MissingFeatureError
from bihuan.model.score import PublishError

DAY = dt.date(2026, 10, 31)


@pytest.fixture
def clock():
    return FixedClock(dt.datetime(2026, 11, 1, tzinfo=dt.UTC))


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


class TestScore:
    def test_is_a_probability_per_row_whatever_the_other_columns(self, churn_model, telco):
        score = churn_model.score(telco.features)
        assert score.shape == (telco.n,)
        assert ((score > 0) & (score < 1)).all()
        more = telco.features.append_column("unused", pa.array(["x"] * telco.n))
        shuffled = more.select(more.column_names[::-1])
        assert np.array_equal(churn_model.score(shuffled), score)

    def test_a_row_scores_alike_alone_and_in_company(self, churn_model, telco):
        score = churn_model.score(telco.features)
        alone = churn_model.score(telco.features.slice(17, 1))
        assert alone[0] == pytest.approx(score[17], abs=1e-12)

    def test_nobody_gets_no_score(self, churn_model, telco):
        assert churn_model.score(telco.features.slice(0, 0)).shape == (0,)

    def test_values_never_seen_and_missing_values_are_scored(self, churn_model, telco):
        rows = telco.features.slice(0, 3)
        contract = rows.column_names.index("Contract")
        tenure = rows.column_names.index("tenure")
        odd = rows.set_column(contract, "Contract", pa.array(["lifelong", None, "One year"]))
        odd = odd.set_column(tenure, "tenure", pa.array([None, 10**6, -5]))
        assert np.isfinite(churn_model.score(odd)).all()

    def test_a_missing_feature_is_named(self, churn_model, telco):
        with pytest.raises(MissingFeatureError, match="Contract"):
            churn_model.score(telco.features.drop_columns(["Contract"]))

    def test_dates_count_back_from_the_day_of_scoring(self):
        rng = np.random.default_rng(0)
        days = rng.integers(0, 2000, 3000)
        joined = np.datetime64("2026-10-31") - days.astype("timedelta64[D]")
        label = rng.random(3000) < 1 / (1 + np.exp(days / 400))
        frame = LabelledFrame(
            pa.array([f"c{i}" for i in range(3000)]),
            pa.table({"joined_on": pa.array(joined)}),
            label,
            as_of=DAY,
        )
        model = build_model(frame, ModelSpec(name="dated", learner="logistic"), seed=0)
        same_day = model.score(frame.features, as_of=DAY)
        assert np.corrcoef(same_day, days)[0, 1] < -0.9
        a_year_later = model.score(frame.features, as_of=dt.date(2027, 10, 31))
        assert a_year_later.mean() < same_day.mean()
        with pytest.raises(UserError, match="as_of"):
            model.score(frame.features)


class TestContributions:
    def test_add_up_to_what_the_calibration_sees(self, churn_model, telco):
        parts = churn_model.contributions(telco.features).sum(axis=1)
        logit = churn_model.learner.logits(telco.decode())
        assert parts - logit == pytest.approx(np.full(telco.n, (parts - logit)[0]), abs=1e-6)


class TestExplain:
    def test_reasons_are_weighty_titled_and_ordered(self, churn_model, telco):
        rows = telco.features.slice(0, 400)
        told = churn_model.explain(rows, top=3)
        assert told.num_rows == 400
        first, second = (told[f"contribution_{k}"].to_numpy() for k in (1, 2))
        both = ~np.isnan(second)
        assert (first[both] >= second[both]).all()
        assert (second[both] > 0).all()
        leaver = next(row for row in told.to_pylist() if row["feature_1"] == "Contract")
        assert leaver["zh_1"] == "合约: 按月"
        assert leaver["en_1"] == "Contract: monthly"

    def test_says_the_contribution_of_the_feature_it_names(self, churn_model, telco):
        rows = telco.features.slice(0, 50)
        parts = churn_model.contributions(rows)
        names = list(churn_model.plan.names)
        for i, row in enumerate(churn_model.explain(rows, top=2).to_pylist()):
            if row["feature_1"] is not None:
                assert row["contribution_1"] == parts[i, names.index(row["feature_1"])]
                assert row["contribution_1"] == parts[i].max()

    def test_reasons_against_and_either_way(self, churn_model, telco):
        rows = telco.features.slice(0, 50)
        parts = churn_model.contributions(rows)
        lower = churn_model.explain(rows, top=1, direction="lower")
        either = churn_model.explain(rows, top=1, direction="both")
        assert lower["contribution_1"].to_numpy() == pytest.approx(parts.min(axis=1))
        largest = np.abs(either["contribution_1"].to_numpy())
        assert largest == pytest.approx(np.abs(parts).max(axis=1))

    def test_has_no_reason_where_there_is_none(self, churn_model, telco):
        loyal = telco.features.filter(
            pc.and_(
                pc.equal(telco.features["Contract"], "Two year"),
                pc.equal(telco.features["InternetService"], "No"),
            )
        )
        n_used = len(churn_model.plan.names)
        told = churn_model.explain(loyal.slice(0, 20), top=n_used)
        assert told[f"feature_{n_used}"].null_count == 20
        assert told[f"zh_{n_used}"].null_count == 20

    def test_shows_every_kind_of_value(self):
        rng = np.random.default_rng(0)
        n = 2000
        money = np.round(rng.gamma(3, 30, n), 2)
        flag, city = rng.random(n) < 0.3, rng.choice(["x", "y"], n)
        label = rng.random(n) < 1 / (1 + np.exp(3 - money / 60 - flag - (city == "x")))
        frame = LabelledFrame(
            pa.array([f"c{i}" for i in range(n)]),
            pa.table(
                {
                    "fee": pa.array([Decimal(str(m)) for m in money], pa.decimal128(18, 2)),
                    "flag": pa.array(flag, mask=rng.random(n) < 0.1),
                    "city": pa.array(city).dictionary_encode(),
                }
            ),
            label,
        )
        model = build_model(frame, ModelSpec(name="kinds", learner="logistic"), seed=0)
        words = set(model.explain(frame.features, top=3, direction="both")["zh_1"].to_pylist())
        words |= set(model.explain(frame.features, top=3, direction="both")["zh_2"].to_pylist())
        words |= set(model.explain(frame.features, top=3, direction="both")["zh_3"].to_pylist())
        assert {"flag: 是", "flag: 否", "flag: 缺失", "city: x"} <= words
        assert f"fee: {money[0]:,.2f}".rstrip("0").rstrip(".") in words

    def test_an_unknown_direction_is_refused(self, churn_model, telco):
        with pytest.raises(UserError, match="sideways"):
            churn_model.explain(telco.features.slice(0, 1), direction="sideways")


class TestDrift:
    def test_the_training_rows_are_stable(self, churn_model, telco):
        found = churn_model.drift(telco.features)
        assert found.verdict == "stable"
        assert max(found.features.values()) < 0.01
        assert found.score < 0.02

    def test_names_what_moved(self, churn_model, telco):
        monthly = pc.equal(telco.features["Contract"], "Month-to-month")
        found = churn_model.drift(telco.features.filter(monthly))
        assert next(iter(found.features)) == "Contract"
        assert found.verdict == "shifted"

    def test_sees_a_column_that_went_missing(self, churn_model, telco):
        at = telco.features.column_names.index("tenure")
        emptied = telco.features.set_column(at, "tenure", pa.nulls(telco.n))
        found = churn_model.drift(emptied)
        assert next(iter(found.features)) == "tenure"
        assert found.worst > 1


class TestPublishScores:
    def test_writes_what_mining_tags_read(self, lake, clock):
        n = publish_scores(
            lake,
            "churn",
            pa.array(["c2", "c1"]),
            np.array([0.9, 0.1]),
            DAY,
            clock=clock,
            lineage={"model_version": "abc"},
        )
        snapshot = lake.view().get("score__churn", DAY)
        assert n == snapshot.rows == 2
        assert snapshot.read().to_pydict() == {"customer_id": ["c1", "c2"], "score": [0.1, 0.9]}
        assert snapshot.lineage["model_version"] == "abc"

    def test_other_subjects_and_points(self, lake, clock):
        publish_scores(
            lake,
            "newspaper",
            pa.array(["s1"]),
            np.array([520.0]),
            DAY,
            clock=clock,
            subject="subscription",
            unit="points",
        )
        rows = lake.view().get("score__newspaper", DAY).read()
        assert rows.to_pydict() == {"subscription_id": ["s1"], "score": [520.0]}

    @pytest.mark.parametrize(
        ("name", "ids", "scores", "problem"),
        [
            ("churn", ["a", "a"], [0.1, 0.2], "more than once: a"),
            ("churn", ["a", None], [0.1, 0.2], "1 ids are missing"),
            ("churn", ["a"], [0.1, 0.2], "1 ids and 2 scores"),
            ("churn", ["a", "b"], [0.1, np.nan], "missing or infinite"),
            ("churn", ["a", "b"], [0.1, 520.0], "not within 0 to 1"),
            ("Churn; drop", ["a"], [0.1], "no name for a table"),
        ],
    )
    def test_refuses_and_publishes_nothing(self, lake, clock, name, ids, scores, problem):
        with pytest.raises(PublishError, match=problem) as caught:
            publish_scores(
                lake, name, pa.array(ids, pa.string()), np.array(scores), DAY, clock=clock
            )
        assert caught.value.zh
        assert lake.view().tables == ()

    def test_publishing_again_replaces_the_day(self, lake, clock):
        for value in (0.1, 0.7):
            publish_scores(lake, "churn", pa.array(["a"]), np.array([value]), DAY, clock=clock)
        assert lake.view().get("score__churn").read()["score"].to_pylist() == [0.7]


class TestModelWithoutTitles:
    def test_speaks_in_names(self, churn_model, telco):
        bare = replace(churn_model, titles={}, code_titles={})
        words = bare.explain(telco.features.slice(0, 200))["zh_1"].to_pylist()
        assert "Contract: Month-to-month" in words
