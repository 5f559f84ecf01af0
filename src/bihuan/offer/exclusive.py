"""Words that let a customer feel VIP status and exclusive service."""

from __future__ import annotations

from collections.abc import Mapping

from bihuan.offer.offer import Offer

EXCLUSIVE: Mapping[str, Mapping[str, str]] = {
    "greeting": {"zh": "尊敬的贵宾客户，", "en": "As our VIP customer,"},
    "note": {
        "zh": "以下为您的专属合约，仅限受邀客户办理。",
        "en": "this contract is exclusively yours, by invitation only.",
    },
}
"""Words that tell a customer of VIP status and exclusive service, unless others are given."""


def exclusive_wording(
    script: Mapping[str, str],
    offer: Offer,
    *,
    greeting: Mapping[str, str] = EXCLUSIVE["greeting"],
    note: Mapping[str, str] = EXCLUSIVE["note"],
) -> dict[str, str]:
    """Return a script that lets the customer feel VIP status and exclusive service.

    Parameters
    ----------
    script
        What is said, by language.
    offer
        Only an offer with ``exclusive: true`` is spoken of so.
    greeting, note
        Words put before the script, by language; each only if the script does not say it yet.

    Examples
    --------
    >>> from bihuan.audience import Everyone
    >>> from bihuan.offer import Margin, Offer
    >>> vip = Offer("a", {"zh": "甲", "en": "A"}, "contract", (), 0, 12, Margin(1), 0, Everyone(),
    ...             frozenset(), frozenset(), exclusive=True)
    >>> exclusive_wording({"zh": "每月返 20 元。", "en": "20 back a month."}, vip)["zh"]
    '尊敬的贵宾客户，以下为您的专属合约，仅限受邀客户办理。每月返 20 元。'
    """
    if not offer.exclusive:
        return dict(script)
    found = {}
    for language, text in script.items():
        words = [greeting[language].strip(), note[language].strip()]
        gap = " " if language == "en" else ""
        found[language] = gap.join([*(word for word in words if word not in text), text])
    return found
