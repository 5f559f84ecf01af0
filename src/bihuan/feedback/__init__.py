"""Feedback: what happened to the assignments comes back, and the loop closes in the data.

In come outcomes, late, twice and out of order, from channels and from the front line. Each is
stored once, known already, or quarantined with a reason (:func:`ingest_outcomes`); folded, they
give every assignment its present state, and the states add up to the plan
(:func:`fold_outcomes`, :func:`reconcile`). Out go contact history for the next turn's tags,
responses for the evaluation, and what the front line found wrong with data and tags.
"""

from bihuan.feedback.attribute import contact_rows, publish_contacts, response_by_customer
from bihuan.feedback.ledger import OutcomeLedger
from bihuan.feedback.outcome import OutcomeReport, ingest_outcomes, replay_outcomes
from bihuan.feedback.quarantine import OutcomeQuarantine
from bihuan.feedback.reading import OutcomeFileError
from bihuan.feedback.report import front_line_report
from bihuan.feedback.state import STAGE_RANKS, Reconciliation, fold_outcomes, reconcile
from bihuan.feedback.store import CONTRACTS, outcome_snapshots, outcome_table, read_outcomes

__all__ = [
    "CONTRACTS",
    "ingest_outcomes",
    "replay_outcomes",
    "OutcomeReport",
    "OutcomeFileError",
    "OutcomeQuarantine",
    "OutcomeLedger",
    "outcome_table",
    "outcome_snapshots",
    "read_outcomes",
    "STAGE_RANKS",
    "fold_outcomes",
    "reconcile",
    "Reconciliation",
    "contact_rows",
    "publish_contacts",
    "response_by_customer",
    "front_line_report",
]
