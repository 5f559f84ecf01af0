"""Conflicts: statements that loosen what stands above them, or that their unit may not make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bihuan.kernel import UserError
from bihuan.strategy.policy.limit import field_of, is_looser, over, text_of
from bihuan.strategy.policy.resolved import ResolvedLimits, empty_facets, resolve_limits
from bihuan.strategy.policy.statement import Authority, PolicyStatement

SHOWN = 5


@dataclass(frozen=True, slots=True)
class PolicyConflict:
    """Two statements that cannot both stand, or one that nobody may make there.

    Parameters
    ----------
    kind
        ``looser`` (allows what stands above forbids), ``nothing_left`` (together they allow
        nothing), ``twice`` (one unit says two things of the same), ``no_right`` (not the unit's
        to decide).
    facet
        Which limit.
    policy_id, unit_id, place, value
        The statement that has to change: who, where, what.
    against_policy, against_unit, against_place, against_value
        What it conflicts with; for ``no_right`` the rule of who decides.
    """

    kind: str
    facet: str
    policy_id: str
    unit_id: str
    place: str
    value: str
    against_policy: str
    against_unit: str
    against_place: str
    against_value: str

    def text(self, language: str) -> str:
        """Say it in one sentence, in ``zh`` or ``en``."""
        form = _TEXTS[self.kind][language]
        return form.format(
            facet=self.facet, place=self.place, unit=self.unit_id, value=self.value,
            other_place=self.against_place, other_unit=self.against_unit,
            other_value=self.against_value,
        )  # fmt: skip


class PolicyConflictError(UserError):
    """Policies that cannot stand together.

    Parameters
    ----------
    conflicts
        All of them, at least one.
    """

    def __init__(self, conflicts: Sequence[PolicyConflict]) -> None:
        self.conflicts = tuple(conflicts)
        more = len(self.conflicts) - SHOWN
        shown = self.conflicts[:SHOWN]
        zh = "".join(conflict.text("zh") for conflict in shown)
        super().__init__(
            " ".join(conflict.text("en") for conflict in shown)
            + (f" And {more} more." if more > 0 else ""),
            remedy="Tighten the lower statement, or loosen the upper one first.",
            zh=zh
            + (f"另有 {more} 处。" if more > 0 else "")
            + "请收紧下级政策，或先放宽上级政策。",
        )


_TEXTS: Mapping[str, Mapping[str, str]] = {
    "looser": {
        "en": "{place}: '{unit}' sets {facet} to {value}, which is looser than {other_value} set"
        " by '{other_unit}' in {other_place}.",
        "zh": "{place}:{unit} 将 {facet} 设为 {value}，宽于 {other_place} 中 {other_unit} 设定的"
        " {other_value}。",
    },
    "nothing_left": {
        "en": "{place}: '{unit}' sets {facet} to {value}; together with {other_value} set by"
        " '{other_unit}' in {other_place} nothing is left.",
        "zh": "{place}:{unit} 将 {facet} 设为 {value}，与 {other_place} 中 {other_unit} 设定的"
        " {other_value} 没有交集。",
    },
    "twice": {
        "en": "{place}: '{unit}' sets {facet} to {value}, and to {other_value} in {other_place}.",
        "zh": "{place}:{unit} 将 {facet} 设为 {value}，而 {other_place} 中设为 {other_value}。",
    },
    "no_right": {
        "en": "{place}: '{unit}' may not set {facet} to {value}; {other_value} decide"
        " ({other_place}).",
        "zh": "{place}:{unit} 无权将 {facet} 设为 {value}；应由 {other_value} 决定"
        "({other_place})。",
    },
}

Chain = Sequence[PolicyStatement]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a statement is held against.

    Parameters
    ----------
    chain_of
        Statements of the path from the top down to a unit, general before specific.
    tier_of
        Tier of a unit.
    kind_of
        Kind of an offer.
    kinds
        Every kind of offer there is.
    authority
        Who may decide on what.
    """

    chain_of: Callable[[str], Chain]
    tier_of: Callable[[str], str]
    kind_of: Callable[[str], str]
    kinds: tuple[str, ...]
    authority: Authority

    def covers(self, wide: PolicyStatement, narrow: PolicyStatement) -> bool:
        """Whether everything ``narrow`` is about, ``wide`` is about too."""
        if wide.offer_id:
            return wide.offer_id == narrow.offer_id
        if not wide.kind:
            return True
        return wide.kind == (self.kind_of(narrow.offer_id) if narrow.offer_id else narrow.kind)

    def concerns(self, statement: PolicyStatement, kind: str, offer_id: str | None) -> bool:
        """Whether a statement is about a kind, or about one offer of that kind."""
        if statement.offer_id:
            return statement.offer_id == offer_id
        return statement.kind in (None, kind)

    def resolve(
        self, chain: Chain, kind: str, offer_id: str | None, *, drafts: bool
    ) -> ResolvedLimits:
        """Resolve the statements of a chain for one offer, or for the others of its kind."""
        found = [s for s in chain if (drafts or s.is_approved) and self.concerns(s, kind, offer_id)]
        return resolve_limits(found, [self.tier_of(s.unit_id) for s in found])


def find_conflicts(
    statements: Sequence[PolicyStatement], around: Surroundings
) -> tuple[PolicyConflict, ...]:
    """Hold statements against all that stands above them and beside them.

    A draft is held against what is approved; what is below a draft is not held against it before
    it is approved.

    Parameters
    ----------
    statements
        Those to be held, e.g. all, or those of the subtree that a change touches.
    around
        What they are held against.
    """
    found: list[PolicyConflict] = []
    for statement in statements:
        found += _rights(statement, around)
        chain = around.chain_of(statement.unit_id)
        found += _against(statement, chain, around)
        found += _nothing_left(statement, chain, around)
    return tuple(found)


def _rights(statement: PolicyStatement, around: Surroundings) -> Iterator[PolicyConflict]:
    tier = around.tier_of(statement.unit_id)
    if statement.offer_id:
        kinds: tuple[str, ...] = (around.kind_of(statement.offer_id),)
    else:
        kinds = (statement.kind,) if statement.kind else around.kinds
    for facet, value in statement.limits.items():
        for kind in kinds:
            right = around.authority.of(kind)
            if right.allows(tier, field_of(facet)):
                continue
            who = " / ".join(right.detail)
            yield PolicyConflict(
                "no_right", facet, statement.policy_id, statement.unit_id, statement.place,
                text_of(value), "", "", right.place, f"{kind}: {who}",
            )  # fmt: skip


def _against(
    statement: PolicyStatement, chain: Chain, around: Surroundings
) -> Iterator[PolicyConflict]:
    """Compare with each statement above it that is about at least as much."""
    for other in chain:
        same = other.scope == statement.scope
        is_above = other is not statement and not (
            other.unit_id == statement.unit_id and other.rank > statement.rank
        )
        if not is_above or not other.is_approved or not around.covers(other, statement):
            continue
        for facet, value in statement.limits.items():
            for upper in over(facet):
                if upper not in other.limits:
                    continue
                if same and upper == facet:
                    # two drafts, or a draft beside what it shall replace, may stand
                    if statement.is_approved and statement.policy_id > other.policy_id:
                        yield _pair("twice", facet, statement, other, upper)
                elif is_looser(facet, value, other.limits[upper]):
                    yield _pair("looser", facet, statement, other, upper)


def _nothing_left(
    statement: PolicyStatement, chain: Chain, around: Surroundings
) -> Iterator[PolicyConflict]:
    """Resolve what the statement is about, and each narrower thing spoken of above it."""
    approved = [s for s in chain if s.is_approved or s is statement]
    about = [statement, *(s for s in approved if s.rank > statement.rank)]
    seen = set()
    for narrow in about:
        if not around.covers(statement, narrow):
            continue
        kind = around.kind_of(narrow.offer_id) if narrow.offer_id else narrow.kind
        for each in (kind,) if kind else around.kinds:
            if (each, narrow.offer_id) in seen:
                continue
            seen.add((each, narrow.offer_id))
            limits = around.resolve(approved, each, narrow.offer_id, drafts=True)
            for facet in empty_facets(limits):
                yield from _blame(statement, facet, limits, around)


def _blame(
    statement: PolicyStatement, facet: str, limits: ResolvedLimits, around: Surroundings
) -> Iterator[PolicyConflict]:
    """Name the statement and another one with which nothing is left, if it has a part in it."""
    facets = ("price.low", "price.high") if field_of(facet) == "price" else over(facet)
    steps = [(name, step) for name in facets if name in limits for step in limits[name].trail]
    own = [name for name, step in steps if step.statement is statement]
    others = [(name, step) for name, step in steps if step.statement is not statement]
    is_told = any(  # as looser than what stands above it
        name in over(mine)
        and around.covers(step.statement, statement)
        and is_looser(mine, statement.limits[mine], step.said)
        for name, step in others
        for mine in own
    )
    if own and not is_told:
        name, step = (others or [s for s in steps if s[0] != own[0]] or steps)[-1]
        yield _pair("nothing_left", own[0], statement, step.statement, name)


def _pair(
    kind: str, facet: str, statement: PolicyStatement, other: PolicyStatement, upper: str
) -> PolicyConflict:
    return PolicyConflict(
        kind, facet, statement.policy_id, statement.unit_id, statement.place,
        text_of(statement.limits[facet]), other.policy_id, other.unit_id, other.place,
        text_of(other.limits[upper]),
    )  # fmt: skip
