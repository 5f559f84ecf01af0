"""Interactive exploration: a planner's questions in words, answered at one date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from bihuan.audience.algebra import Node
from bihuan.audience.coverage import NotEstimable
from bihuan.audience.normalise import normalise
from bihuan.audience.program import CrossTable, Histogram, Threshold
from bihuan.audience.segment.leak import Goal
from bihuan.audience.segment.quantify import Curve, Fit, fit_threshold, response_curve
from bihuan.audience.segment.reader import Reader, Side
from bihuan.audience.segment.refine import Explanation, explain_counts
from bihuan.audience.segment.relevance import Relevance, rank_tags
from bihuan.audience.segment.resources import Resources
from bihuan.audience.segment.response import Expectation
from bihuan.audience.snapshot import MemberCount, bind_to
from bihuan.audience.text import parse
from bihuan.data import Engine
from bihuan.tag import TagDictionary, TagTable

EVERYONE = "everyone"


class Exploration:
    """One date's customers, ready to be asked about.

    Audiences are given as text; every answer counts exactly what the text selects.

    Parameters
    ----------
    tags
        Tag values at the date.
    reader
        Answers counts, tables and thresholds.
    engine
        Runs what the reader does not answer.
    dictionary
        Tells what tags are made from.
    """

    def __init__(
        self, tags: TagTable, reader: Reader, *, engine: Engine, dictionary: TagDictionary
    ) -> None:
        self.tags = tags
        self.reader = reader
        self.engine = engine
        self.dictionary = dictionary

    def count(self, audience: str) -> MemberCount:
        """Count an audience."""
        return MemberCount(int(self.reader.counts([self._node(audience)])[0]), self.tags.rows)

    def counts(self, audiences: Sequence[str]) -> list[int]:
        """Count several audiences at once."""
        return [int(n) for n in self.reader.counts([self._node(text) for text in audiences])]

    def explain(self, audience: str, *, within: str = EVERYONE) -> Explanation:
        """Tell what each condition of an audience does; see :func:`explain_counts`."""
        asked = bind_to(self.tags, parse(audience))  # in the planner's own order
        return explain_counts(asked, self.reader, within=self._node(within))

    def cross(self, tags: Sequence[str], within: str = EVERYONE) -> CrossTable:
        """Count customers by one to three tags."""
        return self.reader.cross(tags, self._node(within))

    def histogram(self, tag: str, within: str = EVERYONE, *, bins: int = 50) -> Histogram:
        """Count customers by intervals of a numeric tag."""
        return self.reader.histogram(tag, self._node(within), bins=bins)

    def threshold(
        self, tag: str, size: int, within: str = EVERYONE, *, side: Side = "top"
    ) -> Threshold:
        """Find the value of a tag that leaves ``size`` customers."""
        return self.reader.threshold(tag, size, self._node(within), side=side)

    def sample(self, size: int, within: str = EVERYONE, *, seed: int) -> pa.Array:
        """Draw customers' ids at random, the same for the same seed."""
        return self.reader.sample(size, self._node(within), seed=seed)

    def rank(
        self,
        goal: str | Goal,
        tags: Sequence[str] | None = None,
        *,
        within: str = EVERYONE,
        pinned: Mapping[str, str] | None = None,
        monotone: bool = False,
    ) -> Relevance:
        """Rank tags by what they tell about a goal (定性).

        Parameters
        ----------
        goal
            An audience at this date, or a :class:`Goal` with answers of a later one.
        tags
            Names; None: all that have values.
        within
            The customers looked at.
        pinned
            Tags taken by experience, with the reason.
        monotone
            Pool bins until rates only rise or only fall.
        """
        return rank_tags(
            goal if isinstance(goal, Goal) else Goal(parse(goal)),
            self.tags,
            list(self.tags.fields) if tags is None else tags,
            engine=self.engine,
            within=self._node(within),
            dictionary=self.dictionary,
            pinned=pinned,
            monotone=monotone,
        )

    def fit(
        self, tag: str, resources: Resources, within: str = EVERYONE, *, side: Side = "top"
    ) -> Fit | NotEstimable:
        """Find the threshold at which an audience fits the resources (定量)."""
        return fit_threshold(tag, resources, self.reader, within=self._node(within), side=side)

    def curve(
        self,
        tag: str,
        resources: Resources,
        within: str = EVERYONE,
        *,
        side: Side = "top",
        expected: Expectation | None = None,
    ) -> Curve:
        """Show size, expected responses, cost and the binding resource at each threshold."""
        return response_curve(
            tag, resources, self.reader, within=self._node(within), side=side, expected=expected
        )

    def _node(self, audience: str) -> Node:
        return normalise(bind_to(self.tags, parse(audience)))
