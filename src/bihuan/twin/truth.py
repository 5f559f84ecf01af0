"""What only the twin knows: how each customer would answer each offer through each channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from bihuan.kernel import DefectError, random_stream

Floats = NDArray[np.float64]
LATENTS = ("thrift", "gadgets", "digital", "patience")
"""Hidden traits, standard normal: love of savings, love of devices, digital habit, patience."""
COMPLETION = 0.85
"""Share of acceptances that become orders; the others are lost between yes and signature."""


@dataclass(frozen=True, slots=True)
class ChannelTrait:
    """How a channel reaches people.

    Parameters
    ----------
    delivered, connected
        Probability that a contact arrives, and that an arrived one is answered or read, 0 to 1.
    persuasion
        Logit added to acceptance.
    annoyance
        Relative rise of the probability to leave when an answered contact is not accepted, for a
        customer of average patience, >= 0.
    digital
        How much a digital habit helps to connect, logit per standard deviation.
    """

    delivered: float
    connected: float
    persuasion: float
    annoyance: float
    digital: float = 0.0


CHANNEL_TRAITS: Mapping[str, ChannelTrait] = {
    # 64.9 % connected and half of the connected agreeing are the figures of the 10088 paper
    "outbound": ChannelTrait(0.97, 0.649, 0.5, 0.10),
    "sms": ChannelTrait(0.985, 0.38, -1.3, 0.02),
    "app": ChannelTrait(0.99, 0.30, -0.7, 0.01, 0.8),
    "hall": ChannelTrait(0.60, 0.85, 0.6, 0.02, -0.3),
    "account_manager": ChannelTrait(0.95, 0.72, 0.9, 0.05),
    "wechat": ChannelTrait(0.97, 0.35, -0.5, 0.02, 0.5),
}


@dataclass(frozen=True, slots=True)
class OfferTrait:
    """How an offer is received.

    Parameters
    ----------
    appeal
        Logit of acceptance for the average customer.
    taste
        Logit per standard deviation of each hidden trait, shape ``(4,)`` in the order of
        :data:`LATENTS`.
    grip
        Factor on the probability to leave once accepted, 0 to 1.
    """

    appeal: float
    taste: tuple[float, float, float, float]
    grip: float


@dataclass(frozen=True)
class Truth:
    """The hidden response of every customer.

    Parameters
    ----------
    customer_ids
        Ids in ascending order, shape ``(n,)``.
    leave
        Probability to leave within the month if nobody makes contact, shape ``(n,)``, 0 to 1.
    latents
        Hidden traits, shape ``(n, 4)``.
    offers
        By offer id.
    channels
        By channel kind.
    """

    customer_ids: NDArray[np.str_]
    leave: Floats
    latents: Floats
    offers: Mapping[str, OfferTrait]
    channels: Mapping[str, ChannelTrait]

    def rows_of(self, customer_ids: Iterable[str]) -> NDArray[np.int64]:
        """Return the position of each customer.

        Raises
        ------
        DefectError
            If one of them is not a customer of this truth.
        """
        wanted = np.asarray(list(customer_ids), dtype=self.customer_ids.dtype)
        found = np.searchsorted(self.customer_ids, wanted)
        rows = np.minimum(found, len(self.customer_ids) - 1).astype(np.int64)
        if len(wanted) and not bool((self.customer_ids[rows] == wanted).all()):
            raise DefectError("The twin was asked about customers that it does not simulate.")
        return rows

    def connect(self, rows: NDArray[np.int64], channel: str) -> Floats:
        """Return the probability that a delivered contact is answered, shape ``(k,)``."""
        trait = self.channels[channel]
        base = np.log(trait.connected / (1 - trait.connected))
        return np.asarray(expit(base + trait.digital * self.latents[rows, 2]))

    def accept(self, rows: NDArray[np.int64], offer_id: str, channel: str) -> Floats:
        """Return the probability that an answering customer accepts, shape ``(k,)``."""
        offer, trait = self.offers[offer_id], self.channels[channel]
        taste = self.latents[rows] @ np.asarray(offer.taste)
        return np.asarray(expit(offer.appeal + trait.persuasion + taste))

    def leave_after(
        self, rows: NDArray[np.int64], *, connected: Floats, ordered: Floats, grip: Floats,
        annoyance: Floats,
    ) -> Floats:  # fmt: skip
        """Return the probability to leave after a contact went as stated, shape ``(k,)``.

        An order multiplies it by ``grip``; a contact answered without an order raises it by
        ``annoyance``, the more the less patient the customer is.
        """
        patience = np.exp(-0.5 * self.latents[rows, 3])
        factor = ordered * grip + (1 - ordered) * (1 + connected * annoyance * patience)
        return np.asarray(np.minimum(self.leave[rows] * factor, 1.0))

    def effect_on_retention(
        self, customer_ids: Iterable[str], offer_ids: Iterable[str], channels: Iterable[str]
    ) -> Floats:
        """Return each planned contact's true effect on the probability to stay.

        Parameters
        ----------
        customer_ids, offer_ids, channels
            The planned contacts, each of length ``k``.

        Returns
        -------
        numpy.ndarray
            Shape ``(k,)``: probability to stay with the contact sent minus without; negative for
            customers whom a contact drives away.
        """
        rows = self.rows_of(customer_ids)
        offer_column, channel_column = np.asarray(list(offer_ids)), np.asarray(list(channels))
        effect = np.zeros(len(rows))
        for channel in np.unique(channel_column):
            for offer_id in np.unique(offer_column[channel_column == channel]):
                at = np.flatnonzero((channel_column == channel) & (offer_column == offer_id))
                effect[at] = self._effect(rows[at], str(offer_id), str(channel))
        return effect

    def _effect(self, rows: NDArray[np.int64], offer_id: str, channel: str) -> Floats:
        trait = self.channels[channel]
        reached = trait.delivered * self.connect(rows, channel)
        order = COMPLETION * self.accept(rows, offer_id, channel)
        ones = np.ones(len(rows))
        if_yes, if_no = (
            self.leave_after(
                rows,
                connected=ones,
                ordered=ordered,
                grip=self.offers[offer_id].grip * ones,
                annoyance=trait.annoyance * ones,
            )
            for ordered in (ones, 0 * ones)
        )
        return np.asarray(reached * (self.leave[rows] - order * if_yes - (1 - order) * if_no))


def draw_truth(
    customer_ids: Iterable[str], leave_logit: Floats, offer_ids: Iterable[str], *, seed: int
) -> Truth:
    """Draw the hidden response of given customers, real or simulated.

    Parameters
    ----------
    customer_ids
        Distinct ids, length ``n``.
    leave_logit
        Logit of leaving as far as it can be seen in the data, shape ``(n,)``; a hidden part of
        0.6 standard deviations is added, so that no model can know everything.
    offer_ids
        Offers that may be made.
    seed
        The twin's seed.
    """
    ids = np.asarray(list(customer_ids), dtype=np.str_)
    order = np.argsort(ids)
    rng = random_stream(seed, "truth")
    latents = rng.standard_normal((len(ids), len(LATENTS)))
    hidden = 0.6 * rng.standard_normal(len(ids))
    return Truth(
        customer_ids=ids[order],
        leave=np.asarray(expit(leave_logit[order] + hidden)),
        latents=latents,
        offers={offer: _draw_offer(offer, seed) for offer in offer_ids},
        channels=CHANNEL_TRAITS,
    )


def _draw_offer(offer_id: str, seed: int) -> OfferTrait:
    rng = random_stream(seed, "offer", offer_id)
    taste = 0.6 * rng.standard_normal(len(LATENTS))
    return OfferTrait(
        appeal=float(-0.4 + 0.5 * rng.standard_normal()),
        taste=(float(taste[0]), float(taste[1]), float(taste[2]), float(taste[3])),
        grip=float(rng.uniform(0.2, 0.55)),
    )
