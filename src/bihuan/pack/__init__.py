"""Solution packs: ready-made mappings, tags, offers, campaigns and models, as files.

A pack is a folder that a workspace can install; its sample content is ours unless its files say
otherwise. ``retention`` keeps customers with exclusive contracts (real public customers);
``replay`` holds a real outbound campaign (41,188 calls) to be decided anew; ``sample`` holds
offers, policies, scripts, levers, triggers, key moments and strategies to start from.
"""

from pathlib import Path

_HERE = Path(__file__).parent

PACKS = {name: _HERE / name for name in ("retention", "replay", "sample")}
"""Folders of the packs that can be installed, by name."""

TELCO_FILE = _HERE / "retention" / "telco_customer_churn.csv.gz"
CALLS_FILE = _HERE / "replay" / "bank_additional_full.csv.gz"

__all__ = ["PACKS", "TELCO_FILE", "CALLS_FILE"]
