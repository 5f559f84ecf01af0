"""Frames of a level above: what is fixed, and in which range the levels below are free.

A limit names a field by its path and says what may stand there::

    {"field": "campaign.control_share", "low": 0.1, "high": 0.3}
    {"field": "campaign.mix[].offer", "allowed": ["fee_basic_12", "gift_basic_12"]}
    {"field": "campaign.channels", "allowed": ["app", "sms"]}       the names of its parts
    {"field": "campaign.channels.*.capacity", "high": 20000}        of every channel
    {"field": "campaign.goal.metric", "fixed": "retained"}
    {"field": "stages[].stage", "in_order": ["select_customers", ..., "evaluation"]}
    {"field": "campaign.mix", "at_most": 5}                         items
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bihuan.kernel import canonical_json
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.plan.content import ContentError
from bihuan.server.app.plan.reach import is_above, today
from bihuan.server.control import Plan, PlanFrame, UnitOfWork

RULES = ("fixed", "allowed", "low", "high", "in_order", "at_most", "at_least")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Departure:
    """One field in which a content leaves its frame.

    Parameters
    ----------
    field
        Path of the field.
    value
        What stands there; None where it is missing.
    limit
        What the frame lays down, in words.
    """

    field: str
    value: Any
    limit: str

    def __str__(self) -> str:
        said = "missing" if self.value is None else canonical_json(self.value)
        return f"{self.field} = {said} ({self.limit})"


class FrameError(RefusedError):
    """A plan leaves the frame of the level above.

    Attributes
    ----------
    departures
        Every field in which it does, with the frame's limit.
    """

    def __init__(self, frame_id: str, departures: Sequence[Departure]) -> None:
        self.departures = tuple(departures)
        listed = "; ".join(str(one) for one in departures)
        super().__init__(
            f"The plan leaves frame {frame_id}: {listed}.",
            remedy="Keep within the limits, or ask the level above for another frame.",
            zh=f"方案超出上级框架 {frame_id}：{listed}。请在限定范围内修改，或申请调整框架。",
        )


def require_within(
    work: UnitOfWork, plan: Plan, content: Mapping[str, Any], *, complete: bool
) -> None:
    """Refuse a content that leaves the plan's frame; a plan without a frame is free.

    Parameters
    ----------
    work, plan
        As ever.
    content
        What the plan would say.
    complete
        Whether fields that the frame speaks of must be there; a draft may leave them open.

    Raises
    ------
    FrameError
        Lists fields and limits.
    RefusedError
        If the frame is not published, has ended, or belongs to no unit above.
    """
    if plan.frame_id is None:
        return
    with work.beyond("a frame above binds the units below"):
        frame = work.session.get(PlanFrame, plan.frame_id)
        over = frame is not None and is_above(work, frame.unit_id, plan.unit_id)
    if frame is None or not over or frame.state != "published" or _ended(work, frame):
        raise RefusedError(
            f"Frame {plan.frame_id} is not in force for {plan.unit_id}.",
            remedy="Choose a published frame of a unit above.",
            zh=f"框架 {plan.frame_id} 对 {plan.unit_id} 不生效，请选用上级已发布的框架。",
        )
    found = departures(frame.limits, content, complete=complete)
    if found:
        raise FrameError(frame.frame_id, found)


def _ended(work: UnitOfWork, frame: PlanFrame) -> bool:
    return frame.valid_until is not None and today(work) > frame.valid_until


def checked_limits(limits: Sequence[Any]) -> list[dict[str, Any]]:
    """Return limits, if each has the form of one.

    Raises
    ------
    ContentError
        If one has not; names it.
    """
    found = []
    for index, limit in enumerate(limits):
        if (
            not isinstance(limit, Mapping)
            or not isinstance(limit.get("field"), str)
            or not limit["field"]
            or not set(limit) - {"field"}
            or set(limit) - {"field", *RULES}
            or not all(_is_well_formed(rule, limit[rule]) for rule in set(limit) - {"field"})
        ):
            raise ContentError(
                f"limits[{index}] is no limit: {limit!r}.",
                remedy=f"Give a field and one or more of: {', '.join(RULES)}.",
                zh=f"limits[{index}] 不是有效的限定，请填写 field 及 {'、'.join(RULES)} 之一。",
            )
        found.append(dict(limit))
    return found


def _is_well_formed(rule: str, value: Any) -> bool:
    if rule in ("allowed", "in_order"):
        return isinstance(value, list) and bool(value)
    if rule == "fixed":
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def departures(
    limits: Sequence[Mapping[str, Any]], content: Mapping[str, Any], *, complete: bool
) -> list[Departure]:
    """Return every field in which ``content`` leaves ``limits``.

    Parameters
    ----------
    limits
        As :func:`checked_limits` returns them.
    content
        What a plan says.
    complete
        Whether a missing field is a departure.
    """
    found: list[Departure] = []
    for limit in limits:
        field = limit["field"]
        named = list(_values(content, field)) or [(field, _MISSING)]
        values = [(place, value) for place, value in named if value is not _MISSING]
        if complete:
            found += [
                Departure(place, None, _words(limit)) for place, value in named if value is _MISSING
            ]
        if "in_order" in limit and values:
            order = [value for _, value in values]
            if order != list(limit["in_order"]) and (complete or not _begins(order, limit)):
                found.append(Departure(field, order, _words(limit)))
        found += [
            Departure(place, value, _words(limit))
            for place, value in values
            if not _keeps(limit, value)
        ]
    return found


def _begins(order: list[Any], limit: Mapping[str, Any]) -> bool:
    return order == list(limit["in_order"])[: len(order)]


def _keeps(limit: Mapping[str, Any], value: Any) -> bool:
    checks: Mapping[str, Callable[[Any], bool]] = {
        "fixed": lambda bound: bool(value == bound),
        "allowed": lambda bound: _parts(value) <= {canonical_json(one) for one in bound},
        "low": lambda bound: _is_number(value) and bool(value >= bound),
        "high": lambda bound: _is_number(value) and bool(value <= bound),
        "at_most": lambda bound: isinstance(value, (list, dict)) and bool(len(value) <= bound),
        "at_least": lambda bound: isinstance(value, (list, dict)) and bool(len(value) >= bound),
    }
    return all(check(limit[rule]) for rule, check in checks.items() if rule in limit)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parts(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return {canonical_json(key) for key in value}
    items = value if isinstance(value, list) else [value]
    return {canonical_json(item) for item in items}


def _values(value: Any, path: str, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every (place, value) that a path names; what is missing is so in its own place.

    A channel without a capacity is an open one, so a bound on every channel's must find it.
    """
    if value is _MISSING or value is None:
        yield _join(place, path) if path else place, _MISSING
        return
    if not path:
        yield place, value
        return
    head, _, rest = path.partition(".")
    if head.endswith("[]"):
        items = _get(value, head[:-2])
        if isinstance(items, list):
            for index, item in enumerate(items):
                yield from _values(item, rest, _join(place, f"{head[:-2]}[{index}]"))
    elif head == "*":
        for key, item in value.items() if isinstance(value, Mapping) else ():
            yield from _values(item, rest, _join(place, key))
    else:
        yield from _values(_get(value, head), rest, _join(place, head))


def _get(value: Any, key: str) -> Any:
    return value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _words(limit: Mapping[str, Any]) -> str:
    said = [f"{rule} {canonical_json(limit[rule])}" for rule in RULES if rule in limit]
    return ", ".join(said)
