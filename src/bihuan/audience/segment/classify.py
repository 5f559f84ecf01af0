"""Automatic classification (自动分类): a fitted classifier is kept, and classes become a tag.

A classifier says for any row of tag values which class it is; the same code answers for a whole
base and for a single profile. Versions are kept for good, so that last year's classes can be told
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from bihuan.audience.algebra import Node, tags_of
from bihuan.audience.bind import bind
from bihuan.audience.json_form import from_json, to_json
from bihuan.audience.literal import AudienceError
from bihuan.audience.sql import predicate, tag_columns
from bihuan.data import Engine, Lake
from bihuan.kernel import Clock, canonical_json, file_lock, hash_id, write_atomically
from bihuan.tag import TagField, TagTable

CLASS_PREFIX = "class__"
OTHER = "other"


class ClassifierError(AudienceError):
    """A classifier is not whole, or does not go with the tags there are."""


class Classifier(Protocol):
    """Says which class a row of tag values is."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags that it reads."""
        ...

    def classify(self, rows: pa.Table, fields: Mapping[str, TagField]) -> pa.Array:
        """Return the class of each row, in the order of the rows."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return all that it needs to classify again, with its ``kind``."""
        ...


@dataclass(frozen=True)
class RuleClassifier:
    """Classes by conditions: the first that holds gives the class.

    Parameters
    ----------
    rules
        Class name and condition, in order of precedence; a class may have several.
    engine
        Runs the conditions.
    otherwise
        Class of those whom no condition takes.
    """

    rules: tuple[tuple[str, Node], ...]
    engine: Engine
    otherwise: str = OTHER

    def __post_init__(self) -> None:
        if not self.rules or any(not name for name, _ in self.rules):
            raise ClassifierError(
                "A classifier needs at least one class, each with a name.",
                remedy="Name every class.",
                zh="分类器至少需要一个分类，且每个分类须有名称。",
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in order of precedence; the rest last."""
        return tuple(dict.fromkeys([*(name for name, _ in self.rules), self.otherwise]))

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags that the conditions read."""
        return tuple(sorted({tag for _, node in self.rules for tag in tags_of(node)}))

    def classify(self, rows: pa.Table, fields: Mapping[str, TagField]) -> pa.Array:
        """Return the class of each row, in the order of the rows."""
        column = tag_columns(fields)
        steps = [
            exp.If(this=predicate(bind(node, fields), column), true=exp.Literal.string(name))
            for name, node in self.rules
        ]
        found = exp.alias_(exp.Case(ifs=steps, default=exp.Literal.string(self.otherwise)), "class")
        place = exp.column("row_", quoted=True)
        query = exp.select(found).from_(exp.to_table("rows")).order_by(place)
        numbered = rows.append_column("row_", pa.array(np.arange(rows.num_rows)))
        return self.engine.query(query, {"rows": numbered})["class"].combine_chunks()

    def to_json(self) -> dict[str, Any]:
        """Return all that it needs to classify again."""
        return {
            "kind": "rules",
            "rules": [[name, to_json(node)] for name, node in self.rules],
            "otherwise": self.otherwise,
        }

    @classmethod
    def read(cls, raw: Mapping[str, Any], engine: Engine) -> RuleClassifier:
        """Read what :meth:`to_json` wrote."""
        rules = tuple((name, from_json(node)) for name, node in raw["rules"])
        return cls(rules, engine, raw["otherwise"])


@dataclass(frozen=True, slots=True)
class SavedClassifier:
    """One version of a classifier.

    Parameters
    ----------
    name, version
        Versions count from 1.
    title
        By language.
    subject
        Kind of subject it classifies.
    who, why, at
        Who saved it, for what, when.
    content
        What :meth:`Classifier.to_json` wrote.
    """

    name: str
    version: int
    title: Mapping[str, str]
    subject: str
    who: str
    why: str
    at: datetime
    content: Mapping[str, Any]


class ClassifierStore:
    """Every version of every classifier, one file each; none is ever changed.

    Parameters
    ----------
    folder
        Made with the first version.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of all classifiers, sorted."""
        return sorted({path.parent.name for path in self._folder.glob("*/*.json")})

    def versions(self, name: str) -> list[SavedClassifier]:
        """Return every version of a classifier, oldest first; none if there is no such."""
        return [_read(path) for path in sorted((self._folder / name).glob("*.json"))]

    def get(self, name: str, version: int | None = None) -> SavedClassifier:
        """Return a version; None: the newest.

        Raises
        ------
        ClassifierError
            If there is none.
        """
        found = [saved for saved in self.versions(name) if version in (None, saved.version)]
        if not found:
            have = ", ".join(self.names()) or "none"
            raise ClassifierError(
                f"There is no classifier '{name}'"
                + (f" of version {version}." if version else "."),
                remedy=f"There are: {have}.",
                zh=f"没有分类器“{name}”或该版本，现有：{have}。",
            )
        return found[-1]

    def save(  # noqa: PLR0913 - what, what it is called, and who answers for it
        self,
        name: str,
        classifier: Classifier,
        *,
        title: Mapping[str, str],
        subject: str,
        who: str,
        why: str,
        clock: Clock,
    ) -> SavedClassifier:
        """Keep a classifier as the next version; what is the same as the newest is found.

        Parameters
        ----------
        name
            Lower-case letters, digits and ``_``.
        classifier
            What is kept.
        title
            By language.
        subject
            Kind of subject it classifies.
        who, why
            Who saves it and for what; both needed.
        clock
            Stamps it.
        """
        if not (name.isidentifier() and name.islower() and who.strip() and why.strip()):
            raise ClassifierError(
                f"A classifier needs a name of lower-case letters (not '{name}'), who and why.",
                remedy="Give all three.",
                zh="保存分类器须填写由小写字母组成的名称、保存人和原因。",
            )
        content = classifier.to_json()
        with file_lock(self._folder / ".lock"):
            versions = self.versions(name)
            if versions and canonical_json(versions[-1].content) == canonical_json(content):
                return versions[-1]
            number = len(versions) + 1
            saved = {
                "name": name,
                "version": number,
                "title": dict(title),
                "subject": subject,
                "who": who.strip(),
                "why": why.strip(),
                "at": clock.now(),
                "content": content,
            }
            body = {**saved, "digest": hash_id(content)}
            write_atomically(
                self._folder / name / f"{number:04d}.json", canonical_json(body).encode()
            )
            return self.get(name, number)


def classify_base(classifier: Classifier, tags: TagTable, *, engine: Engine) -> pa.Table:
    """Classify everybody.

    Returns
    -------
    pyarrow.Table
        The id column and ``class``, ordered by id.
    """
    rows = tags.read(engine, classifier.tags)
    found = classifier.classify(rows, tags.fields)
    return pa.table({tags.id_column: rows[tags.id_column], "class": found})


def classify_profile(
    classifier: Classifier, profile: Mapping[str, Any], fields: Mapping[str, TagField]
) -> str:
    """Classify one customer by the same code; tags that the profile lacks are missing."""
    row = pa.table(
        {tag: pa.array([profile.get(tag)], fields[tag].type.arrow) for tag in classifier.tags}
        or {"row": pa.array([0])}
    )
    return str(classifier.classify(row, fields)[0].as_py())


def publish_classes(
    saved: SavedClassifier, rows: pa.Table, as_of: date, *, lake: Lake, clock: Clock
) -> str:
    """Publish classes as lake table ``class__<name>``, which a tag reads; return the table's name.

    Parameters
    ----------
    saved
        The classifier that gave them.
    rows
        From :func:`classify_base`.
    as_of
        Date of the tag values.
    lake, clock
        Where they go, and what stamps them.
    """
    table = f"{CLASS_PREFIX}{saved.name}"
    lineage = {"classifier": saved.name, "version": saved.version, "digest": hash_id(saved.content)}
    with lake.publication(clock) as publication:
        publication.add(table, as_of, rows, lineage=lineage)
    return table


def class_counts(rows: pa.Table, classes: Sequence[str]) -> dict[str, int]:
    """Count the customers of each class; classes without anybody count 0."""
    counted = pc.value_counts(rows["class"])
    found = {row["values"]: row["counts"] for row in counted.to_pylist()}
    return {name: int(found.get(name, 0)) for name in classes}


def _read(path: Path) -> SavedClassifier:
    raw = json.loads(path.read_bytes())
    digest = raw.pop("digest", None)
    if digest != hash_id(raw["content"]):
        raise ClassifierError(
            f"{path.parent.name}/{path.name} has been changed since it was saved.",
            remedy="Restore it from a backup, or save the classifier again.",
            zh=f"{path.parent.name}/{path.name} 保存后被改动，请从备份恢复或重新保存。",
        )
    return SavedClassifier(**{**raw, "at": datetime.fromisoformat(raw["at"])})
