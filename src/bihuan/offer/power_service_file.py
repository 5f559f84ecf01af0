"""Reading ``power_services/*.yaml``."""

from __future__ import annotations

from pathlib import Path

from bihuan.audience import parse
from bihuan.kernel.document import Document
from bihuan.offer.catalogue import Catalogue
from bihuan.offer.power_service import SERVICES, Caution, PowerServices, Service, ServiceClass


def load_power_services(path: Path, catalogue: Catalogue) -> PowerServices:
    """Read a file of power services and hold its offers against the catalogue.

    Parameters
    ----------
    path
        YAML file.
    catalogue
        Where its offers must stand.

    Raises
    ------
    DocumentError
        If a field is missing or of the wrong form; the message names file and field.
    UnknownOfferError
        If an offer is not in the catalogue.
    """
    top = Document.read(path).allow(
        "power_services", "title", "channel_tag", "classes", "cautions", "note"
    )
    classes = tuple(_parse_class(part) for part in top.parts("classes"))
    if not classes:
        raise top.refuse("classes", "is empty", "Name at least one class.")
    for one in classes:
        for name in one.offers:
            catalogue.get(name)
    return PowerServices(
        scheme_id=top.text("power_services", path.stem),
        title=top.titles("title"),
        channel_tag=top.text("channel_tag"),
        classes=classes,
        cautions=tuple(
            Caution(parse(part.text("audience")), part.titles("text"))
            for part in top.parts("cautions")
        ),
    )


def _parse_class(part: Document) -> ServiceClass:
    part.allow("class", "title", "audience", "services", "offers", "channels", "hint")
    places = part.find_part("channels")
    channels = {} if places is None else {name: places.texts(name) for name in places.fields()}
    for business, allowed in channels.items():
        if not allowed:
            raise part.refuse(f"channels.{business}", "is empty", "Name at least one channel.")
    return ServiceClass(
        class_id=part.text("class"),
        title=part.titles("title"),
        audience=parse(part.text("audience")),
        services=tuple(_parse_service(service) for service in part.parts("services")),
        offers=part.texts("offers"),
        channels=channels,
        hint=part.titles("hint"),
    )


def _parse_service(part: Document) -> Service:
    part.allow("service", "title", "share", "of", "most", "steps")
    kind = part.choice("service", SERVICES)
    steps = tuple(
        (step.number("from", low=0), step.number("share", low=0, high=0.5))
        for step in part.parts("steps")
    )
    if [start for start, _ in steps] != sorted({start for start, _ in steps}):
        raise part.refuse("steps", "do not rise", "Order them by amount, each amount once.")
    if kind == "prepayment_discount" and not steps:
        raise part.refuse("steps", "is missing", "Write  - {from: 500, share: 0.01}  lines.")
    is_overdraft = kind == "overdraft"
    return Service(
        kind=kind,
        title=part.titles("title"),
        share=part.number("share", low=0, high=12) if is_overdraft else 0.0,
        of=part.text("of") if is_overdraft else None,
        most=part.number("most", float("inf"), low=0),
        steps=steps,
    )
