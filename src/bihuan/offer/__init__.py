"""What is sold, to whom it may be sold, and what a sale is worth.

In come catalogue files (YAML) that product managers keep; out go :class:`Offer` values with an
eligibility audience, exclusions, channels, price and margin, and judgements on them that need no
campaign. Which customer gets what is the decision room's question.

1. *Keep them*: ``offer`` and ``catalogue`` (what is on sale when), ``business`` (six categories,
   and the scopes taken up one after the other).
2. *Price them*: ``fairness`` (no higher price for a higher tier), ``tiering`` (sizes of add-on
   packs from consumption).
3. *Match them*: ``facts`` (what rules read of customers), ``matching`` and ``match`` (principles,
   need groups), ``upgrade`` and ``handling`` (the tier to upgrade to, in one click).
4. *Bundle them by class*: ``contract_family`` (exclusive contracts), ``power_service``.
"""

from bihuan.offer.business import CATEGORIES, Coverage, Scope, business_coverage
from bihuan.offer.catalogue import (
    Catalogue,
    NotOnSaleError,
    RetiredOfferError,
    UnknownOfferError,
)
from bihuan.offer.contract_family import (
    ContractFamily,
    ContractFamilyError,
    FamilyFit,
    FamilyReport,
    Slot,
)
from bihuan.offer.contract_family_file import load_contract_family
from bihuan.offer.exclusive import exclusive_wording
from bihuan.offer.facts import Facts, Needs, ProfileFacts, read_facts, split_readable
from bihuan.offer.fairness import (
    FairnessReport,
    PriceViolation,
    UnfairPriceError,
    check_price_fairness,
    require_fair_prices,
)
from bihuan.offer.handling import HandlingError, OrderBook, PlanOrder
from bihuan.offer.match import (
    ProductMatch,
    Scheme,
    SchemeOffer,
    design_schemes,
    match_products,
    rank_offers,
)
from bihuan.offer.matching import Matching, NeedGroup, Principle
from bihuan.offer.matching_file import load_matching
from bihuan.offer.offer import KINDS, Margin, Offer
from bihuan.offer.power_service import (
    PowerServiceError,
    PowerServices,
    Service,
    ServiceClass,
    StaffHint,
)
from bihuan.offer.power_service_file import load_power_services
from bihuan.offer.tiering import AddonTiers, TieringError, addon_tiers
from bihuan.offer.upgrade import UpgradeRule, recommend_tier
from bihuan.offer.upgrade_choice import TierChoice, TierChoices, UpgradeError

__all__ = [
    "Offer",
    "KINDS",
    "Margin",
    "Catalogue",
    "UnknownOfferError",
    "NotOnSaleError",
    "RetiredOfferError",
    "CATEGORIES",
    "Scope",
    "Coverage",
    "business_coverage",
    "FairnessReport",
    "PriceViolation",
    "UnfairPriceError",
    "check_price_fairness",
    "require_fair_prices",
    "AddonTiers",
    "TieringError",
    "addon_tiers",
    "Facts",
    "Needs",
    "ProfileFacts",
    "read_facts",
    "split_readable",
    "Matching",
    "Principle",
    "NeedGroup",
    "load_matching",
    "ProductMatch",
    "match_products",
    "rank_offers",
    "Scheme",
    "SchemeOffer",
    "design_schemes",
    "TierChoice",
    "TierChoices",
    "UpgradeRule",
    "UpgradeError",
    "recommend_tier",
    "OrderBook",
    "PlanOrder",
    "HandlingError",
    "ContractFamily",
    "ContractFamilyError",
    "Slot",
    "FamilyReport",
    "FamilyFit",
    "exclusive_wording",
    "load_contract_family",
    "PowerServices",
    "ServiceClass",
    "Service",
    "StaffHint",
    "PowerServiceError",
    "load_power_services",
]
