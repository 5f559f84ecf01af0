"""Key moments: 34 slots, those that can be seen are seen exactly, with their first day."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bihuan.audience import parse
from bihuan.data import Lake, load_contracts
from bihuan.kernel import FixedClock
from bihuan.kernel.document import DocumentError
from bihuan.offer import Catalogue
from bihuan.pack import PACKS
from bihuan.strategy.lifecycle import (
    STAGES,
    LifeCycleError,
    MomentBook,
    detect,
    load_moments,
    moment_factors,
)

from .conftest import KINDS, OCTOBER, customer

FILE = PACKS["sample"] / "moments" / "standard.yaml"
CLOCK = FixedClock(datetime(2026, 11, 2, 6, tzinfo=UTC))
OWN = """
moment_book: own
title: {zh: 关键时刻, en: Key moments}
slots: 6
customers: "value_band = 'high'"
moments:
  - {id: rival, title: {zh: 异网, en: Rival}, stage: decline, kind: marketing, supported: true,
     when: calls_rival, action: {zh: 挽留, en: Keep}, factor: 1.5, offers: {kinds: [contract]}}
  - {id: angry, title: {zh: 投诉, en: Angry}, stage: maturity, kind: service, supported: true,
     event: {table: ticket, when: "kind = 'complaint' and severity >= 4", day: opened_at, days: 30},
     action: {zh: 修复, en: Mend}, factor: 0}
  - {id: score, title: {zh: 评分, en: Score}, stage: leave, kind: marketing, supported: true,
     when: "churn_score >= 0.5", action: {zh: 挽留, en: Keep}, factor: 2}
  - {id: paid, title: {zh: 缴费, en: Paid}, stage: growth, kind: marketing, supported: true,
     event: {table: payment, day: paid_at, days: 7}, action: {zh: 推荐, en: Offer}}
  - {id: grown, title: {zh: 成长, en: Grown}, stage: growth, kind: marketing, supported: true,
     when: "tenure_months <= 24", action: {zh: 推荐, en: Offer}, factor: 1.2, channels: [app]}
  - {id: birthday, title: {zh: 生日, en: Birthday}, stage: acquisition, kind: service,
     supported: false, lacks: {zh: 生日, en: The day}, action: {zh: 祝福, en: Wish}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "moments.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def book(tmp_path) -> MomentBook:
    return load_moments(written(tmp_path, OWN))


def ticket(number: int, customer_id: str, day: date, kind: str, severity: int) -> dict:
    at = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
    return {"ticket_id": f"t{number}", "customer_id": customer_id, "kind": kind,
            "severity": severity, "opened_at": at}  # fmt: skip


@pytest.fixture(scope="module")
def world(make_tags, tmp_path_factory):
    rows = [
        customer(1, value_band="high", calls_rival=True),
        customer(2, value_band="low", calls_rival=True),
        customer(3, value_band="high", tenure_months=24),
        customer(4, value_band="high"),
    ]
    lake = Lake(tmp_path_factory.mktemp("events") / "lake")
    first = OCTOBER - timedelta(days=29)
    tickets = [
        ticket(1, "c4", date(2026, 10, 5), "complaint", 4),
        ticket(2, "c4", date(2026, 10, 20), "complaint", 5),
        ticket(3, "c3", date(2026, 10, 9), "complaint", 3),  # not grave
        ticket(4, "c2", date(2026, 10, 9), "complaint", 5),  # not valued
        ticket(5, "c1", first, "complaint", 5),  # just within thirty days
    ]
    older = [ticket(6, "c3", first - timedelta(days=1), "complaint", 5)]  # one day too old
    contract = load_contracts()["ticket"]
    with lake.publication(CLOCK) as publication:
        for day, part in ((date(2026, 10, 1), older), (OCTOBER, tickets)):
            table = pa.Table.from_pylist(part, schema=contract.schema)
            publication.add("ticket", day, table)
    return make_tags(KINDS, rows, pending=["churn_score"]), lake.view()


class TestLoadMoments:
    def test_the_sample_has_34_slots_27_of_them_supported(self) -> None:
        book = load_moments(FILE)
        assert (len(book.moments), len(book.supported), len(book.unsupported)) == (34, 27, 7)
        assert {moment.stage for moment in book.moments} == set(STAGES)
        assert {moment.kind for moment in book.moments} == {"marketing", "service"}
        assert all(set(m.lacks) == {"zh", "en"} for m in book.unsupported)
        table = book.table("en")
        assert table.num_rows == 34
        assert table["lacks"].null_count == 27

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("slots: 6", "slots: 7", "moments holds 6"),
            ("stage: acquisition", "stage: growth", "none of the stage 'acquisition'"),
            ("id: angry", "id: rival", "has 'rival' twice"),
            ("lacks: {zh: 生日, en: The day}, ", "", r"moments\[5\].lacks must stand"),
            ("when: calls_rival, ", "", r"moments\[0\].when or event is needed"),
            ("days: 30", "days: 0", r"moments\[1\].event.days is 0"),
            ("factor: 2}", "factor: -1}", r"moments\[2\].factor is -1"),
        ],
    )
    def test_a_wrong_field_is_named(self, tmp_path, old, new, told) -> None:
        assert old in OWN
        with pytest.raises(DocumentError, match=told):
            load_moments(written(tmp_path, OWN.replace(old, new, 1)))


class TestDetect:
    def see(self, book, world, engine, **more):
        tags, view = world
        return detect(book, tags, view, load_contracts(), engine=engine, **more)

    def test_sees_exactly_the_valued_customers_at_each_moment(self, book, world, engine) -> None:
        report = self.see(book, world, engine)
        assert report.detected.to_pylist() == [
            {"customer_id": "c1", "moment_id": "angry", "since": date(2026, 10, 2)},
            {"customer_id": "c4", "moment_id": "angry", "since": date(2026, 10, 20)},
            {"customer_id": "c3", "moment_id": "grown", "since": OCTOBER},
            {"customer_id": "c1", "moment_id": "rival", "since": OCTOBER},
        ]
        assert report.counts == {"rival": 1, "angry": 2, "grown": 1}

    def test_forgetting_whom_it_is_for_would_be_seen(self, book, world, engine) -> None:
        """The seeded defect: moments of customers who are not valued."""
        report = self.see(replace(book, customers=parse("everyone")), world, engine)
        assert report.counts == {"rival": 2, "angry": 3, "grown": 1}

    def test_what_cannot_be_seen_is_blind_and_not_nought(self, book, world, engine) -> None:
        blind = self.see(book, world, engine).blind
        assert set(blind) == {"score", "paid"}
        assert "churn_score" in blind["score"]["en"]
        assert "payment" in blind["paid"]["zh"]

    def test_a_tag_missing_from_the_rule_of_valued_customers_is_named(
        self, book, world, engine
    ) -> None:
        rule = parse("value_band = 'high' or churn_score >= 0.9")
        report = self.see(replace(book, customers=rule), world, engine)
        assert report.pending == ("churn_score",)
        assert report.counts == self.see(book, world, engine).counts

    def test_a_moment_that_goes_on_keeps_its_first_day(self, book, world, engine) -> None:
        september = date(2026, 9, 30)
        earlier = pa.table(
            {"customer_id": ["c1", "c3"], "moment_id": ["rival", "rival"],
             "since": pa.array([september, september], pa.date32())}
        )  # fmt: skip
        rows = self.see(book, world, engine, earlier=earlier).detected.to_pylist()
        since = {(r["customer_id"], r["moment_id"]): r["since"] for r in rows}
        assert since["c1", "rival"] == september
        assert since["c3", "grown"] == OCTOBER
        assert since["c4", "angry"] == date(2026, 10, 20)

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("table: ticket", "table: tickets", "no such table"),
            ("day: opened_at", "day: open_at", "no column 'customer_id' or 'open_at'"),
            ("day: opened_at", "day: severity", "is not a day"),
        ],
    )
    def test_an_event_that_cannot_be_read_is_refused(
        self, tmp_path, world, engine, old, new, told
    ) -> None:
        book = load_moments(written(tmp_path, OWN.replace(old, new, 1)))
        with pytest.raises(LifeCycleError, match=told):
            self.see(book, world, engine)

    def test_a_column_misspelt_in_a_rule_is_refused(self, tmp_path, world, engine) -> None:
        from bihuan.tag import UnknownTagError

        book = load_moments(written(tmp_path, OWN.replace("severity >= 4", "severety >= 4")))
        with pytest.raises(UnknownTagError, match="severety"):
            self.see(book, world, engine)


class TestMomentFactors:
    @pytest.fixture
    def catalogue(self, tmp_path) -> Catalogue:
        path = tmp_path / "o.yaml"
        path.write_text(
            """
offers:
  - {offer_id: keep, title: {zh: 合约, en: Keep}, kind: contract, price: 1, margin: 1,
     channels: [app, sms]}
  - {offer_id: pack, title: {zh: 包, en: Pack}, kind: addon, price: 1, margin: 1,
     channels: [app, sms]}
""",
            encoding="utf-8",
        )
        return Catalogue.load(path)

    PAIRS = (("keep", "app"), ("keep", "sms"), ("pack", "app"), ("pack", "sms"))

    def test_the_strongest_rise_times_the_strongest_fall(self, book, catalogue) -> None:
        detected = pa.table(
            {"customer_id": ["a", "b", "b", "c", "c", "x"],
             "moment_id": ["rival", "rival", "grown", "angry", "rival", "rival"]}
        )  # fmt: skip
        found = moment_factors(
            book, detected, pa.array(["a", "b", "c", "d"]), self.PAIRS, catalogue
        )
        np.testing.assert_array_equal(
            found,
            [[1.5, 1.5, 1, 1], [1.5, 1.5, 1.2, 1], [0, 0, 0, 0], [1, 1, 1, 1]],
        )

    def test_one_customer_and_the_batch_agree(self, book, catalogue) -> None:
        rng = np.random.default_rng(4)
        ids = [f"c{i}" for i in range(200)]
        names = [m.moment_id for m in book.supported]
        held = {c: {n for n in names if rng.random() < 0.3} for c in ids}
        pairs = [(c, n) for c, mine in held.items() for n in mine]
        detected = pa.table(
            {"customer_id": [c for c, _ in pairs], "moment_id": [n for _, n in pairs]}
        )
        batch = moment_factors(book, detected, pa.array(ids), self.PAIRS, catalogue)
        for row, customer_id in enumerate(ids):
            one = [book.factor(held[customer_id], catalogue.get(o), c) for o, c in self.PAIRS]
            np.testing.assert_array_equal(batch[row], one)
