"""Erasure of one customer: lake, quarantine, planes, lists, control database; then a certificate.

The wish is recorded in one transaction; the work is done by a job and may be killed anywhere: the
job is claimed again and done again, each step finding only what is left.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import sqlalchemy as sa

from bihuan.data.personal import (
    Found,
    Subject,
    erase_from_quarantine,
    erase_subject,
    find_left,
    subject_of,
)
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.job import submit
from bihuan.server.app.personal.customer import (
    alias_of,
    cipher_of,
    get_place,
    protector_of,
    remember_alias,
)
from bihuan.server.app.personal.lists import erase_from_lists
from bihuan.server.app.service import Service
from bihuan.server.control import CustomerAlias, Erasure, Table, UnitOfWork

_KIND = "erasure"
_MOST_LEFT = 200
_WHY = "an erasure takes the customer out of every table, whatever its unit"


def request_erasure(
    service: Service, work: UnitOfWork, actor: Actor, customer_id: str, reason: str
) -> Erasure:
    """Record that a customer is to be erased, and submit the job that does it.

    The job calls :func:`carry_out_erasure`.

    Parameters
    ----------
    service, work, actor
        Who asks; ``work`` is in the scope of ``customer.erase``.
    customer_id
        The customer.
    reason
        Why: the number of the customer's letter. Never a name or number: it stays.

    Raises
    ------
    NotFoundError
        If the customer is not within reach.
    ConflictError
        If the erasure is under way.
    RefusedError
        If no reason is given, or it names the customer.
    """
    place = get_place(service, work, customer_id)
    alias = alias_of(service, customer_id)
    if not reason.strip() or customer_id in reason:
        raise RefusedError(
            "Give a reason that does not name the customer: it stays on the certificate.",
            remedy="Name the letter or ticket instead.",
            zh="请填写删除原因，且不要包含客户编号（证明会保留原因），可写来函或工单编号。",
        )
    running = sa.select(Erasure).where(Erasure.alias == alias, Erasure.state == "running")
    if work.session.scalars(running).first() is not None:
        raise ConflictError(
            "The erasure of this customer is under way.",
            remedy="Wait for its certificate.",
            zh="该客户的删除正在进行，请等待证明。",
        )
    subject = subject_of(service.workspace.view, customer_id)
    ids = [subject.customer_id, sorted(subject.accounts), sorted(subject.subscriptions)]
    row = Erasure(
        erasure_id=work.new_id("erasure"),
        unit_id=place.unit_id,
        alias=alias,
        reason=reason.strip(),
        requested_at=work.now,
        requested_by=actor.account_id,
        state="running",
        sealed_subject=cipher_of(service).encrypt(json.dumps(ids), _KIND),
        removed={},
        left_over=[],
    )
    work.session.add(row)
    work.audit("customer.erase", "customer", remember_alias(service, work, customer_id),
               erasure=row.erasure_id)  # fmt: skip
    submit(work, actor, "erasure", {"erasure_id": row.erasure_id},
           f"erasure:{row.erasure_id}", unit_id=place.unit_id)  # fmt: skip
    return row


def carry_out_erasure(service: Service, erasure_id: str) -> Erasure:
    """Erase the customer everywhere and issue the certificate; doing it twice changes nothing.

    Models stay: they hold no row of anybody. Audit entries stay: they name aliases, and the table
    that said whom an alias means loses its row here.

    Returns
    -------
    Erasure
        The certificate. ``left_over`` names places where an id is still found, with how often;
        empty where nothing is left. It takes a person to judge those.

    Raises
    ------
    NotFoundError
        If there is no such erasure.
    """
    with service.system_work(read_only=True) as work:
        row = get_erasure(work, erasure_id)
        sealed, state = row.sealed_subject, row.state
    if state == "done":
        return row
    customer_id, accounts, subscriptions = json.loads(cipher_of(service).decrypt(sealed, _KIND))
    subject = Subject(customer_id, frozenset(accounts), frozenset(subscriptions))
    removed = _erase_files(service, subject)
    left = _left(service, subject)
    with service.system_work() as work:
        row = get_erasure(work, erasure_id)
        if row.state != "done":
            removed |= _erase_rows(work, subject)
            row.removed = _summed(row.removed, removed)
            row.left_over = [{"place": found.place, "times": found.times} for found in left]
            row.state, row.finished_at, row.sealed_subject = "done", work.now, ""
            work.audit("customer.erased", "customer", row.alias, erasure=erasure_id,
                       left=len(left))  # fmt: skip
    return row


def find_erasures(work: UnitOfWork) -> sa.Select[Any]:
    """Select the erasures within reach."""
    return sa.select(Erasure)


def get_erasure(work: UnitOfWork, erasure_id: str) -> Erasure:
    """Return an erasure within reach; raise NotFoundError otherwise."""
    query = sa.select(Erasure).where(Erasure.erasure_id == erasure_id)
    row = work.session.scalars(query).one_or_none()
    if row is None:
        raise missing("erasure", "删除记录", erasure_id)
    return row


def _erase_files(service: Service, subject: Subject) -> dict[str, int]:
    workspace = service.workspace
    removed: dict[str, int] = {}
    for erased in erase_subject(workspace.lake, subject, workspace.contracts, service.clock):
        place = f"{erased.table}@{erased.as_of.isoformat()}"
        removed[place] = erased.rows + erased.cells
    rows = erase_from_quarantine(workspace.quarantine, subject, protector_of(service).cipher)
    lines = erase_from_lists(workspace.layout.lists, subject.ids)
    removed |= {place: n for place, n in (("quarantine", rows), ("lists", lines)) if n}
    if workspace.layout.index.exists():  # planes hold ids in order; they are built again
        shutil.rmtree(workspace.layout.index)
    return removed


def _erase_rows(work: UnitOfWork, subject: Subject) -> dict[str, int]:
    """Remove the customer's rows from every table that has customers."""
    connection = work.session.connection()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")  # else the bytes stay in the file
    removed: dict[str, int] = {}
    with work.beyond(_WHY):
        for mapper in sorted(Table.registry.mappers, key=lambda mapper: str(mapper.local_table)):
            table = mapper.class_
            if "customer_id" not in mapper.columns:
                continue
            gone = work.session.execute(
                sa.delete(table).where(table.customer_id == subject.customer_id)
            )
            count = getattr(gone, "rowcount", 0)
            if count and table is not CustomerAlias:
                removed[f"control:{table.__tablename__}"] = count
    return removed


def _left(service: Service, subject: Subject) -> list[Found]:
    workspace = service.workspace
    root = workspace.layout.root
    skip = {service.settings.keys_file.parent, *root.glob("control.db*")}
    return find_left(root, subject.ids, skip=frozenset(skip))[:_MOST_LEFT]


def _summed(before: dict[str, Any], now: dict[str, int]) -> dict[str, int]:
    return {
        place: int(before.get(place, 0)) + now.get(place, 0)
        for place in sorted(before.keys() | now.keys())
    }
