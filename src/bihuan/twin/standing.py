"""What the simulated operator knows of its customers at a month's end beside what they do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import random_stream
from bihuan.twin.truth import Floats

Ints = NDArray[np.int64]
PAYMENTS = np.array(["bank_transfer", "e_wallet", "cash", "credit_card"])
_LISTED, _REFUSED = 0.012, 0.02
_PAST_DAYS = 400  # lists and refusals began within so many days before the newest month's end


@dataclass(frozen=True, slots=True)
class StandingBase:
    """What of the customers does not change from month to month.

    Parameters
    ----------
    ids, accounts
        Customer and account ids, (n,).
    birth_year, digital, payment
        Year of birth, digital habit (standard normal), index into ``PAYMENTS``, (n,).
    places
        City code, county code and org unit id, each (n,).
    """

    ids: pa.Array
    accounts: pa.Array
    birth_year: Floats
    digital: Floats
    payment: Ints
    places: tuple[list[str], ...]


class Standing:
    """The state tables of customers, month by month.

    A stream of chance of its own: what customers do does not depend on which tables are written.

    Parameters
    ----------
    base
        The customers.
    last
        Newest snapshot date that there will be.
    seed
        The twin's seed.
    """

    def __init__(self, base: StandingBase, last: date, seed: int) -> None:
        self._base = base
        self._rng = rng = random_stream(seed, "customer records")
        n = len(base.ids)
        self._gender = np.where(rng.random(n) < 0.5, "F", "M").tolist()
        self._listed = np.flatnonzero(rng.random(n) < _LISTED)
        self._is_red = rng.random(len(self._listed)) < 0.4
        self._listed_since = _days(last, rng.integers(0, _PAST_DAYS, len(self._listed)))
        self._refused = np.flatnonzero(rng.random(n) < _REFUSED)
        self._refused_since = _days(last, rng.integers(0, _PAST_DAYS, len(self._refused)))

    def month(self, as_of: date, tenure: Ints) -> dict[str, dict[str, object]]:
        """Return ``customer``, ``account``, ``customer_list`` and ``opt_out`` at a date.

        Parameters
        ----------
        as_of
            Snapshot date.
        tenure
            Months as a customer, (n,).
        """
        base, n = self._base, len(self._base.ids)
        city, county, unit = base.places
        day = np.datetime64(as_of)
        listed = self._listed_since <= day
        refused = self._refused_since <= day
        balance = np.exp(2.5 + 0.8 * self._rng.standard_normal(n))
        return {
            "customer": {
                "customer_id": base.ids,
                "kind": pa.repeat("individual", n),
                "gender": self._gender,
                "birth_year": base.birth_year.astype(np.int64),
                "is_senior": base.birth_year < as_of.year - 60,
                "network": pa.repeat("on_net", n),
                "city_code": city,
                "county_code": county,
                "org_unit_id": unit,
                "joined_on": pa.array(_days(as_of, 30 * tenure)),
            },
            "account": {
                "account_id": base.accounts,
                "customer_id": base.ids,
                "payment_method": pa.array(PAYMENTS[base.payment].tolist()),
                "is_paperless": base.digital > -0.3,
                "balance": np.round(balance, 2),
            },
            "customer_list": {
                "customer_id": base.ids.take(pa.array(self._listed[listed])),
                "list_kind": np.where(self._is_red[listed], "red", "black").tolist(),
                "since": pa.array(self._listed_since[listed]),
            },
            "opt_out": {
                "customer_id": base.ids.take(pa.array(self._refused[refused])),
                "kind": pa.repeat("no_marketing", int(refused.sum())),
                "channel": pa.repeat("all", int(refused.sum())),
                "since": pa.array(self._refused_since[refused]),
                "source": pa.repeat("sms_reply", int(refused.sum())),
            },
        }


def _days(day: date, back: Ints) -> NDArray[np.datetime64]:
    return np.datetime64(day) - back.astype("timedelta64[D]")
