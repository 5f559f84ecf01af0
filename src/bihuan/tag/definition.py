"""What a tag is: its names, its place in the system, its meaning and how it is set.

A tag is a qualitative business mark on an object (a customer, a line, a unit, a person of the
staff), made from the object's attributes and behaviour because a business need asks for it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TypeAlias

from bihuan.data import ColumnType
from bihuan.kernel import UserError, hash_id
from bihuan.tag.expression import Threshold, canonical_text

Default: TypeAlias = str | int | float | bool | date | Decimal
Text: TypeAlias = Mapping[str, str]
"""A text by language, ``zh`` and ``en``."""


class Layer(enum.StrEnum):
    """How far a tag is from the data."""

    BASE = "base"
    PORTRAIT = "portrait"
    MARKETING = "marketing"


class Library(enum.StrEnum):
    """Whose behaviour a tag marks: customers', or our own units' and staff's."""

    CUSTOMER = "customer"
    MANAGEMENT = "management"


class Subject(enum.StrEnum):
    """What carries the tag: the service level at which it applies."""

    CUSTOMER = "customer"
    SUBSCRIPTION = "subscription"
    ENTERPRISE = "enterprise"
    LEASED_LINE = "leased_line"
    POWER_LINE = "power_line"
    ORG_UNIT = "org_unit"
    STAFF = "staff"
    OUTLET = "outlet"
    CREW = "crew"
    AREA = "area"

    @classmethod
    def _missing_(cls, value: object) -> None:
        kinds = ", ".join(subject.value for subject in cls)
        raise UserError(
            f"There are no tags on {value!r}.",
            remedy=f"Choose one of: {kinds}.",
            zh=f"没有对象 {value!r} 的标签，可选：{kinds}。",
        )

    @property
    def id_column(self) -> str:
        """The column that holds the subject's id; its state table has the subject's own name."""
        return f"{self.value}_id"

    @property
    def library(self) -> Library:
        """The library that holds the subject's tags."""
        ours = self in (
            Subject.ORG_UNIT, Subject.STAFF, Subject.OUTLET, Subject.CREW, Subject.AREA,
        )  # fmt: skip
        return Library.MANAGEMENT if ours else Library.CUSTOMER


class Means(enum.StrEnum):
    """The four means of setting a tag."""

    DIRECT = "direct"
    STATISTICS = "statistics"
    MINING = "mining"
    EXPERIENCE = "experience"


class Refresh(enum.StrEnum):
    """How often a tag is derived anew."""

    DAILY = "daily"
    MONTHLY = "monthly"


class State(enum.StrEnum):
    """Where a tag stands in its life."""

    DRAFT = "draft"
    REVIEW = "review"
    TEST = "test"
    LIVE = "live"
    RETIRED = "retired"


class TagDefinitionError(UserError):
    """One or more tags are not defined as a tag must be.

    Parameters
    ----------
    message, remedy, zh
        As in :class:`~bihuan.kernel.UserError`.
    problems
        The single errors, where this one stands for several.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        zh: str = "",
        problems: Sequence[TagDefinitionError] = (),
    ) -> None:
        super().__init__(message, remedy=remedy, zh=zh)
        self.problems: tuple[TagDefinitionError, ...] = tuple(problems) or (self,)

    @classmethod
    def of(cls, problems: Sequence[TagDefinitionError]) -> TagDefinitionError:
        """Make one error of several; of one, that one."""
        if len(problems) == 1:
            return problems[0]
        shown = problems[:20]
        more = "" if len(shown) == len(problems) else f"\n... and {len(problems) - 20} more"
        return cls(
            f"{len(problems)} problems in tag definitions:\n"
            + "\n".join(f"- {problem.text('en')}" for problem in shown)
            + more,
            zh=f"标签定义有 {len(problems)} 处问题：\n"
            + "\n".join(f"- {problem.text('zh')}" for problem in shown)
            + more,
            problems=problems,
        )


@dataclass(frozen=True, slots=True)
class TagDefinition:
    """One tag, as an analyst defines it.

    Parameters
    ----------
    name
        Snake case; the word that planners type.
    title
        In ``zh`` and ``en``, like all texts here.
    layer, subject, means, type
        Its layer, what carries it, by which means it is set, type of its values.
    meaning, definition
        What it says (内涵) and how it is counted (口径).
    category
        Path in the tag tree, ``/`` between levels (``消费/账单``).
    owner
        Who answers for it.
    library
        Library that holds it: its subject's, and None stands for that.
    unit
        Unit of its values; empty where none.
    source
        Lake table it is counted from; None for a tag of tags or of a model.
    subject_column
        Column of ``source`` with the subject's id; None where it is called ``<subject>_id``.
    expression
        SQL over the rows of ``source`` (with ``months_ago``, 0 for the month of ``as_of``), over
        other tags' names, or over ``score`` of a model.
    model
        Name of the model whose scores (lake table ``score__<model>``) it shows.
    window_months
        How many months of ``source`` it looks back on, 1 = the month of ``as_of`` alone.
    default
        Value of a subject that has no row of ``source`` in the window; None = missing.
    codes
        Allowed values with their titles by language; None where the domain is open.
    thresholds
        Values that people set, used in the expression as ``$name``.
    refresh, version, state
        Refresh period, version from 1 up, and place in its life.
    origin
        File and line it was read from; for messages, not part of its identity.
    """

    name: str
    title: Text
    layer: Layer
    subject: Subject
    means: Means
    type: ColumnType
    meaning: Text
    definition: Text
    category: str
    owner: str
    library: Library | None = None
    unit: str = ""
    source: str | None = None
    subject_column: str | None = None
    expression: str | None = None
    model: str | None = None
    window_months: int = 1
    default: Default | None = None
    codes: Mapping[str, Text] | None = None
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    refresh: Refresh = Refresh.MONTHLY
    version: int = 1
    state: State = State.DRAFT
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.library is None:
            object.__setattr__(self, "library", self.subject.library)

    @property
    def table(self) -> str | None:
        """Lake table it reads: its source, or its model's scores; None for a tag of tags."""
        return f"score__{self.model}" if self.model else self.source

    @property
    def group(self) -> str | None:
        """Its table, with the subject's column if that is not the usual one."""
        return f"{self.table}__{self.subject_column}" if self.subject_column else self.table

    @property
    def id_column(self) -> str:
        """The column of its table that holds the subject's id."""
        return self.subject_column or self.subject.id_column

    @property
    def calculation_id(self) -> str:
        """Id of all that decides its values: two tags of the same id come out the same."""
        expression = canonical_text(self.expression or "score")
        return hash_id(
            *(self.name, self.subject, self.table, self.id_column, expression),
            *(self.window_months, self.type, self.default, sorted(self.codes or ())),
            dict(self.thresholds),
        )

    def problem(
        self,
        what: str,
        *,
        zh: str,
        remedy: str = "",
        at: str = "",
        position: tuple[int, int] | None = None,
    ) -> TagDefinitionError:
        """Make an error about this tag; see :func:`tag_problem`."""
        place = Place(self.name, self.origin, at, position)
        return tag_problem(place, what, zh=zh, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is wrong: tag, file and line, field, and line and column in the field."""

    tag: str
    origin: str = ""
    field: str = ""
    position: tuple[int, int] | None = None


def tag_problem(place: Place, what: str, *, zh: str, remedy: str = "") -> TagDefinitionError:
    """Make an error that names its place.

    Parameters
    ----------
    place
        Where.
    what, zh, remedy
        What is wrong, the same with its remedy in Chinese, and what to do.
    """
    origin = f"{place.origin}: " if place.origin else ""
    where = f", {place.field}" if place.field else ""
    where_zh = f" 的 {place.field}" if place.field else ""
    if place.position:
        line, column = place.position
        where += f", line {line}, column {column}"
        where_zh += f" 第 {line} 行第 {column} 列"
    return TagDefinitionError(
        f"{origin}tag '{place.tag}'{where}: {what}",
        remedy=remedy,
        zh=f"{origin}标签 {place.tag}{where_zh}：{zh}",
    )
