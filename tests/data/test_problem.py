"""Data problems are followed until they are solved, whatever happens to the process."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bihuan.data.problem import (
    Bench,
    DifferenceCheck,
    ProblemBook,
    ProblemError,
    QualityCheck,
    QuarantineCheck,
    ReferenceCheck,
    ValueCheck,
    problem_of_difference,
    problem_of_finding,
    problem_of_quarantine,
    problem_of_reference,
    problem_of_report,
)
from bihuan.data.problem.check import check_from_json, check_to_json
from bihuan.data.problem.journal import Journal
from bihuan.data.problem.record import MOVES
from bihuan.data.quality import check_references, compare_snapshots, profile_quality
from bihuan.kernel import DefectError

SEPTEMBER, OCTOBER, NOVEMBER = date(2026, 9, 30), date(2026, 10, 31), date(2026, 11, 30)
REPORT = {"zh": "套餐名称与客户所述不符", "en": "The plan is not the one the customer has"}


@pytest.fixture
def book(tmp_path, clock):
    return ProblemBook(tmp_path / "problems", clock)


@pytest.fixture
def bench(contracts, engine, lake):
    def make(waiting=None):
        return Bench(lake.view(), contracts, engine, date(2026, 11, 3), waiting)

    return make


def report(customer="c1"):
    return problem_of_report(customer, "subscription", "product_id", "P1", REPORT)


@pytest.fixture
def bad_month(publish, contracts, engine):
    """October with unknown codes in a tenth of the rows; returns the finding."""
    view = publish(
        "customer",
        customer_id=[f"c{i}" for i in range(10)],
        kind=["individual"] * 9 + ["entreprise"],
    )
    profile = profile_quality(view, "customer", OCTOBER, contracts["customer"], engine)
    (finding,) = profile.findings()
    return finding


class TestOpenProblem:
    def test_a_finding_becomes_a_problem_with_its_check(self, book, bad_month):
        problem = book.open_problem(problem_of_finding(bad_month), "quality")
        assert problem.state == "open"
        assert (problem.table, problem.column) == ("customer", "kind")
        assert problem.check == QualityCheck("customer", "kind", "unknown_code", 0.0)
        assert "unknown code" in problem.title["en"]

    def test_a_front_line_report_names_customer_and_value(self, book, clock):
        problem = book.open_problem(report(), "hall 12", "the customer showed the contract")
        assert problem.customer_id == "c1"
        assert problem.title == REPORT
        assert problem.history[0].by == "hall 12"
        assert problem.history[0].at == clock.now()
        assert problem.history[0].note == "the customer showed the contract"

    def test_the_same_problem_found_again_is_one_problem(self, book, bad_month):
        first = book.open_problem(problem_of_finding(bad_month), "quality")
        again = book.open_problem(problem_of_finding(bad_month), "quality")
        assert again == first
        assert len(book.list_problems()) == 1

    def test_a_solved_problem_found_again_is_open_again(self, book):
        problem = book.open_problem(report(), "hall 12")
        book.solve(problem.problem_id, "billing", "corrected")
        again = book.open_problem(report(), "hall 13")
        assert again.state == "open"
        assert [event.state for event in again.history] == ["open", "solved", "open"]

    def test_a_rejected_problem_found_again_stays_rejected(self, book):
        problem = book.open_problem(report(), "hall 12")
        book.reject(problem.problem_id, "billing", "the customer was mistaken")
        assert book.open_problem(report(), "hall 12").state == "rejected"

    def test_another_limit_does_not_make_another_problem(self, book, publish, contracts, engine):
        view = publish("customer", customer_id=["a", "b", "c"], gender=["F", None, None])
        profile = profile_quality(view, "customer", OCTOBER, contracts["customer"], engine)
        for limit in (0.5, 0.1):
            for finding in profile.findings({"missing": limit}):
                book.open_problem(problem_of_finding(finding), "quality")
        assert len(book.list_problems()) == 1

    def test_problems_survive_the_process(self, book, tmp_path, clock, bad_month):
        problem = book.open_problem(problem_of_finding(bad_month), "quality")
        book.assign(problem.problem_id, "crm", "planner", due_on=date(2026, 11, 10))
        again = ProblemBook(tmp_path / "problems", clock)
        assert again.list_problems() == book.list_problems()
        assert again.get(problem.problem_id).due_on == date(2026, 11, 10)

    def test_two_books_of_one_folder_see_each_other(self, book, tmp_path, clock):
        other = ProblemBook(tmp_path / "problems", clock)
        problem = book.open_problem(report(), "hall 12")
        other.assign(problem.problem_id, "crm", "planner")
        assert book.get(problem.problem_id).owner == "crm"


class TestMoves:
    def test_the_whole_way(self, book, clock, tmp_path):
        problem = book.open_problem(report(), "hall 12")
        clock.advance(timedelta(hours=1))
        book.assign(problem.problem_id, "crm", "planner", due_on=date(2026, 11, 10), note="please")
        clock.advance(timedelta(hours=1))
        book.feed_back(tmp_path / "out", "planner")
        clock.advance(timedelta(days=1))
        solved = book.solve(problem.problem_id, "crm", "corrected at the source")
        assert [event.state for event in solved.history] == [
            "open",
            "assigned",
            "fed_back",
            "solved",
        ]
        assert [event.at for event in solved.history] == sorted(
            event.at for event in solved.history
        )
        assert solved.is_closed

    @pytest.mark.parametrize("state", MOVES)
    def test_only_the_moves_of_the_table_are_possible(self, book, tmp_path, state):
        ways = {
            "open": [],
            "assigned": ["assign"],
            "fed_back": ["assign", "feed_back"],
            "solved": ["solve"],
            "rejected": ["reject"],
        }
        acts = {
            "assign": ("assigned", lambda p: book.assign(p, "crm", "planner")),
            "solve": ("solved", lambda p: book.solve(p, "crm", "done")),
            "reject": ("rejected", lambda p: book.reject(p, "crm", "no problem")),
            "reopen": ("open", lambda p: book.reopen(p, "crm", "still there")),
        }
        for name, (target, act) in acts.items():
            problem = book.open_problem(report(name), "hall 12").problem_id
            for step in ways[state]:
                if step == "feed_back":
                    book.feed_back(tmp_path / "out", "planner")
                else:
                    acts[step][1](problem)
            assert book.get(problem).state == state
            if target in MOVES[state]:
                assert act(problem).state == target
            else:
                with pytest.raises(ProblemError, match=f"is {state}"):
                    act(problem)
                assert book.get(problem).state == state

    def test_a_rejection_needs_a_reason_and_an_owner_a_name(self, book):
        problem = book.open_problem(report(), "hall 12").problem_id
        with pytest.raises(ProblemError, match="reason"):
            book.reject(problem, "crm", "  ")
        with pytest.raises(ProblemError, match="name"):
            book.assign(problem, " ", "planner")

    def test_an_unknown_problem_is_refused(self, book):
        with pytest.raises(ProblemError, match="'nothing'"):
            book.get("nothing")
        with pytest.raises(ProblemError, match="'nothing'"):
            book.solve("nothing", "crm", "done")

    def test_problems_are_listed_by_state_and_owner_and_shown_when_overdue(self, book):
        one = book.open_problem(report("c1"), "hall 12").problem_id
        two = book.open_problem(report("c2"), "hall 12").problem_id
        book.assign(two, "crm", "planner", due_on=date(2026, 11, 10))
        assert [p.problem_id for p in book.list_problems(state="open")] == [one]
        assert [p.problem_id for p in book.list_problems(owner="crm")] == [two]
        assert not book.get(two).is_overdue(date(2026, 11, 10))
        assert book.get(two).is_overdue(date(2026, 11, 11))
        book.solve(two, "crm", "done")
        assert not book.get(two).is_overdue(date(2026, 11, 11))


class TestRecheck:
    def test_the_next_good_snapshot_solves_a_finding(self, book, bench, bad_month, publish):
        book.open_problem(problem_of_finding(bad_month), "quality")
        assert book.recheck(bench()) == ()
        publish("customer", NOVEMBER, customer_id=["a"], kind=["individual"])
        (solved,) = book.recheck(bench())
        assert solved.state == "solved"
        assert solved.history[-1].by == "recheck"
        assert "2026-11-30" in solved.history[-1].note

    def test_a_snapshot_that_fails_again_opens_it_again(self, book, bench, bad_month, publish):
        book.open_problem(problem_of_finding(bad_month), "quality")
        publish("customer", NOVEMBER, customer_id=["a"], kind=["individual"])
        book.recheck(bench())
        publish("customer", date(2026, 12, 31), customer_id=["a"], kind=["robot"])
        (opened,) = book.recheck(bench())
        assert opened.state == "open"
        assert "unknown_code is 1" in opened.history[-1].note

    def test_the_month_mended_in_place_solves_it_too(self, book, bench, bad_month, publish):
        book.open_problem(problem_of_finding(bad_month), "quality")
        publish("customer", OCTOBER, customer_id=["a"], kind=["individual"])
        assert book.recheck(bench())[0].state == "solved"

    def test_rejected_problems_are_left_alone(self, book, bench, bad_month, publish):
        problem = book.open_problem(problem_of_finding(bad_month), "quality")
        book.reject(problem.problem_id, "crm", "the code is new, the contract is old")
        publish("customer", NOVEMBER, customer_id=["a"], kind=["individual"])
        assert book.recheck(bench()) == ()

    def test_what_the_data_cannot_tell_changes_nothing(self, book, bench):
        for problem in (
            report(),
            problem_of_quarantine("batch-1", "bill", 3),
        ):
            book.open_problem(problem, "hall 12")
        assert book.recheck(bench()) == ()

    def test_a_front_line_report_is_solved_when_the_value_is_gone(self, book, bench, publish):
        book.open_problem(report(), "hall 12")

        def month(as_of, product):
            publish(
                "subscription",
                as_of,
                subscription_id=["s1", "s2"],
                customer_id=["c1", "c2"],
                status=["active", "active"],
                product_id=[product, "P1"],
            )

        month(OCTOBER, "P1")
        assert book.recheck(bench()) == ()
        month(NOVEMBER, "P2")
        assert book.recheck(bench())[0].state == "solved"

    def test_a_missing_value_reported_is_solved_when_it_is_there(self, book, bench, publish):
        message = {"zh": "无地址", "en": "No address"}
        book.open_problem(problem_of_report("a", "customer", "address_id", None, message), "grid 3")
        publish("customer", OCTOBER, customer_id=["a"])
        assert book.recheck(bench()) == ()
        publish("customer", NOVEMBER, customer_id=["a"], address_id=["A1"])
        assert book.recheck(bench())[0].state == "solved"

    def test_a_difference_between_platform_and_production_is_followed(
        self, book, bench, lake, clock, rows, contracts, engine
    ):
        def month(as_of, platform, production):
            with lake.publication(clock) as publication:
                for table, fee in (("account", platform), ("account__production", production)):
                    days = rows("account", account_id=["1"], customer_id=["a"], billing_day=[fee])
                    publication.add(table, as_of, days)

        check = DifferenceCheck("account", "account__production", ("account_id",), ("billing_day",))
        month(OCTOBER, 5, 6)
        view = lake.view()
        found = compare_snapshots(
            view.get(check.left), view.get(check.right), check.key, check.columns, 0.0, engine
        )
        problem = book.open_problem(problem_of_difference(found, check), "quality")
        assert "account__production" in problem.title["en"]
        assert book.recheck(bench()) == ()
        month(NOVEMBER, 6, 6)
        assert book.recheck(bench())[0].state == "solved"

    def test_a_broken_reference_is_followed(self, book, bench, publish, contracts, engine):
        publish("customer", customer_id=["a"])
        view = publish("account", account_id=["1"], customer_id=["x"])
        (found,) = check_references(view, OCTOBER, contracts["account"], engine)
        book.open_problem(problem_of_reference(found), "quality")
        assert book.recheck(bench()) == ()
        publish("customer", customer_id=["a", "x"])
        assert book.recheck(bench())[0].state == "solved"

    def test_a_quarantined_batch_is_solved_when_no_row_waits(self, book, bench):
        book.open_problem(problem_of_quarantine("batch-1", "bill", 3), "ingest")
        assert book.recheck(bench({"batch-1": 2})) == ()
        assert book.recheck(bench({}))[0].state == "solved"


class TestFeedBack:
    def test_each_owner_gets_a_file_of_what_is_not_solved(self, book, tmp_path):
        ids = [book.open_problem(report(f"c{i}"), "hall 12").problem_id for i in range(4)]
        book.assign(ids[0], "crm", "planner", due_on=date(2026, 11, 1))
        book.assign(ids[1], "计费系统", "planner")
        book.assign(ids[2], "crm", "planner")
        book.solve(ids[2], "crm", "done")
        paths = book.feed_back(tmp_path / "out", "planner")
        assert len(paths) == 6
        with (tmp_path / "out" / "problems-crm.csv").open(encoding="utf-8-sig") as file:
            (row,) = csv.DictReader(file)
        assert row["problem_id"] == ids[0]
        assert row["is_overdue"] == "true"
        assert row["title_zh"] == REPORT["zh"]
        assert pq.read_table(tmp_path / "out" / "problems-crm.parquet").num_rows == 1
        assert (tmp_path / "out" / "problems-计费系统.csv").exists()
        assert [book.get(id_).state for id_ in ids] == ["fed_back", "fed_back", "solved", "open"]

    def test_a_problem_fed_back_is_in_the_next_file_until_it_is_solved(self, book, tmp_path):
        problem = book.open_problem(report(), "hall 12").problem_id
        book.assign(problem, "crm", "planner")
        for _ in range(2):
            paths = book.feed_back(tmp_path / "out", "planner")
            assert pq.read_table(paths[1]).column("problem_id").to_pylist() == [problem]
        book.solve(problem, "crm", "done")
        assert book.feed_back(tmp_path / "out", "planner") == ()

    def test_a_message_that_is_a_formula_is_harmless_in_the_file(self, book, tmp_path):
        evil = problem_of_report("c", "customer", "name", "x", {"zh": "=1+1", "en": "@SUM(A1)"})
        problem = book.open_problem(evil, "=cmd|x")
        book.assign(problem.problem_id, "crm", "=planner")
        text = book.feed_back(tmp_path / "out", "planner")[0].read_text(encoding="utf-8-sig")
        assert '"\'=1+1"' in text
        assert '"\'=planner"' in text

    @pytest.mark.parametrize(
        "owner", ["../../etc/passwd", "a/b", "unassigned", "x" * 300, "con: x"]
    )
    def test_an_owners_name_cannot_leave_the_folder(self, book, tmp_path, owner):
        problem = book.open_problem(report(), "hall 12").problem_id
        book.assign(problem, owner, "planner")
        out = tmp_path / "out"
        for path in book.feed_back(out, "planner"):
            assert path.parent == out
            assert path.exists()
            assert path.name not in ("problems-unassigned.csv", "problems-unassigned.parquet")


class TestChecks:
    @pytest.mark.parametrize(
        "check",
        [
            QualityCheck("bill", "amount", "missing", 0.1),
            ReferenceCheck("bill", "account_id"),
            DifferenceCheck("a", "b", ("x", "y"), ("z",), 0.01, 0.001),
            ValueCheck("bill", "amount", "customer_id", "c", None),
            QuarantineCheck("batch"),
            None,
        ],
    )
    def test_a_check_is_read_as_it_was_written(self, check):
        text = json.dumps(check_to_json(check))
        assert check_from_json(json.loads(text)) == check

    def test_a_check_of_an_unknown_kind_is_a_defect(self):
        with pytest.raises(DefectError, match="magic"):
            check_from_json({"kind": "magic"})

    def test_one_run_profiles_a_table_once(self, bench, publish, engine):
        publish("customer", customer_id=["a"])
        table = bench()
        assert table.profile("customer") is table.profile("customer")
        assert table.profile("nothing") is None


# -- the journal --------------------------------------------------------------------------------

# For each number read, forks a child that writes events from that number on and prints each after
# the call returned, until it is killed; then prints "end".
WRITER = """
    import os, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from bihuan.data.problem import ProblemBook, problem_of_report
    from bihuan.kernel import FixedClock

    def write(first):
        book = ProblemBook(Path(sys.argv[1]), FixedClock(datetime(2026, 11, 3, tzinfo=UTC)))
        for number in range(first, 100_000):
            message = {"zh": "错" * 500, "en": "wrong"}
            problem = problem_of_report(f"c{number}", "bill", "amount", "1", message)
            book.open_problem(problem, "hall")
            print(number, flush=True)

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)
            write(int(line))
        os.waitpid(child, 0)
        print("end", flush=True)
"""


class TestJournal:
    @pytest.fixture
    def path(self, tmp_path) -> Path:
        return tmp_path / "problems" / "problems.jsonl"

    def test_what_was_acknowledged_is_there_after_kills(self, tmp_path, clock):
        code = textwrap.dedent(WRITER)
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            first = 0
            for events in (1, 7, 3, 12, 2):
                process.stdin.write(f"{first}\n")
                process.stdin.flush()
                child = int(process.stdout.readline())
                acknowledged = [int(process.stdout.readline()) for _ in range(events)]
                os.kill(child, signal.SIGKILL)
                while (line := process.stdout.readline().strip()) != "end":
                    acknowledged.append(int(line))
                problems = ProblemBook(tmp_path, clock).list_problems()
                found = [problem.customer_id for problem in problems]
                assert found[: acknowledged[-1] + 1] == [
                    f"c{number}" for number in range(acknowledged[-1] + 1)
                ]
                assert len(found) <= acknowledged[-1] + 2  # the one under way may be whole too
                first = len(found)
            process.stdin.close()

    @pytest.mark.parametrize("cut", [1, 10, 200])
    def test_a_line_left_unfinished_is_ignored_and_cut_off(self, book, path, tmp_path, clock, cut):
        book.open_problem(report("c1"), "hall 12")
        whole = path.read_bytes()
        book.open_problem(report("c2"), "hall 12")
        path.write_bytes(path.read_bytes()[:-cut])
        again = ProblemBook(tmp_path / "problems", clock)
        assert [p.customer_id for p in again.list_problems()] == ["c1"]
        again.open_problem(report("c3"), "hall 12")
        assert path.read_bytes().startswith(whole)
        third = ProblemBook(tmp_path / "problems", clock)
        assert [p.customer_id for p in third.list_problems()] == ["c1", "c3"]

    def test_an_unfinished_line_that_was_longer_than_the_next_leaves_no_rest(
        self, book, path, tmp_path, clock
    ):
        book.open_problem(report("c1"), "hall 12")
        book.open_problem(report("c2"), "hall 12", "a long story " * 100)
        path.write_bytes(path.read_bytes()[:-1])
        ProblemBook(tmp_path / "problems", clock).open_problem(report("c3"), "hall 12")
        third = ProblemBook(tmp_path / "problems", clock)
        third.open_problem(report("c4"), "hall 12")
        assert [p.customer_id for p in third.list_problems()] == ["c1", "c3", "c4"]

    def test_a_journal_that_only_appends_would_be_caught(
        self, book, path, tmp_path, clock, monkeypatch
    ):
        def careless(self, line):
            text = json.dumps({**line, "number": self._lines + 1}, default=str)
            with self._path.open("a") as file:
                file.write(text + "\n")

        book.open_problem(report("c1"), "hall 12")
        book.open_problem(report("c2"), "hall 12")
        path.write_bytes(path.read_bytes()[:-10])
        monkeypatch.setattr(Journal, "append", careless)
        with pytest.raises(DefectError, match="line 2 is damaged"):
            ProblemBook(tmp_path / "problems", clock).open_problem(report("c3"), "hall 12")

    @pytest.mark.parametrize("damage", ["flip", "lose", "repeat"])
    def test_a_damaged_line_is_told_with_its_number(self, book, path, tmp_path, clock, damage):
        for number in range(3):
            book.open_problem(report(f"c{number}"), "hall 12")
        lines = path.read_bytes().splitlines(keepends=True)
        lines = {
            "flip": [lines[0], b"{" + lines[1], lines[2]],
            "lose": [lines[0], lines[2]],
            "repeat": [lines[0], lines[0], lines[2]],
        }[damage]
        path.write_bytes(b"".join(lines))
        with pytest.raises(DefectError, match="line 2 is damaged"):
            ProblemBook(tmp_path / "problems", clock).list_problems()

    def test_four_processes_write_one_book(self, tmp_path, clock):
        code = textwrap.dedent("""
            import os, sys
            from datetime import UTC, datetime
            from pathlib import Path
            from bihuan.data.problem import ProblemBook, problem_of_report
            from bihuan.kernel import FixedClock

            def write(worker):
                book = ProblemBook(Path(sys.argv[1]), FixedClock(datetime(2026, 11, 3, tzinfo=UTC)))
                for turn in range(15):
                    problem = problem_of_report(f"{worker}-{turn}", "bill", "amount", "1", {})
                    book.open_problem(problem, str(worker))
                    book.assign(problem.problem_id, "crm", str(worker))

            children = []
            for worker in range(4):
                children.append(os.fork())
                if children[-1] == 0:
                    try:
                        write(worker)
                    finally:
                        os._exit(0)
            for child in children:
                os.waitpid(child, 0)
        """)
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
        problems = ProblemBook(tmp_path, clock).list_problems()
        assert len(problems) == 60
        assert {problem.state for problem in problems} == {"assigned"}
