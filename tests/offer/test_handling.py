"""One click takes two steps, the long way three; nothing unchecked or outdated is ordered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from bihuan.kernel import FixedClock
from bihuan.offer import (
    Catalogue,
    HandlingError,
    OrderBook,
    PlanOrder,
    RetiredOfferError,
    TierChoice,
    recommend_tier,
)

from .make import family

NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)
CATALOGUE = Catalogue(family())


def choice(usage: float = 9000.0) -> TierChoice:
    found = recommend_tier(family(), [[usage]], [1], day=NOW.date())
    return replace(found.of("0"), line_id="S1")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def book(tmp_path: Path, clock: FixedClock) -> OrderBook:
    return OrderBook(tmp_path / "orders", clock)


class TestSteps:
    def test_one_click_is_recommend_and_confirm(self, book: OrderBook) -> None:
        draft = book.recommend(choice(15_000), "C1", CATALOGUE)
        assert (draft.to_offer, draft.steps, draft.steps_left) == ("plan_59", ("recommend",), 1)
        done = book.confirm(draft.order_id, CATALOGUE)
        assert (done.steps, done.steps_left) == (("recommend", "confirm"), 0)
        assert done.effective_on == date(2026, 12, 1)

    def test_the_long_way_is_choose_check_and_confirm(self, book: OrderBook) -> None:
        draft = book.choose_tier("S1", "C1", "plan_39", CATALOGUE.get("plan_59"))
        assert draft.steps_left == 2
        checked = book.check(draft.order_id, CATALOGUE, is_eligible=True)
        assert checked.steps_left == 1
        done = book.confirm(draft.order_id, CATALOGUE)
        assert done.steps == ("choose_tier", "check", "confirm")

    def test_what_was_not_checked_cannot_be_confirmed(self, book: OrderBook) -> None:
        draft = book.choose_tier("S1", "C1", "plan_39", CATALOGUE.get("plan_59"))
        with pytest.raises(HandlingError, match="has not been checked"):
            book.confirm(draft.order_id, CATALOGUE)
        with pytest.raises(HandlingError, match="may not have 'plan_59'"):
            book.check(draft.order_id, CATALOGUE, is_eligible=False)

    def test_a_book_that_takes_every_draft_for_checked_is_caught(
        self, book: OrderBook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: the step count tells that the check was skipped."""
        monkeypatch.setattr(PlanOrder, "is_checked", property(lambda _self: True))
        draft = book.choose_tier("S1", "C1", "plan_39", CATALOGUE.get("plan_59"))
        assert book.confirm(draft.order_id, CATALOGUE).steps == ("choose_tier", "confirm")

    def test_nothing_to_recommend_gives_the_reason(self, book: OrderBook) -> None:
        with pytest.raises(HandlingError, match="no upgrade is needed") as caught:
            book.recommend(choice(1.0), "C1", CATALOGUE)
        assert "不必升档" in caught.value.text("zh")


class TestConfirm:
    def test_twice_is_one_order(self, book: OrderBook, clock: FixedClock) -> None:
        draft = book.recommend(choice(15_000), "C1", CATALOGUE)
        first = book.confirm(draft.order_id, CATALOGUE)
        clock.advance(timedelta(minutes=5))
        assert book.confirm(draft.order_id, CATALOGUE) == first
        assert book.orders() == [first]

    def test_the_same_wish_again_is_the_same_draft(self, book: OrderBook) -> None:
        first = book.recommend(choice(15_000), "C1", CATALOGUE)
        assert book.recommend(choice(15_000), "C1", CATALOGUE) == first

    def test_a_line_has_one_order_for_a_day(self, book: OrderBook) -> None:
        book.confirm(book.recommend(choice(15_000), "C1", CATALOGUE).order_id, CATALOGUE)
        other = book.choose_tier("S1", "C1", "plan_39", CATALOGUE.get("plan_99"))
        book.check(other.order_id, CATALOGUE, is_eligible=True)
        with pytest.raises(HandlingError, match="another order for that day"):
            book.confirm(other.order_id, CATALOGUE)

    def test_of_two_drafts_confirmed_at_once_one_is_ordered(self, book: OrderBook) -> None:
        drafts = []
        for name in ("plan_59", "plan_99"):
            draft = book.choose_tier("S1", "C1", "plan_39", CATALOGUE.get(name))
            drafts.append(book.check(draft.order_id, CATALOGUE, is_eligible=True).order_id)

        def press(order_id: str) -> bool:
            try:
                return book.confirm(order_id, CATALOGUE).confirmed_at is not None
            except HandlingError:
                return False

        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(press, drafts * 8))
        assert sum(done) == 8  # one of the two, each time it was pressed
        assert len(book.orders()) == 1

    def test_a_draft_runs_out(self, book: OrderBook, clock: FixedClock) -> None:
        draft = book.recommend(choice(15_000), "C1", CATALOGUE)
        clock.advance(timedelta(days=8))
        with pytest.raises(HandlingError, match="ran out on 2026-11-09"):
            book.confirm(draft.order_id, CATALOGUE)

    def test_a_draft_runs_out_before_the_month_does(self, tmp_path: Path) -> None:
        late = OrderBook(tmp_path / "orders", FixedClock(datetime(2026, 12, 29, tzinfo=UTC)))
        draft = late.recommend(choice(15_000), "C1", CATALOGUE)
        assert (draft.valid_until, draft.effective_on) == (date(2026, 12, 31), date(2027, 1, 1))

    def test_a_price_that_changed_is_not_ordered(self, book: OrderBook) -> None:
        draft = book.recommend(choice(15_000), "C1", CATALOGUE)
        dearer = Catalogue(
            replace(o, price=69.0) if o.offer_id == "plan_59" else o for o in CATALOGUE
        )
        with pytest.raises(HandlingError, match="changed from 59 to 69"):
            book.confirm(draft.order_id, dearer)

    def test_a_plan_retired_meanwhile_is_not_ordered(self, book: OrderBook) -> None:
        draft = book.recommend(choice(15_000), "C1", CATALOGUE)
        gone = Catalogue(
            replace(o, status="retired") if o.offer_id == "plan_59" else o for o in CATALOGUE
        )
        with pytest.raises(RetiredOfferError, match="plan_59"):
            book.confirm(draft.order_id, gone)

    def test_an_unknown_draft_is_said(self, book: OrderBook) -> None:
        with pytest.raises(HandlingError, match=r"no draft or order '\.\./secret'"):
            book.confirm("../secret", CATALOGUE)
