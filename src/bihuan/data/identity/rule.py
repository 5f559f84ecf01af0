"""The rules by which customers are found to belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlglot import exp


@dataclass(frozen=True, slots=True)
class LinkRule:
    """A reason why customers belong together.

    Parameters
    ----------
    name
        Snake case.
    title
        By language.
    tables
        Lake tables that the query reads; the rule is left out where one of them is not there.
    query
        Makes the tree that returns ``customer_id`` and ``value``: customers of one value belong
        together.
    """

    name: str
    title: Mapping[str, str]
    tables: tuple[str, ...]
    query: Callable[[], exp.Select]


def _rule_group() -> exp.Select:
    return exp.select("customer_id", exp.column("group_id").as_("value")).from_("customer")


def _rule_address_payer() -> exp.Select:
    """Link customers at one address whose subscriptions one customer pays, and that payer."""
    home = exp.Coalesce(
        this=exp.column("address_id", table="s"), expressions=[exp.column("address_id", table="c")]
    )
    users = (
        exp.select(
            exp.column("customer_id", table="s"),
            home.as_("address_id"),
            exp.column("customer_id", table="a").as_("payer"),
        )
        .from_(exp.to_table("subscription").as_("s"))
        .join(exp.to_table("account").as_("a"), using="account_id")
        .join(
            exp.to_table("customer").as_("c"),
            on=exp.column("customer_id", table="s").eq(exp.column("customer_id", table="c")),
            join_type="left",
        )
        .where(lives(exp.column("status", table="s")))
    )
    payers = (
        exp.select(
            exp.column("customer_id", table="c"),
            exp.column("address_id", table="c"),
            exp.column("customer_id", table="c").as_("payer"),
        )
        .from_(exp.to_table("customer").as_("c"))
        .join(exp.to_table("account").as_("a"), using="customer_id")
    )
    both = exp.union(users, payers, distinct=False).subquery("homes")
    value = exp.DPipe(
        this=exp.DPipe(this=exp.column("address_id"), expression=exp.Literal.string("|")),
        expression=exp.column("payer"),
    )
    return exp.select("customer_id", value.as_("value")).from_(both)


def _rule_number() -> exp.Select:
    """Link customers with one number for different services, as a line that carries two of them.

    A number that is live twice in the same service is a conflict, not a link.
    """
    clash = exp.select("number").from_(conflicts().subquery("conflicts"))
    return (
        exp.select("customer_id", exp.column("number").as_("value"))
        .from_("subscription")
        .where(lives(exp.column("status")))
        .where(exp.not_(exp.In(this=exp.column("number"), query=clash.subquery())))
    )


STANDARD_RULES = (
    LinkRule(
        "group", {"zh": "同一家庭或集团编号", "en": "same group id"}, ("customer",), _rule_group
    ),
    LinkRule(
        "address_payer",
        {"zh": "同一地址且同一付费人", "en": "same address and same payer"},
        ("customer", "account", "subscription"),
        _rule_address_payer,
    ),
    LinkRule("number", {"zh": "共用号码", "en": "shared number"}, ("subscription",), _rule_number),
)
"""The rules in use, most trusted first."""


def conflicts() -> exp.Select:
    """Find numbers that are live on several subscriptions of one service."""

    def distinct(name: str) -> exp.Expr:
        return exp.Count(this=exp.Distinct(expressions=[exp.column(name)]))

    subscription = exp.column("subscription_id")
    return (
        exp.select(
            "number",
            "service",
            distinct("subscription_id").as_("subscriptions"),
            distinct("customer_id").as_("customers"),
            exp.Min(this=subscription).as_("first"),
            exp.Max(this=subscription.copy()).as_("last"),
        )
        .from_("subscription")
        .where(lives(exp.column("status")))
        .where(exp.not_(exp.Is(this=exp.column("number"), expression=exp.null())))
        .group_by("number", "service")
        .having(distinct("subscription_id") > 1)
    )


def lives(status: exp.Expr) -> exp.Expr:
    """Tell whether a subscription holds its number: all but disconnected ones do."""
    return exp.NEQ(this=status, expression=exp.Literal.string("disconnected"))
