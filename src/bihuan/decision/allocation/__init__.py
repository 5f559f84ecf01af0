"""Allocation: the most value within every limit and rule, with a proof of how near it is.

In come values of pairs (a matrix, :class:`~bihuan.decision.allocation.pairs.Pairs`, or files),
limits (:mod:`~bihuan.decision.allocation.limit`) and the rules of each customer
(:mod:`~bihuan.decision.allocation.rules`); out come contacts, bound, gap and the price of every
limit (:mod:`~bihuan.decision.allocation.allocate`). Small problems and the last undecided customers
of large ones are solved exactly (``options``, ``price``, ``repair``); millions by descent on prices
(``descent``, ``core``, ``solve``), in compiled loops that only ``quote`` knows.
"""
