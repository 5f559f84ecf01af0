"""The twin answers: channels carry assignments, customers react, the next month comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.kernel import Clock, random_stream
from bihuan.kernel.scatter import mix
from bihuan.twin.truth import COMPLETION, Floats, Truth


@dataclass(frozen=True, slots=True)
class SimulatedChannels:
    """All channels of the simulated operator behind the delivery room's channel protocol.

    Each assignment's fate depends on its id and the seed alone, so sending it twice, or in
    another order, has the same outcome under the same outcome id.

    Parameters
    ----------
    truth
        The hidden response.
    unit_costs
        Cost of one sent contact by channel kind, in the workspace's currency.
    prices
        What an order brings in per month, by offer id, in the workspace's currency.
    seed
        The twin's seed.
    clock
        Customers react from 10:00 (UTC+8) of the first valid day on, and never in the future.
    """

    truth: Truth
    unit_costs: Mapping[str, float]
    prices: Mapping[str, float]
    seed: int
    clock: Clock

    def send(self, assignments: pa.Table) -> pa.Table:
        """Play a set of assignments and return their outcomes, one row per stage reached.

        Parameters
        ----------
        assignments
            Rows of the ``assignment`` contract.

        Returns
        -------
        pyarrow.Table
            Rows of the ``outcome`` contract.
        """
        fates = self._play(assignments)
        steps = [
            self._stage(assignments, fates, "delivered", fates.delivered, 0),
            self._stage(assignments, fates, "failed", ~fates.delivered, 0),
            self._stage(assignments, fates, "connected", fates.connected, 1),
            self._stage(assignments, fates, "accepted", fates.accepted, 2),
            self._stage(assignments, fates, "refused", fates.connected & ~fates.accepted, 2),
            self._stage(assignments, fates, "ordered", fates.ordered, 3),
        ]
        return pa.concat_tables(steps)

    def _play(self, assignments: pa.Table) -> _Fates:
        truth = self.truth
        channels = np.asarray(assignments["channel"].to_pylist())
        offers = np.asarray(assignments["offer_id"].to_pylist())
        rows = truth.rows_of(assignments["customer_id"].to_pylist())
        draws = _uniforms(assignments["assignment_id"], 4, self.seed)
        connect, accept = np.zeros(len(rows)), np.zeros(len(rows))
        delivered = np.zeros(len(rows))
        for channel in np.unique(channels):
            at = np.flatnonzero(channels == channel)
            delivered[at] = truth.channels[str(channel)].delivered
            connect[at] = truth.connect(rows[at], str(channel))
            for offer in np.unique(offers[at]):
                both = at[offers[at] == offer]
                accept[both] = truth.accept(rows[both], str(offer), str(channel))
        is_delivered = draws[:, 0] < delivered
        is_connected = is_delivered & (draws[:, 1] < connect)
        is_accepted = is_connected & (draws[:, 2] < accept)
        return _Fates(
            is_delivered, is_connected, is_accepted, is_accepted & (draws[:, 3] < COMPLETION)
        )

    def _stage(
        self, assignments: pa.Table, fates: _Fates, stage: str, at: NDArray[np.bool_], step: int
    ) -> pa.Table:
        rows = assignments.filter(pa.array(at))
        now = self.clock.now()
        moments = [
            min(datetime.combine(day, time(2 + step), tzinfo=UTC), now)
            for day in rows["valid_from"].to_pylist()
        ]
        prices = np.array([self.prices.get(offer, 0.0) for offer in rows["offer_id"].to_pylist()])
        costs = np.array([self.unit_costs.get(c, 0.0) for c in rows["channel"].to_pylist()])
        sent = step == 0
        money = pa.decimal128(18, 2)
        zeros = np.zeros(rows.num_rows)
        return pa.table(
            {
                "outcome_id": pc.binary_join_element_wise(rows["assignment_id"], stage, "-"),
                "assignment_id": rows["assignment_id"],
                "deployment_id": rows["deployment_id"],
                "customer_id": rows["customer_id"],
                "stage": pa.array([stage] * rows.num_rows, pa.string()),
                "occurred_at": pa.array(moments, pa.timestamp("us", tz="UTC")),
                "channel": rows["channel"],
                "amount": pc.round(pa.array(prices if stage == "ordered" else zeros), 2).cast(
                    money, safe=False
                ),
                "cost": pc.round(pa.array(costs if sent else zeros), 2).cast(money, safe=False),
                "reason": pa.array(
                    ["unreachable" if stage == "failed" else None] * rows.num_rows, pa.string()
                ),
                "source": pa.array(["twin"] * rows.num_rows, pa.string()),
            }
        )


@dataclass(frozen=True, slots=True)
class _Fates:
    delivered: NDArray[np.bool_]
    connected: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    ordered: NDArray[np.bool_]


def next_month(truth: Truth, outcomes: pa.Table, assignments: pa.Table, *, seed: int) -> pa.Table:
    """Let the month pass and say who has left.

    Parameters
    ----------
    truth
        The hidden response.
    outcomes, assignments
        What really happened to the contacts made (rows of the two contracts).
    seed
        The twin's seed. Every customer has one draw of fate, whatever is done to him, so two
        plans played with the same seed differ only by what they change.

    Returns
    -------
    pyarrow.Table
        ``customer_id`` and ``left_in_month`` for every customer of the truth.
    """
    n = len(truth.customer_ids)
    connected, ordered = np.zeros(n), np.zeros(n)
    grip, annoyance = np.ones(n), np.zeros(n)
    rows = truth.rows_of(assignments["customer_id"].to_pylist())
    grip[rows] = [truth.offers[offer].grip for offer in assignments["offer_id"].to_pylist()]
    annoyance[rows] = [truth.channels[c].annoyance for c in assignments["channel"].to_pylist()]
    for stage, flags in (("connected", connected), ("ordered", ordered)):
        reached = outcomes.filter(pc.equal(outcomes["stage"], stage))
        flags[truth.rows_of(reached["customer_id"].to_pylist())] = 1.0
    everyone = np.arange(n)
    leave = truth.leave_after(
        everyone, connected=connected, ordered=ordered, grip=grip, annoyance=annoyance
    )
    left = random_stream(seed, "fate").random(n) < leave
    return pa.table(
        {"customer_id": pa.array(truth.customer_ids.tolist()), "left_in_month": pa.array(left)}
    )


def _uniforms(ids: pa.ChunkedArray, n_draws: int, seed: int) -> Floats:
    """Return independent uniforms, shape ``(n, n_draws)``, that hang on the hashed id alone."""
    digits = np.array([int(text[:16], 16) for text in ids.to_pylist()], dtype=np.uint64)
    columns = []
    for draw in range(n_draws):
        salt = random_stream(seed, "draw", draw).integers(0, 2**63, dtype=np.uint64)
        columns.append((mix(digits ^ salt) >> np.uint64(11)) * 2.0**-53)
    return np.stack(columns, axis=1) if len(digits) else np.zeros((0, n_draws))
