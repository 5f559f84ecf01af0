"""The model catalogue: which models there are to be learnt, as targets by groups of subjects.

In come YAML files: *segments* (groups of subjects, written as audiences), *feature sets*
(categories of the tag tree) and *targets* (what is to be foreseen, among whom, from which
features). Each target with each of its segments is one model. :meth:`ModelCatalogue.bind` holds
them against the tag dictionary: a model that names what does not exist is told before anything
runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bihuan.audience import AudienceError, Everyone, Node, all_of, bind, normalise, parse, tags_of
from bihuan.audience import audience_id as audience_id_of
from bihuan.kernel import UserError, hash_id
from bihuan.kernel.document import Document
from bihuan.model.card import Text
from bihuan.model.steps.spec import ModelSpec
from bihuan.tag import Subject, TagDictionary

MODEL_LIBRARY = Path(__file__).parent / "library"
"""Sample models over the sample tags: ours, to start from, not any operator's."""

QUICK: Mapping[str, Any] = {
    "learner": "lightgbm",
    "calibration": "platt",
    "boosted": {"trees": 60, "rate": 0.1, "leaves": 7, "feature_share": 0.5},
    "validation": {"inner_folds": 2, "holdout_share": 0.3},
    "features": {"max_features": 40},
}
"""Settings of a catalogue model unless its file says otherwise: small, so that all can be run."""


class CatalogueError(UserError):
    """The catalogue names what does not exist, or one model twice."""


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """One model of the catalogue.

    Parameters
    ----------
    name
        Unique; the target's name and, but for the whole, the segment's.
    title, meaning
        By language.
    business, scene
        Which business (业务) and which marketing scene (场景) it serves.
    target, segment
        Where it comes from.
    subject
        Whose tags it reads.
    label, population
        What is to be foreseen and among whom: audiences over tags.
    features
        Categories of the tag tree and names of tags, as written.
    lead_months
        How long after its features the answer is read, >= 1.
    spec
        The order form.
    """

    name: str
    title: Text
    meaning: Text
    business: str
    scene: str
    target: str
    segment: str
    subject: Subject
    label: Node
    population: Node
    features: tuple[str, ...]
    lead_months: int
    spec: ModelSpec = field(compare=False)


@dataclass(frozen=True, slots=True)
class BoundModel:
    """A model whose label, population and features exist.

    Parameters
    ----------
    model
        As written.
    label, population
        Bound to the tags.
    features
        Names of the tags to learn from, sorted.
    order_id
        Id of what is learnt: two models of the same id would be the same model.
    """

    model: CatalogueModel
    label: Node
    population: Node
    features: tuple[str, ...]
    order_id: str


class ModelCatalogue:
    """The models that are there to be learnt.

    Parameters
    ----------
    models
        Names are unique.
    """

    def __init__(self, models: Iterable[CatalogueModel]) -> None:
        self._models: dict[str, CatalogueModel] = {}
        for model in models:
            if model.name in self._models:
                raise CatalogueError(
                    f"Two models are called '{model.name}'.",
                    remedy="Rename a target or a segment.",
                    zh=f"有两个模型都叫 {model.name}，请更改目标或客群的名称。",
                )
            self._models[model.name] = model

    @classmethod
    def load(cls, *folders: Path) -> ModelCatalogue:
        """Read the ``*.yaml`` files of folders.

        Parameters
        ----------
        *folders
            A segment, feature set or target of the same name in a later folder replaces the
            earlier; without any, the sample library.

        Raises
        ------
        UserError
            If a field is unknown, missing or wrong; names file and field.
        """
        segments: dict[str, Document] = {}
        sets: dict[str, tuple[str, ...]] = {}
        targets: dict[str, tuple[Document, Document | None]] = {}
        for path in (p for f in folders or (MODEL_LIBRARY,) for p in sorted(f.glob("*.yaml"))):
            top = Document.read(path).allow("segments", "feature_sets", "defaults", "targets")
            part = top.find_part("segments")
            for name in part.fields() if part else ():
                segments[name] = part.part(name) if part else top
            part = top.find_part("feature_sets")
            for name in part.fields() if part else ():
                sets[name] = part.texts(name) if part else ()
            defaults = top.find_part("defaults")
            for target in top.parts("targets"):
                targets[target.text("name")] = target, defaults
        return cls(
            model
            for target, defaults in targets.values()
            for model in _models(target, defaults, segments, sets)
        )

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[CatalogueModel]:
        return iter(self._models.values())

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def get(self, name: str) -> CatalogueModel:
        """Return the model of that name."""
        if name not in self._models:
            raise CatalogueError(
                f"There is no model '{name}' in the catalogue.",
                remedy="List the catalogue to see the names.",
                zh=f"模型目录中没有 {name}，请查看目录。",
            )
        return self._models[name]

    def select(
        self, *, business: str | None = None, scene: str | None = None, subject: str | None = None
    ) -> tuple[CatalogueModel, ...]:
        """Return the models that fit all that is given."""
        return tuple(
            model
            for model in self
            if business in (None, model.business)
            and scene in (None, model.scene)
            and subject in (None, model.subject)
        )

    def bind(self, dictionary: TagDictionary) -> tuple[BoundModel, ...]:
        """Hold every model against the tags.

        Raises
        ------
        CatalogueError
            Naming every model that names what does not exist, has no features, or would be
            learnt twice under another name.
        """
        problems: list[str] = []
        bound: dict[str, BoundModel] = {}
        fields = {subject: dictionary.schema(subject) for subject in Subject}
        for model in self:
            try:
                label = bind(model.label, fields[model.subject])
                population = bind(model.population, fields[model.subject])
                features = _features(model, dictionary)
            except UserError as error:
                problems.append(f"{model.name}: {error.message}")
                continue
            order = _order_id(model, label, population, features)
            if twin := bound.get(order):
                problems.append(f"{model.name}: says the same as {twin.model.name}.")
            bound[order] = BoundModel(model, label, population, features, order)
        if problems:
            raise CatalogueError(
                f"{len(problems)} problem(s) in the model catalogue:\n- " + "\n- ".join(problems),
                remedy="Mend the files, or add the tags.",
                zh=f"模型目录有 {len(problems)} 处问题：\n- "
                + "\n- ".join(problems)
                + "\n请修改目录文件或补充标签。",
            )
        return tuple(bound.values())


def _order_id(
    model: CatalogueModel, label: Node, population: Node, features: tuple[str, ...]
) -> str:
    trees = [audience_id_of(normalise(node)) for node in (label, population)]
    return hash_id("catalogue model", model.subject, trees, features, model.lead_months)


def _features(model: CatalogueModel, dictionary: TagDictionary) -> tuple[str, ...]:
    """Return the live tags meant; tags of other models' scores are left out of categories."""
    found: set[str] = set()
    for word in model.features:
        if word in dictionary:
            found.add(word)
            continue
        tags = dictionary.select(subject=model.subject, category=word, state="live")
        names = {tag.name for tag in tags if not _stands_on_a_model(tag.name, dictionary)}
        if not names:
            raise CatalogueError(
                f"there is neither a tag nor a category of {model.subject} tags called '{word}'.",
                zh=f"没有名为 {word} 的 {model.subject} 标签或类目。",
            )
        found |= names
    return tuple(sorted(found))


def _stands_on_a_model(name: str, dictionary: TagDictionary) -> bool:
    lineage = dictionary.lineage(name)
    return any(dictionary.get(tag).model for tag in (name, *lineage.all_tags))


def _models(
    target: Document,
    defaults: Document | None,
    segments: Mapping[str, Document],
    sets: Mapping[str, tuple[str, ...]],
) -> Iterator[CatalogueModel]:
    """Make the models of one target."""
    target.allow(
        "name", "title", "meaning", "business", "scene", "label", "population", "features",
        "segments", "lead_months", "owner", "model",
    )  # fmt: skip

    def given(name: str) -> str:
        default = defaults.text(name, "") if defaults else ""
        return target.text(name, default) if default else target.text(name)

    name, title = target.text("name"), target.titles("title")
    lead = target.whole("lead_months", defaults.whole("lead_months", 1) if defaults else 1, low=1)
    features = tuple(f for word in target.texts("features") for f in sets.get(word, (word,)))
    settings = {**QUICK, **(target.raw("model") if target.has("model") else {})}
    for word in target.texts("segments") or ("all",):
        if word not in segments:
            raise target.refuse(
                "segments", f"names '{word}'", f"Choose from: {', '.join(segments)}."
            )
        segment = segments[word].allow("title", "subject", "rule")
        is_whole = not segment.has("rule")
        own = name if is_whole else f"{name}_{word}"
        whole = title if is_whole else _within(title, segment.titles("title"))
        meaning = target.titles("meaning")
        raw = {
            **settings, "name": own, "title": whole, "label": meaning, "owner": given("owner"),
        }  # fmt: skip
        yield CatalogueModel(
            name=own,
            title=whole,
            meaning=meaning,
            business=given("business"),
            scene=given("scene"),
            target=name,
            segment=word,
            subject=Subject(segment.text("subject", "customer")),
            label=_parse(target, "label"),
            population=all_of([_parse(target, "population"), _parse(segment, "rule")]),
            features=features,
            lead_months=lead,
            spec=ModelSpec.parse(raw, target.where),
        )


def _parse(part: Document, name: str) -> Node:
    if name != "label" and not part.has(name):
        return Everyone()
    try:
        return parse(part.text(name))
    except AudienceError as error:
        raise part.refuse(name, f"is no rule: {error.message}", error.remedy) from error


def _within(title: Text, segment: Text) -> Text:
    return {"zh": f"{title['zh']}（{segment['zh']}）", "en": f"{title['en']}: {segment['en']}"}


def tags_named(model: CatalogueModel) -> frozenset[str]:
    """Return the tags that a model's label and population name."""
    return frozenset({*tags_of(model.label), *tags_of(model.population)})
