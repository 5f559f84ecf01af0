"""The book of data problems: open, assign, feed back, recheck, close."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bihuan.data.exchange import write_csv
from bihuan.data.problem.check import Bench
from bihuan.data.problem.journal import Journal
from bihuan.data.problem.record import MOVES, Problem, after, problem_table, to_json
from bihuan.kernel import Clock, UserError, hash_id, write_atomically


class ProblemError(UserError):
    """A problem does not exist, or cannot go where it is sent."""


class ProblemBook:
    """Every data problem of a workspace.

    Several processes may use one book: each event is written under a lock and read by the others
    with their next call.

    Parameters
    ----------
    folder
        Where the journal is; made if absent.
    clock
        Stamps the events.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._journal = Journal(folder / "problems.jsonl")
        self._clock = clock
        self._problems: dict[str, Problem] = {}

    # -- opening --------------------------------------------------------------------------------

    def open_problem(self, problem: Problem, by: str, note: str = "") -> Problem:
        """Put a problem into the book.

        If it is there already and not closed, it is left as it is; if it was solved, it is opened
        again; if it was rejected, it stays rejected, because a person has judged it.

        Parameters
        ----------
        problem
            Made by :func:`problem_of_finding` and its like.
        by
            Who found it.
        note
            What else is known.

        Returns
        -------
        Problem
            The problem as it stands in the book.
        """
        with self._journal.locked():
            known = self._refresh().get(problem.problem_id)
            if known is None:
                self._write(problem.problem_id, by, "open", note, {"problem": to_json(problem)})
            elif known.state == "solved":
                self._write(problem.problem_id, by, "open", note or "found again", {})
            return self._refresh()[problem.problem_id]

    # -- moving ---------------------------------------------------------------------------------

    def assign(
        self, problem_id: str, owner: str, by: str, *, due_on: date | None = None, note: str = ""
    ) -> Problem:
        """Give a problem to the system or unit that must mend it.

        Raises
        ------
        ProblemError
            If the owner has no name, there is no such problem, or it is closed.
        """
        if not owner.strip() or not owner.isprintable():
            raise ProblemError("An owner needs a name.", zh="请给出责任系统或单位的名称。")
        due = None if due_on is None else due_on.isoformat()
        return self._move(problem_id, "assigned", by, note, {"owner": owner.strip(), "due_on": due})

    def solve(self, problem_id: str, by: str, note: str) -> Problem:
        """Close a problem that a person knows to be solved."""
        return self._move(problem_id, "solved", by, note)

    def reject(self, problem_id: str, by: str, note: str) -> Problem:
        """Close a problem that is none; the note says why and must not be empty."""
        if not note.strip():
            raise ProblemError("A rejection needs a reason.", zh="驳回数据问题必须写明原因。")
        return self._move(problem_id, "rejected", by, note)

    def reopen(self, problem_id: str, by: str, note: str) -> Problem:
        """Open a closed problem again; its owner stays named."""
        return self._move(problem_id, "open", by, note)

    def feed_back(self, folder: Path, by: str) -> tuple[Path, ...]:
        """Write every unsolved problem into one CSV and one Parquet file per owner.

        Assigned problems are fed back from then on. Those without an owner are written to
        ``problems-unassigned`` and stay open. The files come first: if the process dies between,
        they are written again next time.

        Parameters
        ----------
        folder
            Where the files go; files of the same name are replaced.
        by
            Who feeds back.

        Returns
        -------
        tuple of Path
            The files written.
        """
        today = self._clock.now().date()
        unsolved = [problem for problem in self.list_problems() if not problem.is_closed]
        paths: list[Path] = []
        for owner in sorted({problem.owner for problem in unsolved}):
            mine = [problem for problem in unsolved if problem.owner == owner]
            stem = folder / f"problems-{_file_word(owner)}"
            rows = problem_table(mine, today)
            write_csv(rows, stem.with_name(f"{stem.name}.csv"))
            sink = pa.BufferOutputStream()
            pq.write_table(rows, sink)
            write_atomically(stem.with_name(f"{stem.name}.parquet"), sink.getvalue().to_pybytes())
            paths += [stem.with_name(f"{stem.name}{suffix}") for suffix in (".csv", ".parquet")]
            for problem in mine:
                if problem.state == "assigned":
                    self._move(problem.problem_id, "fed_back", by, f"in {stem.name}.csv")
        return tuple(paths)

    def recheck(self, bench: Bench) -> tuple[Problem, ...]:
        """Ask the newest data again about every problem that carries a check.

        An unsolved problem that passes is solved; a solved one that no longer passes is opened
        again. Rejected problems, and those about which the data cannot tell, stay as they are.

        Parameters
        ----------
        bench
            The lake's view, contracts and engine.

        Returns
        -------
        tuple of Problem
            Those that changed their state.
        """
        changed = []
        for problem in self.list_problems():
            if problem.check is None or problem.state == "rejected":
                continue
            result = problem.check.run(bench)
            if result is None or result.is_passed == (problem.state == "solved"):
                continue
            day = f" at {result.as_of.isoformat()}" if result.as_of else ""
            state = "solved" if result.is_passed else "open"
            changed.append(self._move(problem.problem_id, state, "recheck", f"{result.note}{day}"))
        return tuple(changed)

    # -- reading --------------------------------------------------------------------------------

    def get(self, problem_id: str) -> Problem:
        """Return a problem.

        Raises
        ------
        ProblemError
            If there is none of that id.
        """
        problem = self._refresh().get(problem_id)
        if problem is None:
            raise ProblemError(
                f"There is no data problem '{problem_id}'.",
                remedy="List the problems to see their ids.",
                zh=f"没有编号为 {problem_id} 的数据问题。",
            )
        return problem

    def list_problems(
        self, *, state: str | None = None, owner: str | None = None
    ) -> tuple[Problem, ...]:
        """Return the problems in the order in which they were first opened.

        Parameters
        ----------
        state, owner
            Only those; None for all.
        """
        return tuple(
            problem
            for problem in self._refresh().values()
            if state in (None, problem.state) and owner in (None, problem.owner)
        )

    # -- the journal ----------------------------------------------------------------------------

    def _move(
        self,
        problem_id: str,
        state: str,
        by: str,
        note: str,
        more: Mapping[str, Any] | None = None,
    ) -> Problem:
        with self._journal.locked():
            problem = self.get(problem_id)
            if state not in MOVES[problem.state]:
                raise ProblemError(
                    f"Problem {problem_id} is {problem.state} and cannot become {state}.",
                    remedy=f"It can become: {', '.join(MOVES[problem.state])}.",
                    zh=f"问题 {problem_id} 当前为 {problem.state}，不能变为 {state}，"
                    f"可变为：{'、'.join(MOVES[problem.state])}。",
                )
            self._write(problem_id, by, state, note, more or {})
            return self.get(problem_id)

    def _write(
        self, problem_id: str, by: str, state: str, note: str, more: Mapping[str, Any]
    ) -> None:
        event = {
            "at": self._clock.now().isoformat(),
            "by": by,
            "state": state,
            "note": note,
            "problem_id": problem_id,
        }
        self._journal.append({**event, **more})

    def _refresh(self) -> dict[str, Problem]:
        for line in self._journal.new_lines():
            known = self._problems.get(line["problem_id"])
            self._problems[line["problem_id"]] = after(known, line)
        return self._problems


def _file_word(owner: str) -> str:
    """Turn an owner's name into a part of a file name; different owners stay different."""
    if not owner:
        return "unassigned"
    word = re.sub(r"[^\w-]", "_", owner)[:40]
    return word if word == owner and word != "unassigned" else f"{word}-{hash_id(owner, length=8)}"
