"""The 360 view: one customer's records, connections, preferences, tags and history by id.

Every table is asked for the rows of one id; nothing is read whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from bihuan.data import Column, LakeView, Snapshot, Source
from bihuan.data.personal import show_masks
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
from bihuan.workspace.place import day_of

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
_OWN = ("customer", "account", "subscription", "family", "off_net_profile", "opt_out")
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
        day = day_of(as_of)
        return _Lookup(self._workspace, customer_id, day).view()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Rows to look up: of these snapshots, those whose ``column`` is one of ``ids``."""

    snapshots: tuple[Snapshot, ...]
    column: str
    ids: tuple[str, ...]


class _Lookup:
    """One customer at one date, over one state of the lake."""

    def __init__(self, workspace: Workspace, customer_id: str, as_of: date) -> None:
        self._workspace, self._id, self._as_of = workspace, customer_id, as_of
        self._lake: LakeView = workspace.view
        self._missing: list[str] = []

    def view(self) -> CustomerView:
        mine = {name: self._newest(name, "customer_id", [self._id]) for name in _OWN}
        past = {name: self._past(name) for name in _HISTORY}
        found = self._look_up(mine | past)
        if not found["customer"]:
            raise UnknownCustomerError(
                f"There is no customer '{self._id}' up to {self._as_of}.",
                remedy="Check the id and the date.",
                zh=f"截至 {self._as_of} 没有编号为 {self._id} 的客户，请核对编号和日期。",
            )
        customer, subscriptions = found["customer"][0], found["subscription"]
        around = self._around(customer, subscriptions)
        refuses = any(row["kind"] == "no_profiling" for row in found["opt_out"])
        marks = self._marks(refuses)
        shown = {} if refuses else marks
        return CustomerView(
            customer_id=self._id,
            as_of=self._as_of,
            customer=customer,
            accounts=found["account"],
            subscriptions=subscriptions,
            family=_first(found["family"]),
            group=around["customer_group"].get(customer["group_id"]),
            unit=around["org_unit"].get(customer["org_unit_id"]),
            off_net=_first(found["off_net_profile"]),
            connections=_connections(customer, subscriptions, around),
            features={name: m for name, m in shown.items() if self._is_feature(name)},
            preferences=self._preferences(shown),
            tags=_grouped(self._workspace.dictionary.tree("customer"), marks),
            timeline=_timeline({name: found[name] for name in _HISTORY}),
            refuses_profiling=refuses,
            missing=tuple(self._missing),
        )

    # rows by id

    def _newest(self, table: str, column: str, ids: Iterable[str | None]) -> _Wanted:
        """Ask for rows of the newest snapshot up to the date."""
        dates = [day for day in self._lake.dates(table) if day <= self._as_of]
        if not dates:
            self._missing.append(table)
            return _Wanted((), column, ())
        known = tuple(sorted({id_ for id_ in ids if id_ is not None}))
        return _Wanted((self._lake.get(table, dates[-1]),), column, known)

    def _past(self, table: str) -> _Wanted:
        """Ask for the customer's rows of the last twelve months."""
        snapshots = self._lake.upto(table, self._as_of, months=_MONTHS)
        if not snapshots:
            self._missing.append(table)
        return _Wanted(snapshots, "customer_id", (self._id,))

    def _look_up(self, wanted: Mapping[str, _Wanted]) -> dict[str, tuple[Record, ...]]:
        """Read the rows asked for, all tables in one query."""
        asked = {name: want for name, want in wanted.items() if want.snapshots and want.ids}
        rows: dict[str, Any] = {}
        if asked:
            query = exp.select(*(_list_of(name, want) for name, want in asked.items()))
            sources: dict[str, Source] = {name: want.snapshots for name, want in asked.items()}
            rows = self._workspace.engine.query(query, sources).to_pylist()[0]
        return {name: self._records(name, rows.get(name) or []) for name in wanted}

    def _records(self, table: str, rows: Rows) -> tuple[Record, ...]:
        contract = self._workspace.contracts[table]
        rows = show_masks(self._lake, contract, rows, self._workspace.engine)
        records = []
        for row in rows:
            columns = [column for column in contract.columns if column.name in row]
            facts = tuple(_fact(column, row[column.name]) for column in columns)
            records.append(Record(table, contract.meaning, row["as_of"], facts))
        return tuple(sorted(records, key=lambda r: (r.as_of, [str(r[k]) for k in contract.key])))

    def _around(
        self, customer: Record, subscriptions: tuple[Record, ...]
    ) -> dict[str, dict[str, Record]]:
        """Walk on to what the customer and the subscriptions are connected to, by id."""
        wanted = {
            name: self._newest(name, column, [row[column] for row in (*others, *subscriptions)])
            for name, column, others in (
                ("address", "address_id", (customer,)),
                ("resource", "resource_id", ()),
                ("product", "product_id", ()),
            )
        }
        for name, column, own in (
            ("staff", "staff_id", "manager_staff_id"),
            ("org_unit", "org_unit_id", "org_unit_id"),
            ("customer_group", "group_id", "group_id"),
        ):
            wanted[name] = self._newest(name, column, [customer[own]])
        found = self._look_up(wanted)
        channels = [person["channel_id"] for person in found["staff"]]
        found |= self._look_up({"channel": self._newest("channel", "channel_id", channels)})
        keys = {name: want.column for name, want in wanted.items()} | {"channel": "channel_id"}
        return {name: {r[keys[name]]: r for r in records} for name, records in found.items()}

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


def _list_of(table: str, wanted: _Wanted) -> exp.Expr:
    """Select the rows asked for as one list of structs."""
    ids = [exp.Literal.string(id_) for id_ in wanted.ids]
    row = exp.Anonymous(this="list", expressions=[exp.column("asked")])
    rows = (
        exp.select(row)
        .from_(exp.to_table(table, quoted=True).as_("asked"))
        .where(exp.In(this=exp.column(wanted.column, table="asked", quoted=True), expressions=ids))
    )
    return rows.subquery().as_(table, quoted=True)


def _connections(
    customer: Record,
    subscriptions: tuple[Record, ...],
    around: Mapping[str, Mapping[str, Record]],
) -> tuple[Connection, ...]:
    staff = around["staff"].get(customer["manager_staff_id"])
    return tuple(
        Connection(
            subscription_id=row["subscription_id"],
            address=around["address"].get(row["address_id"] or customer["address_id"]),
            resource=around["resource"].get(row["resource_id"]),
            product=around["product"].get(row["product_id"]),
            staff=staff,
            channel=around["channel"].get(staff["channel_id"]) if staff else None,
        )
        for row in subscriptions
    )


def _timeline(rows: Mapping[str, tuple[Record, ...]]) -> tuple[Happening, ...]:
    entries = []
    for table, records in rows.items():
        kind, moment, what = _HISTORY[table]
        for record in records:
            fact = next(fact for fact in record.facts if fact.name == what)
            title = {
                language: f"{_NAMES[kind][language]}: {fact.text[language]}"
                for language in ("zh", "en")
            }
            at = record[moment] if moment else record.as_of
            entries.append(Happening(kind, at, title, record))
    return tuple(sorted(entries, key=_order, reverse=True))


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
