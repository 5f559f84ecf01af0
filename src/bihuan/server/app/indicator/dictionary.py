"""The one dictionary for all professional lines: maker, checker, versions with their month."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from bihuan.evaluation.indicator import (
    AssessmentRule,
    Indicator,
    IndicatorCatalogue,
    IndicatorConflictError,
    UnknownIndicatorError,
    check_binding,
    indicator_document,
    parse_indicator,
    parse_rule,
    rule_document,
)
from bihuan.kernel import canonical_json
from bihuan.kernel.document import Document
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.service import Service
from bihuan.server.control import IndicatorVersion, OrgUnit, UnitOfWork

INDICATOR, RULE = "indicator", "rule"
KINDS = (INDICATOR, RULE)
STATUSES = ("submitted", "approved", "rejected", "withdrawn")
PERSONAL = ("name", "number", "text")
"""Columns of the lake that hold personal data in clear."""
_STANDING = ("submitted", "approved")


def submit_indicator(
    work: UnitOfWork,
    service: Service,
    actor: Actor,
    unit_id: str,
    document: Mapping[str, Any],
    *,
    reason: str,
) -> IndicatorVersion:
    """Put a definition up for review; it computes nothing before another person approves it.

    Parameters
    ----------
    work
        In the scope of ``indicator.manage``.
    service
        Whose tables and tags the formula is held against.
    actor
        Who proposes it.
    unit_id
        Unit of the proposer.
    document
        The definition; its version is given here.
    reason
        Why it is wanted or changed.

    Raises
    ------
    IndicatorError, DocumentError
        If it cannot be read or does not fit tables, tags or other indicators.
    ConflictError
        If it defines anew what is defined already, under its own or another name.
    RefusedError
        If a change would take effect in a month that has passed, or not after the version before.
    """
    number = _next_number(work, INDICATOR, str(document.get("name", "")))
    given = dict(document) | {"version": number}
    indicator = parse_indicator(Document(given, "indicator"))
    check_binding(indicator, service.workspace.contracts, service.workspace.dictionary)
    _require_impersonal(indicator)
    standing = [row for row in _rows(work, INDICATOR, _STANDING) if row.document["name"]]
    held = [parse_indicator(Document(row.document, "indicator")) for row in standing]
    _require_new(indicator, held)
    try:
        IndicatorCatalogue((*held, indicator))
    except IndicatorConflictError as error:
        raise ConflictError(error.message, remedy=error.remedy, zh=error.zh) from error
    earlier = [one.effective_from for one in held if one.name == indicator.name]
    _require_future(work, indicator.name, indicator.effective_from, earlier)
    row = _row(work, actor, unit_id, INDICATOR, indicator_document(indicator), reason)
    row.content_id = indicator.content_id
    work.session.add(row)
    work.session.flush()
    work.audit("indicator.submit", "indicator", row.indicator_id, name=row.name, number=row.number)
    return row


def submit_rule(
    work: UnitOfWork, actor: Actor, unit_id: str, document: Mapping[str, Any], *, reason: str
) -> IndicatorVersion:
    """Put an assessment rule up for review; its indicators must be approved.

    Raises
    ------
    IndicatorError, DocumentError, UnknownIndicatorError
        If it cannot be read, or an indicator is not in force in its first month.
    RefusedError
        If a change would take effect in a month that has passed.
    """
    number = _next_number(work, RULE, str(document.get("name", "")))
    rule = parse_rule(Document(dict(document) | {"version": number}, "rule"))
    catalogue = approved_catalogue(work)
    for item in rule.items:
        indicator = catalogue.at(item.indicator, rule.effective_from)
        if rule.subject == "staff" and "staff_id" not in catalogue.dimensions[indicator.name]:
            raise RefusedError(
                f"Indicator '{indicator.name}' cannot be told for single persons.",
                remedy="Choose indicators with the dimension staff_id.",
                zh=f"指标 {indicator.name} 不能按个人统计，请选择含 staff_id 维度的指标。",
            )
    earlier = [row.effective_from for row in _rows(work, RULE, _STANDING) if row.name == rule.name]
    _require_future(work, rule.name, rule.effective_from, earlier)
    row = _row(work, actor, unit_id, RULE, rule_document(rule), reason)
    row.content_id = rule.content_id
    work.session.add(row)
    work.session.flush()
    work.audit("indicator.submit", "rule", row.indicator_id, name=row.name, number=row.number)
    return row


def review(
    work: UnitOfWork, actor: Actor, row: IndicatorVersion, *, approve: bool, note: str
) -> IndicatorVersion:
    """Approve or reject a submitted version.

    Parameters
    ----------
    work
        In the scope of ``indicator.approve``.
    actor
        Another person than the maker, with a post at the top of the tree: it holds for all.
    row
        A submitted version.
    approve, note
        The decision and why.

    Raises
    ------
    ConflictError
        If it is not waiting for review.
    RefusedError
        If the maker reviews, or the post does not cover the whole tree.
    """
    _require_submitted(row)
    if row.made_by == actor.account_id:
        raise RefusedError(
            "Nobody reviews what they made.",
            remedy="Ask another person who may approve indicators.",
            zh="不能审核本人提交的口径，请由其他有权限的人员审核。",
        )
    _require_top(work)
    row.status = "approved" if approve else "rejected"
    row.reviewed_by, row.reviewed_at, row.review_note = actor.account_id, work.now, note
    if approve and row.kind == INDICATOR:
        work.session.flush()
        approved_catalogue(work)  # it must stand beside what was approved meanwhile
    work.audit(
        "indicator.approve" if approve else "indicator.reject",
        row.kind,
        row.indicator_id,
        name=row.name,
        number=row.number,
        content=row.content_id,
    )
    return row


def withdraw(work: UnitOfWork, actor: Actor, row: IndicatorVersion) -> IndicatorVersion:
    """Take back what one has submitted oneself; raise :class:`RefusedError` otherwise."""
    _require_submitted(row)
    if row.made_by != actor.account_id:
        raise RefusedError(
            "Only the maker withdraws a submitted version.",
            remedy="Reject it instead, if you may approve.",
            zh="只有提交人可以撤回，审核人请使用退回。",
        )
    row.status = "withdrawn"
    work.audit("indicator.withdraw", row.kind, row.indicator_id, name=row.name)
    return row


def get_version(work: UnitOfWork, indicator_id: str, kind: str) -> IndicatorVersion:
    """Return a version by id; raise :class:`NotFoundError` if there is none of that kind."""
    row = work.session.get(IndicatorVersion, indicator_id)
    if row is None or row.kind != kind:
        raise missing(kind, "指标口径" if kind == INDICATOR else "考核规则", indicator_id)
    return row


def find_versions(
    kind: str, *, name: str | None = None, status: str | None = None
) -> sa.Select[IndicatorVersion]:
    """Return a select of versions."""
    statement = sa.select(IndicatorVersion).where(IndicatorVersion.kind == kind)
    if name:
        statement = statement.where(IndicatorVersion.name == name)
    if status:
        statement = statement.where(IndicatorVersion.status == status)
    return statement


def approved_catalogue(work: UnitOfWork) -> IndicatorCatalogue:
    """Return the dictionary of the approved definitions, the same for everybody."""
    texts = tuple(canonical_json(row.document) for row in _rows(work, INDICATOR, ("approved",)))
    return _catalogue(texts)


def rule_at(work: UnitOfWork, name: str, month: date) -> AssessmentRule:
    """Return the approved version of a rule that is in force in a month.

    Raises
    ------
    UnknownIndicatorError
        If there is none.
    """
    first = month.replace(day=1)
    rows = [
        row
        for row in _rows(work, RULE, ("approved",))
        if row.name == name and row.effective_from <= first
    ]
    if not rows:
        raise UnknownIndicatorError(
            f"There is no approved assessment rule '{name}' in force in {month:%Y-%m}.",
            remedy="Choose another rule or month.",
            zh=f"{month:%Y-%m} 没有已生效的考核规则 {name}。",
        )
    newest = max(rows, key=lambda row: row.effective_from)
    return parse_rule(Document(newest.document, "rule"))


def install_catalogue(
    work: UnitOfWork,
    unit_id: str,
    definitions: Iterable[Indicator],
    *,
    made_by: str,
    reviewed_by: str,
    reason: str,
) -> list[IndicatorVersion]:
    """Enter definitions that were agreed elsewhere (a catalogue file) as approved.

    Names that are there already stay as they are. Two different accounts answer for it.

    Raises
    ------
    RefusedError
        If maker and checker are the same.
    """
    if made_by == reviewed_by:
        raise RefusedError(
            "Maker and checker of a catalogue must differ.",
            remedy="Name two people.",
            zh="目录的提交人与审核人不能相同。",
        )
    known = {row.name for row in _rows(work, INDICATOR, STATUSES)}
    added = []
    for indicator in definitions:
        if indicator.name in known:
            continue
        row = IndicatorVersion(
            indicator_id=work.new_id("indicator"), unit_id=unit_id, sharing="all", kind=INDICATOR,
            name=indicator.name, number=indicator.version, title_zh=indicator.title["zh"],
            title_en=indicator.title["en"], document=indicator_document(indicator),
            content_id=indicator.content_id, effective_from=indicator.effective_from,
            status="approved", reason=reason, made_by=made_by, made_at=work.now,
            reviewed_by=reviewed_by, reviewed_at=work.now, review_note=reason,
        )  # fmt: skip
        work.session.add(row)
        added.append(row)
    work.session.flush()
    approved_catalogue(work)
    work.audit("indicator.install", "unit", unit_id, names=[row.name for row in added])
    return added


@lru_cache(maxsize=8)
def _catalogue(texts: tuple[str, ...]) -> IndicatorCatalogue:
    return IndicatorCatalogue(
        parse_indicator(Document(json.loads(text), "indicator")) for text in texts
    )


def _rows(work: UnitOfWork, kind: str, statuses: Iterable[str]) -> list[IndicatorVersion]:
    statement = (
        sa.select(IndicatorVersion)
        .where(IndicatorVersion.kind == kind, IndicatorVersion.status.in_(list(statuses)))
        .order_by(IndicatorVersion.name, IndicatorVersion.number)
    )
    return list(work.session.scalars(statement))


def _next_number(work: UnitOfWork, kind: str, name: str) -> int:
    """Return the following number; rejected and withdrawn versions keep theirs."""
    numbers = [row.number for row in _rows(work, kind, STATUSES) if row.name == name]
    return max(numbers, default=0) + 1


def _row(
    work: UnitOfWork,
    actor: Actor,
    unit_id: str,
    kind: str,
    document: dict[str, Any],
    reason: str,
) -> IndicatorVersion:
    return IndicatorVersion(
        indicator_id=work.new_id(kind),
        unit_id=unit_id,
        sharing="all",
        kind=kind,
        name=document["name"],
        number=document["version"],
        title_zh=document["title"]["zh"],
        title_en=document["title"]["en"],
        document=document,
        content_id="",
        effective_from=date.fromisoformat(document["effective_from"]),
        status="submitted",
        reason=reason,
        made_by=actor.account_id,
        made_at=work.now,
    )


def _require_new(indicator: Indicator, held: list[Indicator]) -> None:
    """Refuse a version that says the same as the newest of its name, and a waiting rival."""
    mine = [one for one in held if one.name == indicator.name]
    if not mine:
        return
    newest = max(mine, key=lambda one: one.version)
    if replace(newest, version=1).content_id == replace(indicator, version=1).content_id:
        raise ConflictError(
            f"Indicator '{indicator.name}' is defined like this already "
            f"(version {newest.version}).",
            remedy="Use it as it is.",
            zh=f"指标 {indicator.name} 已有相同口径（第 {newest.version} 版），无需重复定义。",
        )


def _require_impersonal(indicator: Indicator) -> None:
    """Keep names and numbers out of definitions, so that no list behind one shows them."""
    used = set(PERSONAL) & {*indicator.columns, *indicator.dimensions}
    if indicator.source and not indicator.subject and used:
        raise RefusedError(
            f"Indicator '{indicator.name}' uses personal data: {', '.join(sorted(used))}.",
            remedy="Count ids instead.",
            zh=f"指标 {indicator.name} 使用了个人信息字段（{'、'.join(sorted(used))}），"
            "请改用编号统计。",
        )


def _require_future(
    work: UnitOfWork, name: str, effective_from: date, earlier: Iterable[date]
) -> None:
    """Let months that have passed keep the definition by which they were told."""
    before = max(earlier, default=None)
    if before is None:
        return
    this_month = work.now.date().replace(day=1)
    if effective_from <= before or effective_from < this_month:
        raise RefusedError(
            f"'{name}' is in force since {before}; a change takes effect later than that and not "
            f"before {this_month}.",
            remedy="Choose a later month; months that have passed keep their definition.",
            zh=f"{name} 自 {before} 起生效，变更须晚于该日期且不早于 {this_month}，"
            "历史月份保持原口径。",
        )


def _require_submitted(row: IndicatorVersion) -> None:
    if row.status != "submitted":
        raise ConflictError(
            f"'{row.name}' version {row.number} is {row.status} already.",
            remedy="Read it again.",
            zh=f"{row.name} 第 {row.number} 版状态为 {row.status}，不能再次处理。",
        )


def _require_top(work: UnitOfWork) -> None:
    roots = work.scope.roots
    if roots is None:
        return
    top = sa.select(OrgUnit.unit_id).where(OrgUnit.parent_id.is_(None))
    if not set(work.session.scalars(top)) & roots:
        raise RefusedError(
            "A definition holds for all lines and cities; it takes a post at the top unit.",
            remedy="Ask an approver of the province.",
            zh="口径适用于全部专业线与地市，须由省级岗位审核。",
        )
