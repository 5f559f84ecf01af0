"""Groups that last: cohorts frozen at a date, and classes that become tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import yaml

from bihuan.audience import (
    Axis,
    ClassifierStore,
    Cohort,
    Following,
    Matrix,
    RuleClassifier,
    SavedClassifier,
    analyse_matrix,
    bind,
    class_counts,
    classify_base,
    classify_profile,
    find_cohort,
    follow_cohort,
    follow_table,
    list_cohorts,
    lost_members,
    parse,
    publish_classes,
    read_flags,
    take_cohort,
)
from bihuan.kernel import UserError, write_atomically
from bihuan.model import Clustering, ClusterModel, fit_clusters
from bihuan.tag import LIBRARY_FOLDER
from bihuan.workspace.scenes import derived_dates

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

Day: TypeAlias = date | str
Names: TypeAlias = list[str]
CohortList: TypeAlias = list[Cohort]
KEPT = "not is_disconnected"


@dataclass(frozen=True, slots=True)
class Follow:
    """A cohort month by month.

    Parameters
    ----------
    steps
        Per date the cohort, then what it is held against.
    """

    steps: tuple[Following, ...]

    def of(self, group: str = "cohort") -> tuple[Following, ...]:
        """Return one group's steps, by date."""
        return tuple(step for step in self.steps if step.group == group)

    def table(self) -> pa.Table:
        """Return one row per date and group."""
        return follow_table(self.steps)

    def chart(self) -> list[dict[str, Any]]:
        """Return what a line chart draws: date, group, retained share and its interval."""
        return [
            {
                "date": step.as_of.isoformat(),
                "group": step.group,
                "retained": step.retained,
                "low": step.low,
                "high": step.high,
            }
            for step in self.steps
        ]


class Cohorts:
    """Snapshot cohorts (拍照用户): frozen at a date, compared with later ones.

    Parameters
    ----------
    workspace
        Where tags and snapshots are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace

    def take(
        self,
        name: str,
        audience: str,
        as_of: Day,
        *,
        values: Sequence[str] = ("arpu", "dou"),
        who: str = "",
        why: str = "",
    ) -> Cohort:
        """Freeze an audience as a cohort of that name; a name is never given twice.

        Parameters
        ----------
        name
            Unique in the workspace.
        audience
            Who belongs to it.
        as_of
            Date of the tags.
        values
            Numeric tags whose values of that day are kept to be compared.
        who, why
            Who takes it and for what.
        """
        ws = self._ws
        return take_cohort(
            name, ws.take_snapshot(audience, as_of), ws.tags(as_of), values=values, who=who,
            why=why, lake=ws.lake, engine=ws.engine, clock=ws.clock,
        )  # fmt: skip

    def list(self) -> CohortList:
        """Return every cohort, by date and name."""
        return list_cohorts(self._ws.view)

    def get(self, name: str) -> Cohort:
        """Return the cohort of that name; raise :class:`UserError` if there is none."""
        found = find_cohort(self._ws.view, name)
        if found is None:
            have = ", ".join(cohort.name for cohort in self.list()) or "none"
            raise UserError(
                f"There is no cohort '{name}'.",
                remedy=f"There are: {have}.",
                zh=f"没有名为“{name}”的拍照群，现有：{have}。",
            )
        return found

    def follow(
        self,
        name: str,
        dates: Sequence[Day] | None = None,
        *,
        kept: str = KEPT,
        against: str | None = None,
    ) -> Follow:
        """Compare a cohort month by month with those who were not in it, or another cohort.

        Parameters
        ----------
        name
            The cohort.
        dates
            Dates of tags; None: all from the cohort's on.
        kept
            Who of those still in the base counts as retained, read at each date; add a bound on
            value to count a drop to low-end as lost.
        against
            Another cohort; None: the rest of the base on the day the cohort was taken.
        """
        cohort = self.get(name)
        other = None if against is None else self.get(against)
        first = max(cohort.as_of, cohort.as_of if other is None else other.as_of)
        days = dates or [d for d in derived_dates(self._ws, cohort.subject) if d >= first]
        steps: list[Following] = []
        for day in days:
            tags = self._ws.tags(day, subject=cohort.subject)
            steps += follow_cohort(cohort, tags, parse(kept), engine=self._ws.engine, against=other)
        return Follow(tuple(steps))

    def lost(self, name: str, as_of: Day, *, kept: str = KEPT) -> pa.Table:
        """List the members who are no longer retained at a date, and how they were lost."""
        cohort = self.get(name)
        tags = self._ws.tags(as_of, subject=cohort.subject)
        return lost_members(cohort, tags, parse(kept), engine=self._ws.engine)


@dataclass(frozen=True, slots=True)
class Classified:
    """Everybody's class at a date.

    Parameters
    ----------
    name, version
        Which classifier.
    as_of
        Date of the tags.
    counts
        Customers by class.
    moved
        Customers by class before and class now, against the newest earlier date classified; empty
        if there is none.
    tag
        The tag that holds the class, once the tags are refreshed.
    """

    name: str
    version: int
    as_of: date
    counts: Mapping[str, int]
    moved: Mapping[tuple[str, str], int]
    tag: str


class Segments:
    """Matrix, clusters and automatic classification.

    Parameters
    ----------
    workspace
        Where tags, snapshots and definitions are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._store = ClassifierStore(workspace.layout.root / "classifiers")

    def matrix(
        self,
        rows: str | Axis,
        columns: str | Axis,
        as_of: Day,
        *,
        within: str = "everyone",
        means: Sequence[str] = (),
    ) -> Matrix:
        """Part customers by two tags; see :func:`~bihuan.audience.analyse_matrix`.

        Parameters
        ----------
        rows, columns
            A tag's name (three bands of about equal numbers) or an :class:`Axis`.
        as_of
            Date of the tags.
        within
            The customers looked at.
        means
            Numeric tags whose mean is shown per cell.
        """
        tags = self._ws.tags(as_of)
        first, second = (Axis(s) if isinstance(s, str) else s for s in (rows, columns))
        node = bind(parse(within), tags.fields)
        engine = self._ws.engine
        return analyse_matrix(first, second, tags, engine=engine, within=node, means=means)

    def cluster(
        self,
        tags: Sequence[str],
        as_of: Day,
        *,
        count: int | None = None,
        within: str = "everyone",
    ) -> Clustering:
        """Part customers into classes of alike ones; see :func:`~bihuan.model.fit_clusters`.

        Parameters
        ----------
        tags
            Numeric or boolean tags.
        as_of
            Their date.
        count
            Number of classes; None: as the data suggest.
        within
            The customers from whom it is learnt.
        """
        table = self._ws.tags(as_of)
        node = bind(parse(within), table.fields)
        _, flags = read_flags([node], table, engine=self._ws.engine)
        rows = table.read(self._ws.engine, tags).filter(pa.array(flags[:, 0]))
        titles = {tag: table.fields[tag].title for tag in tags}
        return fit_clusters(rows, tags, seed=self._ws.settings.seed, count=count, titles=titles)

    def rules(self, cells: Matrix | Sequence[tuple[str, str]]) -> RuleClassifier:
        """Make a classifier of a matrix's cells, or of class names and audiences in order."""
        if isinstance(cells, Matrix):
            rules = [(cell.name, cell.audience) for cell in cells.cells]
        else:
            rules = [(name, parse(text)) for name, text in cells]
        return RuleClassifier(tuple(rules), self._ws.engine)

    def save(
        self,
        name: str,
        classifier: RuleClassifier | Clustering | Matrix,
        *,
        title: Mapping[str, str],
        who: str,
        why: str,
    ) -> SavedClassifier:
        """Keep a classifier as the next version, and define the tag that holds its classes.

        Parameters
        ----------
        name
            Lower-case letters, digits and ``_``; the tag is ``class_<name>``.
        classifier
            From :meth:`rules`, :meth:`cluster` or :meth:`matrix`.
        title
            Title of the tag by language.
        who, why
            Who saves it and for what.
        """
        found: RuleClassifier | ClusterModel
        if isinstance(classifier, Clustering):
            found = classifier.model
        else:
            found = self.rules(classifier) if isinstance(classifier, Matrix) else classifier
        saved = self._store.save(
            name, found, title=title, subject="customer", who=who, why=why, clock=self._ws.clock
        )
        self._define(saved, found)
        return saved

    def list(self) -> Names:
        """Return the names of the classifiers, sorted."""
        return self._store.names()

    def versions(self, name: str) -> Sequence[SavedClassifier]:
        """Return every version of a classifier, oldest first."""
        return self._store.versions(name)

    def classify(self, name: str, as_of: Day, *, version: int | None = None) -> Classified:
        """Classify every customer at a date and publish the classes, ready to become a tag.

        Parameters
        ----------
        name
            The classifier.
        as_of
            Date of the tags.
        version
            None: the newest.
        """
        ws, saved = self._ws, self._store.get(name, version)
        classifier, tags = self._open(saved), ws.tags(as_of)
        rows = classify_base(classifier, tags, engine=ws.engine)
        earlier = [day for day in ws.view.dates(f"class__{name}") if day < tags.as_of]
        moved: dict[tuple[str, str], int] = {}
        if earlier:
            before = ws.view.get(f"class__{name}", earlier[-1]).read()
            moved = _moved(before, rows, tags.id_column)
        publish_classes(saved, rows, tags.as_of, lake=ws.lake, clock=ws.clock)
        counts = class_counts(rows, classifier.classes)
        return Classified(name, saved.version, tags.as_of, counts, moved, f"class_{name}")

    def class_of(
        self, name: str, customer_id: str, as_of: Day, *, version: int | None = None
    ) -> str:
        """Classify one customer's profile by the same code."""
        tags = self._ws.tags(as_of)
        classifier = self._open(self._store.get(name, version))
        return classify_profile(classifier, tags.profile(customer_id), tags.fields)

    def _open(self, saved: SavedClassifier) -> RuleClassifier | ClusterModel:
        if saved.content["kind"] == "clusters":
            return ClusterModel.read(saved.content)
        return RuleClassifier.read(saved.content, self._ws.engine)

    def _define(self, saved: SavedClassifier, classifier: RuleClassifier | ClusterModel) -> None:
        """Write the contract of the classes' table and the tag that reads it."""
        codes = {name: {"zh": name, "en": name} for name in classifier.classes}
        contract = {
            "table": f"class__{saved.name}",
            "meaning": dict(saved.title),
            "group": "class",
            "grain": "state",
            "key": ["customer_id"],
            "columns": {
                "customer_id": {
                    "type": "string",
                    "nullable": False,
                    "meaning": {"zh": "客户编号", "en": "Customer id"},
                },
                "class": {"type": "string", "meaning": dict(saved.title)},
            },
        }
        tag = {
            "name": f"class_{saved.name}",
            "title": dict(saved.title),
            "layer": "base",
            "library": "customer",
            "subject": "customer",
            "means": "direct",
            "type": "string",
            "source": f"class__{saved.name}",
            "expression": '"class"',
            "codes": codes,
            "category": "客户分群/自动分类/" + saved.title["zh"],
            "meaning": {
                "zh": f"分类器 {saved.name} 给出的分类",
                "en": f"Class given by classifier {saved.name}",
            },
            "definition": {
                "zh": f"第 {saved.version} 版，由 {saved.who} 保存：{saved.why}",
                "en": f"Version {saved.version}, saved by {saved.who}: {saved.why}",
            },
            "owner": saved.who,
            "state": "live",
            "version": saved.version,
        }
        self._write("contracts", f"class__{saved.name}", contract)
        self._keep_library()
        self._write("tags", f"class_{saved.name}", {"tags": [tag]})
        for cached in ("contracts", "dictionary"):
            self._ws.__dict__.pop(cached, None)

    def _write(self, kind: str, name: str, content: Mapping[str, Any]) -> None:
        text = yaml.safe_dump(dict(content), allow_unicode=True, sort_keys=False)
        write_atomically(self._ws.layout.definitions(kind) / f"{name}.yaml", text.encode())

    def _keep_library(self) -> None:
        """Copy the sample tags, which a workspace without tags of its own stands on."""
        folder = self._ws.layout.definitions("tags")
        if not any(folder.glob("*.yaml")):
            for file in sorted(LIBRARY_FOLDER.glob("*.yaml")):
                write_atomically(folder / file.name, file.read_bytes())


def _moved(before: pa.Table, now: pa.Table, id_column: str) -> dict[tuple[str, str], int]:
    """Count customers by class before and now; those who came or went are left out."""
    joined = before.rename_columns([id_column, "before"]).join(now, id_column, join_type="inner")
    counted = joined.group_by(["before", "class"]).aggregate([([], "count_all")])
    return {(row["before"], row["class"]): row["count_all"] for row in counted.to_pylist()}
