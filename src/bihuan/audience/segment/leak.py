"""Ways in which the answer slips into the question.

A tag that is made of the goal, that was read after it, or that tells it nearly perfectly makes a
fine table and a useless campaign. Each way is looked for and named; none is taken out silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.audience.algebra import Node, tags_of
from bihuan.audience.coverage import read_flags
from bihuan.audience.literal import AudienceError
from bihuan.audience.snapshot import bind_to
from bihuan.data import Engine
from bihuan.tag import TagDictionary, TagTable

Text: TypeAlias = Mapping[str, str]

SEPARATED = 0.98  # area under the curve that hardly any honest tag of behaviour reaches


class GoalError(AudienceError):
    """A goal does not say for each customer whether it came true."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What customers shall do, and when it was seen that they did.

    Parameters
    ----------
    came_true
        An audience read at ``answers``, or rows with the id column and ``response`` (boolean, or
        a number where above 0 counts; null is not known).
    answers
        Tag values at a later date; None: the same as the tags that are ranked.
    seen_on
        Date of the answers, where ``came_true`` is rows; None if it is not known.
    """

    came_true: Node | pa.Table
    answers: TagTable | None = None
    seen_on: date | None = None


@dataclass(frozen=True, slots=True)
class Leak:
    """A reason to suspect that a tag holds the answer instead of foretelling it.

    Parameters
    ----------
    kind
        ``goal`` (it is the goal, made from it, or the goal from it), ``source`` (it reads a
        column that the goal reads), ``later`` (its values are dated after the answer) or
        ``separated`` (it tells the goal nearly perfectly).
    reason
        By language.
    """

    kind: str
    reason: Text


def read_goal(
    goal: Goal, tags: TagTable, engine: Engine, within: Node | None = None
) -> tuple[pa.Table, int]:
    """Say of each customer whether the goal came true.

    Parameters
    ----------
    goal
        What customers shall do.
    tags
        Tag values at the date from which it is foretold; its customers are looked at.
    engine
        Runs the queries.
    within
        Only members of this audience at that date; None: all.

    Returns
    -------
    (pyarrow.Table, int)
        The id column and ``event``, for customers whose answer is known; and how many of the
        others there are (they have left the base, or gave no answer).

    Raises
    ------
    GoalError
        If rows lack a column or name a customer twice.
    """
    where = None if within is None else bind_to(tags, within)
    asked, _ = read_flags([], tags, engine=engine, where=where)
    rows = goal.came_true
    if isinstance(rows, Node):
        later = goal.answers or tags
        ids, flags = read_flags([bind_to(later, rows)], later, engine=engine)
        found = pa.table({tags.id_column: ids, "event": pa.array(flags[:, 0])})
    else:
        found = _responses(rows, tags.id_column)
    at = pc.index_in(asked, value_set=found[tags.id_column].combine_chunks().cast(asked.type))
    event = found["event"].combine_chunks().take(at.combine_chunks())
    table = pa.table({tags.id_column: asked, "event": event})
    known = table.filter(pc.is_valid(event))
    return known, table.num_rows - known.num_rows


@dataclass(frozen=True, slots=True)
class Descent:
    """What the goal is made from, to hold tags against.

    Parameters
    ----------
    kin
        The goal's tags, all they are made from and all that is made from them; only where goal
        and tags are of one date.
    columns
        Lake columns that the goal reads at that date.
    dated, seen
        Dates of the tags and of the answers; None if not known.
    dictionary
        Tells what a tag is made from.
    """

    kin: frozenset[str]
    columns: frozenset[str]
    dated: date
    seen: date | None
    dictionary: TagDictionary | None

    @classmethod
    def of(cls, goal: Goal, tags: TagTable, dictionary: TagDictionary | None) -> Descent:
        """Trace a goal back, where it is of the same date as the tags."""
        seen = goal.seen_on
        used: list[str] = []
        if isinstance(goal.came_true, Node):
            later = goal.answers or tags
            seen = later.as_of
            used = list(tags_of(bind_to(later, goal.came_true)))
        if seen != tags.as_of:  # what a customer was before is no leak, even of the same tag
            used = []
        kin, columns = set(used), set()
        if dictionary is not None:
            for name in used:
                line = dictionary.lineage(name)
                kin |= {*line.all_tags, *line.all_users}
                columns |= set(line.all_columns)
        return cls(frozenset(kin), frozenset(columns), tags.as_of, seen, dictionary)

    def leaks(self, tag: str, area: float | None) -> tuple[Leak, ...]:
        """Name the reasons to suspect a tag; ``area`` is its area under the curve, if known."""
        found = []
        shared = self._shared(tag)
        if tag in self.kin:
            found.append(
                Leak(
                    "goal",
                    {
                        "zh": "该标签就是目标，或与目标由同一标签派生，等于用答案预测答案。",
                        "en": "The tag is the goal, or one is made from the other: "
                        "the answer would foretell itself.",
                    },
                )
            )
        elif shared:
            names = ", ".join(sorted(shared)[:3])
            found.append(
                Leak(
                    "source",
                    {
                        "zh": f"该标签与目标读取同一字段({names})，请确认不含结果信息。",
                        "en": f"It reads what the goal reads ({names}); "
                        "make sure that it does not hold the result.",
                    },
                )
            )
        if self.seen is not None and self.dated > self.seen:
            found.append(
                Leak(
                    "later",
                    {
                        "zh": f"标签日期 {self.dated} 晚于结果日期 {self.seen}。",
                        "en": f"The tag is of {self.dated}, after the answer of {self.seen}.",
                    },
                )
            )
        if area is not None and area >= SEPARATED:
            found.append(
                Leak(
                    "separated",
                    {
                        "zh": f"几乎完全区分目标(曲线下面积 {area:.3f})，通常是结果泄漏。",
                        "en": f"It tells the goal nearly perfectly (area {area:.3f}), "
                        "which most often is the result itself.",
                    },
                )
            )
        return tuple(found)

    def _shared(self, tag: str) -> frozenset[str]:
        if self.dictionary is None or not self.columns or self.dictionary.find(tag) is None:
            return frozenset()
        return self.columns & set(self.dictionary.lineage(tag).all_columns)


def _responses(rows: pa.Table, id_column: str) -> pa.Table:
    missing = {id_column, "response"} - set(rows.column_names)
    if missing or pc.count_distinct(rows[id_column]).as_py() != rows.num_rows:
        raise GoalError(
            f"The answers need {id_column}, each once, and response.",
            remedy="Give one row per customer.",
            zh=f"目标数据需要 {id_column}(每个客户一行)和 response 两列。",
        )
    answer = pc.cast(rows["response"], pa.float64())
    return pa.table({id_column: rows[id_column], "event": pc.greater(answer, 0.0)})
