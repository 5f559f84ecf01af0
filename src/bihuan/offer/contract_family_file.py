"""Reading ``contract_family/*.yaml``."""

from __future__ import annotations

from pathlib import Path

from bihuan.audience import parse
from bihuan.kernel.document import Document
from bihuan.offer.contract_family import SLOTS, ContractFamily, Slot
from bihuan.offer.exclusive import EXCLUSIVE


def load_contract_family(path: Path) -> ContractFamily:
    """Read a contract family file.

    Raises
    ------
    DocumentError
        If a field is missing or of the wrong form; the message names file and field.
    """
    top = Document.read(path).allow(
        "contract_family", "title", "size", "audience", "band_tag", "slots", "greeting", "words",
        "note",
    )  # fmt: skip
    slots = tuple(sorted((_parse_slot(p) for p in top.parts("slots")), key=lambda s: s.number))
    return ContractFamily(
        family_id=top.text("contract_family", path.stem),
        title=top.titles("title"),
        size=top.whole("size", SLOTS, low=1),
        audience=parse(top.text("audience")),
        tag=top.text("band_tag"),
        slots=slots,
        greeting=top.titles("greeting", EXCLUSIVE["greeting"]),
        note=top.titles("words", EXCLUSIVE["note"]),
    )


def _parse_slot(part: Document) -> Slot:
    part.allow("slot", "kind", "title", "from", "below", "months", "offer", "empty")
    if part.has("offer") == part.has("empty"):
        raise part.refuse(
            "offer", "and empty: a slot has exactly one of them", "Name an offer, or say why empty."
        )
    low, high = part.number("from", 0.0), part.number("below", float("inf"))
    if high <= low:
        raise part.refuse("below", f"is {high:g}", f"Choose a number above from: {low:g}.")
    return Slot(
        number=part.whole("slot", low=1),
        kind=part.text("kind"),
        title=part.titles("title"),
        low=low,
        high=high,
        months=part.whole("months", low=1),
        offer_id=part.text("offer") if part.has("offer") else None,
        empty=part.titles("empty") if part.has("empty") else None,
    )
