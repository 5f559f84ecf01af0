"""Small groups: hidden with their companions, and close questions refused; attacked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from bihuan.kernel import random_stream
from bihuan.server.app import audience as audiences
from bihuan.server.app import personal
from bihuan.server.app.personal import question, small_groups
from bihuan.server.app.personal.small_groups import Hidden, suppress_small

from ..customers import OCTOBER, actor, open_house, with_tags

K = 20
PLANNER = actor("planner", "province")
ANALYST = actor("analyst", "province")


def tables(number: int, seed: int = 5):
    """Yield random cross tables: even, skewed, sparse, tiny, thin."""
    chance = random_stream(seed, "tables")
    for at in range(number):
        shape = tuple(int(n) for n in chance.integers(1, 7, 2))
        mean = float(chance.choice([3, 15, 25, 60, 400]))
        counts = chance.poisson(chance.gamma(0.7, mean / 0.7, shape))
        if at % 3 == 0:
            counts = np.outer(chance.integers(1, 30, shape[0]), chance.integers(0, 30, shape[1]))
        yield counts.astype(np.int64)


def bounds(hidden: Hidden, weights: np.ndarray) -> tuple[float, float]:
    """Return how small and how large a sum of cells may be, by all that is shown."""
    rows, columns = hidden.cells.shape
    equations, values = [], []

    def say(mask: np.ndarray, value: int) -> None:
        if value >= 0:
            equations.append(mask.ravel().astype(float))
            values.append(float(value))

    for row in range(rows):
        mask = np.zeros((rows, columns))
        mask[row] = 1
        say(mask, int(hidden.row_totals[row]))
    for column in range(columns):
        mask = np.zeros((rows, columns))
        mask[:, column] = 1
        say(mask, int(hidden.column_totals[column]))
    say(np.ones((rows, columns)), hidden.total)
    for row, column in np.argwhere(hidden.cells >= 0):
        mask = np.zeros((rows, columns))
        mask[row, column] = 1
        say(mask, int(hidden.cells[row, column]))
    ends = []
    for sign in (1, -1):
        found = linprog(
            sign * weights.ravel(),
            A_eq=np.array(equations) if equations else None,
            b_eq=values or None,
            bounds=(0, None),
        )
        ends.append(sign * found.fun if found.status == 0 else np.inf)
    return float(ends[0]), float(ends[1])


def inferred(counts: np.ndarray, hidden: Hidden) -> list[str]:
    """Return the groups below k (cells, rows, columns, all) that somebody can tell are small."""
    found = []
    groups = {
        f"cell {r},{c}": (r, c) for r in range(counts.shape[0]) for c in range(counts.shape[1])
    }
    groups |= {f"row {r}": (r, slice(None)) for r in range(counts.shape[0])}
    groups |= {f"column {c}": (slice(None), c) for c in range(counts.shape[1])}
    groups["all"] = (slice(None), slice(None))
    for name, place in groups.items():
        if counts[place].sum() >= K:
            continue
        weights = np.zeros(counts.shape)
        weights[place] = 1
        _, most = bounds(hidden, weights)
        if most < K - 1e-6:
            found.append(name)
    return found


class TestCrossTables:
    def test_no_small_group_can_be_inferred_from_random_tables(self):
        shown = 0
        for counts in tables(150):
            hidden = suppress_small(counts, K)
            shown += int((hidden.cells >= 0).sum())
            assert inferred(counts, hidden) == [], counts
        assert shown > 400  # it would be easy to hide everything

    def test_what_is_shown_is_true(self):
        for counts in tables(300, seed=6):
            hidden = suppress_small(counts, K)
            told = hidden.cells >= 0
            assert (hidden.cells[told] == counts[told]).all()
            assert (counts[told] >= K).all()
            for margins, true in ((hidden.row_totals, counts.sum(1)),
                                  (hidden.column_totals, counts.sum(0))):  # fmt: skip
                assert (margins[margins >= 0] == true[margins >= 0]).all()
                assert (margins[margins >= 0] >= K).all()

    def test_one_small_cell_takes_three_companions(self):
        counts = np.array([[100, 5, 90], [80, 70, 60], [50, 95, 85]])
        hidden = suppress_small(counts, K)
        assert (hidden.cells < 0).sum() == 4
        assert hidden.row_totals.tolist() == [195, 210, 230]

    def test_nothing_small_nothing_hidden(self):
        counts = np.array([[100, 50], [80, 70]])
        hidden = suppress_small(counts, K)
        assert hidden.cells.tolist() == counts.tolist()
        assert hidden.total == 300

    def test_clearance_shows_all(self):
        counts = np.array([[1, 2], [3, 4]])
        assert suppress_small(counts, K, clearance=True).cells.tolist() == counts.tolist()

    def test_a_tiny_table_shows_not_even_its_total(self):
        hidden = suppress_small(np.array([[1, 2], [3, 4]]), K)
        assert hidden.total == -1

    def test_hidden_cells_look_alike(self):
        hidden = suppress_small(np.array([[100, 5], [80, 70]]), K)
        assert set(hidden.cells.ravel().tolist()) == {-1}

    def test_defect_hiding_only_the_small_cells_is_caught(self):
        caught = 0
        for counts in tables(60):
            if counts.sum() < K:
                continue
            naive = Hidden(
                np.where(counts < K, -1, counts), counts.sum(1), counts.sum(0),
                int(counts.sum()), K,
            )  # fmt: skip
            caught += bool(inferred(counts, naive))
        assert caught > 20

    def test_defect_without_merging_small_margins_is_caught(self, monkeypatch):
        monkeypatch.setattr(
            small_groups, "_merged", lambda totals, k: [[at] for at in range(totals.size)]
        )
        assert any(inferred(counts, suppress_small(counts, K)) for counts in tables(60))


class TestCounts:
    def test_lists_of_few_need_clearance(self):
        personal.require_large(PLANNER, 20, K)
        personal.require_large(ANALYST, 1, K)
        with pytest.raises(personal.SmallGroupError):
            personal.require_large(PLANNER, 19, K)

    @pytest.mark.parametrize(("count", "shown"), [(0, "<20"), (19, "<20"), (20, 20)])
    def test_small_counts_are_hidden(self, count, shown):
        assert personal.show_count(count, K, clearance=False) == shown
        assert personal.show_count(count, K, clearance=True) == count


@pytest.fixture
def service(control, database_url, clock, tmp_path):
    return with_tags(open_house(control, database_url, clock, tmp_path / "workspace"))


def ask(service, who, audience):
    with service.work(who, "audience.read") as work:
        return personal.count_audience(service, work, who, audience, OCTOBER)


def rule(chance) -> str:
    low = int(chance.integers(1947, 2000))
    parts = [f"born >= {low}", f"born <= {low + int(chance.integers(0, 40))}"]
    if chance.random() < 0.5:
        parts.append(f"sex = '{chance.choice(['F', 'M'])}'")
    if chance.random() < 0.4:
        parts.append(f"city = '{chance.choice(list('abcdef'))}'")
    if chance.random() < 0.3:
        parts.append("senior" if chance.random() < 0.5 else "not senior")
    chance.shuffle(parts)
    return " and ".join(parts)


def near(chance, first: str) -> str:
    """Return a question a little beside the first, as somebody asks who looks for one person."""
    bit = f"(born = {int(chance.integers(1947, 2009))} and city = '{chance.choice(list('def'))}')"
    kind = int(chance.integers(0, 3))
    return [f"({first}) and not {bit}", f"({first}) or {bit}", f"({first}) and {bit}"][kind]


def attack(service, reader, pairs: int) -> tuple[int, list[str]]:
    """Ask pairs of questions, each pair as a new account; return how many small groups were got."""
    chance = random_stream(11, "pairs")
    got, answered = [], 0
    base = reader.count("born >= 0")
    for number in range(pairs):
        who = replace(PLANNER, account_id=f"attacker-{number}")
        first = rule(chance)
        second = near(chance, first) if number % 4 else rule(chance)
        answers = []
        for audience in (first, second):
            try:
                answer = ask(service, who, audience).shown
            except personal.CloseQuestionError:
                answer = None
            answers.append(answer)
        for audience, answer in zip((first, second), answers, strict=True):
            if isinstance(answer, int):
                answered += 1
                if answer < K or 0 < base - answer < K:
                    got.append(audience)
        if all(isinstance(answer, int) for answer in answers):
            inside = reader.count(f"({first}) and not ({second})")
            outside = reader.count(f"({second}) and not ({first})")
            if 0 < inside + outside < K:
                got.append(f"{first} | {second}")
    return answered, got


class TestQuestions:
    def test_a_planner_sees_large_counts_and_an_analyst_all(self, service):
        reader = service.workspace.reader(OCTOBER)
        few = "city = 'f' and senior"
        assert 0 < reader.count(few) < K
        assert ask(service, PLANNER, few).shown == "<20"
        assert ask(service, ANALYST, few).shown == reader.count(few)
        large = ask(service, PLANNER, "city = 'a'")
        assert (large.shown, large.base) == (reader.count("city = 'a'"), 3_000)

    def test_close_questions_are_refused_and_the_same_one_is_not(self, service):
        ask(service, PLANNER, "city = 'a'")
        ask(service, PLANNER, "city = 'a' and city = 'a'")
        with pytest.raises(personal.CloseQuestionError):
            ask(service, PLANNER, "city = 'a' or (city = 'f' and senior)")
        with pytest.raises(personal.CloseQuestionError):  # everybody but a few
            ask(service, PLANNER, "not (city = 'f' and senior)")
        ask(service, actor("planner", "city-a"), "city = 'a' or (city = 'f' and senior)")
        ask(service, ANALYST, "not (city = 'f' and senior)")

    def test_questions_are_forgotten_after_their_window(self, service, clock):
        ask(service, PLANNER, "city = 'a'")
        clock.advance(question.WINDOW)
        ask(service, PLANNER, "city = 'a' or (city = 'f' and senior)")

    def test_a_cross_table_is_suppressed_for_planners(self, service):
        tags = ("city", "senior")

        def cells(who):
            with service.work(who, "audience.read", read_only=True) as work:
                table = audiences.cross(service, work, who, "born >= 0", tags, OCTOBER)
            return [cell for row in table["counts"] for cell in row]

        assert None in cells(PLANNER)
        assert None not in cells(ANALYST)

    @pytest.mark.slow
    def test_a_thousand_pairs_infer_no_small_group(self, service, database_url):
        if database_url.startswith("postgresql"):
            pytest.skip("the database plays no part in the answer")
        answered, got = attack(service, service.workspace.reader(OCTOBER), 1_000)
        assert answered > 500
        assert got == []

    def test_defect_without_the_guard_pairs_tell(self, service, monkeypatch):
        monkeypatch.setattr(question, "_require_apart", lambda *_: None)
        _, got = attack(service, service.workspace.reader(OCTOBER), 100)
        assert len(got) > 5
