"""What cannot be estimated is a value with its reason, never a nought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NotEstimable:
    """Something that these data cannot tell, and why; never a number that looks like one.

    Parameters
    ----------
    reason
        One sentence by language (``zh``, ``en``).

    Examples
    --------
    >>> NotEstimable({"zh": "没有对照组。", "en": "There is no control group."}).reason["en"]
    'There is no control group.'
    """

    reason: Mapping[str, str]
