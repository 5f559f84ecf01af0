"""People step in: a contact forced, forbidden or replaced for one customer, with name and reason.

What people lay down is only ever added to a file, so it can be read back who decided what. A
forced contact skips what the machine thinks of value and fit; it never skips the customer's
opt-out, the offer's conditions, the unit's policy, the contact rules or a limit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.decision.value import Candidate
from bihuan.kernel import UserError, canonical_json, file_lock

ACTIONS = ("force", "forbid", "replace", "lift")


class OverrideError(UserError):
    """An override that cannot be read or says nothing."""


@dataclass(frozen=True, slots=True)
class Override:
    """What a person lays down for one customer in one campaign.

    Parameters
    ----------
    customer_id, campaign_id
        Whom it is about, and in which campaign.
    action
        ``force``: contact with this, though the machine would do something else or nothing.
        ``forbid``: no contact with this; with nothing named, no contact at all. ``replace``: if
        there is a contact, it is with this. ``lift``: what was laid down before no longer holds.
    by, reason, at
        Who, why and when; none may be empty.
    offer_id, channel
        With what; a channel that is empty leaves it open. Both empty only to forbid or lift.
    """

    customer_id: str
    campaign_id: str
    action: str
    by: str
    reason: str
    at: datetime
    offer_id: str = ""
    channel: str = ""

    def __post_init__(self) -> None:
        problem = ""
        if self.action not in ACTIONS:
            problem = f"the action '{self.action}' is none of {', '.join(ACTIONS)}"
        elif not (self.by.strip() and self.reason.strip()):
            problem = "it does not say who and why"
        elif self.action in ("force", "replace") and not self.offer_id:
            problem = f"it does not say with what to {self.action}"
        elif not (self.customer_id and self.campaign_id):
            problem = "it names no customer or no campaign"
        if problem:
            raise OverrideError(
                f"The override of customer '{self.customer_id}' cannot be taken: {problem}.",
                remedy="Name customer, campaign, action, offer, person and reason.",
                zh=f"对客户 {self.customer_id} 的人工干预无效({problem})。"
                "请写明客户、方案、动作、商品、人员和原因。",
            )

    def covers(self, candidate: Candidate) -> bool:
        """Whether a candidate is what it names."""
        return self.offer_id in ("", candidate.offer_id) and self.channel in (
            "", candidate.channel,
        )  # fmt: skip


class OverrideLog:
    """The file to which overrides are only ever added.

    Parameters
    ----------
    path
        JSON lines; made when the first is added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, override: Override) -> None:
        """Add one; it is on disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = canonical_json(asdict(override) | {"at": override.at.isoformat()}).encode() + b"\n"
        with file_lock(self._path.with_suffix(".lock")), self._path.open("a+b") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)  # the half line of a killed writer
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> tuple[Override, ...]:
        """Return all that was ever laid down, oldest first."""
        if not self._path.exists():
            return ()
        content = self._path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        return tuple(_override_of(json.loads(line)) for line in lines)

    def in_force(self) -> tuple[Override, ...]:
        """Return what holds now: the newest per customer and campaign, unless lifted."""
        newest = {(o.customer_id, o.campaign_id): o for o in self.read()}
        return tuple(o for o in newest.values() if o.action != "lift")


@dataclass(frozen=True, slots=True, eq=False)
class OverrideMasks:
    """Overrides as masks over customers and candidates.

    Parameters
    ----------
    keep
        What overrides leave open, shape ``(n, m)``.
    forced
        Customers whose contact is forced, shape ``(n,)``.
    """

    keep: NDArray[np.bool_]
    forced: NDArray[np.bool_]


def override_masks(
    overrides: Iterable[Override],
    campaign_id: str,
    customer_id: pa.Array,
    candidates: Sequence[Candidate],
) -> OverrideMasks:
    """Turn the overrides of one campaign into masks.

    Parameters
    ----------
    overrides
        In force, at most one per customer and campaign.
    campaign_id
        Overrides of others are left out.
    customer_id, candidates
        Rows and columns; overrides of customers who are not among them do nothing.

    Raises
    ------
    OverrideError
        If an override names something that is no candidate of the campaign.
    """
    shape = (len(customer_id), len(candidates))
    keep, forced = np.ones(shape, dtype=np.bool_), np.zeros(shape[0], dtype=np.bool_)
    mine = [o for o in overrides if o.campaign_id == campaign_id]
    named = pa.array([o.customer_id for o in mine], pa.string())
    rows = pc.index_in(named, value_set=customer_id.cast(pa.string())).to_pylist()
    for override, row in zip(mine, rows, strict=True):
        covered = np.array([override.covers(c) for c in candidates], dtype=np.bool_)
        if not covered.any():
            raise _unknown_candidate(override, candidates)
        if row is None:
            continue
        keep[row] = ~covered if override.action == "forbid" else covered
        forced[row] = override.action == "force"
    return OverrideMasks(keep, forced)


def _unknown_candidate(override: Override, candidates: Sequence[Candidate]) -> OverrideError:
    what = " · ".join(part for part in (override.offer_id, override.channel) if part)
    have = ", ".join(f"{c.offer_id} · {c.channel}" for c in candidates)
    return OverrideError(
        f"The override of customer '{override.customer_id}' names '{what}', which campaign "
        f"'{override.campaign_id}' does not do.",
        remedy=f"Choose from: {have}.",
        zh=f"对客户 {override.customer_id} 的人工干预指定了“{what}”,"
        f"但方案 {override.campaign_id} 没有该候选。可选:{have}。",
    )


def _override_of(written: dict[str, str]) -> Override:
    return Override(**(written | {"at": datetime.fromisoformat(written["at"])}))  # type: ignore[arg-type]
