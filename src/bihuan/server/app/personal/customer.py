"""One customer: where it belongs, what its alias is, what everybody may see of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlglot import exp

from bihuan.data.personal import (
    DataCipher,
    DataKeys,
    Protector,
    mask_clear,
    sealed_table_of,
)
from bihuan.kernel import DefectError
from bihuan.server.app.errors import missing
from bihuan.server.app.service import Service
from bihuan.server.app.unit_scope import in_scope
from bihuan.server.control import CustomerAlias, Sealer, UnitOfWork
from bihuan.server.settings import Settings
from bihuan.workspace import CustomerView, Record, UnknownCustomerError, Workspace


@dataclass(frozen=True, slots=True)
class CustomerPlace:
    """Where a customer belongs.

    Parameters
    ----------
    customer_id
        The customer.
    unit_id
        Org unit that owns it; None: nobody's, and so in nobody's reach.
    as_of
        Date of the newest snapshot of customers.
    """

    customer_id: str
    unit_id: str | None
    as_of: date


def prepare_keys(settings: Settings, workspace: Workspace) -> DataKeys:
    """Return the data keys of a service; made at its first start.

    Raises
    ------
    KeysError
        If there are none although the lake holds sealed tables, or the file is damaged.
    """
    holds_sealed = any(sealed_table_of(name) for name in workspace.view.tables)
    workspace.keys_file = settings.keys_file
    return DataKeys.open(settings.keys_file, cipher=settings.cipher, create=not holds_sealed)


def protector_of(service: Service) -> Protector:
    """Return what seals and opens personal data; see :func:`prepare_keys`."""
    if service.workspace.protector is None:
        prepare_keys(service.settings, service.workspace)
    protector = service.workspace.protector
    if protector is None:
        raise DefectError("The data keys were made and cannot be found.")
    return protector


def cipher_of(service: Service) -> DataCipher:
    """Return the cipher of the service's keys; see :func:`protector_of`."""
    return protector_of(service).cipher


def sealer_of(service: Service) -> Sealer:
    """Return what marks audit entries; see :func:`protector_of`."""
    return Sealer(cipher_of(service).keys.audit)


def find_place(service: Service, customer_id: str) -> CustomerPlace | None:
    """Return where a customer belongs; None if the newest snapshot has no such customer."""
    workspace = service.workspace
    snapshot = workspace.view.find("customer")
    if snapshot is None:
        return None
    query = (
        exp.select(exp.column("org_unit_id", quoted=True))
        .from_("customer")
        .where(exp.column("customer_id", quoted=True).eq(exp.Literal.string(customer_id)))
    )
    rows = workspace.engine.query(query, {"customer": snapshot}).to_pylist()
    return CustomerPlace(customer_id, rows[0]["org_unit_id"], snapshot.as_of) if rows else None


def get_place(service: Service, work: UnitOfWork, customer_id: str) -> CustomerPlace:
    """Return where a customer within the scope belongs.

    Raises
    ------
    NotFoundError
        If there is none, or it belongs to a unit outside the scope: the two look the same.
    """
    place = find_place(service, customer_id)
    if place is None or not in_scope(work, place.unit_id):
        raise missing("customer", "客户", customer_id)
    return place


def alias_of(service: Service, customer_id: str) -> str:
    """Return the name under which the audit trail knows a customer."""
    return cipher_of(service).blind(customer_id, "customer")


def remember_alias(service: Service, work: UnitOfWork, customer_id: str) -> str:
    """Return a customer's alias and keep whom it means until the customer is erased."""
    alias = alias_of(service, customer_id)
    insert = sqlite.insert if work.session.get_bind().dialect.name == "sqlite" else (
        postgresql.insert
    )  # fmt: skip
    row = insert(CustomerAlias).values(alias=alias, customer_id=customer_id)
    work.unscoped(row.on_conflict_do_nothing(), "aliases have no unit")
    return alias


def real_names(work: UnitOfWork, aliases: Iterator[str] | list[str]) -> dict[str, str]:
    """Return whom aliases mean; those of erased customers are left out."""
    wanted = sorted(set(aliases))
    rows = work.session.scalars(sa.select(CustomerAlias).where(CustomerAlias.alias.in_(wanted)))
    return {row.alias: row.customer_id for row in rows}


def show_customer(service: Service, customer_id: str, as_of: date) -> CustomerView:
    """Return the 360 view of a customer with personal columns masked.

    Parameters
    ----------
    service
        Whose workspace.
    customer_id
        The customer, whose place was looked up before.
    as_of
        Date of the view.

    Returns
    -------
    CustomerView

    Raises
    ------
    NotFoundError
        If the customer was not known at that date.
    """
    try:
        view = service.workspace.view360(customer_id, as_of)
    except UnknownCustomerError:
        raise missing("customer", "客户", customer_id) from None
    return replace(
        view,
        customer=_masked(service, view.customer),
        accounts=tuple(_masked(service, record) for record in view.accounts),
        subscriptions=tuple(_masked(service, record) for record in view.subscriptions),
        off_net=None if view.off_net is None else _masked(service, view.off_net),
    )


def _masked(service: Service, record: Record) -> Record:
    contract = service.workspace.contracts[record.table]
    facts = []
    for fact in record.facts:
        kind = contract[fact.name].personal if fact.name in contract else ""
        if kind:
            value = mask_clear(fact.value, kind)
            plain = "" if value is None else value
            fact = replace(fact, value=value, text={"zh": plain, "en": plain})
        facts.append(fact)
    return replace(record, facts=tuple(facts))
