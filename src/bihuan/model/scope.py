"""Whether every business has tags and every scene has a model (全業務有標簽、全場景有模型)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bihuan.kernel.document import Document
from bihuan.model.card import Text
from bihuan.model.catalogue import CatalogueModel
from bihuan.tag import TagDictionary

SAMPLE_SCOPE = Path(__file__).parent / "scope.yaml"
"""A sample list of businesses and scenes: ours."""


@dataclass(frozen=True, slots=True)
class Business:
    """One business (业务) and what its tags are.

    Parameters
    ----------
    name, title
        Id, and title by language.
    tags
        Categories of the tag tree, and names of tags.
    subjects
        Kinds of subject all of whose tags are its.
    """

    name: str
    title: Text
    tags: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """One marketing scene (场景), what its tags are, and for which businesses it is played.

    Parameters
    ----------
    name, title, tags
        As in :class:`Business`.
    businesses
        Those that should have models for it.
    """

    name: str
    title: Text
    tags: tuple[str, ...]
    businesses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """The businesses and scenes that are to be covered."""

    businesses: Mapping[str, Business]
    scenes: Mapping[str, Scene]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that is not covered.

    Parameters
    ----------
    kind
        ``business_without_tags``, ``scene_without_tags``, ``scene_without_model`` or
        ``business_without_model``.
    business, scene
        Where; empty where it concerns all of them.
    what, remedy
        What is lacking and what to do, by language.
    """

    kind: str
    business: str
    scene: str
    what: Text
    remedy: Text


@dataclass(frozen=True, slots=True)
class ScopeReport:
    """What covers what.

    Parameters
    ----------
    tags
        Live tags by business.
    scene_tags
        Live tags by scene.
    models
        Models by scene and business.
    gaps
        What is lacking.
    """

    tags: Mapping[str, tuple[str, ...]]
    scene_tags: Mapping[str, tuple[str, ...]]
    models: Mapping[tuple[str, str], tuple[str, ...]]
    gaps: tuple[Gap, ...]

    @property
    def is_covered(self) -> bool:
        """Whether every business has tags and every scene has a model where it is played."""
        return not self.gaps


def load_scope(path: Path = SAMPLE_SCOPE) -> Scope:
    """Read a list of businesses and scenes.

    Raises
    ------
    UserError
        If a field is missing or wrong, or a scene names a business that is not listed.
    """
    top = Document.read(path).allow("businesses", "scenes")
    listed, played = top.part("businesses"), top.part("scenes")
    businesses, scenes = {}, {}
    for name in listed.fields():
        part = listed.part(name).allow("title", "tags", "subjects")
        businesses[name] = Business(
            name, part.titles("title"), part.texts("tags"), part.texts("subjects")
        )
    for name in played.fields():
        part = played.part(name).allow("title", "tags", "businesses")
        for business in part.texts("businesses"):
            if business not in businesses:
                raise part.refuse(
                    "businesses", f"names '{business}'", f"Choose from: {', '.join(businesses)}."
                )
        scenes[name] = Scene(
            name, part.titles("title"), part.texts("tags"), part.texts("businesses")
        )
    return Scope(businesses, scenes)


def check_scope(
    scope: Scope, dictionary: TagDictionary, models: Iterable[CatalogueModel]
) -> ScopeReport:
    """Find the tags of every business and scene, the models of every scene, and what is lacking.

    Parameters
    ----------
    scope
        What is to be covered.
    dictionary
        Only live tags count.
    models
        The models that there are.
    """
    tags = {b.name: _tags(b.tags, b.subjects, dictionary) for b in scope.businesses.values()}
    scene_tags = {s.name: _tags(s.tags, (), dictionary) for s in scope.scenes.values()}
    by_place: dict[tuple[str, str], list[str]] = {}
    for model in models:
        by_place.setdefault((model.scene, model.business), []).append(model.name)
    found = {place: tuple(names) for place, names in sorted(by_place.items())}
    gaps = [*_tag_gaps(scope, tags, scene_tags), *_model_gaps(scope, found)]
    return ScopeReport(tags, scene_tags, found, tuple(gaps))


def _tags(
    words: Iterable[str], subjects: Iterable[str], dictionary: TagDictionary
) -> tuple[str, ...]:
    names: set[str] = set()
    for subject in subjects:
        names |= {tag.name for tag in dictionary.live(subject)}
    for word in words:
        found = dictionary.find(word)
        if found is not None:
            names |= {word} if found.state == "live" else set()
        else:
            names |= {tag.name for tag in dictionary.select(category=word, state="live")}
    return tuple(sorted(names))


def _tag_gaps(
    scope: Scope,
    tags: Mapping[str, tuple[str, ...]],
    scene_tags: Mapping[str, tuple[str, ...]],
) -> Iterable[Gap]:
    remedy = {
        "en": "Propose tags for it at the tag desk, or correct where the list looks for them.",
        "zh": "请在标签工作台提交相应标签，或修正清单中的类目。",
    }
    for name, business in scope.businesses.items():
        if not tags[name]:
            what = {
                "en": f"Business '{business.title['en']}' has no live tag.",
                "zh": f"业务“{business.title['zh']}”没有在用标签。",
            }
            yield Gap("business_without_tags", name, "", what, remedy)
    for name, scene in scope.scenes.items():
        if not scene_tags[name]:
            what = {
                "en": f"Scene '{scene.title['en']}' has no live tag.",
                "zh": f"场景“{scene.title['zh']}”没有在用标签。",
            }
            yield Gap("scene_without_tags", "", name, what, remedy)


def _model_gaps(scope: Scope, models: Mapping[tuple[str, str], tuple[str, ...]]) -> Iterable[Gap]:
    remedy = {
        "en": "Add a target with this business and scene to models/catalogue/.",
        "zh": "请在 models/catalogue/ 中为该业务和场景增加一个目标。",
    }
    for scene in scope.scenes.values():
        for name in scene.businesses:
            if (scene.name, name) in models:
                continue
            business = scope.businesses[name]
            what = {
                "en": f"Scene '{scene.title['en']}' has no model for {business.title['en']}.",
                "zh": f"场景“{scene.title['zh']}”在业务“{business.title['zh']}”上没有模型。",
            }
            yield Gap("scene_without_model", name, scene.name, what, remedy)
    for business in scope.businesses.values():
        if not any(place[1] == business.name for place in models):
            what = {
                "en": f"Business '{business.title['en']}' has no model at all.",
                "zh": f"业务“{business.title['zh']}”没有任何模型。",
            }
            yield Gap("business_without_model", business.name, "", what, remedy)
