"""All policies of an operator, resolved over its org tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.kernel import UserError
from bihuan.kernel.document import DocumentError
from bihuan.offer import KINDS, Catalogue
from bihuan.strategy.campaign import Campaign
from bihuan.strategy.policy.conflict import (
    PolicyConflict,
    PolicyConflictError,
    Surroundings,
    find_conflicts,
)
from bihuan.strategy.policy.impact import Impact, PolicyChange, what_if
from bihuan.strategy.policy.limit import Hours, holds
from bihuan.strategy.policy.resolved import ResolvedLimits, ResolvedPolicy
from bihuan.strategy.policy.statement import (
    Authority,
    DecisionRight,
    PolicyStatement,
    read_policies,
)
from bihuan.strategy.policy.tree import OrgTree, UnknownUnitError
from bihuan.strategy.policy.verdict import Violation, check_campaign, price_range


class UnknownPolicyError(UserError):
    """No policy has that id."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyGroups:
    """Units put together by the policies that hold for them.

    Parameters
    ----------
    units
        One unit of each group: what holds for it holds for all of its group. None stands for
        customers without a unit, for whom the limits of all tops hold.
    code
        Group of each element asked about, shape ``(n,)``.
    """

    units: tuple[str | None, ...]
    code: NDArray[np.int64]


class PolicyBook:
    """Policies over an org tree: limits only tighten on the way down.

    Parameters
    ----------
    statements
        What units lay down.
    authority
        Who may decide on what.
    tree
        The org units.
    catalogue
        The offers.

    Raises
    ------
    UserError
        If two statements have one id, or one names a unit or an offer that there is not.
    PolicyConflictError
        If statements conflict; holds all conflicts.
    """

    def __init__(
        self,
        statements: Iterable[PolicyStatement],
        authority: Authority,
        tree: OrgTree,
        catalogue: Catalogue,
    ) -> None:
        self.tree = tree
        self.catalogue = catalogue
        self.authority = authority
        self._statements: dict[str, PolicyStatement] = {}
        for statement in statements:
            self._require_known(statement)
            self._statements[statement.policy_id] = statement
        self._index()
        conflicts = self.conflicts()
        if conflicts:
            raise PolicyConflictError(conflicts)

    @classmethod
    def load(cls, places: Path | Sequence[Path], tree: OrgTree, catalogue: Catalogue) -> PolicyBook:
        """Read policy files.

        Parameters
        ----------
        places
            Folders with YAML files, or files.
        tree, catalogue
            What the policies speak of.

        Raises
        ------
        DocumentError
            If a file has not the form of a policy file; names file and field.
        PolicyConflictError
            If statements conflict; holds all conflicts.
        """
        statements, authority = read_all(policy_files(places))
        return cls(statements, authority, tree, catalogue)

    def revised(self, statements: Mapping[str, PolicyStatement | None]) -> PolicyBook:
        """Return the book with statements put in (by policy id) or taken out (None), unchecked.

        For asking what would be: :meth:`conflicts` of the result tells what would be wrong.
        """
        new = object.__new__(PolicyBook)
        new.tree, new.catalogue, new.authority = self.tree, self.catalogue, self.authority
        new._statements = dict(self._statements)
        for policy_id, statement in statements.items():
            new._statements.pop(policy_id, None)
            if statement is not None:
                new._require_known(statement)
                new._statements[policy_id] = statement
        new._index()
        return new

    # what is written

    @property
    def statements(self) -> tuple[PolicyStatement, ...]:
        """All statements, drafts too."""
        return tuple(self._statements.values())

    def get(self, policy_id: str) -> PolicyStatement:
        """Return a statement; raise :class:`UnknownPolicyError` if there is none of that id."""
        statement = self.find(policy_id)
        if statement is None:
            raise UnknownPolicyError(
                f"There is no policy '{policy_id}'.",
                remedy="See  bihuan policy check  for those that there are.",
                zh=f"没有编号为 {policy_id} 的政策。可用 bihuan policy check 查看。",
            )
        return statement

    def find(self, policy_id: str) -> PolicyStatement | None:
        """Return a statement, or None if there is none of that id."""
        return self._statements.get(policy_id)

    def conflicts(self, units: Iterable[str] | None = None) -> tuple[PolicyConflict, ...]:
        """Return the conflicts of all statements, or of those of some units.

        A loaded book has none; one that was :meth:`revised` may have.
        """
        if units is None:
            held: Iterable[PolicyStatement] = self._statements.values()
        else:
            held = (s for unit in units for s in self._own.get(unit, ()))
        return find_conflicts(tuple(held), self._around)

    # what holds

    def resolve(self, unit_id: str, offer_id: str, *, drafts: bool = False) -> ResolvedPolicy:
        """Return what holds for a unit and an offer, and who said so.

        Parameters
        ----------
        unit_id, offer_id
            For whom and for what.
        drafts
            Whether drafts speak too, as if they were approved.

        Raises
        ------
        UnknownUnitError, UnknownOfferError
            If there is no such unit or offer.
        """
        path = self.tree.path(unit_id)
        kind = self.catalogue.get(offer_id).kind
        right = self.authority.of(kind)
        anchor = self._anchor_of(unit_id)
        return ResolvedPolicy(
            unit_id=unit_id,
            offer_id=offer_id,
            kind=kind,
            limits=self.limits(anchor, offer_id, drafts=drafts),
            decided_by=self._of_tiers(path, right.detail),
            framed_by=self._of_tiers(path, right.frame),
            is_decided=not right.needs_detail or self._is_detailed(anchor, kind, offer_id, right),
        )

    def limits(self, unit_id: str, offer_id: str, *, drafts: bool = False) -> ResolvedLimits:
        """Return the limits alone of :meth:`resolve`; the same object for units alike."""
        anchor = self._anchor_of(unit_id)
        kind = self.catalogue.get(offer_id).kind
        own = offer_id if offer_id in self.named(anchor) else None
        key = (anchor, kind, own, drafts)
        found = self._limits.get(key)
        if found is None:
            chain = self._chain_of(anchor)
            found = self._limits[key] = self._around.resolve(chain, kind, own, drafts=drafts)
        return found

    def groups(self, unit_ids: pa.Array | pa.ChunkedArray) -> PolicyGroups:
        """Put units together by the policies that hold for them.

        Parameters
        ----------
        unit_ids
            Org unit of each customer, shape ``(n,)``; missing = no unit.

        Raises
        ------
        UnknownUnitError
            If a unit is not in the tree; the message names up to three.
        """
        array = unit_ids.combine_chunks() if isinstance(unit_ids, pa.ChunkedArray) else unit_ids
        coded = (
            array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        )  # customers are many, units few
        names = coded.dictionary.to_pylist()
        unknown = [name for name in names if name is not None and name not in self.tree]
        if unknown:
            raise UnknownUnitError(
                f"{len(unknown)} org units are not in the tree: {', '.join(unknown[:3])}.",
                remedy="Ingest the org_unit table of the same date as the customers.",
                zh=f"有 {len(unknown)} 个组织单元不在组织树中：{'、'.join(unknown[:3])}。"
                "请导入与客户同一日期的 org_unit 表。",
            )
        anchors = [None if name is None else self._anchor_of(name) for name in [*names, None]]
        units = tuple(dict.fromkeys(anchors))
        number = {unit: i for i, unit in enumerate(units)}
        lookup = np.array([number[anchor] for anchor in anchors], dtype=np.int64)
        code = pc.fill_null(coded.indices, len(names)).to_numpy(zero_copy_only=False)
        return PolicyGroups(units, lookup[code])

    def allowed(
        self, unit_ids: pa.Array | pa.ChunkedArray, candidates: Sequence[tuple[str, str]]
    ) -> NDArray[np.bool_]:
        """Say which candidates the policy of each customer's unit allows.

        Parameters
        ----------
        unit_ids
            Org unit of each customer, shape ``(n,)``; missing = the limits of all tops hold.
        candidates
            (offer id, channel kind), ``m`` of them.

        Returns
        -------
        numpy.ndarray
            Booleans of shape ``(n, m)``: the offer may be offered by the unit, the channel may be
            used for it, and its list price is within the price band.
        """
        groups = self.groups(unit_ids)
        table = np.array(
            [[self.permits(unit, *candidate) for candidate in candidates] for unit in groups.units],
            dtype=np.bool_,
        ).reshape(len(groups.units), len(candidates))
        return table[groups.code]

    def permits(self, unit_id: str | None, offer_id: str, channel: str) -> bool:
        """Say the same as :meth:`allowed` for one unit (None = all tops) and one candidate."""
        if unit_id is None:
            return all(self.permits(root, offer_id, channel) for root in self.tree.roots)
        limits = self.limits(unit_id, offer_id)
        low, high = price_range(self.catalogue, offer_id)
        asked = (
            ("offers", offer_id), ("channels", channel), ("price.low", low), ("price.high", high),
        )  # fmt: skip
        return all(
            facet not in limits or holds(facet, limits[facet].value, what) for facet, what in asked
        )

    def check_campaign(
        self,
        campaign: Campaign,
        catalogue: Catalogue | None = None,
        *,
        contact_hours: Mapping[str, Hours] | None = None,
    ) -> tuple[Violation, ...]:
        """Hold a campaign against the policies; see :func:`check_campaign`."""
        return check_campaign(self, campaign, catalogue, contact_hours=contact_hours)

    def what_if(
        self,
        changes: PolicyChange | Sequence[PolicyChange],
        *,
        campaigns: Iterable[Campaign] = (),
        customers: pa.Table | None = None,
    ) -> Impact:
        """Say what a change would touch, without making it; see :func:`what_if`."""
        return what_if(self, changes, campaigns=campaigns, customers=customers)

    def spoken_units(self, unit_id: str | None = None, offer_id: str | None = None) -> list[str]:
        """Return the units that have statements of their own, from the top down.

        Parameters
        ----------
        unit_id
            Only of this subtree.
        offer_id
            Only those with a statement about this offer.
        """
        units = self.tree.unit_ids if unit_id is None else self.tree.subtree(unit_id)
        found = [unit for unit in units if unit in self._own]
        if offer_id is None:
            return found
        kind = self.catalogue.get(offer_id).kind
        return [
            unit
            for unit in found
            if any(self._around.concerns(s, kind, offer_id) for s in self._own[unit])
        ]

    def speaking(self, unit_id: str, offer_id: str) -> tuple[PolicyStatement, ...]:
        """Return the statements about an offer on the path to a unit, drafts too, top down."""
        kind = self.catalogue.get(offer_id).kind
        return tuple(
            s
            for s in self._chain_of(self._anchor_of(unit_id))
            if self._around.concerns(s, kind, offer_id)
        )

    @property
    def offers_by_kind(self) -> Mapping[str, tuple[str, ...]]:
        """Ids of the offers of each kind that the catalogue has."""
        if not self._by_kind:
            found: dict[str, list[str]] = {}
            for offer in self.catalogue:
                found.setdefault(offer.kind, []).append(offer.offer_id)
            self._by_kind.update({kind: tuple(ids) for kind, ids in found.items()})
        return self._by_kind

    def speaks(self, unit_id: str) -> bool:
        """Whether a unit has statements of its own."""
        return unit_id in self._own

    def said_by(self, unit_id: str) -> tuple[PolicyStatement, ...]:
        """Return the statements of a unit itself, general before specific."""
        return tuple(self._own.get(unit_id, ()))

    def named(self, unit_id: str) -> frozenset[str]:
        """Return the offers of which a statement on the path to a unit speaks alone."""
        anchor = self._anchor_of(unit_id)
        found = self._named.get(anchor)
        if found is None:
            found = frozenset(s.offer_id for s in self._chain_of(anchor) if s.offer_id)
            self._named[anchor] = found
        return found

    # inside

    def _index(self) -> None:
        own: dict[str, list[PolicyStatement]] = {}
        for statement in sorted(self._statements.values(), key=lambda s: (s.rank, s.policy_id)):
            own.setdefault(statement.unit_id, []).append(statement)
        self._own = own
        self._named: dict[str, frozenset[str]] = {}
        self._by_kind: dict[str, tuple[str, ...]] = {}
        self._anchors: dict[str, str] = {}
        self._chains: dict[str, tuple[PolicyStatement, ...]] = {}
        self._limits: dict[tuple[str, str, str | None, bool], ResolvedLimits] = {}
        self._around = Surroundings(
            chain_of=lambda unit: self._chain_of(self._anchor_of(unit)),
            tier_of=lambda unit: self.tree.get(unit).tier,
            kind_of=lambda offer: self.catalogue.get(offer).kind,
            kinds=KINDS,
            authority=self.authority,
        )

    def _anchor_of(self, unit_id: str) -> str:
        """Return the nearest unit on the way up that has statements; the top if none has."""
        anchor = self._anchors.get(unit_id)
        if anchor is None:
            path = self.tree.path(unit_id)
            anchor = next((unit for unit in reversed(path) if unit in self._own), path[0])
            self._anchors[unit_id] = anchor
        return anchor

    def _chain_of(self, anchor: str) -> tuple[PolicyStatement, ...]:
        chain = self._chains.get(anchor)
        if chain is None:
            chain = tuple(s for unit in self.tree.path(anchor) for s in self._own.get(unit, ()))
            self._chains[anchor] = chain
        return chain

    def _of_tiers(self, path: Sequence[str], tiers: Sequence[str]) -> tuple[str, ...]:
        return tuple(unit for unit in path if self.tree.get(unit).tier in tiers)

    def _is_detailed(self, anchor: str, kind: str, offer_id: str, right: DecisionRight) -> bool:
        return any(
            s.is_approved
            and s.rank > 0
            and self.tree.get(s.unit_id).tier in right.detail
            and self._around.concerns(s, kind, offer_id)
            for s in self._chain_of(anchor)
        )

    def _require_known(self, statement: PolicyStatement) -> None:
        if statement.policy_id in self._statements:
            other = self._statements[statement.policy_id].place
            raise DocumentError(
                f"{statement.place} has the id of {other}.",
                remedy="Give each policy an id of its own.",
                zh=f"{statement.place} 与 {other} 的编号相同。请为每条政策使用不同的编号。",
            )
        try:
            self.tree.get(statement.unit_id)
            for offer_id in (statement.offer_id, *sorted(_offers_of(statement))):
                if offer_id is not None:
                    self.catalogue.get(offer_id)
        except UserError as error:
            raise type(error)(
                f"{statement.place}: {error.message}",
                remedy=f"{error.remedy} Otherwise change the statement or take it out.",
                zh=f"{statement.place}：{error.zh}否则请修改或删除该条政策。",
            ) from error


def policy_files(places: Path | Sequence[Path]) -> tuple[Path, ...]:
    """Return the YAML files of folders, sorted by name, and the files named themselves."""
    found: list[Path] = []
    for place in [places] if isinstance(places, Path) else places:
        found += sorted(place.glob("*.yaml")) if place.is_dir() else [place]
    return tuple(found)


def read_all(
    paths: Iterable[Path], texts: Mapping[Path, str] | None = None
) -> tuple[tuple[PolicyStatement, ...], Authority]:
    """Read policy files into statements and one table of who may decide.

    Parameters
    ----------
    paths
        The files.
    texts
        Content of those that are not to be read from the disk.
    """
    statements: list[PolicyStatement] = []
    rights: dict[str, DecisionRight] = {}
    for path in paths:
        found, said = read_policies(path, (texts or {}).get(path))
        statements += found
        for kind, right in said.items():
            if kind in rights:
                raise DocumentError(
                    f"{right.place} says who decides, as {rights[kind].place} does.",
                    remedy="Say it once.",
                    zh=f"{right.place} 与 {rights[kind].place} 重复规定决策权限。请只保留一处。",
                )
            rights[kind] = right
    return tuple(statements), Authority(rights)


def _offers_of(statement: PolicyStatement) -> Iterator[str]:
    value = statement.limits.get("offers")
    if isinstance(value, frozenset):
        yield from value
