"""The 360 view: one customer's records, connections, preferences, tags and history by id.

Every table is asked for the rows of one id; nothing is read whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from bihuan.data import Column, LakeView, Snapshot
from bihuan.kernel import UserError
from bihuan.tag import TagBranch, TagDefinition, TagNotDerivedError
from bihuan.workspace.customer_view import (
    PREFERENCE_KINDS,
    Connection,
    CustomerView,
    Fact,
    Happening,
    Preference,
    Record,
    TagGroup,
    TagMark,
    Text,
)

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

_FEATURES = tuple(f"基本特征/{name}" for name in ("心理", "性格", "价值", "生命周期", "需求"))
_HISTORY = {  # table: kind, column of the moment (None: the month), column that says what
    "event": ("event", "occurred_at", "kind"),
    "ticket": ("ticket", "opened_at", "kind"),
    "contact": ("contact", "contacted_at", "result"),
    "product_order": ("order", "ordered_at", "category"),
    "payment": ("payment", "paid_at", "amount"),
    "bill": ("bill", None, "amount"),
}
_MONTHS = 12
_CONNECTED = {"address": "address_id", "resource": "resource_id", "product": "product_id"}
Rows = list[dict[str, Any]]


class UnknownCustomerError(UserError):
    """There is no customer of that id at that date."""


class View360:
    """Looks up one customer at a time.

    Parameters
    ----------
    workspace
        Whose lake and tags.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __call__(self, customer_id: str, as_of: date | str) -> CustomerView:
        """Return everything known of a customer up to a date.

        Parameters
        ----------
        customer_id
            The customer.
        as_of
            Date, or its text as 2026-10-31. Of each state table the newest snapshot up to it is
            shown; of facts the last twelve months; tags as derived for it.

        Raises
        ------
        UnknownCustomerError
            If no customer of that id is in the newest snapshot up to the date.
        """
        day = as_of if isinstance(as_of, date) else date.fromisoformat(as_of)
        return _Lookup(self._workspace, customer_id, day).view()


class _Lookup:
    """One customer at one date, over one state of the lake."""

    def __init__(self, workspace: Workspace, customer_id: str, as_of: date) -> None:
        self._workspace, self._id, self._as_of = workspace, customer_id, as_of
        self._lake: LakeView = workspace.view
        self._missing: list[str] = []

    def view(self) -> CustomerView:
        found = self._records("customer", "customer_id", [self._id])
        if not found:
            raise UnknownCustomerError(
                f"There is no customer '{self._id}' up to {self._as_of}.",
                remedy="Check the id and the date.",
                zh=f"截至 {self._as_of} 没有编号为 {self._id} 的客户，请核对编号和日期。",
            )
        customer = found[0]
        subscriptions = self._records("subscription", "customer_id", [self._id])
        refused = self._records("opt_out", "customer_id", [self._id])
        refuses = any(row["kind"] == "no_profiling" for row in refused)
        marks = self._marks(refuses)
        shown = {} if refuses else marks
        return CustomerView(
            customer_id=self._id,
            as_of=self._as_of,
            customer=customer,
            accounts=self._records("account", "customer_id", [self._id]),
            subscriptions=subscriptions,
            family=_first(self._records("family", "customer_id", [self._id])),
            group=self._one("customer_group", "group_id", customer["group_id"]),
            unit=self._one("org_unit", "org_unit_id", customer["org_unit_id"]),
            off_net=_first(self._records("off_net_profile", "customer_id", [self._id])),
            connections=self._connections(customer, subscriptions),
            features={name: m for name, m in shown.items() if self._is_feature(name)},
            preferences=self._preferences(shown),
            tags=_grouped(self._workspace.dictionary.tree("customer"), marks),
            timeline=self._timeline(),
            refuses_profiling=refuses,
            missing=tuple(self._missing),
        )

    # rows by id

    def _records(self, table: str, column: str, ids: Iterable[str]) -> tuple[Record, ...]:
        """Return the rows of some ids in the newest snapshot up to the date."""
        dates = [day for day in self._lake.dates(table) if day <= self._as_of]
        if not dates:
            self._missing.append(table)
            return ()
        snapshot = self._lake.get(table, dates[-1])
        return tuple(
            self._record(table, row) for row in self._rows(table, (snapshot,), column, ids)
        )

    def _one(self, table: str, column: str, id_: str | None) -> Record | None:
        return None if id_ is None else _first(self._records(table, column, [id_]))

    def _rows(
        self, table: str, snapshots: tuple[Snapshot, ...], column: str, ids: Iterable[str]
    ) -> Rows:
        wanted = [exp.Literal.string(id_) for id_ in ids]
        key = exp.column(column, quoted=True)
        query = (
            exp.select("*")
            .from_(exp.to_table(table, quoted=True))
            .where(exp.In(this=key, expressions=wanted))
            .order_by(*(exp.column(name, quoted=True) for name in self._contract_key(table)))
        )
        rows: Rows = self._workspace.engine.query(query, {table: snapshots}).to_pylist()
        return rows

    def _contract_key(self, table: str) -> tuple[str, ...]:
        return tuple(self._workspace.contracts[table].key)

    def _record(self, table: str, row: Mapping[str, Any]) -> Record:
        contract = self._workspace.contracts[table]
        columns = [column for column in contract.columns if column.name in row]
        facts = tuple(_fact(column, row[column.name]) for column in columns)
        return Record(table, contract.meaning, row["as_of"], facts)

    # the six resources

    def _connections(
        self, customer: Record, subscriptions: tuple[Record, ...]
    ) -> tuple[Connection, ...]:
        """Walk from each subscription to what serves it; one query per table."""
        found: dict[str, dict[str, Record]] = {}
        for table, column in _CONNECTED.items():
            ids = {row[column] for row in subscriptions} - {None}
            if table == "address":
                ids |= {customer["address_id"]} - {None}
            records = self._records(table, column, sorted(ids)) if ids else ()
            found[table] = {record[column]: record for record in records}
        staff = self._one("staff", "staff_id", customer["manager_staff_id"])
        channel = self._one("channel", "channel_id", staff["channel_id"]) if staff else None
        return tuple(
            Connection(
                subscription_id=row["subscription_id"],
                address=found["address"].get(row["address_id"] or customer["address_id"]),
                resource=found["resource"].get(row["resource_id"]),
                product=found["product"].get(row["product_id"]),
                staff=staff,
                channel=channel,
            )
            for row in subscriptions
        )

    # tags

    def _marks(self, refuses_profiling: bool) -> dict[str, TagMark]:
        """Return the tags that have a value; of who refuses profiling the base tags alone."""
        try:
            table = self._workspace.tags(self._as_of)
        except TagNotDerivedError:
            self._missing.append("tag__customer")
            return {}
        marks = {}
        for name, value in table.profile(self._id).items():
            tag = self._workspace.dictionary.get(name)
            if value is None or (refuses_profiling and tag.layer != "base"):
                continue
            marks[name] = TagMark(_tag_fact(tag, value), tag.layer, tag.means, self._as_of)
        return marks

    def _is_feature(self, name: str) -> bool:
        category = self._workspace.dictionary.get(name).category
        return category.startswith(_FEATURES)

    def _preferences(self, marks: Mapping[str, TagMark]) -> dict[str, tuple[Preference, ...]]:
        """Return each ranking in full, from the tags ``<kind>_rank_<code>``."""
        rankings: dict[str, tuple[Preference, ...]] = {}
        for kind in PREFERENCE_KINDS:
            places = []
            for name, mark in marks.items():
                match = re.fullmatch(rf"{kind}_rank_(\w+)", name)
                if match is None:
                    continue
                code = match[1]
                score = marks.get(f"{kind}_score_{code}")
                degree = None if score is None else float(score.fact.value)
                title = self._code_title(kind, code)
                places.append(Preference(int(mark.fact.value), code, title, degree))
            if places:
                rankings[kind] = tuple(sorted(places, key=lambda place: place.rank))
        return rankings

    def _code_title(self, kind: str, code: str) -> Text:
        tag = self._workspace.dictionary.find(f"preferred_{kind}_1")
        codes = (tag.codes if tag else None) or {}
        return codes.get(code, {"zh": code, "en": code})

    # what happened

    def _timeline(self) -> tuple[Happening, ...]:
        entries = []
        for table, (kind, moment, what) in _HISTORY.items():
            snapshots = self._lake.upto(table, self._as_of, months=_MONTHS)
            if not snapshots:
                self._missing.append(table)
                continue
            for row in self._rows(table, snapshots, "customer_id", [self._id]):
                record = self._record(table, row)
                fact = next(fact for fact in record.facts if fact.name == what)
                title = {
                    language: f"{_NAMES[kind][language]}: {fact.text[language]}"
                    for language in ("zh", "en")
                }
                at = row[moment] if moment else row["as_of"]
                entries.append(Happening(kind, at, title, record))
        return tuple(sorted(entries, key=_order, reverse=True))


_NAMES: Mapping[str, Text] = {
    "event": {"zh": "行为", "en": "Event"},
    "ticket": {"zh": "工单", "en": "Ticket"},
    "contact": {"zh": "营销接触", "en": "Contact"},
    "order": {"zh": "办理", "en": "Order"},
    "payment": {"zh": "缴费", "en": "Payment"},
    "bill": {"zh": "账单", "en": "Bill"},
}


def _order(entry: Happening) -> tuple[str, str, str]:
    at = entry.at
    day = at.date() if isinstance(at, datetime) else at
    # a month's bill is made when the day is over
    return day.isoformat(), at.isoformat() if isinstance(at, datetime) else "~", entry.kind


def _first(records: tuple[Record, ...]) -> Record | None:
    return records[0] if records else None


def _fact(column: Column, value: Any) -> Fact:
    text = (column.codes or {}).get(value) if isinstance(value, str) else None
    plain = "" if value is None else str(value)
    return Fact(column.name, column.meaning, value, text or {"zh": plain, "en": plain}, column.unit)


def _tag_fact(tag: TagDefinition, value: Any) -> Fact:
    text = (tag.codes or {}).get(value) if isinstance(value, str) else None
    if isinstance(value, bool):
        text = {"zh": "是" if value else "否", "en": "yes" if value else "no"}
    plain = str(value)
    return Fact(tag.name, tag.title, value, text or {"zh": plain, "en": plain}, tag.unit)


def _grouped(branch: TagBranch, marks: Mapping[str, TagMark]) -> TagGroup:
    """Hang the customer's tags into the tree; categories without any are left out."""
    below = (_grouped(inner, marks) for inner in branch.branches)
    return TagGroup(
        name=branch.name,
        path=branch.path,
        tags=tuple(marks[name] for name in branch.tags if name in marks),
        groups=tuple(group for group in below if group.tags or group.groups),
    )
