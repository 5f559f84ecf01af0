"""Every customer has his stage, its strategy, and a warning in time if he shows signs."""

from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest

from bihuan.audience import parse
from bihuan.kernel import NotEstimable
from bihuan.kernel.document import DocumentError
from bihuan.offer import Catalogue
from bihuan.pack import PACKS
from bihuan.strategy.lifecycle import (
    STAGES,
    LifeCycleError,
    assign_strategies,
    check_warnings,
    follow_life_cycle,
    judge_warnings,
    load_life_cycle,
    warn_of_decline,
)

from .conftest import KINDS, OCTOBER, SEPTEMBER, customer


class TestLoadLifeCycle:
    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("code: growth", "code: maturity", "must hold 'growth' once"),
            ("stages: [leave]", "stages: [decline]", "nothing for stage 'leave'"),
            ("means: warn", "means: magic", r"strategies\[0\].means is 'magic'"),
            ("kinds: [vas]", "kinds: [gas]", r"strategies\[2\].offers.kinds names 'gas'"),
            ("id: tend", "id: save", "strategies has a name twice"),
            ("notice: 1, urgent: 3", "notice: 3, urgent: 1", "levels do not rise"),
            ("channels: [outbound],", "channels: [],", r"strategies\[3\].channels are missing"),
            ("stages: [leave]", "stages: [gone]", r"strategies\[3\].stages are"),
        ],
    )
    def test_a_wrong_field_is_named(self, own, old, new, told) -> None:
        with pytest.raises(DocumentError, match=told):
            load_life_cycle(own.change(old, new))

    def test_unknown_names_are_refused_with_those_that_there_are(self, own) -> None:
        with pytest.raises(LifeCycleError, match=r"no strategy 'sav'.*save, tend"):
            own.life_cycle.strategy("sav")
        with pytest.raises(LifeCycleError, match="no stage 'old'"):
            own.life_cycle.stage("old")


class TestAssignStrategies:
    def test_stage_and_strategy_are_the_first_that_take_him(self, own, make_tags, engine) -> None:
        rows = [
            customer(1, is_disconnected=True, falling=True),
            customer(2, falling=True, arpu=120),
            customer(3, falling=True, arpu=80),
            customer(4, tenure_months=2),
            customer(5, tenure_months=24),
            customer(6),
            customer(7, tenure_months=None),
        ]
        tags = make_tags(KINDS, rows, pending=["churn_score"])
        found = assign_strategies(own.life_cycle, tags, engine=engine, columns=["arpu"])
        assert [(r["stage"], r["strategy"]) for r in found.to_pylist()] == [
            ("leave", "back"), ("decline", "save"), ("decline", "tend"), ("acquisition", "cross"),
            ("growth", "cross"), ("maturity", "tend"), (None, None),
        ]  # fmt: skip
        assert found.column_names == ["customer_id", "stage", "strategy", "arpu"]

    def test_offers_of_a_strategy_are_those_on_sale_in_its_channels(self, own, tmp_path) -> None:
        (tmp_path / "o.yaml").write_text(
            """
offers:
  - {offer_id: a, title: {zh: 甲, en: A}, kind: vas, price: 1, margin: 1, channels: [app]}
  - {offer_id: b, title: {zh: 乙, en: B}, kind: vas, price: 1, margin: 1, channels: [mail]}
  - {offer_id: c, title: {zh: 丙, en: C}, kind: vas, price: 1, margin: 1, channels: [sms],
     status: retired}
""",
            encoding="utf-8",
        )
        catalogue = Catalogue.load(tmp_path / "o.yaml")
        offers = own.life_cycle.strategy("cross").offers(catalogue, OCTOBER)
        assert [offer.offer_id for offer in offers] == ["a"]
        assert own.life_cycle.gaps(catalogue, OCTOBER) == ("save", "tend", "back")


class TestFollowLifeCycle:
    @pytest.fixture
    def report(self, own, make_tags, engine):
        before = [customer(i, tenure_months=10) for i in range(40)]
        before += [customer(100 + i) for i in range(5)]
        after = [customer(i, tenure_months=11, is_disconnected=i < 4) for i in range(40)]
        after += [customer(100 + i, falling=i == 0) for i in range(5)]
        return follow_life_cycle(
            own.life_cycle, make_tags(KINDS, after, pending=["churn_score"]), engine=engine,
            earlier=make_tags(KINDS, before, pending=["churn_score"], as_of=SEPTEMBER),
        )  # fmt: skip

    def test_counts_moves_between_stages(self, report) -> None:
        assert report.moves == {
            ("growth", "growth"): 36, ("growth", "leave"): 4,
            ("maturity", "maturity"): 4, ("maturity", "decline"): 1,
        }  # fmt: skip
        assert sum(stage.size for stage in report.stages) == 45

    def test_time_on_the_network_follows_from_the_leaving_rate(self, report) -> None:
        growth = report.stage("growth")
        months = (OCTOBER - SEPTEMBER).days / 30.4375
        assert growth.leaving_rate == pytest.approx(1 - 0.9 ** (1 / months))
        assert growth.months_to_stay == pytest.approx(1 / growth.leaving_rate)
        assert growth.lifetime_value == pytest.approx(50 * growth.months_to_stay)

    def test_leaving_is_counted_among_those_who_can_leave(self, own, make_tags, engine) -> None:
        """The seeded defect: prospects who never leave would make the stay look long."""
        before = [customer(i, tenure_months=10) for i in range(40)]
        before += [customer(100 + i, tenure_months=10, org_unit="elsewhere") for i in range(60)]
        after = [row | {"is_disconnected": i < 10} for i, row in enumerate(before)]
        tags = make_tags(KINDS, after, pending=["churn_score"])
        earlier = make_tags(KINDS, before, pending=["churn_score"], as_of=SEPTEMBER)
        base = replace(own.life_cycle, base=parse("org_unit = 'g1'"))
        months = (OCTOBER - SEPTEMBER).days / 30.4375
        for life_cycle, share in ((own.life_cycle, 10 / 100), (base, 10 / 40)):
            report = follow_life_cycle(life_cycle, tags, engine=engine, earlier=earlier)
            rate = report.stage("growth").leaving_rate
            assert rate == pytest.approx(1 - (1 - share) ** (1 / months))

    def test_few_customers_give_a_reason_and_not_a_number(self, report) -> None:
        maturity = report.stage("maturity")
        assert isinstance(maturity.leaving_rate, NotEstimable)
        assert "Only 5" in maturity.leaving_rate.reason["en"]
        assert isinstance(maturity.lifetime_value, NotEstimable)

    def test_says_which_rules_were_read_without_a_tag(self, report) -> None:
        assert report.pending == {"sign score": ("churn_score",)}

    def test_stages_come_in_the_order_of_the_life_cycle(self, report) -> None:
        assert [stage.code for stage in report.stages] == list(STAGES)


class TestWarnOfDecline:
    ROWS = (
        customer(1, falling=True),
        customer(2, falling=True, calls_rival=True),
        customer(3),
        customer(4, is_disconnected=True, calls_rival=True, falling=True),
        customer(5, calls_rival=True),
    )

    def test_levels_points_and_signs(self, own, make_tags, engine) -> None:
        tags = make_tags(KINDS, self.ROWS, pending=["churn_score"])
        found = warn_of_decline(own.life_cycle, tags, engine=engine).to_pylist()
        assert [(r["customer_id"], r["level"], r["points"], r["signs"]) for r in found] == [
            ("c2", "urgent", 3.0, ["falling", "rival"]),
            ("c5", "notice", 2.0, ["rival"]),
            ("c1", "notice", 1.0, ["falling"]),
        ]
        assert all(r["is_new"] and r["since"] == OCTOBER for r in found)

    def test_who_was_warned_about_before_keeps_the_first_day(self, own, make_tags, engine) -> None:
        tags = make_tags(KINDS, self.ROWS, pending=["churn_score"])
        earlier = pa.table(
            {"customer_id": ["c1"], "since": pa.array([date(2026, 8, 31)], pa.date32())}
        )
        found = warn_of_decline(own.life_cycle, tags, engine=engine, earlier=earlier).to_pylist()
        kept = {row["customer_id"]: (row["since"], row["is_new"]) for row in found}
        assert kept["c1"] == (date(2026, 8, 31), False)
        assert kept["c2"] == (OCTOBER, True)

    def test_a_score_warns_as_soon_as_it_is_there(self, own, make_tags, engine) -> None:
        kinds = KINDS | {"churn_score": "number"}
        tags = make_tags(kinds, [customer(3, churn_score=0.4)])
        (row,) = warn_of_decline(own.life_cycle, tags, engine=engine).to_pylist()
        assert (row["level"], row["signs"], row["stage"]) == ("urgent", ["score"], "maturity")

    def test_who_cannot_leave_is_not_warned_about(self, own, make_tags, engine) -> None:
        """The seeded defect: without a base, customers of other networks would be warned about."""
        base = replace(own.life_cycle, base=parse("org_unit = 'g1'"))
        rows = [customer(1, falling=True), customer(2, falling=True, org_unit="elsewhere")]
        tags = make_tags(KINDS, rows, pending=["churn_score"])
        assert warn_of_decline(own.life_cycle, tags, engine=engine).num_rows == 2
        assert warn_of_decline(base, tags, engine=engine)["customer_id"].to_pylist() == ["c1"]

    def test_nobody_shows_a_sign(self, own, make_tags, engine) -> None:
        tags = make_tags(KINDS, [customer(3)], pending=["churn_score"])
        found = warn_of_decline(own.life_cycle, tags, engine=engine)
        assert found.num_rows == 0
        assert "since" in found.column_names


class TestCheckWarnings:
    LATER = pa.table(
        {"customer_id": ["a", "b", "c", "d", "e", "f"],
         "left": pa.array([True, True, False, False, False, None])}
    )  # fmt: skip

    def test_precision_recall_and_lift(self) -> None:
        record = check_warnings(pa.table({"customer_id": ["a", "c", "f"]}), self.LATER)
        assert (record.warned, record.left, record.hits) == (2, 2, 1)
        assert record.precision == record.recall == 0.5
        assert record.lift == pytest.approx(0.5 / 0.4)

    def test_nobody_warned_cannot_be_judged(self) -> None:
        record = check_warnings(pa.table({"customer_id": pa.array([], pa.string())}), self.LATER)
        assert isinstance(record.precision, NotEstimable)
        assert isinstance(record.lift, NotEstimable)
        assert record.recall == 0.0


class TestJudgeWarnings:
    @pytest.fixture
    def dates(self, make_tags):
        before = [customer(1, falling=True), customer(2, calls_rival=True, falling=True),
                  customer(3), customer(4, is_disconnected=True)]  # fmt: skip
        after = [row | {"is_disconnected": row["customer_id"] in ("c2", "c4")} for row in before]
        return (make_tags(KINDS, before, pending=["churn_score"], as_of=SEPTEMBER),
                make_tags(KINDS, after, pending=["churn_score"]))  # fmt: skip

    def test_who_had_left_before_counts_neither_way(self, own, dates, engine) -> None:
        warnings = warn_of_decline(own.life_cycle, dates[0], engine=engine)
        record = judge_warnings(own.life_cycle, warnings, dates, engine=engine)
        assert (record.warned, record.left, record.hits) == (2, 1, 1)
        assert record.lift == pytest.approx((1 / 2) / (1 / 3))

    def test_by_level(self, own, dates, engine) -> None:
        warnings = warn_of_decline(own.life_cycle, dates[0], engine=engine)
        record = judge_warnings(own.life_cycle, warnings, dates, engine=engine, level="urgent")
        assert (record.warned, record.hits, record.precision) == (1, 1, 1.0)
        with pytest.raises(LifeCycleError, match=r"no level 'red'.*notice, urgent"):
            judge_warnings(own.life_cycle, warnings, dates, engine=engine, level="red")


class TestSample:
    def test_every_stage_has_a_strategy_and_a_cross_marketing_one_has_several_means(self) -> None:
        sample = load_life_cycle(PACKS["sample"] / "lifecycle" / "standard.yaml")
        assert {stage.code for stage in sample.stages} == set(STAGES)
        cross = [s for s in sample.of_stage("acquisition") if s.means == "cross_marketing"]
        assert len(cross) >= 3
        assert len({s.choice for s in cross}) >= 3
