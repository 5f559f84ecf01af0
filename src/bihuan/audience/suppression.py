"""Noise removal (剔除噪声): who must not or should not be marketed to.

Each exclusion is an audience of its own over tags, so it can be read, counted and changed like any
other. The standard set holds the noise named in practice: contacted in the last months without
success, on the red or the black list, sensitive to complaints, suspended, disconnected; and those
who opted out. A customer whose tag is missing is not excluded by it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bihuan.audience.algebra import And, Compare, Flag, Node, Not, any_of
from bihuan.audience.bind import UnknownTagError
from bihuan.audience.coverage import Flags, read_flags
from bihuan.audience.literal import AudienceError
from bihuan.audience.snapshot import bind_to
from bihuan.audience.words import nearest
from bihuan.data import Engine
from bihuan.tag import TagNotDerivedError, TagTable


class SuppressionError(AudienceError):
    """A suppression set is not whole, or names an exclusion that it does not have."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One reason for leaving customers out.

    Parameters
    ----------
    name
        Snake case; the reason that is logged for the customer.
    title
        By language.
    who
        The customers to leave out.
    """

    name: str
    title: Mapping[str, str]
    who: Node


@dataclass(frozen=True, slots=True)
class Suppression:
    """Exclusions in the order in which they are applied.

    Parameters
    ----------
    exclusions
        With unique names.
    """

    exclusions: tuple[Exclusion, ...]

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != len(names):
            raise SuppressionError(
                f"Two exclusions have one name: {', '.join(names)}.",
                remedy="Give each a name of its own.",
                zh=f"剔除规则重名：{'、'.join(names)}。请使用不同的名称。",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the exclusions, in order."""
        return tuple(exclusion.name for exclusion in self.exclusions)

    def without(self, names: Collection[str]) -> Suppression:
        """Return the set with some exclusions switched off.

        Raises
        ------
        SuppressionError
            If there is no exclusion of such a name.
        """
        for name in sorted(names):
            if name not in self.names:
                choice = ", ".join(nearest(name, self.names) or self.names)
                raise SuppressionError(
                    f"There is no exclusion '{name}'.",
                    remedy=f"Choose from: {choice}.",
                    zh=f"没有剔除规则“{name}”,可选：{choice}。",
                )
        return Suppression(tuple(e for e in self.exclusions if e.name not in names))

    def allowed(self, audience: Node) -> Node:
        """Return the audience without the excluded, as one tree."""
        if not self.exclusions:
            return audience
        return And((audience, Not(any_of(exclusion.who for exclusion in self.exclusions))))


def standard_suppression(
    *, minimum_failed_contacts: int = 1, keep: Collection[str] = ()
) -> Suppression:
    """Return the standard set, with what a campaign wants otherwise.

    Parameters
    ----------
    minimum_failed_contacts
        From how many contacts without success in the last three months a customer is left out;
        at least 1.
    keep
        Exclusions to switch off, of ``opted_out``, ``disconnected``, ``suspended``,
        ``black_list``, ``red_list``, ``complaint_sensitive``, ``recent_contact``. Both lists
        exclude unless switched off.

    Returns
    -------
    Suppression
        The strictest reasons first, so that the waterfall shows what a softer rule still costs.

    Raises
    ------
    SuppressionError
        If an exclusion to keep does not exist, or the minimum is below 1.

    Examples
    --------
    >>> standard_suppression(keep=["red_list"]).names
    ('opted_out', 'disconnected', 'suspended', 'black_list', 'complaint_sensitive', \
'recent_contact')
    """
    if minimum_failed_contacts < 1:
        raise SuppressionError(
            f"The minimum of failed contacts is {minimum_failed_contacts}.",
            remedy="Give at least 1, or keep 'recent_contact'.",
            zh="未成功接触次数的下限至少为 1；如不需要该规则，请将 recent_contact 设为保留。",
        )
    flags = (
        ("opted_out", "has_opted_out", "已退订营销", "opted out of marketing"),
        ("disconnected", "is_disconnected", "拆机客户", "disconnected"),
        ("suspended", "is_suspended", "停机客户", "suspended"),
        ("black_list", "on_black_list", "黑名单客户", "on the black list"),
        ("red_list", "on_red_list", "红名单客户", "on the red list"),
        ("complaint_sensitive", "complaint_sensitive", "投诉敏感型客户", "sensitive to complaints"),
    )
    exclusions = [Exclusion(name, {"zh": zh, "en": en}, Flag(tag)) for name, tag, zh, en in flags]
    contacted = Exclusion(
        "recent_contact",
        {
            "zh": "近三个月接触未成功的客户",
            "en": "contacted in the last three months without success",
        },
        Compare("failed_contact_count_3m", ">=", minimum_failed_contacts),
    )
    return Suppression((*exclusions, contacted)).without(keep)


@dataclass(frozen=True, slots=True)
class ExclusionCount:
    """What one exclusion does to an audience.

    Parameters
    ----------
    name, title
        Of the exclusion.
    hits
        Members that it applies to; what it would remove by itself.
    removed
        Members that it removes in its turn, after the exclusions before it.
    removed_only_by_this
        Members that no other exclusion applies to; what switching it off gives back.
    remaining
        Members left after it.
    """

    name: str
    title: Mapping[str, str]
    hits: int
    removed: int
    removed_only_by_this: int
    remaining: int


@dataclass(frozen=True, slots=True)
class SuppressionReport:
    """What suppression did to an audience; ``size = removed + remaining``.

    Parameters
    ----------
    size
        Members of the audience before.
    remaining
        Members left.
    counts
        Per exclusion, in order.
    kept
        The id column: who is left, ordered.
    removed
        The id column, ``reason`` (the first exclusion that applies) and ``reasons`` (a list of
        all that apply); one row per removed member, ordered by id.
    """

    size: int
    remaining: int
    counts: tuple[ExclusionCount, ...]
    kept: pa.Table
    removed: pa.Table


def apply_suppression(
    audience: Node,
    suppression: Suppression,
    tags: TagTable,
    *,
    engine: Engine,
    saved: Mapping[str, Node] | None = None,
) -> SuppressionReport:
    """Take the excluded out of an audience and say why for each.

    Parameters
    ----------
    audience
        As written; it is bound here.
    suppression
        The exclusions, in order.
    tags
        Tag values at one date.
    engine
        Runs one query.
    saved
        Saved audiences that the audience or an exclusion may name.

    Raises
    ------
    SuppressionError
        If an exclusion reads a tag that there is not.
    AudienceError
        If the audience does not bind.
    """
    where = bind_to(tags, audience, saved)
    nodes = [_bound(exclusion, tags, saved) for exclusion in suppression.exclusions]
    ids, flags = read_flags(nodes, tags, engine=engine, where=where)
    excluded = flags.any(axis=1)
    counts = _waterfall(suppression, flags)
    identity = pa.table({tags.id_column: ids})
    removed = identity.filter(pa.array(excluded))
    reasons = _reasons(suppression.names, flags[excluded])
    return SuppressionReport(
        size=len(flags),
        remaining=int((~excluded).sum()),
        counts=counts,
        kept=identity.filter(pa.array(~excluded)),
        removed=removed.append_column("reason", reasons[0]).append_column("reasons", reasons[1]),
    )


def _bound(exclusion: Exclusion, tags: TagTable, saved: Mapping[str, Node] | None) -> Node:
    try:
        return bind_to(tags, exclusion.who, saved)
    except (UnknownTagError, TagNotDerivedError) as error:
        raise SuppressionError(
            f"The exclusion '{exclusion.name}' cannot be applied: {error.message}",
            remedy=f"Derive its tag first, or keep '{exclusion.name}'.",
            zh=f"剔除规则“{exclusion.name}”无法执行：{error.zh}请先生成该标签，或关闭该规则。",
        ) from error


def _waterfall(suppression: Suppression, flags: Flags) -> tuple[ExclusionCount, ...]:
    counts: list[ExclusionCount] = []
    out = np.zeros(len(flags), dtype=np.bool_)
    number = flags.sum(axis=1)
    for i, exclusion in enumerate(suppression.exclusions):
        hit = flags[:, i]
        removed = int((hit & ~out).sum())
        out |= hit
        counts.append(
            ExclusionCount(
                name=exclusion.name,
                title=exclusion.title,
                hits=int(hit.sum()),
                removed=removed,
                removed_only_by_this=int((hit & (number == 1)).sum()),
                remaining=len(flags) - int(out.sum()),
            )
        )
    return tuple(counts)


def _reasons(names: tuple[str, ...], flags: Flags) -> tuple[pa.Array, pa.Array]:
    """Return the first reason and the list of all reasons of rows that have at least one."""
    words = pa.array(names, pa.string())
    _, which = np.nonzero(flags)
    ends = np.concatenate([[0], flags.sum(axis=1).cumsum()]).astype(np.int32)
    every = pa.ListArray.from_arrays(pa.array(ends), words.take(pa.array(which)))
    first = words.take(
        pa.array(flags.argmax(axis=1) if len(names) else np.zeros(0, dtype=np.int64))
    )
    return first, every
