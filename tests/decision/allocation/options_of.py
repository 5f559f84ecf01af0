"""The exact solver's view of a matrix of values, as the room itself makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bihuan.decision import Limit
from bihuan.decision.allocation.allocate import group_customers
from bihuan.decision.allocation.core import Core, canonical_order, core_options
from bihuan.decision.allocation.descent import Crowd
from bihuan.decision.allocation.options import Options
from bihuan.decision.allocation.rules import ContactRules
from bihuan.decision.allocation.terms import build_terms


def build_options(
    value: NDArray[np.floating], limits: Sequence[Limit], *, seed: int = 0
) -> Options:
    pairs, grouped = group_customers(value, limits)
    rules = ContactRules(pairs.n_candidates)
    terms = build_terms(grouped, pairs.n_groups, rules, pairs.measure_names)
    order = canonical_order(pairs, seed)
    crowd = Crowd(pairs.take(order), np.ones(pairs.n_groups), 0.0, np.zeros(len(limits)))
    options, _ = core_options(Core(crowd, order), terms)
    return replace(options, customer=order[options.customer])
