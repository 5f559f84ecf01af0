"""The twin's part of a rehearsal: its customers answer the contacts of the plan."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bihuan.decision.rehearsal import Simulation
from bihuan.kernel import Clock, UserError, random_stream
from bihuan.twin import SimulatedChannels, Truth


def play_contacts(
    truth: Truth, contacts: pa.Table, day: date, *, seed: int, clock: Clock
) -> Simulation:
    """Let a twin's customers answer contacts that nobody makes.

    Parameters
    ----------
    truth
        The hidden response.
    contacts
        ``customer_id``, ``offer_id`` and ``channel`` of the contacts.
    day
        On which they would be made.
    seed
        Of the answers; another one plays the campaign anew.
    clock
        Now.

    Raises
    ------
    UserError
        If the twin does not know an offer or a channel.
    """
    require_simulated(truth, contacts)
    n = contacts.num_rows
    digits = random_stream(seed, "rehearsal", "twin").integers(0, 2**63, size=n, dtype=np.uint64)
    assignments = contacts.select(["customer_id", "offer_id", "channel"])
    for name, column in {
        "assignment_id": pa.array([f"{number:016x}" for number in digits.tolist()], pa.string()),
        "deployment_id": pa.repeat("rehearsal", n),
        "valid_from": pa.repeat(pa.scalar(day), n),
    }.items():
        assignments = assignments.append_column(name, column)
    channels = SimulatedChannels(truth=truth, unit_costs={}, prices={}, seed=seed, clock=clock)
    answers = channels.send(assignments)
    accepted = answers.filter(pc.equal(answers["stage"], "accepted"))["assignment_id"]
    said_yes = pc.is_in(assignments["assignment_id"], value_set=accepted.combine_chunks())
    cells = (
        assignments.append_column("yes", pc.cast(said_yes, pa.int64()))
        .group_by(["offer_id", "channel"])
        .aggregate([("yes", "count"), ("yes", "sum")])
        .sort_by([("offer_id", "ascending"), ("channel", "ascending")])
    )
    return Simulation(
        contacts=n,
        accepted=len(accepted),
        ordered=int(pc.sum(pc.equal(answers["stage"], "ordered")).as_py() or 0),
        expected=expected_acceptances(truth, assignments),
        by_cell=tuple(
            (r["offer_id"], r["channel"], r["yes_count"], r["yes_sum"]) for r in cells.to_pylist()
        ),
    )


def expected_acceptances(truth: Truth, assignments: pa.Table) -> float:
    """Return how many acceptances a twin's truth lets expect of contacts.

    Parameters
    ----------
    truth
        Of the twin.
    assignments
        ``customer_id``, ``offer_id``, ``channel``.
    """
    rows = truth.rows_of(assignments["customer_id"].to_pylist())
    offers = np.array(assignments["offer_id"].to_pylist(), dtype=object)
    channels = np.array(assignments["channel"].to_pylist(), dtype=object)
    total = 0.0
    for channel in set(channels):
        for offer in set(offers[channels == channel]):
            at = rows[(channels == channel) & (offers == offer)]
            chance = truth.connect(at, channel) * truth.accept(at, offer, channel)
            total += float(chance.sum()) * truth.channels[channel].delivered
    return total


def require_simulated(truth: Truth, rows: pa.Table) -> None:
    """Raise :class:`UserError` if the plan has an offer or channel that the twin does not know."""
    for column, known in (("offer_id", truth.offers), ("channel", truth.channels)):
        unknown = sorted(set(pc.unique(rows[column]).to_pylist()) - set(known))
        if unknown:
            raise UserError(
                f"The twin does not simulate {column} '{unknown[0]}'.",
                remedy=f"Draw its truth with it, or leave out 'twin' (it knows: "
                f"{', '.join(sorted(known))}).",
                zh=f"孪生未模拟 {unknown[0]}，请在生成孪生时加入，或不以孪生为依据。",
            )
