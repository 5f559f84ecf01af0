"""The second hierarchy: layers of operating management, and who reports to whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bihuan.server.control import LAYERS

SALES_ROLES = frozenset(("outbound_seat", "hall_clerk", "account_manager"))
HEAD_ROLES = frozenset(("director", "grid_manager"))
"""Who leads a unit, if nobody says otherwise."""
_LAYER_OF_TIER = {
    "province": "management",
    "city": "management",
    "county": "management",
    "line": "line",
    "grid": "small_ceo",
    "ceo": "small_ceo",
    "seller": "sales",
}


@dataclass(frozen=True, slots=True)
class PostPlace:
    """A post in the hierarchy: its id, the unit at which it is held, its layer and role."""

    post_id: str
    unit_id: str
    layer: str
    role: str = ""


def layer_of(role: str, tier: str) -> str:
    """Return the layer that a role at a unit of a tier belongs to, unless somebody says another.

    Examples
    --------
    >>> layer_of("director", "city"), layer_of("hall_clerk", "grid"), layer_of("planner", "line")
    ('management', 'sales', 'line')
    """
    return "sales" if role in SALES_ROLES else _LAYER_OF_TIER[tier]


def may_report(layer: str, superior_layer: str) -> bool:
    """Tell whether a post of a layer may report to one of another: the same layer or a higher."""
    return LAYERS.index(superior_layer) <= LAYERS.index(layer)


def natural_superiors(
    posts: Iterable[PostPlace], parents: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Return to whom posts report when nobody has said so: along the territory.

    Each unit's head is its post of the highest layer, one of :data:`HEAD_ROLES` before others,
    then the first by id. A post reports to its unit's head, a head to the nearest head above; None
    at the top.

    Parameters
    ----------
    posts
        All active posts.
    parents
        Parent of every unit.
    """
    heads: dict[str, PostPlace] = {}

    def rank(post: PostPlace) -> tuple[int, bool, str]:
        return LAYERS.index(post.layer), post.role not in HEAD_ROLES, post.post_id

    known = sorted(posts, key=rank)
    for post in known:
        heads.setdefault(post.unit_id, post)
    above: dict[str, PostPlace | None] = {}

    def head_above(unit_id: str) -> PostPlace | None:
        if unit_id not in above:
            parent = parents.get(unit_id)
            above[unit_id] = None if parent is None else heads.get(parent) or head_above(parent)
        return above[unit_id]

    found: dict[str, str | None] = {}
    for post in known:
        head = heads[post.unit_id]
        superior = head_above(post.unit_id) if head is post else head
        if superior is not None and not may_report(post.layer, superior.layer):
            superior = None
        found[post.post_id] = superior.post_id if superior else None
    return found
