"""Step three, quantify (定量): the threshold at which an audience fits the resources.

The threshold is exact. Where several customers share its value, either all of them are in or none
is, so there are two answers: the largest audience that fits, and the nearest one above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from bihuan.audience.algebra import Compare, Missing, Node, all_of
from bihuan.audience.coverage import NotEstimable
from bihuan.audience.program import Threshold
from bihuan.audience.segment.reader import EVERYONE, Ordered, Reader, Side
from bihuan.audience.segment.resources import Capacity, Resources
from bihuan.audience.segment.response import Expectation, at_or_beyond
from bihuan.audience.text import to_text
from bihuan.kernel import DefectError

POINTS = 50


@dataclass(frozen=True, slots=True)
class Cut:
    """An audience with a threshold.

    Parameters
    ----------
    condition
        The threshold alone.
    audience
        It and the audience that it narrows.
    size
        Customers, counted.
    """

    condition: Node
    audience: Node
    size: int

    @property
    def text(self) -> str:
        """The whole audience as a planner writes it."""
        return to_text(self.audience)


@dataclass(frozen=True, slots=True)
class Fit:
    """A threshold fitted to resources.

    Parameters
    ----------
    capacity
        For how many customers the resources are enough.
    tag, side
        Whose threshold, and whether the greatest (``top``) or the least values are wanted.
    value
        The threshold value.
    within
        Customers of the audience before.
    missing
        Those of them without a value; no threshold lets them in.
    ties
        Customers who share the threshold value.
    inside
        The largest audience that fits; None if even the first value is shared by too many.
    above
        The smallest audience that does not fit; None if all customers with a value fit.
    """

    capacity: Capacity
    tag: str
    side: Side
    value: Ordered
    within: int
    missing: int
    ties: int
    inside: Cut | None
    above: Cut | None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What one threshold means.

    Parameters
    ----------
    value
        The threshold: customers at it or beyond are in.
    size
        How many.
    responses
        How many of them are expected to respond; None if nothing foretells it.
    cost
        Of contacting them, in the workspace's currency; None if not stated.
    use
        Part of each resource taken; above 1 is too much.
    binding
        The resource of which the greatest part is taken.
    fits
        Whether every resource is enough.
    """

    value: Ordered
    size: int
    responses: float | None
    cost: float | None
    use: Mapping[str, float]
    binding: str
    fits: bool

    @property
    def rate(self) -> float | None:
        """Expected response rate, 0..1; None if it is not known."""
        return None if self.responses is None or not self.size else self.responses / self.size


@dataclass(frozen=True, slots=True)
class Curve:
    """Thresholds of a tag from the strictest to the loosest.

    Parameters
    ----------
    tag, side
        Whose, and from which end.
    points
        Sizes rise from one to the next.
    """

    tag: str
    side: Side
    points: tuple[CurvePoint, ...]

    def to_table(self) -> pa.Table:
        """Return one row per threshold, for a chart or a file."""
        return pa.table(
            {
                "threshold": pa.array([float(_number(p.value)) for p in self.points], pa.float64()),
                "size": pa.array([p.size for p in self.points], pa.int64()),
                "responses": pa.array([p.responses for p in self.points], pa.float64()),
                "rate": pa.array([p.rate for p in self.points], pa.float64()),
                "cost": pa.array([p.cost for p in self.points], pa.float64()),
                "binding": pa.array([p.binding for p in self.points], pa.string()),
                "use": pa.array([max(p.use.values()) for p in self.points], pa.float64()),
                "fits": pa.array([p.fits for p in self.points], pa.bool_()),
            }
        )


def fit_threshold(
    tag: str,
    resources: Resources,
    reader: Reader,
    *,
    within: Node = EVERYONE,
    side: Side = "top",
) -> Fit | NotEstimable:
    """Find the threshold of a tag at which an audience fits the resources.

    Parameters
    ----------
    tag
        A number, an amount of money or a whole number.
    resources
        What the campaign has.
    reader
        Answers the counts.
    within
        The audience before, bound.
    side
        ``top``: prefer the greatest values; ``bottom``: the least.

    Returns
    -------
    Fit or NotEstimable
        The latter if nobody in the audience has a value, or the resources reach for nobody.

    Raises
    ------
    DefectError
        If the reader's threshold and its counts do not agree.
    """
    capacity = resources.capacity()
    if capacity.customers < 1:
        scarce = ", ".join(capacity.binding)
        return NotEstimable(
            {
                "zh": f"资源({scarce})不足以联系任何客户。",
                "en": f"The resources ({scarce}) are not enough for a single customer.",
            }
        )
    total, missing = (int(n) for n in reader.counts([within, all_of([within, Missing(tag)])]))
    known = total - missing
    if not known:
        return NotEstimable(
            {
                "zh": f"该客户群中没有客户有标签 {tag} 的值。",
                "en": f"Nobody in this audience has a value of {tag}.",
            }
        )
    found = reader.threshold(tag, min(capacity.customers, known), within, side=side)
    at = at_or_beyond(tag, found.value, side)
    beyond = Compare(tag, ">" if side == "top" else "<", found.value)
    cuts = [all_of([within, beyond]), all_of([within, at])]
    strict, loose = (int(n) for n in reader.counts(cuts))
    if (strict, loose) != (found.beyond, found.size_with_ties):
        raise DefectError(
            f"Threshold {found.value} of {tag} was said to leave {found.beyond} and "
            f"{found.size_with_ties} customers, but {strict} and {loose} were counted."
        )
    tight, wide = Cut(beyond, cuts[0], strict), Cut(at, cuts[1], loose)
    inside = wide if loose <= capacity.customers else tight if strict else None
    return Fit(
        capacity=capacity,
        tag=tag,
        side=side,
        value=found.value,
        within=total,
        missing=missing,
        ties=found.ties,
        inside=inside,
        above=_next_above(found, side, within, reader, wide, (capacity.customers, known)),
    )


def response_curve(
    tag: str,
    resources: Resources,
    reader: Reader,
    *,
    within: Node = EVERYONE,
    side: Side = "top",
    expected: Expectation | None = None,
) -> Curve:
    """Show what each of about fifty thresholds means.

    Parameters
    ----------
    tag, resources, reader, within, side
        As in :func:`fit_threshold`.
    expected
        What foretells responses; None: none are foretold.

    Returns
    -------
    Curve
        At thresholds that part the customers evenly; fewer than fifty where values repeat. The
        loosest lets in everyone who has a value.
    """
    shares = [i / POINTS for i in range(1, POINTS)]
    ends = [0.0, *shares, 1.0]
    found = [value for value in reader.quantiles(tag, ends, within) if value is not None]
    values: list[Ordered] = sorted(set(found), reverse=side == "top")
    parts = [all_of([within, at_or_beyond(tag, value, side)]) for value in values]
    sizes = [int(n) for n in reader.counts(parts)]
    responses: Sequence[float | None] = [None] * len(values)
    if expected is not None and values:
        responses = expected.responses(tag, values, side, within, reader).tolist()
    points = [
        _point(value, size, told, resources)
        for value, size, told in zip(values, sizes, responses, strict=True)
    ]
    return Curve(tag, side, tuple(points))


# ------------------------------------------------------------------------------------------ inside


def _next_above(
    found: Threshold, side: Side, within: Node, reader: Reader, wide: Cut, fitting: tuple[int, int]
) -> Cut | None:
    """Return the smallest audience that no longer fits, if there is one."""
    capacity, known = fitting
    if wide.size > capacity:
        return wide
    if wide.size >= known:
        return None
    following = reader.threshold(found.tag, wide.size + 1, within, side=side)
    at = at_or_beyond(found.tag, following.value, side)
    return Cut(at, all_of([within, at]), following.size_with_ties)


def _point(value: Ordered, size: int, told: float | None, resources: Resources) -> CurvePoint:
    use = resources.use(size)
    binding = max(use, key=lambda name: use[name])
    return CurvePoint(
        value=value,
        size=size,
        responses=told,
        cost=resources.cost(size),
        use=use,
        binding=binding,
        fits=use[binding] <= 1,
    )


def _number(value: Ordered) -> float:
    return float(value)  # type: ignore[arg-type]  # numeric tags only
