"""All scripts of an operator: matched in one place, so that all channels say the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import And, Nobody, Node, Profile, bind, matcher, normalise, to_text
from bihuan.kernel import UserError, hash_id
from bihuan.kernel.document import LANGUAGES, DocumentError
from bihuan.offer import Catalogue, exclusive_wording
from bihuan.strategy.script.lot import draw_arms
from bihuan.strategy.script.script import OFFER_WORDS, Arm, Script, read_scripts, texts_of
from bihuan.strategy.script.wording import ForbiddenWord, WordList
from bihuan.tag import TagDictionary, TagField

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("script_id", pa.string()),
        ("version", pa.int32()),
        ("arm", pa.string()),
    ]
)


class TiedScriptsError(UserError):
    """Two scripts fit some customer equally well."""


@dataclass(frozen=True, slots=True)
class ScriptChoice:
    """What one customer hears.

    Parameters
    ----------
    script_id, version, arm
        The wording chosen.
    text
        Filled in, by language.
    why
        Why this one, by language.
    """

    script_id: str
    version: int
    arm: str
    text: Mapping[str, str]
    why: Mapping[str, str]


class ScriptBook:
    """Scripts by id and version, and the words that none may say.

    Parameters
    ----------
    scripts
        All versions.
    words
        Forbidden words.
    catalogue
        The offers.
    dictionary
        Customer tags; with them, audiences and placeholders are checked, and codes are said by
        their titles. None leaves that to the caller.
    seed
        The workspace's; the lot of the arms hangs on it.

    Raises
    ------
    DocumentError
        If a version stands twice, or an unknown offer or tag is named.
    ForbiddenWordError
        If a text that may be said holds a forbidden word.
    TiedScriptsError
        If two scripts in use fit some customer equally well; names both.
    """

    def __init__(
        self,
        scripts: Iterable[Script],
        words: Iterable[ForbiddenWord],
        catalogue: Catalogue,
        *,
        dictionary: TagDictionary | None = None,
        seed: int = 0,
    ) -> None:
        self.words = WordList(tuple(words))
        self.catalogue = catalogue
        self.seed = seed
        self._dictionary = dictionary
        fields = None if dictionary is None else dictionary.schema("customer")
        self._scripts: dict[tuple[str, int], Script] = {}
        for script in scripts:
            key = (script.script_id, script.version)
            if key in self._scripts:
                other = self._scripts[key].place
                raise _refuse(script, f"is there twice, see {other}", f"与 {other} 重复")
            self._scripts[key] = self._checked(script, fields)
        self._ranked: dict[tuple[str, str], tuple[Script, ...]] = {}
        self._tests: dict[str, Callable[[Profile], bool]] = {
            script.key: matcher(script.audience) for script in self.in_use
        }
        _require_no_ties(self.in_use, self.catalogue)

    @classmethod
    def load(
        cls,
        places: Path | Sequence[Path],
        catalogue: Catalogue,
        *,
        dictionary: TagDictionary | None = None,
        seed: int = 0,
    ) -> ScriptBook:
        """Read script files.

        Parameters
        ----------
        places
            Folders with YAML files, or files.
        catalogue, dictionary, seed
            See :class:`ScriptBook`.
        """
        scripts: list[Script] = []
        words: list[ForbiddenWord] = []
        for place in [places] if isinstance(places, Path) else places:
            for path in sorted(place.glob("*.yaml")) if place.is_dir() else [place]:
                found, forbidden = read_scripts(path)
                scripts += found
                words += forbidden
        return cls(scripts, words, catalogue, dictionary=dictionary, seed=seed)

    # what is written

    @property
    def scripts(self) -> tuple[Script, ...]:
        """All versions of all scripts."""
        return tuple(self._scripts.values())

    @property
    def in_use(self) -> tuple[Script, ...]:
        """Of each script the highest approved version."""
        newest: dict[str, Script] = {}
        for script in self._scripts.values():
            other = newest.get(script.script_id)
            if script.status == "approved" and (other is None or other.version < script.version):
                newest[script.script_id] = script
        return tuple(newest.values())

    @property
    def content_id(self) -> str:
        """Hash of what is in use; another wording gives another id."""
        return hash_id("scripts", self.seed, sorted((s.content() for s in self.in_use), key=str))

    def get(self, script_id: str, version: int | None = None) -> Script:
        """Return a version of a script; without one, that in use.

        Raises
        ------
        UserError
            If there is none; lists the scripts that there are.
        """
        found = [s for s in self.in_use if s.script_id == script_id]
        if version is not None:
            found = [s for s in self.scripts if (s.script_id, s.version) == (script_id, version)]
        if found:
            return found[0]
        which = f"'{script_id}'" + ("" if version is None else f" in version {version}")
        have = ", ".join(sorted({s.key for s in self.scripts})) or "none"
        raise UserError(
            f"There is no script {which} (there are: {have}).",
            remedy="Choose one of them, or approve the version.",
            zh=f"没有话术 {which}(现有：{have})。请从中选择或先批准该版本。",
        )

    def ranked(self, offer_id: str, channel: str) -> tuple[Script, ...]:
        """Return the scripts in use for an offer in a channel, the most specific first."""
        key = (offer_id, channel)
        found = self._ranked.get(key)
        if found is None:
            kind = self.catalogue.get(offer_id).kind
            fitting = [s for s in self.in_use if s.fits(offer_id, kind, channel)]
            found = tuple(sorted(fitting, key=lambda s: s.rank, reverse=True))
            self._ranked[key] = found
        return found

    def segments(self, offer_id: str | None = None, channel: str | None = None) -> dict[str, Node]:
        """Return the audiences by which scripts are told apart, by script id.

        Parameters
        ----------
        offer_id, channel
            Of what; None: of all scripts in use.
        """
        if offer_id is None or channel is None:
            return {s.script_id: s.audience for s in self.in_use if s.has_audience}
        found = self.ranked(offer_id, channel)
        return {s.script_id: s.audience for s in found if s.has_audience}

    # what is said

    def match(
        self,
        offer_id: str,
        channel: str,
        profile: Profile,
        *,
        customer_id: str,
        allowed: Collection[str] | None = None,
    ) -> ScriptChoice | None:
        """Choose and fill in what one customer hears.

        Parameters
        ----------
        offer_id, channel
            What is offered, through which channel kind.
        profile
            Tag values by name.
        customer_id
            Draws the arm.
        allowed
            Ids of the scripts that the policy of the unit allows; None = all.

        Returns
        -------
        ScriptChoice or None
            None if no script fits.

        Raises
        ------
        MissingTagError
            If a value is missing and the script says nothing instead.
        ForbiddenWordError
            If what was filled in holds a forbidden word.
        """
        for script in self.ranked(offer_id, channel):
            if allowed is not None and script.script_id not in allowed:
                continue
            if self._tests[script.key](profile):
                arm = script.arms[self._lots(pa.array([customer_id]), script)[0]]
                return ScriptChoice(
                    script.script_id, script.version, arm.name,
                    self.fill(script, arm, offer_id, profile), self._why(script, offer_id, channel),
                )  # fmt: skip
        return None

    def match_table(
        self,
        customer_id: pa.Array | pa.ChunkedArray,
        offer_id: str,
        channel: str,
        flags: Mapping[str, NDArray[np.bool_]],
        *,
        allowed: Collection[str] | None = None,
    ) -> pa.Table:
        """Choose what many customers hear; the same as :meth:`match` for each.

        Parameters
        ----------
        customer_id
            Shape ``(n,)``.
        offer_id, channel
            What is offered, through which channel kind.
        flags
            Whether each customer belongs to a script's audience, by script id, shape ``(n,)``;
            for every id of :meth:`segments`.
        allowed
            Ids of the scripts that the policy allows; None = all.

        Returns
        -------
        pyarrow.Table
            ``customer_id``, ``script_id``, ``version``, ``arm``; missing where no script fits.
        """
        scripts = [
            s for s in self.ranked(offer_id, channel) if allowed is None or s.script_id in allowed
        ]
        n = len(customer_id)
        choice = np.full(n, -1, dtype=np.int64)
        for number, script in reversed(list(enumerate(scripts))):  # the most specific comes last
            choice[flags[script.script_id] if script.has_audience else slice(None)] = number
        wording = np.full(n, -1, dtype=np.int64)
        names: list[tuple[str, int, str]] = []
        for number, script in enumerate(scripts):
            rows = np.flatnonzero(choice == number)
            if len(rows):
                wording[rows] = len(names) + self._lots(customer_id.take(pa.array(rows)), script)
            names += [(script.script_id, script.version, arm.name) for arm in script.arms]
        taken = pa.array(np.where(wording < 0, 0, wording), mask=wording < 0)
        columns = list(zip(*names, strict=True)) if names else [(None,), (None,), (None,)]
        return pa.Table.from_arrays(
            [
                customer_id.cast(pa.string()),
                *(
                    pa.array(column, field.type).take(taken)
                    for column, field in zip(columns, list(SCHEMA)[1:], strict=True)
                ),
            ],
            schema=SCHEMA,
        )

    def fill(self, script: Script, arm: Arm, offer_id: str, profile: Profile) -> dict[str, str]:
        """Return one customer's text by language; see :meth:`match`."""
        texts = {}
        for language in LANGUAGES:
            values = {**profile, **self._offer_words(offer_id, language)}
            texts[language] = arm.templates[language].fill(
                values, _by_language(script.instead, language), self._label(language)
            )
        texts = exclusive_wording(texts, self.catalogue.get(offer_id))
        self.words.require_none(texts, f"script {script.key} arm {arm.name}, filled in,")
        return texts

    def fill_table(
        self, chosen: pa.Table, offer_id: str, tags: pa.Table, language: str
    ) -> pa.ChunkedArray:
        """Return the texts of :meth:`match_table`'s rows, in their order.

        Parameters
        ----------
        chosen
            What :meth:`match_table` gave.
        offer_id
            What is offered.
        tags
            The tags of :meth:`tags_of`, one row per row of ``chosen``.
        language
            ``zh`` or ``en``.

        Returns
        -------
        pyarrow.ChunkedArray
            Strings; missing where no script fits.
        """
        texts = np.full(chosen.num_rows, None, dtype=object)
        wording = chosen.select(["script_id", "version", "arm"]).group_by(
            ["script_id", "version", "arm"]
        )
        for row in wording.aggregate([]).to_pylist():
            if row["script_id"] is None:
                continue
            script = self.get(row["script_id"], row["version"])
            arm = next(arm for arm in script.arms if arm.name == row["arm"])
            rows = _rows_of(chosen, row)
            columns = {
                name: tags[name].take(pa.array(rows)).combine_chunks()
                for name in arm.templates[language].names
                if name not in OFFER_WORDS
            }
            for name, value in self._offer_words(offer_id, language).items():
                columns[name] = pa.repeat(pa.scalar(value), len(rows))
            filled = arm.templates[language].fill_column(
                columns, len(rows), _by_language(script.instead, language), self._label(language)
            )
            place = f"script {script.key} arm {arm.name}, filled in,"
            coded = filled.dictionary_encode()
            said = self._said(coded.dictionary.to_pylist(), offer_id, language, place)
            texts[rows] = said[coded.indices.to_numpy()]
        return pa.chunked_array([pa.array(texts, pa.string())])

    def tags_of(self, offer_id: str, channel: str) -> tuple[str, ...]:
        """Return the tags that the texts for an offer in a channel may need."""
        found = (name for s in self.ranked(offer_id, channel) for name in s.tags)
        return tuple(dict.fromkeys(found))

    def forbidden_in(self, texts: Mapping[str, str]) -> tuple[ForbiddenWord, ...]:
        """Return the forbidden words of any text, e.g. one that a campaign brings itself."""
        hits = {w.word: w for text in texts.values() for w in self.words.find(text)}
        return tuple(hits.values())

    # inside

    def _lots(self, ids: pa.Array | pa.ChunkedArray, script: Script) -> NDArray[np.int64]:
        shares = [arm.share for arm in script.arms]
        return draw_arms(ids, shares, self.seed, script.script_id, str(script.version))

    def _checked(self, script: Script, fields: Mapping[str, TagField] | None) -> Script:
        for offer_id in sorted(script.offers):
            if offer_id not in self.catalogue:
                raise _refuse(
                    script, f"names the unknown offer '{offer_id}'", f"使用了未知产品 {offer_id}"
                )
        if script.status != "retired":
            for place, texts in texts_of(script):
                self.words.require_none(texts, place)
        if fields is None:
            return script
        for name in script.tags:
            if name not in fields:
                raise _refuse(script, f"needs the unknown tag '{name}'", f"使用了未知标签 {name}")
        try:
            return replace(script, audience=normalise(bind(script.audience, fields)))
        except UserError as error:
            raise type(error)(
                f"{script.place}: {error.message}", remedy=error.remedy,
                zh=f"{script.place}:{error.zh}",
            ) from error  # fmt: skip

    def _offer_words(self, offer_id: str, language: str) -> dict[str, Any]:
        offer = self.catalogue.get(offer_id)
        return {"offer": offer.title[language], "price": offer.price, "months": offer.months}

    def _said(
        self, texts: Sequence[str], offer_id: str, language: str, place: str
    ) -> NDArray[np.object_]:
        """Return distinct texts as they go out, after the last look at their words."""
        offer = self.catalogue.get(offer_id)
        found = np.full(len(texts), None, dtype=object)
        for number, text in enumerate(texts):
            both = exclusive_wording(dict.fromkeys(LANGUAGES, text), offer)
            found[number] = both[language]
            self.words.require_none({language: both[language]}, place)
        return found

    def _label(self, language: str) -> Callable[[str, Any], Any]:
        dictionary = self._dictionary
        if dictionary is None:
            return lambda name, value: value

        def label(name: str, value: Any) -> Any:
            tag = dictionary.find(name)
            titles = None if tag is None or tag.codes is None else tag.codes.get(str(value))
            return value if titles is None else titles.get(language, value)

        return label

    def _why(self, script: Script, offer_id: str, channel: str) -> dict[str, str]:
        kind = self.catalogue.get(offer_id).kind
        zh = [f"专为 {offer_id} 撰写" if script.offers else
              f"适用于 {kind} 类产品" if script.kinds else "适用于所有产品"]  # fmt: skip
        en = [f"written for {offer_id}" if script.offers else
              f"for offers of kind {kind}" if script.kinds else "for all offers"]  # fmt: skip
        zh.append(f"用于 {channel} 渠道" if script.channels else "用于所有渠道")
        en.append(f"in {channel}" if script.channels else "in all channels")
        if script.has_audience:
            zh.append(f"客户符合：{to_text(script.audience)}")
            en.append(f"to customers with {to_text(script.audience)}")
        return {"zh": ",".join(zh), "en": ", ".join(en)}


def _rows_of(chosen: pa.Table, wording: Mapping[str, Any]) -> NDArray[np.int64]:
    hit = pc.and_(
        pc.equal(chosen["script_id"], wording["script_id"]),
        pc.equal(chosen["arm"], wording["arm"]),
    )
    mask = pc.fill_null(hit, fill_value=False).to_numpy()
    return np.flatnonzero(mask)


def _by_language(instead: Mapping[str, Mapping[str, str]], language: str) -> dict[str, str]:
    return {name: texts[language] for name, texts in instead.items()}


def _require_no_ties(scripts: Sequence[Script], catalogue: Catalogue) -> None:
    """Refuse two scripts that fit some customer equally well."""
    ordered = sorted(scripts, key=lambda s: s.rank[:4])
    for one, other in combinations(ordered, 2):
        if one.rank[:4] == other.rank[:4] and _overlap(one, other, catalogue):
            raise TiedScriptsError(
                f"{one.place} and {other.place} fit the same customers equally well.",
                remedy="Give one of them a greater priority, or an audience that leaves out the"
                " other's.",
                zh=f"{one.place} 与 {other.place} 对同一客户同样适用。"
                "请为其中之一设置更高的 priority,或使两者的客户群互斥。",
            )


def _overlap(one: Script, other: Script, catalogue: Catalogue) -> bool:
    if one.channels and other.channels and not one.channels & other.channels:
        return False
    if one.offers and not one.offers & other.offers:
        return False
    if one.kinds and not one.kinds & other.kinds:
        return False
    if one.conditions < other.conditions or other.conditions < one.conditions:
        return False  # the one with more conditions is more specific
    return not isinstance(normalise(And((one.audience, other.audience))), Nobody)


def _refuse(script: Script, problem: str, zh: str) -> DocumentError:
    return DocumentError(
        f"{script.place} {problem}.", remedy="Correct it.", zh=f"{script.place} {zh}。请更正。"
    )
