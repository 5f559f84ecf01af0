"""Audiences, counted within the caller's units, with small groups hidden.

A caller counts the customers of its own org subtrees: the scope becomes one more part of the rule,
so planes, cross tables and exports all keep it without knowing of it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias

import numpy as np
import sqlalchemy as sa

from bihuan.audience import (
    And,
    In,
    Node,
    ProgramReader,
    count_members,
    parse,
    to_text,
)
from bihuan.delivery import guarded
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError, missing
from bihuan.server.app.personal.question import count_audience
from bihuan.server.app.personal.small_groups import (
    CLEARANCE,
    require_large,
    show_count,
    suppress_line,
    suppress_small,
)
from bihuan.server.app.service import Service
from bihuan.server.app.unit_scope import units_below, units_in_scope
from bihuan.server.control import OrgUnit, SavedAudience, UnitOfWork
from bihuan.tag import IndexNotBuiltError, TagNotIndexedError

Side: TypeAlias = Literal["top", "bottom"]
UNIT_TAG = "org_unit"
"""Tag that says which unit a customer belongs to."""
EXPORT_ROWS = 100_000
"""Most customers in one export; larger lists go through a deployment."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many customers satisfy a rule.

    Parameters
    ----------
    size
        Customers of the caller's units; None where there are fewer than ``below``.
    universe
        All customers of the caller's units; None where there are some, but fewer than ``below``.
    as_of
        Date of the tags.
    below
        The least count that is shown; 0 for callers with clearance.
    steps
        For a rule of several parts: how many are left after each, in order.
    """

    size: int | None
    universe: int | None
    as_of: date
    below: int
    steps: tuple[tuple[str, int | None], ...] = ()


class NoCustomersError(RefusedError):
    """The lake holds no tags of customers yet."""


def newest_day(service: Service) -> date:
    """Return the newest date for which customers have tags.

    Raises
    ------
    NoCustomersError
        If there is none.
    """
    view = service.workspace.view
    dates = [d for name in view.tables if name.startswith("tag__customer__")
             for d in view.dates(name)]  # fmt: skip
    if not dates:
        raise NoCustomersError(
            "There are no tags of customers yet.",
            remedy="Ingest the extracts, then run a tag refresh.",
            zh="尚无客户标签，请先导入数据并刷新标签。",
        )
    return max(dates)


def within(work: UnitOfWork, rule: str | Node) -> Node:
    """Return a rule narrowed to the customers of the unit of work's subtrees.

    The top of the tree sees every customer, also those without a unit.
    """
    node = parse(rule) if isinstance(rule, str) else rule
    roots = work.scope.roots
    if roots is None or any(_is_top(work, root) for root in roots):
        return node
    return And((node, In(UNIT_TAG, tuple(sorted(units_in_scope(work))))))


def count(service: Service, work: UnitOfWork, actor: Actor, rule: str, as_of: date) -> Count:
    """Count a rule within the caller's units, and what each of its parts leaves.

    Raises
    ------
    AudienceError
        If the rule cannot be read or does not fit the tags; the message shows where.
    """
    node = parse(rule)
    narrowed = within(work, node)
    answer = count_audience(service, work, actor, to_text(narrowed), as_of)
    parts = node.parts if isinstance(node, And) else (node,)
    growing = [And(parts[: i + 1]) if i else parts[0] for i in range(len(parts))]
    sizes = _sizes(service, [within(work, step) for step in growing], as_of)
    (universe,) = _sizes(service, [within(work, "everyone")], as_of)
    least = _least(service, actor)
    everybody = show_count(universe, least, clearance=not least) if universe else 0
    steps = tuple(zip((to_text(part) for part in parts), _apart(sizes, least), strict=True))
    return Count(
        _number(answer.shown), _number(everybody), as_of, least, steps if len(parts) > 1 else ()
    )


def _apart(sizes: Sequence[int], least: int) -> list[int | None]:
    """Return the sizes of a shrinking audience, hidden where two shown would differ by a few."""
    shown: list[int | None] = []
    last = None
    for size in reversed(sizes):
        tells = size < least or (last is not None and 0 < size - last < least)
        shown.append(None if tells and least else size)
        last = last if tells else size
    return shown[::-1]


def _number(shown: int | str) -> int | None:
    return shown if isinstance(shown, int) else None


def save(
    work: UnitOfWork, actor: Actor, *, title: str, rule: str, unit_id: str, note: str = ""
) -> SavedAudience:
    """Keep a rule under a name for a unit.

    Raises
    ------
    AudienceError
        If the rule cannot be read.
    """
    row = SavedAudience(
        audience_id=work.new_id("audience"),
        unit_id=unit_id,
        title=title,
        rule=to_text(parse(rule)),
        note=note,
        sharing="own",
        created_by=actor.account_id,
        created_at=work.now,
    )
    work.session.add(row)
    work.audit("audience.save", "audience", row.audience_id, title=title, rule=row.rule)
    return row


def get(work: UnitOfWork, audience_id: str) -> SavedAudience:
    """Return a kept audience.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    row = work.session.get(SavedAudience, audience_id)
    if row is None:
        raise missing("audience", "客群", audience_id)
    return row


def find(text: str = "") -> sa.Select[SavedAudience]:
    """Return the select of kept audiences whose title or rule contains ``text``."""
    statement = sa.select(SavedAudience)
    if text:
        like = f"%{text}%"
        statement = statement.where(
            SavedAudience.title.ilike(like) | SavedAudience.rule.ilike(like)
        )
    return statement


def change(
    work: UnitOfWork, row: SavedAudience, *, title: str, rule: str, note: str, sharing: str
) -> None:
    """Change a kept audience; a new rule forgets the old count."""
    text = to_text(parse(rule))
    if text != row.rule:
        row.size = row.size_as_of = row.counted_at = None
    row.title, row.rule, row.note, row.sharing = title, text, note, sharing
    work.audit("audience.change", "audience", row.audience_id, title=title, rule=text)


def remove(work: UnitOfWork, row: SavedAudience) -> None:
    """Remove a kept audience; the audit trail keeps its rule."""
    work.audit("audience.remove", "audience", row.audience_id, title=row.title, rule=row.rule)
    work.session.delete(row)


def refresh(service: Service, work: UnitOfWork, row: SavedAudience, as_of: date) -> int:
    """Count a kept audience within its own unit and remember the size; return it."""
    node = parse(row.rule)
    if not _is_top(work, row.unit_id):
        node = And((node, In(UNIT_TAG, tuple(units_below(work, row.unit_id)))))
    (size,) = _sizes(service, [node], as_of)
    row.size, row.size_as_of, row.counted_at = size, as_of, work.now
    return size


def export(
    service: Service, work: UnitOfWork, actor: Actor, rule: str, as_of: date, tags: Sequence[str]
) -> str:
    """Return the customers of a rule with chosen tags, as CSV; remembered in the audit trail.

    Parameters
    ----------
    service, work, actor
        Who asks.
    rule
        The audience, narrowed to the caller's units.
    as_of
        Date of the tags.
    tags
        Names of tags to add; personal data is not among tags.

    Returns
    -------
    str
        UTF-8 text with a byte order mark; cells cannot become formulas of a spreadsheet.

    Raises
    ------
    RefusedError
        If there are too many rows, or so few that they could be recognised.
    """
    node = within(work, rule)
    (size,) = _sizes(service, [node], as_of)
    least = _least(service, actor)
    require_large(actor, size, least)
    if size > EXPORT_ROWS:
        raise RefusedError(
            f"The list has {size} customers; an export holds at most {EXPORT_ROWS}.",
            remedy="Narrow the rule, or deploy a plan.",
            zh=f"名单共 {size} 人，单次导出上限 {EXPORT_ROWS}，请收窄条件或通过方案部署下发。",
        )
    table = service.workspace.members(to_text(node), as_of, tuple(tags))
    work.audit(
        "audience.export", "audience", "ad hoc", rule=to_text(node), rows=size,
        tags=list(tags), as_of=as_of.isoformat(),
    )  # fmt: skip
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(table.column_names)
    writer.writerows(
        [guarded(v) if isinstance(v, str) else v for v in row.values()] for row in table.to_pylist()
    )
    return "\ufeff" + out.getvalue()


def cross(
    service: Service, work: UnitOfWork, actor: Actor, rule: str, tags: Sequence[str], as_of: date
) -> dict[str, Any]:
    """Count a rule by the values of one to three tags; small cells are hidden.

    A hidden cell cannot be computed from the others: see ``app/personal/small_groups``.
    """
    table = reader(service, as_of).cross(tags, within(work, rule))
    least = _least(service, actor)
    if len(tags) == 1:
        counts: Any = suppress_line(table.counts, least, clearance=not least)
    elif len(tags) == 2:
        hidden = suppress_small(table.counts, least, clearance=not least)
        counts = [[None if c < 0 else int(c) for c in row] for row in hidden.cells]
    elif least:
        raise RefusedError(
            "A cross table of three tags needs clearance (small_groups.see).",
            remedy="Take two tags, or ask an analyst.",
            zh="三维交叉表需要“查看小群体”权限，请改用两个标签或联系分析人员。",
        )
    else:
        counts = table.counts.tolist()
    return {
        "tags": list(table.tags),
        "values": [[None if v is None else str(v) for v in axis] for axis in table.values],
        "counts": counts,
        "as_of": as_of,
        "below": least,
    }


def histogram(
    service: Service,
    work: UnitOfWork,
    actor: Actor,
    rule: str,
    wanted: tuple[str, int],
    as_of: date,
) -> dict[str, Any]:
    """Count a rule by ranges of a tag (``wanted``: its name and how many ranges)."""
    tag, bins = wanted
    drawn = reader(service, as_of).histogram(tag, within(work, rule), bins=bins)
    least = _least(service, actor)
    hidden = suppress_line(np.append(drawn.counts, drawn.missing), least, clearance=not least)
    return {
        "tag": tag,
        "edges": list(drawn.edges),
        "counts": hidden[:-1],
        "missing": hidden[-1],
        "as_of": as_of,
        "below": least,
    }


def threshold(
    service: Service,
    work: UnitOfWork,
    actor: Actor,
    rule: str,
    wanted: tuple[str, int, Side],
    as_of: date,
) -> dict[str, Any]:
    """Find where to cut a tag (``wanted``: tag, size, side) so that a size is left.

    Raises
    ------
    RefusedError
        If fewer than the least shown count are wanted: the value would tell of single customers.
    """
    tag, size, side = wanted
    least = _least(service, actor)
    if size < least:
        raise RefusedError(
            f"A threshold for fewer than {least} customers would tell of single ones.",
            remedy=f"Ask for {least} or more.",
            zh=f"少于 {least} 人的阈值可能暴露个人，请放大目标规模。",
        )
    cut = reader(service, as_of).threshold(tag, size, within(work, rule), side=side)
    return {
        "tag": tag,
        "side": side,
        "value": cut.value,
        "size": cut.size,
        "size_with_ties": cut.size_with_ties,
        "is_exact": cut.is_exact,
        "as_of": as_of,
    }


def reader(service: Service, as_of: date) -> ProgramReader:
    """Return the reader of a date's bit planes; build them first where there are none."""
    try:
        return service.workspace.reader(as_of)
    except IndexNotBuiltError:
        service.workspace.index_tags(as_of)
        return service.workspace.reader(as_of)


def _least(service: Service, actor: Actor) -> int:
    return 0 if actor.may(CLEARANCE) else service.settings.small_group


def _sizes(service: Service, nodes: Sequence[Node], as_of: date) -> list[int]:
    try:
        return [int(size) for size in service.workspace.reader(as_of).counts(nodes)]
    except (IndexNotBuiltError, TagNotIndexedError):
        tags = service.workspace.tags(as_of)
        engine = service.workspace.engine
        return [count_members(node, tags, engine=engine).members for node in nodes]


def _is_top(work: UnitOfWork, unit_id: str) -> bool:
    statement = sa.select(OrgUnit.parent_id).where(OrgUnit.unit_id == unit_id)
    return work.session.scalars(statement).one_or_none() is None
