"""What a rule about offers reads of customers, for many at once or for one profile in memory.

Rules say what they need (:class:`Needs`); the same arrays come out whether the values stand in the
lake (:func:`read_facts`) or in one profile (:class:`ProfileFacts`), so one code judges both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import (
    Everyone,
    Missing,
    Node,
    UnknownTagError,
    bind,
    matcher,
    profile_of,
    read_flags,
    tags_of,
)
from bihuan.data import ColumnType, Engine, as_doubles
from bihuan.kernel import UserError
from bihuan.offer.offer import Offer
from bihuan.tag import TagField, TagTable

_NUMERIC = (ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.MONEY, ColumnType.BOOLEAN)


class FactError(UserError):
    """A rule reads a tag as what it is not."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What rules read of a customer.

    Parameters
    ----------
    nodes
        Audiences, as written.
    numbers
        Names of numeric tags.
    texts
        Names of text tags.
    """

    nodes: frozenset[Node] = frozenset()
    numbers: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.nodes | other.nodes, self.numbers | other.numbers, self.texts | other.texts
        )

    def missing(self, fields: Mapping[str, TagField]) -> tuple[str, ...]:
        """Return the tags needed that are not among ``fields``, sorted."""
        named = {tag for node in self.nodes for tag in tags_of(node)} | self.numbers | self.texts
        return tuple(sorted(tag for tag in named if not _is_there(tag, fields)))

    def bound(self, fields: Mapping[str, TagField]) -> dict[Node, Node]:
        """Return each audience with its bound form.

        Parameters
        ----------
        fields
            The tags there are.

        Raises
        ------
        UnknownTagError
            If a tag is not there.
        FactError
            If a tag is read as a number or a text and is none.
        """
        for name in sorted(self.numbers | self.texts):
            wanted = "number" if name in self.numbers else "text"
            bind(Missing(name), fields)  # says so if the tag is not there
            is_number = fields[name].type in _NUMERIC
            if is_number != (wanted == "number"):
                raise FactError(
                    f"Tag '{name}' is read as a {wanted}, and it is a {fields[name].type.value}.",
                    remedy=f"Name a {wanted} tag.",
                    zh=f"标签 {name} 的类型为 {fields[name].type.value}，与规则所需不符，请更换。",
                )
        return {node: bind(node, fields) for node in self.nodes}


@dataclass(frozen=True, slots=True)
class Facts:
    """Values of customers, in one order.

    Parameters
    ----------
    ids
        Customer ids, shape ``(n,)``, ordered.
    flags
        Per audience who is in it, shape ``(n,)``.
    numbers
        Per tag its values, shape ``(n,)``; NaN = missing.
    texts
        Per tag its values; null = missing.
    """

    ids: pa.Array
    flags: Mapping[Node, NDArray[np.bool_]] = field(default_factory=dict)
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    texts: Mapping[str, pa.Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


def split_readable(
    offers: Iterable[Offer], fields: Mapping[str, TagField]
) -> tuple[list[Offer], dict[str, tuple[str, ...]]]:
    """Part offers whose eligibility can be read from those that ask for tags without values.

    Parameters
    ----------
    offers
        Offers, e.g. those on sale.
    fields
        The tags that have values.

    Returns
    -------
    tuple[list[Offer], dict[str, tuple[str, ...]]]
        Offers that can be judged; and for the others, by offer id, the tags without values.
    """
    readable, left_out = [], {}
    for offer in offers:
        missing = tuple(sorted(t for t in tags_of(offer.eligibility) if not _is_there(t, fields)))
        if missing:
            left_out[offer.offer_id] = missing
        else:
            readable.append(offer)
    return readable, left_out


def _is_there(tag: str, fields: Mapping[str, TagField]) -> bool:
    try:
        bind(Missing(tag), fields)  # a tag may be written by its title too
    except UnknownTagError:
        return False
    return True


def read_facts(
    needs: Needs, tags: TagTable, *, engine: Engine, within: Node | None = None
) -> Facts:
    """Read what rules need of all customers, or of an audience.

    Parameters
    ----------
    needs
        Audiences and tags.
    tags
        Tag values of a date.
    engine
        Runs the queries.
    within
        An audience as written; only its members are read. None: everybody.

    Returns
    -------
    Facts
        Ordered by id.
    """
    bound = needs.bound(tags.fields)
    nodes = list(bound) or [Everyone()]
    where = None if within is None else bind(within, tags.fields)
    ids, matrix = read_flags(
        [bound.get(node, node) for node in nodes], tags, engine=engine, where=where
    )
    names = sorted(needs.numbers | needs.texts)
    numbers: dict[str, NDArray[np.float64]] = {}
    texts: dict[str, pa.Array] = {}
    if names:
        rows = tags.read(engine, names)
        if where is not None:
            rows = rows.take(pc.index_in(ids, value_set=rows[tags.id_column].combine_chunks()))
        for name in names:
            column = rows[name].combine_chunks()
            if name in needs.numbers:
                numbers[name] = as_doubles(column)
            else:
                texts[name] = column
    flags = {node: matrix[:, i] for i, node in enumerate(nodes)}
    return Facts(ids.combine_chunks(), flags, numbers, texts)


class ProfileFacts:
    """Reads what rules need from one profile; made once, used for many.

    Parameters
    ----------
    needs
        Audiences and tags.
    fields
        The tags there are, by name.

    Raises
    ------
    UnknownTagError
        If a rule names a tag that is not there.
    """

    def __init__(self, needs: Needs, fields: Mapping[str, TagField]) -> None:
        self._tests = {node: matcher(bound) for node, bound in needs.bound(fields).items()}
        self._needs = needs
        self._fields = fields

    def read(self, profile: Mapping[str, Any], *, customer_id: str = "") -> Facts:
        """Return the facts of one customer, ``n`` = 1.

        Parameters
        ----------
        profile
            Tag values; an absent tag is missing.
        customer_id
            Whose they are.
        """
        exact = profile_of(profile, self._fields)
        return Facts(
            ids=pa.array([customer_id]),
            flags={node: np.array([test(exact)]) for node, test in self._tests.items()},
            numbers={n: np.array([_float(exact.get(n))]) for n in self._needs.numbers},
            texts={name: pa.array([exact.get(name)], pa.string()) for name in self._needs.texts},
        )


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)
