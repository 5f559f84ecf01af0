"""What is sold, to whom it may be sold, and what a sale is worth.

In come catalogue files (YAML) that product managers keep; out go :class:`Offer` values with an
eligibility audience, exclusions, channels, price and margin. Whether an offer is *good* for a
customer is the decision room's question; here stands only whether it is *allowed*.
"""

from bihuan.offer.catalogue import Catalogue, Margin, Offer, UnknownOfferError

__all__ = ["Catalogue", "Margin", "Offer", "UnknownOfferError"]
