"""Who is who: customer, account, subscription, number; and which customers belong together.

A customer uses subscriptions, which are paid through accounts, which belong to a paying customer.
Customers are grouped (households, enterprises) by links that rules find: every link is a row that
names its rule and the value shared, so a group can be explained, and a rule that was wrong can be
left out and the customers grouped again as if it had never been.
"""

from bihuan.data.identity.index import CustomerIdentity, IdentityError, IdentityIndex
from bihuan.data.identity.resolve import publish_identity, resolve_identity
from bihuan.data.identity.rule import STANDARD_RULES, LinkRule

__all__ = [
    "resolve_identity",
    "publish_identity",
    "IdentityIndex",
    "CustomerIdentity",
    "LinkRule",
    "STANDARD_RULES",
    "IdentityError",
]
