"""A simulated operator with known truth.

It plays customers and channels against the real interfaces: it writes months of contracted tables
into the lake, it answers deployed assignments with outcomes, and it lets the next month come. What
it alone knows (each customer's probability to leave, to accept, to stay) is the :class:`Truth`,
against which estimates are held. Nothing of the truth ever enters the lake.
"""

from bihuan.twin.business import surround_business
from bihuan.twin.consumer import surround_consumers
from bihuan.twin.digital import surround_digital
from bihuan.twin.management import surround_management
from bihuan.twin.operator import TwinReport, TwinSettings, generate_operator
from bihuan.twin.organisation import PROVINCE_PERSONS, province_organisation
from bihuan.twin.power import surround_power
from bihuan.twin.reaction import SimulatedChannels, next_month
from bihuan.twin.surroundings import (
    draw_reaction,
    next_month_end,
    publish_next_month,
    surround_customers,
)
from bihuan.twin.truth import CHANNEL_TRAITS, ChannelTrait, OfferTrait, Truth, draw_truth

__all__ = [
    "TwinSettings",
    "TwinReport",
    "generate_operator",
    "Truth",
    "OfferTrait",
    "ChannelTrait",
    "CHANNEL_TRAITS",
    "draw_truth",
    "SimulatedChannels",
    "next_month",
    "next_month_end",
    "surround_customers",
    "surround_business",
    "surround_digital",
    "surround_power",
    "surround_consumers",
    "surround_management",
    "province_organisation",
    "PROVINCE_PERSONS",
    "draw_reaction",
    "publish_next_month",
]
