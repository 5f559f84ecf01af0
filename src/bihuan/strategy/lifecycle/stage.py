"""The customer life cycle: its stages, their strategies, and the signs that warn of decline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from bihuan.audience import Everyone, Node, parse
from bihuan.kernel import UserError
from bihuan.kernel.document import Document
from bihuan.offer import Catalogue, Offer
from bihuan.strategy.cube import Band
from bihuan.strategy.lifecycle.choice import OfferChoice, parse_choice

STAGES: Mapping[str, Mapping[str, str]] = {
    "acquisition": {"zh": "获取期", "en": "Acquisition"},
    "growth": {"zh": "提升期", "en": "Growth"},
    "maturity": {"zh": "成熟期", "en": "Maturity"},
    "decline": {"zh": "衰退期", "en": "Decline"},
    "leave": {"zh": "离网期", "en": "Leaving"},
}
"""Stages of the customer life cycle by code, in order."""

MEANS: Mapping[str, Mapping[str, str]] = {
    "cross_marketing": {"zh": "交叉营销", "en": "Cross marketing"},
    "deepen": {"zh": "深化使用", "en": "Deeper use"},
    "reward": {"zh": "回馈稳定", "en": "Reward"},
    "warn": {"zh": "预警挽留", "en": "Warn and keep"},
    "serve": {"zh": "服务改善", "en": "Better service"},
    "win_back": {"zh": "赢回", "en": "Win back"},
}
"""By what a strategy works."""


class LifeCycleError(UserError):
    """A life cycle that is not whole, or an unknown stage or strategy."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Parameters
    ----------
    code
        One of :data:`STAGES`.
    title, aim
        By language.
    who
        Whom it takes; the first stage in the file that takes a customer is his.
    """

    code: str
    title: Mapping[str, str]
    aim: Mapping[str, str]
    who: Node


@dataclass(frozen=True, slots=True)
class StageStrategy:
    """What is done for customers of a stage.

    Parameters
    ----------
    strategy_id
        Unique in the file.
    title, aim, script
        By language; the script is what a channel says.
    stages
        Stages in which it applies.
    means
        One of :data:`MEANS`.
    who
        Customers of the stage for whom it is meant; of several, the first in the file is used.
    choice
        The offers.
    channels
        Channel kinds, the first preferred.
    """

    strategy_id: str
    title: Mapping[str, str]
    aim: Mapping[str, str]
    script: Mapping[str, str]
    stages: tuple[str, ...]
    means: str
    who: Node
    choice: OfferChoice
    channels: tuple[str, ...]

    def offers(self, catalogue: Catalogue, day: date) -> tuple[Offer, ...]:
        """Return the offers on sale on a day that can be made through one of its channels."""
        return tuple(
            offer
            for offer in self.choice.of(catalogue, day)
            if not offer.channels.isdisjoint(self.channels)
        )


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of decline.

    Parameters
    ----------
    code
        Unique in the file.
    title
        By language.
    who
        Who shows it.
    weight
        Points that it gives, > 0.
    """

    code: str
    title: Mapping[str, str]
    who: Node
    weight: float


@dataclass(frozen=True, slots=True)
class LifeCycle:
    """A life cycle as its file says it.

    Parameters
    ----------
    name, title
        Of the file.
    stages
        In the order in which they are tried.
    strategies
        In the order of precedence.
    signs
        Of decline.
    levels
        Points from which a customer is warned about, by level, mildest first.
    base
        Customers who can leave; leaving is counted among them, and only they are warned about.
    """

    name: str
    title: Mapping[str, str]
    stages: tuple[Stage, ...]
    strategies: tuple[StageStrategy, ...]
    signs: tuple[Sign, ...]
    levels: Mapping[str, float]
    base: Node = field(default_factory=Everyone)

    @property
    def bands(self) -> tuple[Band, ...]:
        """The stages as the parts of an axis."""
        order = list(STAGES)
        return tuple(Band(s.code, s.title, s.who, order.index(s.code)) for s in self.stages)

    @property
    def in_order(self) -> tuple[Stage, ...]:
        """The stages in the order of the life cycle, which need not be that of the rules."""
        order = list(STAGES)
        return tuple(sorted(self.stages, key=lambda stage: order.index(stage.code)))

    def stage(self, code: str) -> Stage:
        """Return a stage; raise :class:`LifeCycleError` if there is none of that code."""
        for stage in self.stages:
            if stage.code == code:
                return stage
        raise _unknown("stage", "阶段", code, [stage.code for stage in self.stages])

    def strategy(self, strategy_id: str) -> StageStrategy:
        """Return a strategy; raise :class:`LifeCycleError` if there is none of that id."""
        for strategy in self.strategies:
            if strategy.strategy_id == strategy_id:
                return strategy
        known = [strategy.strategy_id for strategy in self.strategies]
        raise _unknown("strategy", "策略", strategy_id, known)

    def of_stage(self, code: str) -> tuple[StageStrategy, ...]:
        """Return the strategies of a stage, in order of precedence."""
        return tuple(strategy for strategy in self.strategies if code in strategy.stages)

    def gaps(self, catalogue: Catalogue, day: date) -> tuple[str, ...]:
        """Return ids of the strategies for which no offer is on sale through their channels."""
        return tuple(s.strategy_id for s in self.strategies if not s.offers(catalogue, day))


def load_life_cycle(path: Path) -> LifeCycle:
    """Read a life-cycle file.

    Parameters
    ----------
    path
        YAML file with ``stages``, ``strategies``, ``signs`` and ``levels``.

    Raises
    ------
    DocumentError
        If a field is missing or of the wrong form, a stage is absent or has no strategy.
    """
    top = Document.read(path).allow(
        "life_cycle", "title", "note", "base", "stages", "strategies", "signs", "levels"
    )
    stages = tuple(_parse_stage(part) for part in top.parts("stages"))
    strategies = tuple(_parse_strategy(part) for part in top.parts("strategies"))
    signs = tuple(_parse_sign(part) for part in top.parts("signs"))
    codes = [stage.code for stage in stages]
    absent = [code for code in STAGES if codes.count(code) != 1]
    if absent:
        raise top.refuse("stages", f"must hold '{absent[0]}' once", f"All of: {', '.join(STAGES)}.")
    bare = [code for code in STAGES if not any(code in s.stages for s in strategies)]
    if bare:
        raise top.refuse("strategies", f"has nothing for stage '{bare[0]}'", "Add a strategy.")
    for part, names in (
        ("strategies", [s.strategy_id for s in strategies]), ("signs", [s.code for s in signs]),
    ):  # fmt: skip
        if len(set(names)) != len(names):
            raise top.refuse(part, "has a name twice", "Give each its own name.")
    level_part = top.find_part("levels")
    levels = {n: level_part.number(n, low=1e-9) for n in level_part.fields()} if level_part else {}
    if list(levels.values()) != sorted(set(levels.values())):
        raise top.refuse("levels", "do not rise", "Write the mildest first.")
    return LifeCycle(
        name=top.text("life_cycle", path.stem),
        title=top.titles("title"),
        stages=stages,
        strategies=strategies,
        signs=signs,
        levels=levels,
        base=parse(top.text("base", "everyone")),
    )


def _parse_stage(part: Document) -> Stage:
    part.allow("code", "title", "aim", "when")
    code = part.choice("code", tuple(STAGES))
    return Stage(
        code, part.titles("title", STAGES[code]), part.titles("aim"), parse(part.text("when"))
    )


def _parse_strategy(part: Document) -> StageStrategy:
    part.allow("id", "title", "aim", "script", "stages", "means", "when", "offers", "channels")
    stages, channels = part.texts("stages"), part.texts("channels")
    wrong = [code for code in stages if code not in STAGES]
    if wrong or not stages:
        raise part.refuse("stages", f"are {list(stages)}", f"Choose from: {', '.join(STAGES)}.")
    if not channels:
        raise part.refuse("channels", "are missing", "Name at least one channel kind.")
    return StageStrategy(
        strategy_id=part.text("id"),
        title=part.titles("title"),
        aim=part.titles("aim"),
        script=part.titles("script"),
        stages=stages,
        means=part.choice("means", tuple(MEANS)),
        who=parse(part.text("when", "everyone")),
        choice=parse_choice(part.find_part("offers")),
        channels=channels,
    )


def _parse_sign(part: Document) -> Sign:
    part.allow("code", "title", "when", "weight")
    return Sign(
        code=part.text("code"),
        title=part.titles("title"),
        who=parse(part.text("when")),
        weight=part.number("weight", 1.0, low=1e-9),
    )


def _unknown(noun: str, zh: str, code: str, known: Iterable[str]) -> LifeCycleError:
    have = ", ".join(known)
    return LifeCycleError(
        f"The life cycle has no {noun} '{code}'.",
        remedy=f"Choose from: {have}.",
        zh=f"生命周期没有{zh} {code}，可选：{have}。",
    )
