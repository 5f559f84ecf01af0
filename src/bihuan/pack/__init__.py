"""Solution packs: ready-made mappings, tags, offers, campaigns and models, as files.

A pack is a folder that a workspace can install; its sample content is ours unless its files say
otherwise. ``retention`` keeps customers with exclusive contracts (real public customers);
``replay`` holds a real outbound campaign (41,188 calls) to be decided anew.
"""

from pathlib import Path

_HERE = Path(__file__).parent

PACKS = {"retention": _HERE / "retention", "replay": _HERE / "replay"}
"""Folders of the packs that can be installed, by name."""

TELCO_FILE = _HERE / "retention" / "telco_customer_churn.csv.gz"
CALLS_FILE = _HERE / "replay" / "bank_additional_full.csv.gz"

__all__ = ["PACKS", "TELCO_FILE", "CALLS_FILE"]
