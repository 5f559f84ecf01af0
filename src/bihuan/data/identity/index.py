"""Who is who at one date: look-ups by number, account, subscription and customer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.kernel import UserError


class IdentityError(UserError):
    """An identity was asked for that is not there, or by a rule that does not exist."""


@dataclass(frozen=True)
class CustomerIdentity:
    """One customer with everything that carries an id.

    Parameters
    ----------
    customer_id
        The customer.
    subscription_ids, numbers
        That the customer uses and that are not disconnected, sorted.
    account_ids
        That pay for them or belong to the customer, sorted.
    group_id
        The group; a customer who is linked to nobody is a group of one.
    member_ids
        Customers of the group, sorted, the customer included.
    reasons
        Links that hold the customer in the group, as (rule, value shared).
    """

    customer_id: str
    subscription_ids: tuple[str, ...]
    numbers: tuple[str, ...]
    account_ids: tuple[str, ...]
    group_id: str
    member_ids: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class IdentityIndex:
    """Who is who at one date.

    Parameters
    ----------
    as_of
        Snapshot date.
    subscriptions
        One row per subscription: ``subscription_id``, ``number``, ``service``, ``status``,
        ``account_id``, ``customer_id`` (who uses it), ``payer_customer_id`` (who pays; missing
        where the account is unknown).
    accounts
        One row per account: ``account_id``, ``customer_id``.
    groups
        One row per customer, sorted: ``customer_id``, ``group_id`` (hash of the group's smallest
        customer id), ``size``.
    links
        One row per customer, rule and value that grouped customers: ``rule``, ``value``,
        ``customer_id``.
    ignored
        Values that did not group anybody because too many share them: ``rule``, ``value``,
        ``customers``, ``reason`` (``shared_by_too_many`` or ``group_too_large``).
    conflicts
        Numbers that are live on several subscriptions of one service: ``number``, ``service``,
        ``subscriptions`` (count), ``customers`` (count), ``first`` and ``last`` subscription id.
    snapshot_ids
        The snapshots that it was made from.
    """

    as_of: date
    subscriptions: pa.Table
    accounts: pa.Table
    groups: pa.Table
    links: pa.Table
    ignored: pa.Table
    conflicts: pa.Table
    snapshot_ids: tuple[str, ...]

    def find_subscriptions(self, number: str, *, live: bool = True) -> pa.Table:
        """Return the rows of ``subscriptions`` that carry a number; live ones only by default."""
        found = self._rows(self.subscriptions, "number", number)
        return found.filter(_is_live(found)) if live else found

    def find_customer_by_number(self, number: str) -> str | None:
        """Return who uses a number, or None if nobody does or more than one customer does."""
        users = set(self.find_subscriptions(number).column("customer_id").to_pylist())
        return users.pop() if len(users) == 1 else None

    def find_customer_by_account(self, account_id: str) -> str | None:
        """Return who pays an account, or None."""
        found = self._rows(self.accounts, "account_id", account_id)
        return found.column("customer_id")[0].as_py() if found.num_rows else None

    def find_customer_by_subscription(self, subscription_id: str) -> str | None:
        """Return who uses a subscription, or None."""
        found = self._rows(self.subscriptions, "subscription_id", subscription_id)
        return found.column("customer_id")[0].as_py() if found.num_rows else None

    def customers_of_numbers(self, numbers: pa.Array) -> pa.Array:
        """Return who uses each number; missing where nobody does or more than one customer does.

        Parameters
        ----------
        numbers
            Strings, shape ``(n,)``.

        Returns
        -------
        pyarrow.Array
            Customer ids, shape ``(n,)``.
        """
        known, users = self._number_users
        return pc.take(users, pc.index_in(numbers, value_set=known))

    def get_customer(self, customer_id: str) -> CustomerIdentity:
        """Return everything that carries an id of one customer.

        Raises
        ------
        IdentityError
            If nobody has that id.
        """
        group = self._rows(self.groups, "customer_id", customer_id)
        if not group.num_rows:
            raise IdentityError(
                f"There is no customer '{customer_id}' at {self.as_of.isoformat()}.",
                remedy="Check the id, or choose another date.",
                zh=f"{self.as_of.isoformat()} 没有编号为 {customer_id} 的客户。",
            )
        group_id = group.column("group_id")[0].as_py()
        members = self._rows(self.groups, "group_id", group_id)
        used = self._rows(self.subscriptions, "customer_id", customer_id)
        used = used.filter(_is_live(used))
        own = self._rows(self.accounts, "customer_id", customer_id)
        links = self._rows(self.links, "customer_id", customer_id)
        accounts = {*used.column("account_id").to_pylist(), *own.column("account_id").to_pylist()}
        return CustomerIdentity(
            customer_id=customer_id,
            subscription_ids=_sorted(used.column("subscription_id").to_pylist()),
            numbers=_sorted(used.column("number").to_pylist()),
            account_ids=_sorted(accounts),
            group_id=group_id,
            member_ids=_sorted(members.column("customer_id").to_pylist()),
            reasons=tuple(
                sorted(zip(*(links.column(n).to_pylist() for n in ("rule", "value")), strict=True))
            ),
        )

    @cached_property
    def _number_users(self) -> tuple[pa.Array, pa.Array]:
        live = self.subscriptions.filter(_is_live(self.subscriptions))
        live = live.select(["number", "customer_id"]).drop_null()
        users = live.group_by("number").aggregate(
            [("customer_id", "count_distinct"), ("customer_id", "min")]
        )
        one = users.filter(pc.equal(users.column("customer_id_count_distinct"), 1))
        return (
            one.column("number").combine_chunks(),
            one.column("customer_id_min").combine_chunks(),
        )

    @staticmethod
    def _rows(table: pa.Table, name: str, value: str) -> pa.Table:
        return table.filter(pc.equal(table.column(name), value))


def _is_live(subscriptions: pa.Table) -> Any:
    return pc.not_equal(subscriptions.column("status"), "disconnected")


def _sorted(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value is not None}))
