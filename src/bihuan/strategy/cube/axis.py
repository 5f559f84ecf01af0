"""The axes of a cube: how customers are parted into bands, by tags or by rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bihuan.audience import And, Compare, Flag, Node, Not, any_of, parse
from bihuan.data import ColumnType
from bihuan.kernel import UserError
from bihuan.kernel.document import Document
from bihuan.tag import TagDictionary

GROUPS: Mapping[str, Mapping[str, str]] = {
    "behaviour": {"zh": "行为", "en": "Behaviour"},
    "need": {"zh": "需求", "en": "Need"},
    "preference": {"zh": "偏好", "en": "Preference"},
    "value": {"zh": "价值", "en": "Value"},
    "life_cycle": {"zh": "生命周期", "en": "Life cycle"},
    "scene": {"zh": "场景", "en": "Scene"},
}
"""Groups of axes over customers; business and channel are made from the catalogue."""

BUSINESS, CHANNEL = "business", "channel"
NOWHERE = "none"
"""Code of the customers whom no band of an axis takes."""
NO_BAND: Mapping[str, str] = {"zh": "未归类", "en": "None of them"}
MOST_BANDS = 60


class CubeError(UserError):
    """A cube that is not whole, or a question that does not fit it."""


@dataclass(frozen=True, slots=True)
class Band:
    """One part of an axis.

    Parameters
    ----------
    code
        Unique on its axis.
    title
        By language.
    who
        Whom it takes, as written.
    place
        Where it is shown; of equal places the earlier one first.
    """

    code: str
    title: Mapping[str, str]
    who: Node
    place: int = 0


@dataclass(frozen=True, slots=True)
class Axis:
    """One way to part the customers.

    Parameters
    ----------
    name
        Unique in the cube.
    title
        By language.
    group
        One of :data:`GROUPS`.
    bands
        In order; a customer belongs to the first that takes him.
    shared
        Whether a customer belongs to every band that takes him instead (scenes).
    apart
        Whether no two bands can take the same customer, so that a band's rule stands alone.
    """

    name: str
    title: Mapping[str, str]
    group: str
    bands: tuple[Band, ...]
    shared: bool = False
    apart: bool = False

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the bands, then that of the customers in none of them."""
        return (*(band.code for band in self.bands), NOWHERE)

    @property
    def shown(self) -> tuple[str, ...]:
        """The codes in the order in which they are shown, which need not be that of the rules."""
        bands = sorted(self.bands, key=lambda band: band.place)
        return (*(band.code for band in bands), NOWHERE)

    def title_of(self, code: str) -> Mapping[str, str]:
        """Return the title of a band by language."""
        return next((band.title for band in self.bands if band.code == code), NO_BAND)

    def audience(self, codes: Sequence[str]) -> Node:
        """Return the rule that selects the customers of some bands.

        Parameters
        ----------
        codes
            Of this axis.

        Raises
        ------
        CubeError
            If there is no such band.
        """
        require_codes(codes, self.codes, self.name)
        return any_of(self._members(code) for code in codes)

    def _members(self, code: str) -> Node:
        rules = [band.who for band in self.bands]
        if code == NOWHERE:
            return Not(any_of(rules))
        at = self.codes.index(code)
        if self.shared or self.apart or at == 0:
            return rules[at]
        return And((rules[at], Not(any_of(rules[:at]))))


def code_of(value: object) -> str:
    """Return a code as text; YAML reads a bare ``yes`` as true."""
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def require_codes(codes: Sequence[str], known: Sequence[str], axis: str) -> None:
    """Raise :class:`CubeError` unless each code is one of the axis."""
    for code in codes:
        if code not in known:
            have = ", ".join(known)
            raise CubeError(
                f"The axis '{axis}' has no part '{code}'.",
                remedy=f"Choose from: {have}.",
                zh=f"维度 {axis} 没有取值 {code}，可选：{have}。",
            )


def parse_axis(
    part: Document, dictionary: TagDictionary, stages: Mapping[str, Sequence[Band]]
) -> Axis:
    """Read one axis of a cube file.

    Parameters
    ----------
    part
        With ``name``, ``title``, ``group`` and one of ``tag`` (a coded or boolean tag, or with
        ``edges`` a number), ``values`` (rules in order) and ``life_cycle`` (a file's stages).
    dictionary
        Gives the codes and titles of tags.
    stages
        Stages by name of the life-cycle file.

    Raises
    ------
    DocumentError
        If a field is missing or of the wrong form.
    """
    part.allow("name", "title", "group", "tag", "edges", "values", "life_cycle", "shared")
    shared = part.flag("shared", False)
    name = part.text("name")
    if name in (BUSINESS, CHANNEL):
        raise part.refuse("name", f"'{name}' is made from the catalogue", "Choose another name.")
    sources = [field for field in ("tag", "values", "life_cycle") if part.has(field)]
    if len(sources) != 1:
        raise part.refuse("", "needs one of tag, values, life_cycle", "Give exactly one of them.")
    if sources == ["tag"]:
        bands = _bands_of_tag(part, dictionary)
    elif sources == ["values"]:
        bands = tuple(_parse_band(value) for value in part.parts("values"))
    else:
        bands = tuple(stages[part.choice("life_cycle", sorted(stages))])
    codes = [band.code for band in bands]
    twice = sorted({code for code in codes if codes.count(code) > 1 or code == NOWHERE})
    if twice or not 0 < len(bands) <= MOST_BANDS:
        what = f"has the code '{twice[0]}' twice" if twice else f"has {len(bands)} parts"
        raise part.refuse("", what, f"Give 1 to {MOST_BANDS} parts with codes of their own.")
    return Axis(
        name=name,
        title=part.titles("title"),
        group=part.choice("group", tuple(GROUPS)),
        bands=bands,
        shared=shared,
        apart=sources == ["tag"],
    )


def _parse_band(part: Document) -> Band:
    part.allow("code", "title", "when")
    return Band(part.text("code"), part.titles("title"), parse(part.text("when")))


def _bands_of_tag(part: Document, dictionary: TagDictionary) -> tuple[Band, ...]:
    tag = dictionary.get(part.text("tag"))
    if part.has("edges"):
        return _bands_of_edges(part, tag.name)
    if tag.type is ColumnType.BOOLEAN:
        yes, no = {"zh": "是", "en": "Yes"}, {"zh": "否", "en": "No"}
        return (Band("yes", yes, Flag(tag.name)), Band("no", no, Compare(tag.name, "=", False)))
    if not tag.codes:
        raise part.refuse("tag", f"'{tag.name}' has no codes", "Give edges, or write values.")
    return tuple(
        Band(code, title, Compare(tag.name, "=", code)) for code, title in tag.codes.items()
    )


def _bands_of_edges(part: Document, tag: str) -> tuple[Band, ...]:
    edges = part.raw("edges")
    numbers = isinstance(edges, list) and all(
        isinstance(edge, (int, float)) and not isinstance(edge, bool) for edge in edges
    )
    if not numbers or not edges or any(a >= b for a, b in pairwise(edges)):
        raise part.refuse("edges", f"are {edges!r}", "Write rising numbers, as [10, 50].")
    first, last = edges[0], edges[-1]
    bands = [Band(f"below_{first}", _same(f"< {first}"), Compare(tag, "<", first))]
    for low, high in pairwise(edges):
        inside = And((Compare(tag, ">=", low), Compare(tag, "<", high)))
        bands.append(Band(f"from_{low}", _same(f"{low} – {high}"), inside))
    return (*bands, Band(f"from_{last}", _same(f"≥ {last}"), Compare(tag, ">=", last)))


def _same(text: str) -> Mapping[str, str]:
    return {"zh": text, "en": text}
