"""Counts for those without clearance: small ones hidden, close ones refused.

Two counts that differ by a few members tell of those few. So a question is compared with those
that the account asked lately about the same date, by their members, and refused if it differs from
one of them, or from everybody, by fewer than k.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import sqlalchemy as sa

from bihuan.audience import (
    And,
    Everyone,
    Node,
    ProgramReader,
    audience_id,
    normalise,
    parse,
    to_text,
)
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.personal.small_groups import CLEARANCE, show_count
from bihuan.server.app.service import Service
from bihuan.server.control import CountQuestion, UnitOfWork

REMEMBERED = 200
"""How many questions of an account and date are compared with."""
WINDOW = timedelta(days=30)
"""How long a question is remembered: the data of a date does not change, so neither do answers."""


class CloseQuestionError(RefusedError):
    """The question differs by a few members from one that was asked before."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A count as it may be shown.

    Parameters
    ----------
    shown
        The count, or ``"<k"``.
    base
        Subjects in all.
    """

    shown: int | str
    base: int


def count_audience(
    service: Service, work: UnitOfWork, actor: Actor, audience: str, as_of: date
) -> Answer:
    """Count an audience for an account.

    Parameters
    ----------
    service, work, actor
        Who asks. ``work`` is written to: the question is remembered.
    audience
        The rule in text form.
    as_of
        Date of the tags.

    Raises
    ------
    CloseQuestionError
        If the account has no clearance and the answer, beside an earlier one, would tell of fewer
        than k members.
    AudienceError
        If the rule cannot be read.
    """
    reader = service.workspace.reader(as_of)
    tree = normalise(parse(audience))
    count, base = reader.count(tree), reader.count(Everyone())
    if actor.may(CLEARANCE):
        return Answer(count, base)
    k = service.settings.small_group
    _require_apart(work, actor, reader, tree, as_of, k)
    return Answer(show_count(count, k, clearance=False), base)


def _require_apart(
    work: UnitOfWork, actor: Actor, reader: ProgramReader, tree: Node, as_of: date, k: int
) -> None:
    own = audience_id(tree)
    asked = work.session.scalars(
        sa.select(CountQuestion)
        .where(
            CountQuestion.account_id == actor.account_id,
            CountQuestion.as_of == as_of,
            CountQuestion.asked_at > work.now - WINDOW,
        )
        .order_by(CountQuestion.question_id.desc())
        .limit(REMEMBERED)
    ).all()
    if any(question.audience_id == own for question in asked):
        return
    others = [Everyone(), *(parse(question.audience) for question in asked)]
    # |A| + |B| - 2 |A and B| members are in one of the two alone
    sizes = reader.counts([tree, *others, *(normalise(And((tree, one))) for one in others)])
    size, own_sizes, shared = sizes[0], sizes[1 : len(others) + 1], sizes[len(others) + 1 :]
    for apart in (size + own_sizes - 2 * shared).tolist():
        if 0 < apart < k:
            raise CloseQuestionError(
                f"This question differs from one you asked by fewer than {k} customers.",
                remedy="Ask for a clearly different audience, or ask an analyst.",
                zh=f"该条件与您之前查询的客群相差不足 {k} 人，为保护个人信息不予统计，"
                "请使用差别更大的条件或联系分析人员。",
            )
    work.session.add(
        CountQuestion(
            question_id=work.new_id("question"),
            account_id=actor.account_id,
            asked_at=work.now,
            as_of=as_of,
            audience_id=own,
            audience=to_text(tree),
        )
    )
