"""Policies of the workspace: looked up, asked "what if", and changed after a check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import DefectError, UserError, file_lock, write_atomically
from bihuan.strategy import (
    Campaign,
    Hours,
    Impact,
    OrgTree,
    PolicyBook,
    PolicyChange,
    PolicyConflictError,
    PolicyStatement,
    ResolvedPolicy,
    Violation,
)
from bihuan.strategy.policy import edit_text, parse_statement, policy_files, read_all
from bihuan.workspace.place import Day, day_of

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class PolicyEdit:
    """A change that was written.

    Parameters
    ----------
    file
        The policy file, now changed.
    impact
        What it touches.
    """

    file: Path
    impact: Impact


class Policies:
    """Policies of ``policies/`` over the org tree of a date.

    A change is checked against all other policies before it is written; a file is either the old
    one or the new one, never half of one.

    Parameters
    ----------
    workspace
        Where definitions, org units and customers are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._books: dict[tuple[object, ...], PolicyBook] = {}

    # what holds

    @property
    def files(self) -> tuple[Path, ...]:
        """The policy files, sorted by name; empty if the workspace has no policies."""
        folder = self._ws.layout.definitions("policies")
        return policy_files(folder) if folder.is_dir() else ()

    def book(self, as_of: Day | None = None) -> PolicyBook:
        """Return the policies over the org tree of a date.

        Parameters
        ----------
        as_of
            The newest org units up to this day; None: the newest of all.

        Raises
        ------
        DocumentError, PolicyConflictError
            If the files are not as they should be.
        UserError
            If there are no org units.
        """
        snapshot = self._org_units(as_of)
        key = (
            snapshot, id(self._ws.catalogue),
            tuple(map(_stamp, self.files)),
        )  # fmt: skip
        if key not in self._books:
            self._books.clear()  # a file has changed: what was resolved no longer holds
            tree = OrgTree.read(self._ws.view, snapshot)
            self._books[key] = PolicyBook.load(self.files, tree, self._ws.catalogue)
        return self._books[key]

    def find_book(self, as_of: Day | None = None) -> PolicyBook | None:
        """Return :meth:`book`, or None if the workspace has no policies."""
        return self.book(as_of) if self.files else None

    def tree(self, as_of: Day | None = None) -> OrgTree:
        """Return the org tree of a date; see :meth:`book`."""
        return OrgTree.read(self._ws.view, self._org_units(as_of))

    def resolve(self, unit_id: str, offer_id: str, as_of: Day | None = None) -> ResolvedPolicy:
        """Return what holds for a unit and an offer, and which level said so."""
        return self.book(as_of).resolve(unit_id, offer_id)

    def allowed(
        self,
        unit_ids: pa.Array | pa.ChunkedArray,
        candidates: Sequence[tuple[str, str]],
        as_of: Day | None = None,
    ) -> NDArray[np.bool_]:
        """Say which (offer id, channel) each customer's unit allows, shape ``(n, m)``."""
        return self.book(as_of).allowed(unit_ids, candidates)

    def check_campaign(
        self,
        campaign: str | Campaign,
        as_of: Day | None = None,
        *,
        contact_hours: Mapping[str, Hours] | None = None,
    ) -> tuple[Violation, ...]:
        """Hold a campaign (or the one of that name) against the policies where it runs.

        Parameters
        ----------
        campaign
            The campaign, or the name of its file.
        as_of
            Date of the org units.
        contact_hours
            Hours in which a channel will be worked, by channel kind.
        """
        plan = self._ws.campaign(campaign) if isinstance(campaign, str) else campaign
        return self.book(as_of).check_campaign(plan, contact_hours=contact_hours)

    # what would be

    def what_if(
        self, change: PolicyChange | Sequence[PolicyChange], as_of: Day | None = None
    ) -> Impact:
        """Say what a change would touch: units, offers, live campaigns, customers, conflicts.

        Nothing is changed. Live are the campaigns whose goal has not ended.
        """
        customers = self._ws.view.find("customer")
        return self.book(as_of).what_if(
            change,
            campaigns=self._live_campaigns(),
            customers=None if customers is None else customers.read(["org_unit_id"]),
        )

    def statement(self, text: str) -> PolicyStatement:
        """Read one statement from YAML, for :meth:`what_if` and :meth:`put`."""
        return parse_statement(text)

    # changes

    def put(self, statement: PolicyStatement | str, *, file: str | None = None) -> PolicyEdit:
        """Write a new statement, or one instead of that of its id.

        Parameters
        ----------
        statement
            What shall stand, also as YAML text.
        file
            Name of the file for a new one, without ``.yaml``; None: that of its unit.

        Raises
        ------
        PolicyConflictError
            If it conflicts with another policy; then nothing is written.
        """
        new = parse_statement(statement) if isinstance(statement, str) else statement
        return self._write(PolicyChange.put(new), file or new.unit_id)

    def approve(self, policy_id: str) -> PolicyEdit:
        """Put a draft in force; refused if a policy above or below it conflicts with it."""
        statement = self.book().get(policy_id)
        return self._write(PolicyChange.approve(statement), "")

    def withdraw(self, policy_id: str) -> PolicyEdit:
        """Take a statement out."""
        self.book().get(policy_id)
        return self._write(PolicyChange.withdraw(policy_id), "")

    # inside

    def _write(self, change: PolicyChange, new_file: str) -> PolicyEdit:
        """Check and write one change while nobody else does."""
        folder = self._ws.layout.definitions("policies")
        with file_lock(folder / ".lock"):
            impact = self.what_if(change)
            if impact.conflicts:
                raise PolicyConflictError(impact.conflicts)
            file = self._file_of(change.policy_id) or self._new_file(folder, new_file)
            old = file.read_text(encoding="utf-8-sig") if file.exists() else ""
            text = edit_text(old, change)
            self._require_same(file, text, change)
            write_atomically(file, text.encode())
        return PolicyEdit(file, impact)

    def _require_same(self, file: Path, text: str, change: PolicyChange) -> None:
        """Read the new text as it will be read, and find in it what was asked for and no more."""
        statements, authority = read_all({*self.files, file}, {file: text})
        expected = self.book().revised({change.policy_id: change.statement})
        if _contents(statements) != _contents(expected.statements):
            raise DefectError(f"Editing {file.name} would change other policies too: {change}.")
        book = self.book()
        PolicyBook(statements, authority, book.tree, book.catalogue)

    def _file_of(self, policy_id: str) -> Path | None:
        for file in self.files:
            if any(s.policy_id == policy_id for s in read_all([file])[0]):
                return file
        return None

    def _new_file(self, folder: Path, name: str) -> Path:
        file = folder / f"{name}.yaml"
        if file.parent != folder or name.startswith("."):
            raise UserError(
                f"'{name}' is no name of a policy file.",
                remedy="Give a plain name without folders.",
                zh=f"“{name}”不能作为政策文件名。请使用不含路径的名称。",
            )
        return file

    def _org_units(self, as_of: Day | None) -> date:
        view = self._ws.view
        if not view.dates("org_unit"):
            raise UserError(
                "Policies hold for org units, and the lake has no table org_unit.",
                remedy="Take in table org_unit, or remove the files of policies/.",
                zh="政策按组织单元生效，但数据湖中没有 org_unit 表。"
                "请接入该表，或移除 policies/ 中的文件。",
            )
        if as_of is None:
            return view.get("org_unit").as_of
        found = view.upto("org_unit", day_of(as_of))
        return found[-1].as_of if found else view.get("org_unit", day_of(as_of)).as_of

    def _live_campaigns(self) -> Iterator[Campaign]:
        today = self._ws.clock.now().date()
        for name in self._ws.list_campaigns():
            try:
                campaign = self._ws.campaign(name)
            except UserError:  # what cannot be read cannot run, so nothing live is touched
                continue
            if campaign.goal.ends_on >= today:
                yield campaign


def _contents(statements: Sequence[PolicyStatement]) -> dict[str, PolicyStatement]:
    return {s.policy_id: replace(s, place="") for s in statements}


def _stamp(file: Path) -> tuple[Path, int, int, int]:
    """Return what is another one after every change of a file."""
    state = file.stat()
    return file, state.st_ino, state.st_mtime_ns, state.st_size
