"""The workspace's tag desk: tags and models managed at one point."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bihuan.model import (
    MODEL_LIBRARY,
    SAMPLE_SCOPE,
    CatalogueModel,
    ModelCatalogue,
    ModelEntry,
    ScopeReport,
    check_scope,
    load_scope,
)
from bihuan.step.run_catalogue import ModelRun, RunRecord, run_catalogue
from bihuan.step.uses import tag_uses
from bihuan.tag import (
    LIBRARY_FOLDER,
    Desk,
    DeskStore,
    Finding,
    SortingRules,
    TagDefinition,
    TagDictionary,
    TagStock,
    Transition,
    TrialReport,
    require_who_and_why,
    sort_out,
    take_stock,
)
from bihuan.tag import Stock as TagsInStock
from bihuan.workspace.place import Day, day_of

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ModelOnDesk:
    """One model and where it stands.

    Parameters
    ----------
    name, title
        Id, and title by language; the name where it has none.
    business, scene
        What it serves; empty for a model of the workspace's own order form.
    state
        ``champion`` (in use), ``challenger`` (learnt, not in use), ``retired``, ``not_estimable``
        or ``failed`` (the newest run), or ``ordered`` (never learnt).
    versions
        How many are in the registry.
    auc
        Of the champion, or of the newest version; None without a version.
    run
        The newest run from the catalogue, or None.
    """

    name: str
    title: Mapping[str, str]
    business: str
    scene: str
    state: str
    versions: int
    auc: float | None
    run: ModelRun | None


class TagDesk:
    """Proposing, reviewing, trying out and retiring tags; what there is, and what is wrong.

    Parameters
    ----------
    workspace
        Whose tags.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._read: tuple[bytes, TagDictionary] | None = None
        self._store = DeskStore(
            workspace.layout.root / "tag_desk",
            workspace.layout.definitions("tags"),
            LIBRARY_FOLDER,
        )

    def propose(
        self, tag: TagDefinition | str, *, who: str, why: str, submit: bool = True
    ) -> TagDefinition:
        """Hand in a new tag, or a new version of one; see :meth:`bihuan.tag.Desk.propose`."""
        return self._desk().propose(tag, who=who, why=why, submit=submit)

    def review(self, name: str, verdict: str, *, who: str, comment: str) -> TagDefinition:
        """Accept (``accept``) or send back (``return``) what somebody else handed in."""
        return self._desk().review(name, verdict, who=who, comment=comment)

    def try_out(self, name: str, as_of: Day, *, who: str) -> TrialReport:
        """Derive a candidate on a month's rows without touching what is in force."""
        return self._desk().try_out(
            name, self._ws.lake, day_of(as_of), who=who,
            engine=self._ws.engine, progress=self._ws.progress,
        )  # fmt: skip

    def go_live(self, name: str, *, who: str, why: str) -> TagDefinition:
        """Put a candidate that was tried out in force."""
        return self._changed(self._desk().go_live(name, who=who, why=why))

    def retire(self, name: str, *, who: str, why: str) -> TagDefinition:
        """Take a tag out of force, if nobody uses it; its history stays."""
        return self._changed(self._desk().retire(name, who=who, why=why))

    def withdraw(self, name: str, *, who: str, why: str) -> TagDefinition:
        """Give up a candidate."""
        return self._desk().withdraw(name, who=who, why=why)

    def move_category(
        self, old: str, new: str, *, who: str, why: str, tags: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Move or rename a branch of the tag tree, or some of its tags."""
        moved = self._desk().move_category(old, new, who=who, why=why, tags=tags)
        self._forget()
        return moved

    def history(self, name: str | None = None) -> tuple[Transition, ...]:
        """Return who did what to a tag, when and why; of all tags if none is named."""
        return self._desk().history(name)

    def trials(self, name: str) -> tuple[TrialReport, ...]:
        """Return the trials of a tag, oldest first."""
        return self._desk().trials(name)

    def candidates(self) -> dict[str, TagDefinition]:
        """Return what is on the desk and not in force yet, by name."""
        return self._desk().candidates()

    def users(self, name: str) -> tuple[str, ...]:
        """Return who uses a tag: live tags, campaigns, scenes, rules, models."""
        return self._desk().users(name)

    def findings(self, as_of: Day, *, rules: SortingRules | None = None) -> tuple[Finding, ...]:
        """Sort the stock out: unused, stale, double, poor, ownerless tags, with a proposal each."""
        uses = self._uses()
        stock = TagsInStock(
            dictionary=self._ws.dictionary,
            view=self._ws.view,
            engine=self._ws.engine,
            uses=lambda name: uses.get(name, ()),
            changed=self._store.history.changed_unrecorded(self._ws.dictionary),
            rules=rules or SortingRules(),
        )
        return sort_out(stock, day_of(as_of))

    def stock(self) -> TagStock:
        """Count the tags by subject, layer, category, state."""
        return take_stock(self._ws.dictionary, self.candidates().values())

    # models beside the tags

    def catalogue(self) -> ModelCatalogue:
        """Return the models there are to be learnt: the samples, and those of the workspace.

        A file in ``models/catalogue/`` adds targets, segments and feature sets, or replaces those
        of the same name.
        """
        own = self._ws.layout.definitions("models") / "catalogue"
        return ModelCatalogue.load(MODEL_LIBRARY, *([own] if own.is_dir() else []))

    def run_models(
        self,
        as_of: Day,
        names: Collection[str] | None = None,
        *,
        sample_rows: int = 50_000,
        again: bool = False,
    ) -> tuple[ModelRun, ...]:
        """Learn models of the catalogue and keep them in the registry.

        Parameters
        ----------
        as_of
            Date of the answers; tags must have been derived for it and for the month before.
        names
            Which; None for all.
        sample_rows, again
            See :func:`bihuan.step.run_catalogue.run_catalogue`.
        """
        catalogue = self.catalogue()
        chosen = [catalogue.get(name) for name in names] if names is not None else list(catalogue)
        models = ModelCatalogue(chosen).bind(self._ws.dictionary)
        return run_catalogue(
            self._ws.rooms, models, day_of(as_of), record=self._record,
            sample_rows=sample_rows, again=again,
        )  # fmt: skip

    def models(self) -> tuple[ModelOnDesk, ...]:
        """Return every model: of the catalogue, of ``models/`` and of the registry, by name."""
        runs = self._record.newest()
        by_name = {model.name: model for model in self.catalogue()}
        folder = self._ws.layout.definitions("models")
        orders = {path.stem for path in folder.glob("*.yaml")}
        versions: dict[str, list[ModelEntry]] = {}
        for entry in self._ws.registry.list():
            versions.setdefault(entry.name, []).append(entry)
        names = sorted({*by_name, *orders, *versions})
        return tuple(
            _on_desk(name, by_name.get(name), versions.get(name, []), runs.get(name))
            for name in names
        )

    def promote_model(self, name: str, version: str, *, who: str, why: str) -> None:
        """Put a version of a model into use; the one in use so far is retired."""
        require_who_and_why(name, "champion", who, why)
        self._ws.registry.promote(name, version, clock=self._ws.clock, by=who, reason=why)

    def coverage(self) -> ScopeReport:
        """Check that every business has tags and every scene a model; tell the gaps.

        The businesses and scenes are those of ``scope.yaml`` in the workspace's folder, or of the
        sample list.
        """
        own = self._ws.layout.root / "scope.yaml"
        scope = load_scope(own if own.is_file() else SAMPLE_SCOPE)
        return check_scope(scope, self._ws.dictionary, self.catalogue())

    @property
    def _record(self) -> RunRecord:
        return RunRecord(self._ws.layout.registry / "catalogue_runs.jsonl")

    def _uses(self) -> Mapping[str, Sequence[str]]:
        return tag_uses(self._ws.layout.root, self._ws.dictionary)

    def _desk(self) -> Desk:
        def uses(name: str) -> Sequence[str]:
            return self._uses().get(name, ())

        return Desk(self._store, self._load, uses, self._ws.clock)

    def _load(self) -> TagDictionary:
        """Read what is in force now: somebody else may have changed it."""
        folder = self._store.in_force
        files = [(file, file.read_bytes()) for file in sorted(folder.glob("*.yaml"))]
        seen = hashlib.sha256(
            b"".join(str(file).encode() + hashlib.sha256(text).digest() for file, text in files)
        ).digest()
        if self._read is None or self._read[0] != seen:
            self._read = seen, TagDictionary.load(folder, contracts=self._ws.contracts)
        return self._read[1]

    def _changed(self, tag: TagDefinition) -> TagDefinition:
        self._forget()
        return tag

    def _forget(self) -> None:
        """Let the workspace read its tags anew."""
        self._ws.__dict__.pop("dictionary", None)


def _on_desk(
    name: str, model: CatalogueModel | None, entries: Sequence[ModelEntry], run: ModelRun | None
) -> ModelOnDesk:
    shown = next((e for e in entries if e.state == "champion"), entries[-1] if entries else None)
    unlearnt = run.state if run is not None else "ordered"
    state = str(shown.state) if shown is not None else unlearnt
    return ModelOnDesk(
        name=name,
        title=model.title if model else {"zh": name, "en": name},
        business=model.business if model else "",
        scene=model.scene if model else "",
        state=state,
        versions=len(entries),
        auc=shown.auc if shown else None,
        run=run,
    )
